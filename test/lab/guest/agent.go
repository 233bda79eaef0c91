package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pmemctl/pmemctl/test/lab/protocol"
)

// serve runs the host's commands, one after the other, until the host closes
// the port.
func serve() error {
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	out := &replies{enc: json.NewEncoder(port)}
	out.send(protocol.Reply{Ready: true})
	dec := json.NewDecoder(port)
	for {
		var req protocol.Request
		if err := dec.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if len(req.Args) == 0 {
			return nil // the host asks for power off
		}
		out.send(runCommand(req, out))
	}
}

func openPort() (*os.File, error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			data, err := os.ReadFile(n)
			if err != nil || strings.TrimSpace(string(data)) != protocol.PortName {
				continue
			}
			if f, err := os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(n))), os.O_RDWR, 0); err == nil {
				return f, nil
			}
		}
	}
	return nil, fmt.Errorf("no virtio serial port named %s", protocol.PortName)
}

type replies struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (r *replies) send(reply protocol.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enc.Encode(reply); err != nil {
		fmt.Fprintln(os.Stderr, "guest: reply lost:", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func runCommand(req protocol.Request, out *replies) protocol.Reply {
	cmd := exec.Command(req.Args[0], req.Args[1:]...)
	cmd.Dir = req.Dir
	cmd.Env = append(append(os.Environ(), "HOME=/root"), req.Env...)
	cmd.Stdin = bytes.NewReader(req.Stdin)
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		out.send(protocol.Reply{Stdout: p})
		return len(p), nil
	})
	cmd.Stderr = writerFunc(func(p []byte) (int, error) {
		out.send(protocol.Reply{Stderr: p})
		return len(p), nil
	})
	// A daemon that keeps the pipe open must not hold up the next command.
	cmd.WaitDelay = time.Second
	reply := protocol.Reply{Exited: true}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
	case errors.As(err, &exit):
		reply.Code = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			reply.Code = 128 + int(status.Signal())
		}
	default:
		reply.Error = err.Error()
	}
	return reply
}
