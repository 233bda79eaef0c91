//go:build cgo

package ndctl

// #include "optional.h"
import "C"

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/fault"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// CreateNamespace creates and enables a namespace. The size is raw bytes. After an error the
// namespace is deleted again; if that fails too, the error says so and names the namespace.
//
// A region without labels has a single namespace for the whole region; it is changed to the mode,
// and name, size and UUID cannot be chosen.
func (l Lib) CreateNamespace(spec pmem.NamespaceSpec) (made pmem.Namespace, err error) {
	c, done, err := l.context()
	if err != nil {
		return pmem.Namespace{}, err
	}
	defer func() { done(err) }()
	r, err := findRegion(c, spec.Region)
	if err != nil {
		return pmem.Namespace{}, err
	}
	n, err := idleNamespace(r)
	if err != nil {
		return pmem.Namespace{}, err
	}
	dev := C.GoString(C.ndctl_namespace_get_devname(n))
	if err := configure(r, n, dev, spec); err != nil {
		err = noSlot(err, snapshotRegion(r, "", false).Mappings)
		return pmem.Namespace{}, errors.Join(err, rollBack(n, dev))
	}
	if spec.Mode == pmem.ModeDevDAX {
		// The character device appears only when the subsystem is read again.
		return Lib{}.readNamespace(dev)
	}
	return snapshotNamespace(n, false), nil
}

func (l Lib) readNamespace(key string) (read pmem.Namespace, err error) {
	c, done, err := l.context()
	if err != nil {
		return pmem.Namespace{}, err
	}
	defer func() { done(err) }()
	n, err := findNamespace(c, key)
	if err != nil {
		return pmem.Namespace{}, err
	}
	return snapshotNamespace(n, false), nil
}

// idleNamespace finds the seed namespace that the kernel offers for the next creation. Like ndctl,
// it prefers an idle one with id 0. One that a crash left without a size has a UUID that cannot be
// set again.
func idleNamespace(r *C.struct_ndctl_region) (*C.struct_ndctl_namespace, error) {
	dev := C.GoString(C.ndctl_region_get_devname(r))
	if C.ndctl_region_get_nstype(r) == C.ND_DEVICE_NAMESPACE_IO {
		if n := C.ndctl_namespace_get_first(r); n != nil {
			if C.ndctl_namespace_is_active(n) {
				if err := disableSafely(n); err != nil {
					return nil, err
				}
			}
			return n, nil
		}
	}
	for range 3 {
		n, err := nextIdle(r, dev)
		if err != nil || namespaceUUID(n) == "" {
			return n, err
		}
		// This removes n from libndctl's list, so that the kernel is read again.
		left := C.GoString(C.ndctl_namespace_get_devname(n))
		if err := change("forget the UUID", left, func() C.int { return C.ndctl_namespace_delete(n) }); err != nil {
			return nil, err
		}
	}
	return nil, &Error{Op: "find an idle namespace", Dev: dev, Err: syscall.EBUSY}
}

func nextIdle(r *C.struct_ndctl_region, dev string) (*C.struct_ndctl_namespace, error) {
	for n := range namespaces(r) {
		if C.ndctl_namespace_get_id(n) == 0 && C.ndctl_namespace_is_configuration_idle(n) == 1 {
			return n, nil
		}
	}
	seed := C.ndctl_region_get_namespace_seed(r)
	if seed != nil && !C.ndctl_namespace_is_active(seed) && C.ndctl_namespace_get_size(seed) > 0 {
		return nil, &Error{Op: "find an idle namespace", Dev: dev, Err: ErrNoSeed}
	}
	if seed == nil || C.ndctl_namespace_is_active(seed) || C.ndctl_namespace_is_configuration_idle(seed) == 0 {
		return nil, &Error{Op: "find an idle namespace", Dev: dev, Err: syscall.ENXIO}
	}
	return seed, nil
}

