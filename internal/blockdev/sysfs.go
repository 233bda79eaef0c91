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

// Identify returns the number of the kernel's device under a path in /dev or /dev/mapper, from
// sysfs: the node at that path may be stale, or another container's. The error is os.ErrNotExist
// if there is none.
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
	if errors.Is(err, unix.ENODEV) { // it is being removed
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

// Disk identifies a block device. Two equal values are the same device with the same size.
type Disk struct {
	Name   string // in /sys/class/block
	Number Number
	Size   uint64 // bytes
	// sequence distinguishes devices that have successively had the same number (diskseq, since
	// Linux 5.15).
	sequence string
}

// ReadDisk reads the block device of a name in /sys/class/block; os.ErrNotExist if there is none.
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

// Names returns the names of the host's block devices in /sys/class/block.
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

// Node returns the kernel's own node of the device at a path in /dev or /dev/mapper, if it exists:
// a link may be missing briefly while udevd processes the device. Otherwise it returns the path.
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

// LinkNode creates a link at a path to the kernel's own node of a mapped device, where udevd is
// about to create one; it keeps an existing one. Errors are ignored.
func LinkNode(m Mapped, path string) {
	own := m.Node()
	if n, err := NumberOf(own); err == nil && n == m.Number {
		_ = os.Symlink("../"+filepath.Base(own), path)
	}
}

// UnlinkNode removes a link at a path, and nothing else.
func UnlinkNode(path string) {
	if _, err := os.Readlink(path); err == nil {
		_ = os.Remove(path)
	}
}

func readLine(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}

// HasDAX reports whether a block device supports DAX (queue/dax in
// Documentation/ABI/stable/sysfs-block).
func HasDAX(n Number) bool { return readLine("/sys/dev/block/"+n.String()+"/queue/dax") == "1" }
