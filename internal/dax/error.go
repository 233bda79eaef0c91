package dax

import (
	"fmt"
	"syscall"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// Error is a libdaxctl call that failed on a device.
type Error struct {
	Op  string // operation in libdaxctl's terms: "enable_ram"
	Dev string
	Err error // a syscall.Errno, one of the errors below, or both
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Dev, e.Op, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// ErrUnsupported is wrapped if the installed library lacks a function, or by every function of a
// build without cgo.
var ErrUnsupported = errs.Sentinel(errs.Unsupported, "not supported by this build or by the installed libdaxctl")

// ErrNotFound is wrapped if the device does not exist.
var ErrNotFound = errs.Sentinel(errs.NotFound, "no such device")

// ErrInUse is wrapped if a process has the character device open or mapped, or if memory cannot be
// taken offline (daxctl_memory_offline) because its pages are in use.
var ErrInUse = errs.Sentinel(errs.InUse, "in use")

// ErrMemoryOnline is wrapped if a system-ram device has memory online (daxctl_memory_is_online)
// and Offline was not requested.
var ErrMemoryOnline = errs.Sentinel(errs.InUse, "its memory is online: use --offline to take it offline first")

// ErrAutoOnline is wrapped if the kernel would online the memory before its zone can be chosen
// (daxctl_dev_will_auto_online_memory), or if something else, such as a udev rule, already did
// (daxctl_memory_is_movable). In the wrong zone the memory may have to stay online until a reboot.
var ErrAutoOnline = errs.Sentinel(errs.Unsupported, "the system brings new memory online automatically, in a zone of its choice: "+
	"echo offline > /sys/devices/system/memory/auto_online_blocks, check the udev rules, or use --force to accept this")

// ErrNoDriver is wrapped if the driver of a mode is not loaded (daxctl_dev_enable_ram,
// daxctl_dev_enable_devdax).
var ErrNoDriver = errs.Sentinel(errs.Unsupported, "its driver is not loaded")

// ErrNoNode is wrapped if the platform assigns the memory no NUMA node
// (daxctl_dev_get_target_node), which kmem requires.
var ErrNoNode = errs.Sentinel(errs.Unsupported, "no target_node: the platform's tables name no NUMA node for it")

// ErrClassModel is wrapped if the device uses the old dax-class model, which has no modes
// (EOPNOTSUPP of daxctl_dev_disable and daxctl_dev_enable_*).
var ErrClassModel = errs.Sentinel(errs.Unsupported, "the device model is dax-class: see daxctl migrate-device-model")

// check converts the return value of libdaxctl, usually a negative errno, to an error.
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