// AdvanceSeed makes the kernel offer a namespace for the next creation after ErrNoSeed, by enabling
// the last one for a moment, without using its content. It does so only if owned reports that the
// name of that one is the caller's: otherwise another program may be at work on it.
func (l Lib) AdvanceSeed(region string, owned func(name string) bool) (err error) {
	c, done, err := l.context()
	if err != nil {
		return err
	}
	defer func() { done(err) }()
	r, err := findRegion(c, region)
	if err != nil {
		return err
	}
	seed := C.ndctl_region_get_namespace_seed(r)
	if seed == nil || C.ndctl_namespace_is_active(seed) {
		return nil
	}
	dev := C.GoString(C.ndctl_namespace_get_devname(seed))
	if !owned(C.GoString(C.ndctl_namespace_get_alt_name(seed))) {
		return &Error{Op: "enable", Dev: dev, Err: ErrNoSeed}
	}
	if err := enableRaw(seed, dev); err != nil {
		return err
	}
	if err := disableSafely(seed); err != nil {
		return err // it stays raw, as its owner makes it anyway
	}
	return change("set_raw_mode", dev, func() C.int { return C.ndctl_namespace_set_raw_mode(seed, 0) })
}

func configure(r *C.struct_ndctl_region, n *C.struct_ndctl_namespace, dev string, spec pmem.NamespaceSpec) error {
	id := uuid.New()
	if spec.UUID != "" {
		var err error
		if id, err = uuid.Parse(spec.UUID); err != nil {
			return err
		}
	}
	if C.ndctl_namespace_get_type(n) != C.ND_DEVICE_NAMESPACE_IO {
		u := cUUID(id)
		if err := change("set_uuid", dev, func() C.int { return C.ndctl_namespace_set_uuid(n, &u[0]) }); err != nil {
			return err
		}
		if err := setAltName(n, dev, spec.Name); err != nil {
			return err
		}
	}
	if C.ndctl_namespace_get_num_sector_sizes(n) > 0 {
		// In sector mode the btt has the sector size.
		if err := change("set_sector_size", dev, func() C.int { return C.ndctl_namespace_set_sector_size(n, 512) }); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EOPNOTSUPP) {
			return err
		}
	}
	mode, err := cMode(spec.Mode)
	if err != nil {
		return err
	}
	if err := enforceMode(n, dev, mode); err != nil {
		return err
	}
	if C.ndctl_namespace_get_type(n) != C.ND_DEVICE_NAMESPACE_IO {
		// The size is set last: the kernel then writes the label, so a namespace without its name
		// never exists.
		if err := change("set_size", dev, func() C.int { return C.ndctl_namespace_set_size(n, C.ulonglong(spec.RawSize)) }); err != nil {
			return err
		}
	}
	switch spec.Mode {
	case pmem.ModeFSDAX:
		if spec.Raw {
			return enableRaw(n, dev)
		}
		return enablePFN(r, n, dev, spec)
	case pmem.ModeDevDAX:
		return enableDAX(r, n, dev, spec)
	case pmem.ModeSector:
		return enableBTT(r, n, dev, spec)
	}
	return change("enable", dev, func() C.int { return C.ndctl_namespace_enable(n) })
}

// enforceMode keeps the kernel from using an old info block for the mode. Old kernels, and
// namespaces without a label, do not support it.
func enforceMode(n *C.struct_ndctl_namespace, dev string, mode C.enum_ndctl_namespace_mode) error {
	err := change("set_enforce_mode", dev, func() C.int { return C.ndctl_namespace_set_enforce_mode(n, mode) })
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENXIO) {
		return nil
	}
	return err
}

func cMode(m pmem.Mode) (C.enum_ndctl_namespace_mode, error) {
	switch m {
	case pmem.ModeFSDAX:
		return C.NDCTL_NS_MODE_FSDAX, nil
	case pmem.ModeDevDAX:
		return C.NDCTL_NS_MODE_DEVDAX, nil
	case pmem.ModeSector:
		return C.NDCTL_NS_MODE_SECTOR, nil
	case pmem.ModeRaw:
		return C.NDCTL_NS_MODE_RAW, nil
	}
	return 0, fmt.Errorf("unknown namespace mode %q", m)
}

