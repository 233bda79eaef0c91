package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Identify tells what device the kernel has under a path in /dev or /dev/mapper,
// from sysfs: the node at that path may be stale, or another container's. The error is
// os.ErrNotExist when there is none.
func Identify(path string) (Number, error) {
	if name, ok := strings.CutPrefix(path, "/dev/mapper/"); ok {
		m, err := lookUpMapped(name)
		if err != nil {
			return Number{}, fmt.Errorf("device mapper, %s: %w", path, err)
		}
		return m.Number, nil
	}
	var n Number
	name := filepath.Base(path)
	data, err := os.ReadFile("/sys/class/block/" + name + "/dev")
	if errors.Is(err, unix.ENODEV) { // it goes just now
		err = os.ErrNotExist
	}
	if err == nil {
		_, err = fmt.Sscanf(string(data), "%d:%d", &n.Major, &n.Minor)
	}
	if err != nil {
		return n, fmt.Errorf("block device %s: %w", name, err)
	}
	return n, nil
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

func readLine(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}
