package model

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// FailReads makes reads of the host's state fail. choose is called with the name of each read and
// the lines of the service that requested it, the innermost first, and returns its error or nil.
func (h *Host) FailReads(choose func(read, lines string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failRead = choose
}

// reading is the error of a read. The host is not locked, because choose may look at it, but one
// read chooses at a time.
func (h *Host) reading(name string) error {
	h.mu.Lock()
	choose := h.failRead
	h.mu.Unlock()
	if choose == nil {
		return nil
	}
	h.choosing.Lock()
	defer h.choosing.Unlock()
	return choose(name, callers())
}

// callers returns the innermost lines of package volume on the stack.
func callers() string {
	const depth, lines = 64, 8
	pcs := make([]uintptr, depth)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var all []string
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "internal/volume.") && len(all) < lines {
			all = append(all, fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line))
		}
		if !more {
			return strings.Join(all, " < ")
		}
	}
}
