package mount

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Mapped is how the kernel maps a file.
type Mapped struct {
	// Sync reports whether MAP_SYNC is possible: stores are persistent without fsync.
	Sync bool
	// Huge reports whether a fault maps 2 MiB.
	Huge bool
}

// MapFile maps an unnamed file of 8 MiB in a directory, writes to it, and removes it.
func MapFile(dir string) (m Mapped, err error) {
	const chunk, chunks = 2 << 20, 4
	fail := func(op string, err error) (Mapped, error) { return m, &os.PathError{Op: op, Path: dir, Err: err} }
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fail("create a file below", err)
	}
	defer unix.Close(fd)
	if err := unix.Fallocate(fd, 0, 0, chunk*chunks); err != nil {
		return fail("allocate 8 MiB below", err)
	}
	// MAP_SHARED_VALIDATE fails where MAP_SYNC is not supported (mmap(2)).
	data, err := unix.Mmap(fd, 0, chunk*chunks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED_VALIDATE|unix.MAP_SYNC)
	m.Sync = err == nil
	if errors.Is(err, unix.EOPNOTSUPP) {
		data, err = unix.Mmap(fd, 0, chunk*chunks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		return fail("map a file below", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(data)) }()
	// A media error is a SIGBUS.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &os.PathError{Op: "write to a mapped file below", Path: dir, Err: fmt.Errorf("%v", p)}
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The file system need not have 2 MiB in one piece everywhere, so one is enough.
	for at := 0; at < len(data); at += chunk {
		before, err := faults()
		if err != nil {
			return m, err
		}
		for page := at; page < at+chunk; page += os.Getpagesize() {
			data[page] = 1
		}
		after, err := faults()
		if err != nil {
			return m, err
		}
		const few = 16 // there are 512 if each maps 4 KiB; some may be the runtime's
		m.Huge = m.Huge || after-before < few
	}
	return m, nil
}

// faults returns the number of page faults of this thread.
func faults() (int64, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return u.Minflt + u.Majflt, err
}
