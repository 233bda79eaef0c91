package ndctl

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Error is a libndctl call that failed on a device.
type Error struct {
	Op  string // operation in libndctl's terms: "set_size"
	Dev string
	Err error // a syscall.Errno, if the library returned one
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Dev, e.Op, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// ErrUnsupported is wrapped if the installed library lacks a function, or by every function of a
// build without cgo.
var ErrUnsupported = errs.Sentinel(errs.Unsupported, "not supported by this build or by the installed libndctl")

// ErrNotFound is wrapped if the device does not exist.
var ErrNotFound = errs.Sentinel(errs.NotFound, "no such device")

// ErrNoSlot is wrapped if the label area of a DIMM has no free slot for a change: the kernel
// writes each label to a new slot, and frees the old one afterwards (drivers/nvdimm/label.c). It
// returns ENXIO.
var ErrNoSlot = fmt.Errorf("the label area has no free slot: %w", syscall.ENOSPC)

// ErrNoSeed is wrapped if the kernel offers no namespace for the next creation: it does so only
// after the last one was enabled once (drivers/nvdimm/region_devs.c, nd_region_advance_seeds).
var ErrNoSeed = fmt.Errorf("the namespace that was created last was never enabled: %w", syscall.ENXIO)

// noSlot adds ErrNoSlot to the error of a change if a slot was missing.
func noSlot(err error, mappings []pmem.Mapping) error {
	var e *Error
	if errors.Is(err, syscall.ENXIO) && errors.As(err, &e) && labelsFull(mappings) {
		return &Error{Op: e.Op, Dev: e.Dev, Err: ErrNoSlot}
	}
	return err
}

// check converts the return value of libndctl, usually a negative errno, to an error.
func check(op, dev string, rc int) error {
	switch {
	case rc >= 0:
		return nil
	case rc == -1:
		// Not an errno, but libndctl's value for a driver that did not bind.
		rc = -int(syscall.ENXIO)
	}
	return &Error{Op: op, Dev: dev, Err: syscall.Errno(-rc)}
}
