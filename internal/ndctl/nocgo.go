//go:build !cgo

// Package ndctl reads and changes the NVDIMM subsystem through libndctl. This build has no cgo, so
// every call fails.
package ndctl

import (
	"fmt"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Lib returns ErrUnsupported from every call.
type Lib struct{}

// Select says how much of the system a snapshot reads.
type Select struct{ DIMMs, Health, Namespaces, Badblocks bool }

// Everything is the whole system.
var Everything = Select{DIMMs: true, Health: true, Namespaces: true, Badblocks: true}

var errNoCgo = fmt.Errorf("this pmemctl was built with CGO_ENABLED=0 and cannot use libndctl: %w", ErrUnsupported)

func load() error { return errNoCgo }

// Keep keeps nothing.
func (Lib) Keep() (Lib, func()) { return Lib{}, func() {} }

// Warm does nothing.
func (Lib) Warm() {}

// Snapshot requires cgo.
func (Lib) Snapshot(Select) (pmem.System, error) { return pmem.System{}, errNoCgo }

// CreateNamespace requires cgo.
func (Lib) CreateNamespace(pmem.NamespaceSpec) (pmem.Namespace, error) {
	return pmem.Namespace{}, errNoCgo
}

// DisableNamespace requires cgo.
func (Lib) DisableNamespace(string) error { return errNoCgo }

// EnableNamespace requires cgo.
func (Lib) EnableNamespace(string) (pmem.Namespace, error) { return pmem.Namespace{}, errNoCgo }

// RenameNamespace requires cgo.
func (Lib) RenameNamespace(string, string) (pmem.Namespace, error) {
	return pmem.Namespace{}, errNoCgo
}

// RenameDisabled requires cgo.
func (Lib) RenameDisabled(string, string) error { return errNoCgo }

// EnableRaw requires cgo.
func (Lib) EnableRaw(string) (string, error) { return "", errNoCgo }

// AdvanceSeed requires cgo.
func (Lib) AdvanceSeed(string, func(string) bool) error { return errNoCgo }

// DisableRaw requires cgo.
func (Lib) DisableRaw(string) error { return errNoCgo }

// DestroyNamespace requires cgo.
func (Lib) DestroyNamespace(string) error { return errNoCgo }

// EnableRegion requires cgo.
func (Lib) EnableRegion(string) error { return errNoCgo }

// DisableRegion requires cgo.
func (Lib) DisableRegion(string) error { return errNoCgo }

// InitLabels requires cgo.
func (Lib) InitLabels(...string) error { return errNoCgo }
