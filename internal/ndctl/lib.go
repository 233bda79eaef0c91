//go:build cgo

// Package ndctl reads and changes the NVDIMM subsystem through libndctl.
//
// No C pointer leaves the package: every call creates its own context, finds its device by name or
// UUID, acts, and returns values. libndctl caches what it read from sysfs and is not thread-safe,
// so a context is kept for at most one operation (Keep); callers that change anything hold the
// host lock.
package ndctl

/*
#cgo LDFLAGS: -ldl -rdynamic
#include "optional.h"

// Replaces libudev's function for libndctl, which would wait in many steps of a snapshot until
// udevd is idle: with concurrent calls that create devices it never is. The kernel has finished
// probing before that, and code that requires a device node waits for that node.
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

// Lib gives access to the library. The zero value is ready to use, also concurrently.
type Lib struct{ kept *keptContext }

// keptContext is the context of one operation; c is nil before the first call.
type keptContext struct {
	c       *C.struct_ndctl_ctx
	used    bool          // it has read the subsystem
	warming chan struct{} // closed when Warm has finished; nil without Warm
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

// Keep returns a Lib whose calls share a context, so that each need not read the whole subsystem
// again, and a function that releases it. Snapshot starts a new context, and so does the call
// after a failed one. It is for the consecutive calls of one operation, on namespaces that it has
// locked.
func (Lib) Keep() (Lib, func()) {
	k := &keptContext{}
	return Lib{kept: k}, k.drop
}

// Warm loads the library and reads its configuration in the background, before the first call on
// the result of Keep.
func (l Lib) Warm() {
	if l.kept == nil || l.kept.warming != nil || l.kept.c != nil {
		return
	}
	l.kept.warming = make(chan struct{})
	go func() {
		defer close(l.kept.warming)
		l.kept.c, _ = newContext() // the next call reports errors
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

// context returns a libndctl context; the caller calls the returned function with its result when
// it no longer needs any pointer from it.
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

// keep discards the kept context if the operation failed.
func (l Lib) keep(err error) {
	if err != nil {
		l.kept.drop()
	}
}

// forget makes the next call read the subsystem again.
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

// findNamespace finds a namespace by device name or by UUID. A UUID stays the same across reboots
// and while other namespaces appear and disappear; a name does not.
func findNamespace(c *C.struct_ndctl_ctx, key string) (*C.struct_ndctl_namespace, error) {
	if key == "" {
		// An empty UUID would match every namespace without one.
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

// hasUUID asks the kernel: a namespace in a kept context may have been destroyed by hand since,
// and another one may have its device name.
func hasUUID(dev, uuid string) bool {
	return readLine(sysfsNVDIMM+dev+"/uuid") == uuid
}

func namespaceUUID(n *C.struct_ndctl_namespace) string {
	var u C.uuid_t
	C.ndctl_namespace_get_uuid(n, &u[0])
	return formatUUID(&u)
}

// formatUUID returns "" for the nil UUID of a namespace without labels.
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
