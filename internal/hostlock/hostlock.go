// Package hostlock implements locks shared by all pmemctl processes of a host: the CLI and the CSI
// server may run concurrently, and libndctl does not synchronize between processes. A lock is
// released when its process exits, for any reason.
package hostlock

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// DefaultDir is the default directory of the locks. It must not persist across reboots.
const DefaultDir = "/run/pmemctl"

// Locks is a set of named locks.
type Locks struct {
	Dir string
	// Shared returns a file that every pmemctl of the host sees, such as a device node: each lock
	// is also a lock of one byte of it, because a container may not share Dir with the host. "" is
	// none; the function may be nil.
	Shared func() string
	// Waiting is called once with the holder of a lock that is not free.
	Waiting func(name, holder string)
}

// Lock is a lock that is held.
type Lock struct {
	file   *os.File
	path   string
	shared *os.File // nil for none
}

// poll is short, because a busy server holds the host's lock again and again, and releases it only
// for moments.
const poll = 20 * time.Millisecond

// Acquire waits for a lock until the context ends. The error is then of the kind Busy and names
// the holder.
func (l Locks) Acquire(ctx context.Context, name string) (*Lock, error) {
	told := false
	for {
		lock, holder, err := l.try(name)
		if err != nil || lock != nil {
			return lock, err
		}
		if !told && l.Waiting != nil {
			l.Waiting(name, holder)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, errs.Wrap(errs.Busy, name, "is locked by "+holder, "wait for it to finish, then try again", ctx.Err())
		case <-time.After(poll):
		}
	}
}

// Try takes a lock if it is free; otherwise it returns nil.
func (l Locks) Try(name string) (*Lock, error) {
	lock, _, err := l.try(name)
	return lock, err
}

func (l Locks) try(name string) (lock *Lock, holder string, err error) {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return nil, "", lockError(name, err)
	}
	path := filepath.Join(l.Dir, fileName(name))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, "", lockError(name, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := readHolder(f)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, holder, nil
		}
		return nil, "", lockError(name, err)
	}
	if !sameFile(f, path) {
		// Its previous holder removed it between our open and our flock.
		f.Close()
		return nil, "a process that has just exited", nil
	}
	shared, err := l.lockShared(name)
	if err != nil {
		_ = os.Remove(path)
		f.Close()
		if errors.Is(err, unix.EAGAIN) {
			return nil, "a pmemctl in a container that does not share " + l.Dir, nil
		}
		return nil, "", lockError(name, err)
	}
	if err := f.Truncate(0); err != nil {
		return nil, "", lockError(name, errors.Join(err, f.Close(), shared.Close()))
	}
	fmt.Fprintf(f, "%s (pid %d)", strings.Join(os.Args, " "), os.Getpid())
	return &Lock{file: f, path: path, shared: shared}, "", nil
}

func fileName(name string) string { return strings.ReplaceAll(name, " ", "-") + ".lock" }

// lockShared locks the byte of the shared file that corresponds to the name, with an open file
// description lock (fcntl(2)); nil if there is no such file.
func (l Locks) lockShared(name string) (*os.File, error) {
	if l.Shared == nil || l.Shared() == "" {
		return nil, nil
	}
	f, err := os.OpenFile(l.Shared(), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(name))
	const most = 1<<62 - 1
	at := int64(binary.BigEndian.Uint64(sum[:]) & most)
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1})
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lockError(name string, err error) error {
	next := ""
	if errors.Is(err, os.ErrPermission) {
		next = "run it as root"
		if os.Geteuid() == 0 {
			next = "mount the host's /dev into the container"
		}
	}
	return errs.Wrap("", name, "cannot be locked", next, err)
}

func readHolder(f *os.File) string {
	data := make([]byte, 200)
	n, _ := f.ReadAt(data, 0)
	if n == 0 {
		return "another process"
	}
	return string(data[:n])
}

func sameFile(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// Release releases the lock. It may be called on nil and repeatedly.
func (l *Lock) Release() {
	if l == nil || l.file == nil {
		return
	}
	// The file is removed while the lock is held, so that lock files do not accumulate.
	_ = os.Remove(l.path)
	l.shared.Close() // no effect on nil
	l.file.Close()
	l.file = nil
}
