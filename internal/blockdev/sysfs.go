package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Identify tells what device the kernel has under a path in /dev or /dev/mapper,
// from sysfs: the node at that path may be stale, or another container's. The error is
// os.ErrNotExist when there is none.
func Identify(path string) (Number, error) {
	if name, ok := strings.CutPrefix(path, "/dev/mapper/"); ok {
		if m, found := FindMapped(name); found {
			return m.Number, nil
		}
		return Number{}, fmt.Errorf("device mapper, %s: %w", path, os.ErrNotExist)
	}
	n, _, err := sysfsDevice("/sys/class/block/" + filepath.Base(path))
	return n, err
}

// Node is the kernel's own node of the device at a path in /dev or /dev/mapper, when
// it is there: a link beside it may be missing for the moment in which udevd looks at the
// device again. Otherwise it is the path.
func Node(path string) string {
	name, ok := strings.CutPrefix(path, "/dev/mapper/")
	if !ok {
		return path
	}
	m, found := FindMapped(name)
	if own := m.Node(); found {
		if n, err := NumberOf(own); err == nil && n == m.Number {
			return own
		}
	}
	return path
}

func sysfsDevice(dir string) (n Number, size uint64, err error) {
	if _, err := fmt.Sscanf(readLine(filepath.Join(dir, "dev")), "%d:%d", &n.Major, &n.Minor); err != nil {
		return n, 0, fmt.Errorf("block device %s: %w", filepath.Base(dir), os.ErrNotExist)
	}
	sectors, err := strconv.ParseUint(readLine(filepath.Join(dir, "size")), 10, 64)
	return n, sectors * 512, err
}

func readLine(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}
