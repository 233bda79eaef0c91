//go:build !cgo

// Package ndctl reads and changes the NVDIMM subsystem through libndctl. This
// build has no cgo, and every call says so.
package ndctl

import (
	"fmt"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Lib answers every call with ErrUnsupported.
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

// Snapshot needs cgo.
func (Lib) Snapshot(Select) (pmem.System, error) { return pmem.System{}, errNoCgo }

// CreateNamespace needs cgo.
func (Lib) CreateNamespace(pmem.NamespaceSpec) (pmem.Namespace, error) {
	return pmem.Namespace{}, errNoCgo
}

// DisableNamespace needs cgo.
func (Lib) DisableNamespace(string) error { return errNoCgo }

// EnableNamespace needs cgo.
func (Lib) EnableNamespace(string) (pmem.Namespace, error) { return pmem.Namespace{}, errNoCgo }

// RenameNamespace needs cgo.
func (Lib) RenameNamespace(string, string) (pmem.Namespace, error) {
	return pmem.Namespace{}, errNoCgo
}

// RenameDisabled needs cgo.
func (Lib) RenameDisabled(string, string) error { return errNoCgo }

// EnableRaw needs cgo.
func (Lib) EnableRaw(string) (string, error) { return "", errNoCgo }

// DisableRaw needs cgo.
func (Lib) DisableRaw(string) error { return errNoCgo }

// DestroyNamespace needs cgo.
func (Lib) DestroyNamespace(string) error { return errNoCgo }

// EnableRegion needs cgo.
func (Lib) EnableRegion(string) error { return errNoCgo }

// DisableRegion needs cgo.
func (Lib) DisableRegion(string) error { return errNoCgo }

// InitLabels needs cgo.
func (Lib) InitLabels(...string) error { return errNoCgo }
