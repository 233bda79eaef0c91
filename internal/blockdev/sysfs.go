package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

// Disk is a block device as it is now. Two that are equal are the same device, with the
// same size.
type Disk struct {
	Name   string // in /sys/class/block
	Number Number
	Size   uint64 // bytes
	// sequence tells two devices apart that had the same number after each other
	// (diskseq, since Linux 5.15).
	sequence string
}

// ReadDisk describes the block device of a name in /sys/class/block; os.ErrNotExist when
// there is none.
func ReadDisk(name string) (Disk, error) {
	n, err := Identify(name)
	if err != nil {
		return Disk{}, err
	}
	dir := "/sys/class/block/" + name
	sectors, err := strconv.ParseUint(readLine(dir+"/size"), 10, 64)
	if err != nil {
		return Disk{}, fmt.Errorf("block device %s: its size: %w", name, err)
	}
	return Disk{Name: name, Number: n, Size: sectors * 512, sequence: readLine(dir + "/diskseq")}, nil
}

// Names lists the block devices of the host by their names in /sys/class/block.
func Names() ([]string, error) {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
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

// LinkNode makes a link at a path to the kernel's own node of a mapped device, where udevd is
// about to make one; it keeps one that is there. It need not succeed.
func LinkNode(m Mapped, path string) {
	own := m.Node()
	if n, err := NumberOf(own); err == nil && n == m.Number {
		_ = os.Symlink("../"+filepath.Base(own), path)
	}
}

// UnlinkNode removes the link at a path, and nothing that is none.
func UnlinkNode(path string) {
	if _, err := os.Readlink(path); err == nil {
		_ = os.Remove(path)
	}
}

func readLine(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}
