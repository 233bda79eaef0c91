package ndctl

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/pmemctl/pmemctl/internal/pmem"
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

// ErrNoSlot is wrapped by the error of a change for which the label area of a DIMM has no
// free slot: the kernel writes each label anew, and frees the old one after it
// (drivers/nvdimm/label.c). It answers ENXIO.
var ErrNoSlot = fmt.Errorf("the label area has no free slot: %w", syscall.ENOSPC)

// noSlot tells that a change failed for want of a slot, where it did.
func noSlot(err error, mappings []pmem.Mapping) error {
	var e *Error
	if errors.Is(err, syscall.ENXIO) && errors.As(err, &e) && labelsFull(mappings) {
		return &Error{Op: e.Op, Dev: e.Dev, Err: ErrNoSlot}
	}
	return err
}

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
