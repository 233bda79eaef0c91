package ndctl

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
)

// LibraryVersions returns the versions of libndctl and libdaxctl from their file names, because
// the libraries have no function for it.
func LibraryVersions() (libndctl, libdaxctl string) {
	libndctl, libdaxctl = "none", "none"
	if err := load(); err != nil {
		return libndctl, libdaxctl
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return libndctl, libdaxctl
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue
		}
		file := filepath.Base(fields[5])
		if v, ok := strings.CutPrefix(file, "libndctl.so."); ok {
			libndctl = v
		}
		if v, ok := strings.CutPrefix(file, "libdaxctl.so."); ok {
			libdaxctl = v
		}
	}
	return libndctl, libdaxctl
}