// setAltName reads the name back, because libndctl reports success even if the namespace cannot
// have one.
func setAltName(n *C.struct_ndctl_namespace, dev, name string) error {
	cName := C.CString(name)
	defer C.free(unsafe.Pointer(cName))
	if err := change("set_alt_name", dev, func() C.int { return C.ndctl_namespace_set_alt_name(n, cName) }); err != nil {
		return err
	}
	if got := C.ndctl_namespace_get_alt_name(n); got == nil || C.GoString(got) != name {
		return &Error{Op: "set_alt_name", Dev: dev, Err: syscall.EOPNOTSUPP}
	}
	return nil
}

func location(m pmem.Map) C.enum_ndctl_pfn_loc {
	if m == pmem.MapMem {
		return C.NDCTL_PFN_LOC_RAM
	}
	return C.NDCTL_PFN_LOC_PMEM
}

// step is one libndctl call of a mode change.
type step struct {
	op string
	do func() C.int
}

// claim creates a pfn, dax or btt device on a namespace, and removes it again if it cannot be
// enabled.
func claim(dev string, steps []step, release func()) error {
	for _, s := range steps {
		if err := change(s.op, dev, s.do); err != nil {
			release()
			return err
		}
	}
	return nil
}

func enablePFN(r *C.struct_ndctl_region, n *C.struct_ndctl_namespace, dev string, spec pmem.NamespaceSpec) error {
	pfn := C.ndctl_region_get_pfn_seed(r)
	if pfn == nil {
		return &Error{Op: "find a pfn seed", Dev: dev, Err: syscall.ENXIO}
	}
	id := uuid.New()
	if spec.InfoUUID != "" {
		var err error
		if id, err = uuid.Parse(spec.InfoUUID); err != nil {
			return err
		}
	}
	u := cUUID(id)
	return claim(dev, []step{
		{"pfn_set_uuid", func() C.int { return C.ndctl_pfn_set_uuid(pfn, &u[0]) }},
		{"pfn_set_location", func() C.int { return C.ndctl_pfn_set_location(pfn, location(spec.Map)) }},
		{"pfn_set_align", func() C.int {
			if C.ndctl_pfn_has_align(pfn) == 0 {
				return 0
			}
			return C.ndctl_pfn_set_align(pfn, C.ulong(spec.Align))
		}},
		{"pfn_set_namespace", func() C.int { return C.ndctl_pfn_set_namespace(pfn, n) }},
		{"pfn_enable", func() C.int { return C.ndctl_pfn_enable(pfn) }},
	}, func() {
		C.ndctl_pfn_set_namespace(pfn, nil)
		C.ndctl_pfn_delete(pfn)
	})
}

func enableDAX(r *C.struct_ndctl_region, n *C.struct_ndctl_namespace, dev string, spec pmem.NamespaceSpec) error {
	dax := C.ndctl_region_get_dax_seed(r)
	if dax == nil {
		return &Error{Op: "find a dax seed", Dev: dev, Err: syscall.ENXIO}
	}
	u := cUUID(uuid.New())
	return claim(dev, []step{
		{"dax_set_uuid", func() C.int { return C.ndctl_dax_set_uuid(dax, &u[0]) }},
		{"dax_set_location", func() C.int { return C.ndctl_dax_set_location(dax, location(spec.Map)) }},
		{"dax_set_align", func() C.int {
			if C.ndctl_dax_has_align(dax) == 0 {
				return 0
			}
			return C.ndctl_dax_set_align(dax, C.ulong(spec.Align))
		}},
		{"dax_set_namespace", func() C.int { return C.ndctl_dax_set_namespace(dax, n) }},
		{"dax_enable", func() C.int { return C.ndctl_dax_enable(dax) }},
	}, func() {
		C.ndctl_dax_set_namespace(dax, nil)
		C.ndctl_dax_delete(dax)
	})
}

