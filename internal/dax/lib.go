//go:build cgo

// Package dax reads dax devices and changes their mode through libdaxctl.
//
// As in package ndctl, no C pointer leaves the package: every call creates its own context, finds
// its device by name, acts, and returns values. Callers that change anything hold the host lock.
package dax

/*
#cgo LDFLAGS: -ldl
#include "optional.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"syscall"
)

// load loads the library.
var load = sync.OnceValue(func() error {
	if reason := C.open_libdaxctl(); reason != nil {
		return &Error{Op: "load", Dev: "libdaxctl", Err: fmt.Errorf("%s: %w", C.GoString(reason), ErrUnsupported)}
	}
	return nil
})

// Lib gives access to the library. The zero value is ready to use.
type Lib struct{}

// context creates a libdaxctl context; the caller calls the returned function when it no longer
// needs any pointer from it.
func context() (*C.struct_daxctl_ctx, func(), error) {
	if err := load(); err != nil {
		return nil, nil, err
	}
	var c *C.struct_daxctl_ctx
	if rc := C.daxctl_new(&c); rc < 0 {
		return nil, nil, &Error{Op: "new", Dev: "libdaxctl", Err: syscall.Errno(-rc)}
	}
	return c, func() { C.daxctl_unref(c) }, nil
}

func devices(c *C.struct_daxctl_ctx) func(yield func(*C.struct_daxctl_dev) bool) {
	return func(yield func(*C.struct_daxctl_dev) bool) {
		for r := C.daxctl_region_get_first(c); r != nil; r = C.daxctl_region_get_next(r) {
			for d := C.daxctl_dev_get_first(r); d != nil; d = C.daxctl_dev_get_next(d) {
				if !yield(d) {
					return
				}
			}
		}
	}
}

func withDevice(chardev string, do func(d *C.struct_daxctl_dev) error) error {
	c, done, err := context()
	if err != nil {
		return err
	}
	defer done()
	for d := range devices(c) {
		if C.GoString(C.daxctl_dev_get_devname(d)) == chardev {
			return do(d)
		}
	}
	return &Error{Op: "find", Dev: chardev, Err: ErrNotFound}
}

// List reads the dax devices. libdaxctl omits devices without a node in /dev, as in a container,
// and daxctl those without a size; so does List.
func (Lib) List() ([]Device, error) {
	c, done, err := context()
	if err != nil {
		return nil, err
	}
	defer done()
	devs := []Device{}
	for d := range devices(c) {
		if C.daxctl_dev_get_size(d) > 0 {
			devs = append(devs, snapshot(d))
		}
	}
	sortDevices(devs)
	return devs, nil
}

// read reads the current state of a device; libdaxctl caches what a context has read.
func read(chardev string) (dev Device, err error) {
	err = withDevice(chardev, func(d *C.struct_daxctl_dev) error {
		dev = snapshot(d)
		return nil
	})
	return dev, err
}

func snapshot(d *C.struct_daxctl_dev) Device {
	dev := Device{
		Chardev:  C.GoString(C.daxctl_dev_get_devname(d)),
		RegionID: int(C.daxctl_region_get_id(C.daxctl_dev_get_region(d))),
		Size:     uint64(C.daxctl_dev_get_size(d)),
		Align:    uint64(C.dev_align(d)),
		Mode:     ModeDevDAX,
		State:    StateDisabled,
	}
	dev.TargetNode = natural(C.daxctl_dev_get_target_node(d))
	if C.daxctl_dev_is_enabled(d) == 1 {
		dev.State = StateEnabled
	}
	mem := C.daxctl_dev_get_memory(d)
	if mem == nil {
		if dev.State == StateEnabled {
			dev.Path = "/dev/" + dev.Chardev
		}
		return dev
	}
	dev.Mode = ModeSystemRAM
	// Only root can read the address of the device, and thus which memory blocks belong to it.
	if C.daxctl_dev_get_resource(d) != 0 {
		dev.OnlineMemblocks = natural(C.daxctl_memory_is_online(mem))
		dev.TotalMemblocks = natural(C.daxctl_memory_num_sections(mem))
		if movable := C.memory_is_movable(mem); movable >= 0 && dev.OnlineMemblocks != nil && *dev.OnlineMemblocks > 0 {
			v := movable == 1
			dev.Movable = &v
		}
	}
	return dev
}

// natural converts libdaxctl's values for a missing number to nil.
func natural(n C.int) *int {
	if n < 0 {
		return nil
	}
	v := int(n)
	return &v
}
