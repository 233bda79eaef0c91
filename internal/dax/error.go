package dax

import (
	"errors"
	"fmt"
	"syscall"
)

// Error is a libdaxctl call that failed on a device.
type Error struct {
	Op  string // what was to be done, in libdaxctl's words: "enable_ram"
	Dev string
	Err error // a syscall.Errno, one of the errors below, or both
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Dev, e.Op, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// ErrUnsupported is wrapped by the error of a function that the installed
// library does not have, or of any function in a build without cgo.
var ErrUnsupported = errors.New("not supported by this build or by the installed libdaxctl")

// ErrNotFound is wrapped by the error for a device that is not there.
var ErrNotFound = errors.New("no such device")

// ErrInUse is wrapped when a process has the character device open or mapped,
// and when memory could not be taken offline (daxctl_memory_offline) because
// something keeps pages of it.
var ErrInUse = errors.New("in use")

// ErrMemoryOnline is wrapped when a system-ram device has memory online
// (daxctl_memory_is_online) and nobody asked to take it offline.
var ErrMemoryOnline = errors.New("its memory is online: use --offline to take it offline first")

// ErrAutoOnline is wrapped when the kernel would online the memory before we
// can choose its zone (daxctl_dev_will_auto_online_memory), or when something
// else, such as a udev rule, was faster (daxctl_memory_is_movable). In the
// wrong zone it may not be possible to take the memory back without a reboot.
var ErrAutoOnline = errors.New("the system brings new memory online automatically, in a zone of its choice: " +
	"echo offline > /sys/devices/system/memory/auto_online_blocks, check the udev rules, or use --force to accept this")

// ErrNoDriver is wrapped when the driver of a mode is not there to bind
// (daxctl_dev_enable_ram, daxctl_dev_enable_devdax).
var ErrNoDriver = errors.New("its driver is not loaded")

// ErrNoNode is wrapped when the platform gives the memory no NUMA node
// (daxctl_dev_get_target_node); kmem needs one.
var ErrNoNode = errors.New("no target_node: the platform's tables name no NUMA node for it")

// ErrClassModel is wrapped when the device is of the old dax-class model, which
// has no modes (EOPNOTSUPP of daxctl_dev_disable and daxctl_dev_enable_*).
var ErrClassModel = errors.New("the device model is dax-class: see daxctl migrate-device-model")

// check turns the return value of libdaxctl, a negative errno or anything else,
// into an error.
func check(op, dev string, rc int) error {
	if rc >= 0 {
		return nil
	}
	var err error = syscall.Errno(-rc)
	if err == syscall.EOPNOTSUPP {
		err = fmt.Errorf("%w: %w", ErrClassModel, err)
	}
	return &Error{Op: op, Dev: dev, Err: err}
}
