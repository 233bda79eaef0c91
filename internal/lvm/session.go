package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/run"
)

// session is an lvm process in shell mode: it reads commands from standard input and answers each
// with one JSON object on a pipe (LVM_REPORT_FD). Starting lvm takes several times longer than
// most of its commands, so an operation uses one process for all of its commands.
type session struct {
	cmd    *run.Cmd
	cancel context.CancelFunc
	stdin  *os.File
	answer *os.File
	dec    *json.Decoder
	dir    *systemDir
	// devices are the devices that it sees, as they were at its start.
	devices []blockdev.Disk
	said    *lastWords
	reap    sync.Once
	dead    bool // cannot be used any more
}

func startSession(runDir string, devices []blockdev.Disk) (*session, error) {
	dir, err := makeSystemDir(runDir, devices)
	if err != nil {
		return nil, err
	}
	s, err := startIn(dir, devices)
	if err != nil {
		dir.remove()
	}
	return s, err
}

func startIn(dir *systemDir, devices []blockdev.Disk) (*session, error) {
	ctx, cancel := context.WithCancel(context.Background())
	// No death signal: lvm must not be killed while it has a device suspended. When this process
	// dies, lvm's standard input ends, and it exits after the current command.
	cmd, err := run.Prepare(ctx, "lvm")
	if err != nil {
		cancel()
		return nil, err
	}
	stdinR, stdinW, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, err
	}
	answerR, answerW, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, errors.Join(err, stdinR.Close(), stdinW.Close())
	}
	s := &session{cmd: cmd, cancel: cancel, stdin: stdinW, answer: answerR, dec: json.NewDecoder(&controlFilter{from: answerR}), dir: dir, devices: devices, said: &lastWords{}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdinR, s.said, s.said
	cmd.ExtraFiles = []*os.File{answerW} // descriptor 3
	// Without a home directory its shell cannot write a history.
	cmd.Env = append(cmd.Env, "HOME=/dev/null", "LVM_REPORT_FD=3", "LVM_SYSTEM_DIR="+dir.path, "LVM_SUPPRESS_FD_WARNINGS=1")
	err = cmd.Start()
	stdinR.Close()
	answerW.Close()
	if err != nil {
		stdinW.Close()
		answerR.Close()
		cancel()
		return nil, errs.Wrap(errs.Unsupported, "lvm", "cannot be started", "run it by hand to see why: lvm version", err)
	}
	return s, nil
}

// maxWords is the maximum number of words on a line of lvm's shell (MAX_ARGS of its lvmcmdline.c,
// minus one); it does not answer longer lines.
const maxWords = 63

// do runs one command. When the context ends, the process is killed and the session cannot be used
// any more. A process that cannot be killed, because a disk has failed, is left behind.
func (s *session) do(ctx context.Context, args []string) (answer, error) {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = s.dir.inside(a)
	}
	line := strings.Join(words, " ")
	if len(args) > maxWords {
		return answer{}, fmt.Errorf("lvm %s: %d words exceed the maximum of lvm's shell (%d)", args[0], len(args), maxWords)
	}
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n\r'\"\\#") {
			return answer{}, fmt.Errorf("lvm %s: argument %q cannot be passed to lvm's shell", args[0], a)
		}
	}
	stop := context.AfterFunc(ctx, func() {
		s.cancel()
		_ = s.answer.SetReadDeadline(time.Now())
	})
	// A context that ends just now may be about to kill the process.
	defer func() { s.dead = s.dead || !stop() }()
	if _, err := s.stdin.WriteString(line + "\n"); err != nil {
		return answer{}, s.died(ctx, line, err)
	}
	var said json.RawMessage
	if err := s.dec.Decode(&said); err != nil {
		return answer{}, s.died(ctx, line, err)
	}
	var a answer
	if err := json.Unmarshal(s.dir.outside(said), &a); err != nil {
		return answer{}, s.died(ctx, line, err)
	}
	return a, nil
}

func (s *session) died(ctx context.Context, line string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errs.Wrap(errs.Deadline, "lvm "+strings.Fields(line)[0], "timed out and was killed",
			"look for a stuck lvm process or a failed disk (ps -C lvm, dmesg), then try again", err)
	}
	if errors.Is(err, context.Canceled) {
		return errs.Wrap(errs.Canceled, "lvm "+strings.Fields(line)[0], "was interrupted", "", err)
	}
	s.wait()
	return errs.Wrap("", "lvm "+strings.Fields(line)[0], "lvm exited unexpectedly: "+string(s.dir.outside([]byte(s.said.text()))), "try again", err)
}

// close stops the process, which is idle or timed out, without waiting for it.
func (s *session) close() {
	s.stdin.Close()
	s.answer.Close()
	s.dir.remove()
	go func() {
		s.wait()
		s.cancel()
	}()
}

// wait reaps the process if it exits within a moment.
func (s *session) wait() {
	ended := make(chan struct{})
	s.reap.Do(func() {
		go func() {
			_ = s.cmd.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
		}
	})
}

// controlFilter replaces control characters in JSON strings, which lvm copies unescaped from the
// device, for example from a tag.
type controlFilter struct {
	from             io.Reader
	inside, escaping bool
}

func (f *controlFilter) Read(p []byte) (int, error) {
	n, err := f.from.Read(p)
	for i, b := range p[:n] {
		switch {
		case f.inside && b < ' ':
			p[i], f.escaping = '?', false
		case f.escaping:
			f.escaping = false
		case f.inside && b == '\\':
			f.escaping = true
		case b == '"':
			f.inside = !f.inside
		}
	}
	return n, err
}

// answer is lvm's answer to one command.
type answer struct {
	Report []map[string]json.RawMessage `json:"report"`
	Log    []logEntry                   `json:"log"`
}

type logEntry struct {
	Type    string `json:"log_type"`
	Object  string `json:"log_object_type"`
	Message string `json:"log_message"`
	Code    string `json:"log_ret_code"`
}

// commandDone is ECMD_PROCESSED of lvm's tools/errors.h.
const commandDone = "1"

// failure returns the errors of a command; "" if it succeeded. The status of the command decides,
// so warnings and errors that lvm recovered from do not count.
func (a answer) failure() string {
	var messages []string
	failed := true
	for _, e := range a.Log {
		switch {
		case e.Type == "status" && e.Object == "cmd":
			failed = e.Code != commandDone
		case e.Type == "error":
			messages = append(messages, strings.TrimSpace(e.Message))
		}
	}
	if !failed {
		return ""
	}
	if len(messages) == 0 {
		return "lvm gave no reason"
	}
	return strings.Join(messages, "; ")
}

// lastWords keeps the tail of lvm's other output.
type lastWords struct {
	mu   sync.Mutex
	data []byte
}

func (w *lastWords) Write(p []byte) (int, error) {
	const keep = 2048
	w.mu.Lock()
	defer w.mu.Unlock()
	w.data = append(w.data, p...)
	if len(w.data) > keep {
		w.data = w.data[len(w.data)-keep:]
	}
	return len(p), nil
}

func (w *lastWords) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(strings.Fields(string(w.data)), " ")
}
