//go:build !cgo

// Package dax reads dax devices and changes their mode through libdaxctl. This build has no cgo,
// so every call fails.
package dax

import "fmt"

// Lib returns ErrUnsupported from every call.
type Lib struct{}

var errNoCgo = fmt.Errorf("this pmemctl was built with CGO_ENABLED=0 and cannot use libdaxctl: %w", ErrUnsupported)

// List requires cgo.
func (Lib) List() ([]Device, error) { return nil, errNoCgo }

// Reconfigure requires cgo.
func (Lib) Reconfigure(string, Reconfigure) (Device, error) { return Device{}, errNoCgo }
