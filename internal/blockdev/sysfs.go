package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Mapped is a device of the device mapper.
type Mapped struct {
	Name   string // as in /dev/mapper
	UUID   string // that of its maker; LVM's begins with LVM-
	Size   uint64 // bytes
	Number Number
	// Below are the names of the block devices it lies on.
	Below []string
	// Suspended: all input and output waits until it is resumed.
	Suspended bool
}

// MappedDevices lists the devices of the device mapper from sysfs, which needs
// no process and no device node.
func MappedDevices() []Mapped {
	var all []Mapped
	dirs, _ := filepath.Glob("/sys/block/dm-*")
	for _, dir := range dirs {
		number, size, err := sysfsDevice(dir)
		if err != nil {
			continue // gone in the meantime
		}
		m := Mapped{Name: readLine(dir + "/dm/name"), UUID: readLine(dir + "/dm/uuid"), Size: size, Number: number, Suspended: readLine(dir+"/dm/suspended") == "1"}
		below, _ := os.ReadDir(dir + "/slaves")
		for _, b := range below {
			m.Below = append(m.Below, b.Name())
		}
		all = append(all, m)
	}
	return all
}

// FindMapped looks up a device of the device mapper by name.
func FindMapped(name string) (Mapped, bool) {
	for _, m := range MappedDevices() {
		if m.Name == name {
			return m, true
		}
	}
	return Mapped{}, false
}

// Identify tells what device the kernel has under a path in /dev or /dev/mapper,
// from sysfs: the node at that path may be stale, or another container's.
func Identify(path string) (Number, error) {
	if name, ok := strings.CutPrefix(path, "/dev/mapper/"); ok {
		if m, found := FindMapped(name); found {
			return m.Number, nil
		}
		return Number{}, fmt.Errorf("%s: the device mapper has no such device", path)
	}
	n, _, err := sysfsDevice("/sys/class/block/" + filepath.Base(path))
	return n, err
}

func sysfsDevice(dir string) (n Number, size uint64, err error) {
	if _, err := fmt.Sscanf(readLine(filepath.Join(dir, "dev")), "%d:%d", &n.Major, &n.Minor); err != nil {
		return n, 0, fmt.Errorf("%s: no such block device", filepath.Base(dir))
	}
	sectors, err := strconv.ParseUint(readLine(filepath.Join(dir, "size")), 10, 64)
	return n, sectors * 512, err
}

func readLine(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}