func enableBTT(r *C.struct_ndctl_region, n *C.struct_ndctl_namespace, dev string, spec pmem.NamespaceSpec) error {
	btt := C.ndctl_region_get_btt_seed(r)
	if btt == nil {
		return &Error{Op: "find a btt seed", Dev: dev, Err: syscall.ENXIO}
	}
	u := cUUID(uuid.New())
	return claim(dev, []step{
		{"btt_set_uuid", func() C.int { return C.ndctl_btt_set_uuid(btt, &u[0]) }},
		{"btt_set_sector_size", func() C.int { return C.ndctl_btt_set_sector_size(btt, C.uint(spec.Sector)) }},
		{"btt_set_namespace", func() C.int { return C.ndctl_btt_set_namespace(btt, n) }},
		{"btt_enable", func() C.int { return C.ndctl_btt_enable(btt) }},
	}, func() {
		C.ndctl_btt_set_namespace(btt, nil)
		C.ndctl_btt_delete(btt)
	})
}

// rollBack deletes an unfinished namespace, which contains no data.
func rollBack(n *C.struct_ndctl_namespace, dev string) error {
	C.ndctl_namespace_set_enforce_mode(n, C.NDCTL_NS_MODE_RAW)
	if C.ndctl_namespace_get_type(n) == C.ND_DEVICE_NAMESPACE_IO {
		return change("enable after a failed change of mode", dev, func() C.int { return C.ndctl_namespace_enable(n) })
	}
	return change("delete the partly created namespace", dev, func() C.int { return C.ndctl_namespace_delete(n) })
}

// change runs a call that writes to the device; a crash before or after it must do no harm.
func change(op, dev string, call func() C.int) error {
	fault.Step("before " + op)
	rc := call()
	fault.Step("after " + op)
	return check(op, dev, int(rc))
}

// disableSafely unbinds the driver, or returns EBUSY if the block device is held or mounted, or
// memory of it is online. On a disabled namespace it removes a pfn, dax or btt device that a crash
// left with a claim on it; otherwise the namespace could be neither changed nor deleted.
func disableSafely(n *C.struct_ndctl_namespace) error {
	dev := C.GoString(C.ndctl_namespace_get_devname(n))
	if err := supported("ndctl_namespace_disable_safe"); err != nil {
		return err
	}
	return change("disable", dev, func() C.int { return C.namespace_disable_safe(n) })
}

func (l Lib) withNamespace(key string, do func(n *C.struct_ndctl_namespace, dev string) error) (err error) {
	c, done, err := l.context()
	if err != nil {
		return err
	}
	defer func() { done(err) }()
	n, err := findNamespace(c, key)
	if err != nil {
		return err
	}
	return do(n, C.GoString(C.ndctl_namespace_get_devname(n)))
}

// DisableNamespace removes the block device of a namespace; EBUSY if it is in use. The key is a
// device name or a UUID, here and below.
func (l Lib) DisableNamespace(key string) error {
	return l.withNamespace(key, func(n *C.struct_ndctl_namespace, _ string) error { return disableSafely(n) })
}

// EnableNamespace enables the block device of a namespace, and returns the namespace.
func (l Lib) EnableNamespace(key string) (pmem.Namespace, error) {
	err := l.withNamespace(key, func(n *C.struct_ndctl_namespace, dev string) error {
		C.ndctl_namespace_set_raw_mode(n, 0)
		return change("enable", dev, func() C.int { return C.ndctl_namespace_enable(n) })
	})
	if err != nil {
		return pmem.Namespace{}, err
	}
	return Lib{}.readNamespace(key)
}

