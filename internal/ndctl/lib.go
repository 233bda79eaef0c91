//go:build cgo

// Package ndctl reads and changes the NVDIMM subsystem through libndctl.
//
// No C pointer leaves the package: every call makes a context of its own, finds
// its device by name or UUID, acts, and returns values. libndctl caches what it
// read from sysfs and is not safe for use from several threads, so a context is
// kept for one operation at most (Keep); callers that change anything hold the
// host's lock.
package ndctl

/*
#cgo LDFLAGS: -ldl -rdynamic
#include "optional.h"

// In place of libudev's, for libndctl: it would wait at each of many steps of a look
// until udevd has nothing to do, which among other calls that make devices is never.
// The kernel has finished its probing before that, and who needs a device node waits
// for that node.
int udev_queue_get_queue_is_empty(void *queue) { return 1; }
*/
import "C"

import (
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"github.com/google/uuid"
)

// load loads the library.
var load = sync.OnceValue(func() error {
	if reason := C.open_libndctl(); reason != nil {
		return &Error{Op: "load", Dev: "libndctl", Err: fmt.Errorf("%s: %w", C.GoString(reason), ErrUnsupported)}
	}
	return nil
})

// Lib is the way to the library. The zero value is ready, and may be used by
// several goroutines.
type Lib struct{ kept *keptContext }

// keptContext is the context of one operation; c is nil before the first call.
type keptContext struct {
	c       *C.struct_ndctl_ctx
	used    bool          // it has read something
	warming chan struct{} // closed when Warm is done; nil without it
}

// wait waits for Warm.
func (k *keptContext) wait() {
	if k.warming != nil {
		<-k.warming
		k.warming = nil
	}
}

func (k *keptContext) drop() {
	k.wait()
	if k.c != nil {
		C.ndctl_unref(k.c)
		k.c = nil
	}
}

// Keep returns a Lib whose calls share a context, which saves each of them from
// reading the whole subsystem again, and the function that releases it. Snapshot
// starts a new context, and so does the call after one that failed. It is for the
// calls of one operation, one after the other, on namespaces that it holds.
func (Lib) Keep() (Lib, func()) {
	k := &keptContext{}
	return Lib{kept: k}, k.drop
}

// Warm loads the library and reads its configuration in the background, for a call
// on what Keep returned that is about to come.
func (l Lib) Warm() {
	if l.kept == nil || l.kept.warming != nil || l.kept.c != nil {
		return
	}
	l.kept.warming = make(chan struct{})
	go func() {
		defer close(l.kept.warming)
		l.kept.c, _ = newContext() // the call will tell
	}()
}

func newContext() (*C.struct_ndctl_ctx, error) {
	if err := load(); err != nil {
		return nil, err
	}
	var c *C.struct_ndctl_ctx
	if rc := C.ndctl_new(&c); rc < 0 {
		return nil, &Error{Op: "new", Dev: "libndctl", Err: syscall.Errno(-rc)}
	}
	return c, nil
}

// context is a libndctl context; the caller calls the returned function, with
// its result, when it is done with every pointer that came from it.
func (l Lib) context() (*C.struct_ndctl_ctx, func(error), error) {
	if l.kept == nil {
		c, err := newContext()
		return c, func(error) { C.ndctl_unref(c) }, err
	}
	l.kept.wait()
	if l.kept.c == nil {
		c, err := newContext()
		if err != nil {
			return nil, nil, err
		}
		l.kept.c = c
	}
	l.kept.used = true
	return l.kept.c, l.keep, nil
}

// keep does not keep what an error left.
func (l Lib) keep(err error) {
	if err != nil {
		l.kept.drop()
	}
}

// forget has the next call read the subsystem again.
func (l Lib) forget() {
	if l.kept != nil && l.kept.used {
		l.kept.drop()
		l.kept.used = false
	}
}

// supported reports whether the installed library has a function.
func supported(name string) error {
	if err := load(); err != nil {
		return err
	}
	cName := C.CString(name)
	defer C.free(unsafe.Pointer(cName))
	if !C.has_symbol(cName) {
		return fmt.Errorf("%s: %w", name, ErrUnsupported)
	}
	return nil
}

func buses(c *C.struct_ndctl_ctx) func(yield func(*C.struct_ndctl_bus) bool) {
	return func(yield func(*C.struct_ndctl_bus) bool) {
		for b := C.ndctl_bus_get_first(c); b != nil; b = C.ndctl_bus_get_next(b) {
			if !yield(b) {
				return
			}
		}
	}
}

func dimms(b *C.struct_ndctl_bus) func(yield func(*C.struct_ndctl_dimm) bool) {
	return func(yield func(*C.struct_ndctl_dimm) bool) {
		for d := C.ndctl_dimm_get_first(b); d != nil; d = C.ndctl_dimm_get_next(d) {
			if !yield(d) {
				return
			}
		}
	}
}

func regions(b *C.struct_ndctl_bus) func(yield func(*C.struct_ndctl_region) bool) {
	return func(yield func(*C.struct_ndctl_region) bool) {
		for r := C.ndctl_region_get_first(b); r != nil; r = C.ndctl_region_get_next(r) {
			if !yield(r) {
				return
			}
		}
	}
}

func namespaces(r *C.struct_ndctl_region) func(yield func(*C.struct_ndctl_namespace) bool) {
	return func(yield func(*C.struct_ndctl_namespace) bool) {
		for n := C.ndctl_namespace_get_first(r); n != nil; n = C.ndctl_namespace_get_next(n) {
			if !yield(n) {
				return
			}
		}
	}
}

func findRegion(c *C.struct_ndctl_ctx, dev string) (*C.struct_ndctl_region, error) {
	for b := range buses(c) {
		for r := range regions(b) {
			if C.GoString(C.ndctl_region_get_devname(r)) == dev {
				return r, nil
			}
		}
	}
	return nil, &Error{Op: "find", Dev: dev, Err: ErrNotFound}
}

// findNamespace finds a namespace by device name or by UUID. A UUID stays the
// same over a reboot and while other namespaces come and go; a name does not.
func findNamespace(c *C.struct_ndctl_ctx, key string) (*C.struct_ndctl_namespace, error) {
	if key == "" {
		// It would be that of every namespace without a UUID.
		return nil, &Error{Op: "find", Dev: "namespace", Err: ErrNotFound}
	}
	for b := range buses(c) {
		for r := range regions(b) {
			for n := range namespaces(r) {
				dev := C.GoString(C.ndctl_namespace_get_devname(n))
				if dev == key || namespaceUUID(n) == key && hasUUID(dev, key) {
					return n, nil
				}
			}
		}
	}
	return nil, &Error{Op: "find", Dev: key, Err: ErrNotFound}
}

// hasUUID asks the kernel: what libndctl remembers of a kept context may have been
// destroyed by hand since, and another namespace have its device name.
func hasUUID(dev, uuid string) bool {
	return readLine(sysfsNVDIMM+dev+"/uuid") == uuid
}

func namespaceUUID(n *C.struct_ndctl_namespace) string {
	var u C.uuid_t
	C.ndctl_namespace_get_uuid(n, &u[0])
	return formatUUID(&u)
}

// formatUUID is "" for the nil UUID, which is what a label-less namespace has.
func formatUUID(u *C.uuid_t) string {
	id := uuid.UUID(*(*[16]byte)(unsafe.Pointer(u)))
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

func cUUID(id uuid.UUID) (c C.uuid_t) {
	*(*[16]byte)(unsafe.Pointer(&c)) = id
	return c
}
