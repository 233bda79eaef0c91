//go:build cgo

package dax

// #include "optional.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/pmemctl/pmemctl/internal/devuser"
)

// Reconfigure changes the mode of a device and returns the device. Nothing changes if it is
// already in that mode. The data on the device is lost when it becomes memory. The mode does not
// survive a reboot.
func (Lib) Reconfigure(chardev string, r Reconfigure) (Device, error) {
	err := withDevice(chardev, func(d *C.struct_daxctl_dev) error {
		switch r.Mode {
		case ModeDevDAX:
			return toDevDAX(d, chardev, r.Offline)
		case ModeSystemRAM:
			return toSystemRAM(d, chardev, r)
		}
		return fmt.Errorf("unknown dax mode %q", r.Mode)
	})
	if err != nil {
		return Device{}, err
	}
	return read(chardev)
}

// toSystemRAM adds the memory to the system and onlines it; if either fails, the device is
// reverted to devdax.
func toSystemRAM(d *C.struct_daxctl_dev, dev string, r Reconfigure) error {
	if mem := C.daxctl_dev_get_memory(d); mem != nil {
		if r.NoOnline {
			return nil
		}
		return online(mem, dev, r.NoMovable)
	}
	if err := checkAutoOnline(d, dev, r); err != nil {
		return err
	}
	if C.daxctl_dev_get_target_node(d) < 0 {
		return &Error{Op: "enable_ram", Dev: dev, Err: ErrNoNode}
	}
	// The kernel would remove the device despite its users, whose next access raises SIGBUS.
	if pids := devuser.Of("/dev/" + C.GoString(C.daxctl_dev_get_devname(d))); len(pids) > 0 {
		return &Error{Op: "disable", Dev: dev, Err: fmt.Errorf("%w by process %v: %w", ErrInUse, pids, syscall.EBUSY)}
	}
	if err := check("disable", dev, int(C.daxctl_dev_disable(d))); err != nil {
		return err
	}
	if err := addMemory(d, dev, r); err != nil {
		if back := toDevDAX(d, dev, true); back != nil {
			err = errors.Join(err, fmt.Errorf("go back to devdax: %w", back))
		}
		return err
	}
	return nil
}

// checkAutoOnline checks the same as daxctl: for memory that need not be movable, the kernel's
// policy decides anyway.
func checkAutoOnline(d *C.struct_daxctl_dev, dev string, r Reconfigure) error {
	if r.Force || r.NoMovable && !r.NoOnline {
		return nil
	}
	switch will := C.dev_will_auto_online_memory(d); {
	case will == -C.ENOSYS:
		return &Error{Op: "will_auto_online_memory", Dev: dev, Err: ErrUnsupported}
	case will != 0:
		return &Error{Op: "enable_ram", Dev: dev, Err: ErrAutoOnline}
	}
	return nil
}

func addMemory(d *C.struct_daxctl_dev, dev string, r Reconfigure) error {
	if err := enable("enable_ram", dev, "kmem", C.daxctl_dev_enable_ram(d)); err != nil {
		return err
	}
	if r.NoOnline {
		return nil
	}
	mem := C.daxctl_dev_get_memory(d)
	if mem == nil {
		return &Error{Op: "get_memory", Dev: dev, Err: syscall.ENXIO}
	}
	if err := online(mem, dev, r.NoMovable); err != nil {
		return err
	}
	if movable := C.memory_is_movable(mem); !r.Force && movable >= 0 && (movable == 1) == r.NoMovable {
		return &Error{Op: "online", Dev: dev, Err: ErrAutoOnline}
	}
	return nil
}

// enable converts the return value of daxctl_dev_enable_*, which loads the driver if possible.
func enable(op, dev, driver string, rc C.int) error {
	err := check(op, dev, int(rc))
	if err == nil {
		return nil
	}
	if _, statErr := os.Stat("/sys/bus/dax/drivers/" + driver); statErr != nil {
		return &Error{Op: op, Dev: dev, Err: fmt.Errorf("%w: modprobe %s: %w", ErrNoDriver, driver, syscall.Errno(-rc))}
	}
	return err
}

// online brings the offline blocks online; online blocks stay in their zone.
func online(mem *C.struct_daxctl_memory, dev string, noMovable bool) error {
	total := C.daxctl_memory_num_sections(mem)
	if err := check("num_sections", dev, int(total)); err != nil {
		return err
	}
	if C.daxctl_memory_is_online(mem) == total {
		return nil
	}
	if noMovable {
		rc := C.memory_online_no_movable(mem)
		if rc == -C.ENOSYS {
			return &Error{Op: "online_no_movable", Dev: dev, Err: ErrUnsupported}
		}
		if err := check("online_no_movable", dev, int(rc)); err != nil {
			return err
		}
	} else if err := check("online", dev, int(C.daxctl_memory_online(mem))); err != nil {
		return err
	}
	if n := C.daxctl_memory_is_online(mem); n != total {
		return &Error{Op: "online", Dev: dev, Err: fmt.Errorf("%d of %d blocks are online: %w", n, total, syscall.ENXIO)}
	}
	return nil
}

// toDevDAX removes the memory from the system. The driver is unbound only if all memory is
// offline: the kernel would unbind it anyway, and lose the rest until a reboot.
func toDevDAX(d *C.struct_daxctl_dev, dev string, mayOffline bool) error {
	if mem := C.daxctl_dev_get_memory(d); mem != nil {
		n := C.daxctl_memory_is_online(mem)
		if err := check("is_online", dev, int(n)); err != nil {
			return err
		}
		if n > 0 && !mayOffline {
			return &Error{Op: "disable", Dev: dev, Err: fmt.Errorf("%w: %w", ErrMemoryOnline, syscall.EBUSY)}
		}
		if n > 0 {
			if err := offline(mem, dev, n); err != nil {
				return err
			}
		}
		if err := check("disable", dev, int(C.daxctl_dev_disable(d))); err != nil {
			return err
		}
	}
	return enable("enable_devdax", dev, "device_dax", C.daxctl_dev_enable_devdax(d))
}

// offline takes all blocks offline, or restores them if all were online before. The kernel
// migrates their pages, which may take long.
func offline(mem *C.struct_daxctl_memory, dev string, before C.int) error {
	all := before == C.daxctl_memory_num_sections(mem)
	noMovable := C.memory_is_movable(mem) == 0
	rc := C.daxctl_memory_offline(mem)
	left := C.daxctl_memory_is_online(mem)
	if rc >= 0 && left == 0 {
		return nil
	}
	err := check("offline", dev, int(rc))
	if rc >= 0 || rc == -C.EBUSY {
		err = &Error{Op: "offline", Dev: dev, Err: fmt.Errorf("%w, %d blocks stay online: %w", ErrInUse, left, syscall.EBUSY)}
	}
	if all {
		if back := online(mem, dev, noMovable); back != nil {
			err = errors.Join(err, back)
		}
	}
	return err
}
