package lvm

import (
	"os"
	"path/filepath"
	"strings"
)

// seenDevices is what the kernel has as block devices of PMEM: their names, numbers,
// sizes and, since Linux 5.15, which of all devices so far each is (diskseq). An lvm
// process remembers of devices what it saw of them first.
func seenDevices() string {
	dirs, _ := filepath.Glob("/sys/class/block/pmem*")
	var seen strings.Builder
	for _, dir := range dirs {
		seen.WriteString(filepath.Base(dir))
		for _, attribute := range []string{"dev", "size", "diskseq"} {
			data, _ := os.ReadFile(filepath.Join(dir, attribute))
			seen.WriteString(" " + strings.TrimSpace(string(data)))
		}
		seen.WriteString("\n")
	}
	return seen.String()
}
