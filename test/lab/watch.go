package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pmemctl/pmemctl/test/lab/protocol"
)

// A guest of QEMU 7.2 sometimes stops for ever behind the firmware's "Booting from ROM",
// before the kernel says anything; a boot that hangs is killed and tried again.

// firstWords are the kernel's parameters with which its version, a notice, is on the
// console at once. The guest's init makes it quiet.
const firstWords = " earlyprintk=ttyS0 loglevel=6"

// signOfLife is the time in front of what a kernel says; the firmware has none.
var signOfLife = regexp.MustCompile(`\[ *[0-9]+\.[0-9]{6}\]`)

// limits are how long a boot may take.
type limits struct {
	// silence is how long the kernel may say nothing if QEMU has had as much time of the
	// processors as work, several times what it needs: a guest on a busy machine is slow,
	// and does not hang. One that is silent for as long as starved does.
	silence, work, starved time.Duration
	// agent is how long a guest may take to be ready.
	agent    time.Duration
	attempts int
}

var usualLimits = limits{silence: 30 * time.Second, work: 15 * time.Second, starved: 3 * time.Minute, agent: 3 * time.Minute, attempts: 3}

// What this process has booted.
var boots, repeated atomic.Int64

// Summary is a line on the guests that this process has booted.
func Summary() string {
	return fmt.Sprintf("lab: %d boots, %d boots repeated", boots.Load(), repeated.Load())
}

// errHung is a guest that is not on its way up.
var errHung = errors.New("the guest hangs at boot")

// bootWatched starts QEMU, again when the guest hangs, and returns when it takes commands.
func bootWatched(ctx context.Context, cfg Config, qemu []string, socket string, l limits) (*Machine, error) {
	for attempt := 1; ; attempt++ {
		m, err := bootOnce(ctx, cfg, qemu, socket, l)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, errHung) || attempt == l.attempts {
			return nil, fmt.Errorf("guest did not come up: %w", err)
		}
		repeated.Add(1)
		fmt.Fprintf(os.Stderr, "lab: boot %d of at most %d: %v\nlab: booting again\n", attempt, l.attempts, err)
	}
}

func bootOnce(ctx context.Context, cfg Config, qemu []string, socket string, l limits) (*Machine, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	m := &Machine{qemu: exec.Command(qemu[0], qemu[1:]...), exited: make(chan error, 1), console: &tail{next: cfg.Console}}
	m.qemu.Stdout, m.qemu.Stderr = m.console, m.console
	if err := StartTied(m.qemu); err != nil {
		return nil, fmt.Errorf("start QEMU (package qemu-system-x86): %w", err)
	}
	boots.Add(1)
	go func() { m.exited <- m.qemu.Wait() }()
	if cfg.TrimAfter > 0 {
		m.trimmer = startTrimmer(m.qemu.Process, cfg)
	}
	if err := m.connect(ctx, socket, l); err != nil {
		m.Kill()
		return nil, fmt.Errorf("%w\n%s", err, m.console.text())
	}
	return m, nil
}

// connect waits for the agent.
func (m *Machine) connect(ctx context.Context, socket string, l limits) error {
	begun := time.Now()
	ready := make(chan error, 1)
	for {
		if m.conn == nil {
			if conn, err := net.Dial("unix", socket); err == nil {
				m.conn, m.enc, m.dec = conn, json.NewEncoder(conn), json.NewDecoder(conn)
				go func() { ready <- m.hearReady() }()
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-m.exited:
			m.exited <- err
			return fmt.Errorf("QEMU ended: %v", err)
		case err := <-ready:
			if err == nil {
				return nil
			}
			// The connection of a QEMU that ends breaks first. How it ended says more.
			select {
			case ended := <-m.exited:
				m.exited <- ended
				return fmt.Errorf("QEMU ended: %v", ended)
			case <-time.After(time.Second):
				return err
			}
		case <-time.After(20 * time.Millisecond):
		}
		if err := m.hangs(time.Since(begun), l); err != nil {
			return err
		}
	}
}

// hearReady waits for the agent's first word.
func (m *Machine) hearReady() error {
	var reply protocol.Reply
	if err := m.dec.Decode(&reply); err != nil {
		return err
	}
	if !reply.Ready {
		return errors.New("the agent's first word is not that it is ready")
	}
	return nil
}

// hangs tells whether a guest that is not ready after a time will never be.
func (m *Machine) hangs(after time.Duration, l limits) error {
	switch {
	case after > l.agent:
		return fmt.Errorf("%w: not ready after %s", errHung, l.agent)
	case after < l.silence || signOfLife.MatchString(m.console.text()):
		return nil
	case after > l.starved || processorTime(m.qemu.Process.Pid) > l.work:
		return fmt.Errorf("%w: no word of the kernel after %s", errHung, after.Round(time.Second))
	}
	return nil
}

// processorTime is what a process has had of the processors: utime and stime of
// proc_pid_stat(5), in ticks of 10 ms.
func processorTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // behind the name, which may hold anything
	fields := strings.Fields(rest)
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0
	}
	user, _ := strconv.ParseInt(fields[utime], 10, 64)
	system, _ := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
