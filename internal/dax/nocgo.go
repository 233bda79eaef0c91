//go:build !cgo

// Package dax reads dax devices and changes their mode through libdaxctl. This
// build has no cgo, and every call says so.
package dax

import "fmt"

// Lib answers every call with ErrUnsupported.
type Lib struct{}

var errNoCgo = fmt.Errorf("this pmemctl was built with CGO_ENABLED=0 and cannot use libdaxctl: %w", ErrUnsupported)

// List needs cgo.
func (Lib) List() ([]Device, error) { return nil, errNoCgo }

// Reconfigure needs cgo.
func (Lib) Reconfigure(string, Reconfigure) (Device, error) { return Device{}, errNoCgo }
