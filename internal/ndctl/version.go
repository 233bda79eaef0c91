package ndctl

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
)

// LibraryVersions are the versions of libndctl and libdaxctl, from the names of their
// files: the libraries have no call for it.
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