// RenameNamespace changes the alt name with a single write to the label area: after a power
// failure it is the old name or the new one. The namespace is disabled meanwhile, and enabled by
// its info block; EBUSY if it is in use. With ErrNoSlot the old name stays on the medium, but the
// kernel shows the new one until the next boot.
func (l Lib) RenameNamespace(key, name string) (renamed pmem.Namespace, err error) {
	// The namespace gets a pfn device with another number, and another namespace may get the old
	// number: a kept context is outdated.
	defer l.forget()
	err = l.withNamespace(key, func(n *C.struct_ndctl_namespace, dev string) error {
		enabled := bool(C.ndctl_namespace_is_active(n))
		if err := disableSafely(n); err != nil {
			return err
		}
		C.ndctl_namespace_set_raw_mode(n, 0)
		err := noSlot(setAltName(n, dev, name), snapshotRegion(C.ndctl_namespace_get_region(n), "", false).Mappings)
		if enabled {
			err = errors.Join(err, change("enable", dev, func() C.int { return C.ndctl_namespace_enable(n) }))
		}
		renamed = snapshotNamespace(n, false)
		return err
	})
	if err != nil {
		return pmem.Namespace{}, err
	}
	// In libndctl's cache the pfn device may be that of another namespace, which had the number
	// before.
	for _, up := range l.EnabledFSDAX() {
		if up.UUID == renamed.UUID {
			renamed.Blockdev, renamed.Size = up.Blockdev, up.Size
			return renamed, nil
		}
	}
	return Lib{}.readNamespace(key)
}

// RenameDisabled is RenameNamespace for a namespace that is to stay disabled. If it fails, the
// kernel shows the old name, which is on the medium.
func (l Lib) RenameDisabled(key, name string) error {
	defer l.forget()
	return l.withNamespace(key, func(n *C.struct_ndctl_namespace, dev string) error {
		if err := disableSafely(n); err != nil {
			return err
		}
		old := C.GoString(C.ndctl_namespace_get_alt_name(n))
		err := noSlot(setAltName(n, dev, name), snapshotRegion(C.ndctl_namespace_get_region(n), "", false).Mappings)
		if err != nil {
			_ = setAltName(n, dev, old) // may fail too, but the kernel shows it
		}
		return err
	})
}

// EnableRaw enables a namespace without its info block, so that all of its bytes can be written,
// and returns the name of the block device. DisableRaw ends this.
func (l Lib) EnableRaw(key string) (blockdev string, err error) {
	err = l.withNamespace(key, func(n *C.struct_ndctl_namespace, dev string) error {
		if err := disableSafely(n); err != nil {
			return err
		}
		if err := enableRaw(n, dev); err != nil {
			return err
		}
		blockdev = C.GoString(C.ndctl_namespace_get_block_device(n))
		return nil
	})
	return blockdev, err
}

func enableRaw(n *C.struct_ndctl_namespace, dev string) error {
	if err := change("set_raw_mode", dev, func() C.int { return C.ndctl_namespace_set_raw_mode(n, 1) }); err != nil {
		return err
	}
	err := change("enable", dev, func() C.int { return C.ndctl_namespace_enable(n) })
	if err != nil {
		C.ndctl_namespace_set_raw_mode(n, 0)
	}
	return err
}

// DisableRaw ends what EnableRaw began; the namespace is disabled afterwards.
func (l Lib) DisableRaw(key string) error {
	return l.withNamespace(key, func(n *C.struct_ndctl_namespace, dev string) error {
		if err := disableSafely(n); err != nil {
			return err
		}
		return change("set_raw_mode", dev, func() C.int { return C.ndctl_namespace_set_raw_mode(n, 0) })
	})
}

// DestroyNamespace returns the space of a namespace to its region; EBUSY if it is in use. The
// caller has wiped it: its content stays in the memory.
func (l Lib) DestroyNamespace(key string) error {
	return l.withNamespace(key, func(n *C.struct_ndctl_namespace, dev string) error {
		if err := disableSafely(n); err != nil {
			return err
		}
		C.ndctl_namespace_set_raw_mode(n, 0)
		if C.ndctl_namespace_get_type(n) == C.ND_DEVICE_NAMESPACE_IO {
			// A namespace described by the firmware cannot be deleted, and becomes raw.
			if err := enforceMode(n, dev, C.NDCTL_NS_MODE_RAW); err != nil {
				return err
			}
			return change("enable", dev, func() C.int { return C.ndctl_namespace_enable(n) })
		}
		return change("delete", dev, func() C.int { return C.ndctl_namespace_delete(n) })
	})
}
