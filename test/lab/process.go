package lab

import (
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// StartTied starts a command that is killed when this process ends, so that no guest
// outlives a test that was killed. It is started from a thread that lives as long as
// the process: the kernel's parent-death signal looks at the thread, not at the process.
func StartTied(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {}
	}()
	return <-started
}

// tail keeps the last kilobytes of what is written to it.
type tail struct {
	next io.Writer
	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const keep = 16 << 10
	t.mu.Lock()
	t.data = append(t.data, p...)
	if len(t.data) > keep {
		t.data = t.data[len(t.data)-keep:]
	}
	t.mu.Unlock()
	if t.next != nil {
		return t.next.Write(p)
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}
