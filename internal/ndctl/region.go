//go:build cgo

package ndctl

// #include "optional.h"
import "C"

import (
	"errors"
	"syscall"

	"github.com/pmemctl/pmemctl/internal/fault"
)

func (l Lib) withRegion(dev string, do func(r *C.struct_ndctl_region) error) (err error) {
	c, done, err := l.context()
	if err != nil {
		return err
	}
	defer func() { done(err) }()
	r, err := findRegion(c, dev)
	if err != nil {
		return err
	}
	return do(r)
}

// EnableRegion binds the driver of a region, which enables its namespaces.
func (l Lib) EnableRegion(dev string) error {
	return l.withRegion(dev, func(r *C.struct_ndctl_region) error {
		return check("enable", dev, int(C.ndctl_region_enable(r)))
	})
}

// DisableRegion disables every namespace of a region, then the region. If one is in use (EBUSY),
// the others are enabled again.
func (l Lib) DisableRegion(dev string) error {
	return l.withRegion(dev, disableRegion)
}

func disableRegion(r *C.struct_ndctl_region) error {
	dev := C.GoString(C.ndctl_region_get_devname(r))
	if C.ndctl_region_is_enabled(r) == 0 {
		return nil
	}
	var down []*C.struct_ndctl_namespace
	restore := func() {
		for _, n := range down {
			C.ndctl_namespace_enable(n)
		}
	}
	for n := range namespaces(r) {
		if !C.ndctl_namespace_is_active(n) {
			continue
		}
		if err := disableSafely(n); err != nil {
			restore()
			return err
		}
		down = append(down, n)
	}
	if err := check("disable", dev, int(C.ndctl_region_disable_preserve(r))); err != nil {
		restore()
		return err
	}
	return nil
}

// InitLabels writes empty label areas to all DIMMs of the regions, and enables the regions again,
// without namespaces. Regions that share a DIMM must be given together: all data in them is lost.
// EBUSY if anything is in use; nothing is changed then.
func (l Lib) InitLabels(devs ...string) (err error) {
	c, done, err := l.context()
	if err != nil {
		return err
	}
	defer func() { done(err) }()
	var down []*C.struct_ndctl_region
	defer func() {
		for _, r := range down {
			err = errors.Join(err, check("enable", C.GoString(C.ndctl_region_get_devname(r)), int(C.ndctl_region_enable(r))))
		}
	}()
	for _, dev := range devs {
		r, err := findRegion(c, dev)
		if err != nil {
			return err
		}
		if err := disableRegion(r); err != nil {
			return err
		}
		down = append(down, r)
	}
	initialised := map[*C.struct_ndctl_dimm]bool{}
	for _, r := range down {
		for m := C.ndctl_mapping_get_first(r); m != nil; m = C.ndctl_mapping_get_next(m) {
			d := C.ndctl_mapping_get_dimm(m)
			if initialised[d] {
				continue
			}
			initialised[d] = true
			if err := initDIMMLabels(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func initDIMMLabels(d *C.struct_ndctl_dimm) error {
	dev := C.GoString(C.ndctl_dimm_get_devname(d))
	if labelSize(d) == 0 {
		return &Error{Op: "init_labels", Dev: dev, Err: syscall.EOPNOTSUPP}
	}
	if C.ndctl_dimm_is_active(d) == 1 {
		return &Error{Op: "init_labels", Dev: dev, Err: syscall.EBUSY}
	}
	if err := check("read_label_index", dev, cmdResult(C.ndctl_dimm_read_label_index(d))); err != nil {
		return err
	}
	fault.Step("before init_labels")
	// Version 1.2 labels record the type of a namespace; older DIMMs require 1.1.
	err := check("init_labels", dev, int(C.ndctl_dimm_init_labels(d, C.NDCTL_NS_VERSION_1_2)))
	if err != nil {
		err = check("init_labels", dev, int(C.ndctl_dimm_init_labels(d, C.NDCTL_NS_VERSION_1_1)))
	}
	fault.Step("after init_labels")
	// The kernel reads the labels when the DIMM's driver binds.
	if err == nil && C.ndctl_dimm_is_enabled(d) == 1 {
		err = errors.Join(
			check("disable", dev, int(C.ndctl_dimm_disable(d))),
			check("enable", dev, int(C.ndctl_dimm_enable(d))))
	}
	return err
}

// cmdResult releases a command and returns its status, a negative errno if it could not run.
func cmdResult(cmd *C.struct_ndctl_cmd) int {
	if cmd == nil {
		return -int(syscall.EIO)
	}
	C.ndctl_cmd_unref(cmd)
	return 0
}
