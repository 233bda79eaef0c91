package ndctl

import (
	"errors"
	"fmt"
	"syscall"
)

// Error is a libndctl call that failed on a device.
type Error struct {
	Op  string // what was to be done, in libndctl's words: "set_size"
	Dev string
	Err error // a syscall.Errno, where the library gave one
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Dev, e.Op, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// ErrUnsupported is wrapped by the error of a function that the installed
// library does not have, or of any function in a build without cgo.
var ErrUnsupported = errors.New("not supported by this build or by the installed libndctl")

// ErrNotFound is wrapped by the error for a device that is not there.
var ErrNotFound = errors.New("no such device")

// check turns the return value of libndctl, a negative errno or anything else,
// into an error.
func check(op, dev string, rc int) error {
	switch {
	case rc >= 0:
		return nil
	case rc == -1:
		// Not an errno, but libndctl's word for a driver that did not bind.
		rc = -int(syscall.ENXIO)
	}
	return &Error{Op: op, Dev: dev, Err: syscall.Errno(-rc)}
}
