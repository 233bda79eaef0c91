// Package run is the only place that starts other programs. Every program except detached ones has
// a context and a deadline, a process group that is killed as a whole, the C locale, and separate
// standard error.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
)

// DefaultTimeout limits a program whose context has no deadline.
const DefaultTimeout = 2 * time.Minute

// packages are the packages of the programs, in Debian and Fedora.
var packages = map[string]string{
	"lvm": "lvm2", "mkfs.ext4": "e2fsprogs", "resize2fs": "e2fsprogs", "tune2fs": "e2fsprogs", "e2fsck": "e2fsprogs",
	"mkfs.xfs": "xfsprogs", "xfs_growfs": "xfsprogs", "xfs_db": "xfsprogs", "blkid": "util-linux", "fio": "fio", "cxl": "ndctl (Debian 12) or cxl",
}

// Error is the error of a program that failed.
type Error struct {
	Args   []string
	Code   int // exit status; -1 if it was killed
	Stderr string
	Err    error
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %v", strings.Join(e.Args, " "), e.Err)
	if e.Stderr != "" {
		text = fmt.Sprintf("%s: %s", e.Args[0], e.Stderr)
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Command runs a program that changes nothing and returns its output.
func Command(ctx context.Context, name string, args ...string) ([]byte, error) {
	return output(ctx, name, args)
}

// Detached starts a program that outlives this one, in a new session and without input and output.
// args begin with its name.
func Detached(path string, args ...string) error {
	cmd := &exec.Cmd{Path: path, Args: args, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// Change runs a program that changes something; a crash before or after it must do no harm.
func Change(ctx context.Context, name string, args ...string) ([]byte, error) {
	step := filepath.Base(name)
	fault.Step("before " + step)
	out, err := output(ctx, name, args)
	fault.Step("after " + step)
	return out, err
}

func output(ctx context.Context, name string, args []string) ([]byte, error) {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	cmd, err := Prepare(ctx, name, args...)
	if err != nil {
		return nil, err
	}
	// After kill -9, no orphan may change things concurrently with the next pmemctl.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), failure(ctx, cmd, stderr.String(), err)
	}
	return stdout.Bytes(), nil
}

// Cmd is a command that has been prepared to run.
type Cmd = exec.Cmd

// Prepare returns a command that is killed with all of its children when the context ends. It
// fails if the program is not installed.
func Prepare(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := find(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Args[0] = name
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd, nil
}

// Installed returns an error if a program is not installed.
func Installed(name string) error {
	_, err := find(name)
	return err
}

func find(name string) (string, error) {
	path, err := lookPath(name)
	return path, errs.Wrap(errs.Unsupported, name, "not installed", "install the package "+packages[name], err)
}

// lookPath also searches the sbin directories, which a cron job or sudo may omit from PATH.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", errors.Unwrap(err)
}

func failure(ctx context.Context, cmd *exec.Cmd, stderr string, err error) error {
	failed := &Error{Args: cmd.Args, Code: -1, Stderr: oneLine(stderr), Err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		failed.Code = exit.ExitCode()
	}
	if ctx.Err() != nil {
		failed.Err = ctx.Err()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errs.Wrap(errs.Deadline, cmd.Args[0], "timed out and was killed", "", failed)
		}
	}
	return failed
}

// oneLine shortens a program's error output to its first few lines, because a usage text may
// follow.
func oneLine(s string) string {
	const most = 3
	var lines []string
	for _, l := range strings.Split(s, "\n") {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
		if len(lines) == most {
			break
		}
	}
	return strings.Join(lines, "; ")
}
