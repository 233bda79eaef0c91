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

// MappedDevices lists the devices of the device mapper whose name is wanted, from
// sysfs, which needs no process and no device node. There may be very many: of the
// others nothing but the name is read.
func MappedDevices(wanted func(name string) bool) []Mapped {
	var all []Mapped
	names, _ := filepath.Glob("/sys/block/dm-*/dm/name")
	for _, file := range names {
		if name := readLine(file); wanted(name) {
			if m, ok := readMapped(filepath.Dir(filepath.Dir(file)), name); ok {
				all = append(all, m)
			}
		}
	}
	return all
}

// readMapped is false for a device that is gone in the meantime.
func readMapped(dir, name string) (Mapped, bool) {
	number, size, err := sysfsDevice(dir)
	if err != nil {
		return Mapped{}, false
	}
	m := Mapped{Name: name, UUID: readLine(dir + "/dm/uuid"), Size: size, Number: number, Suspended: readLine(dir+"/dm/suspended") == "1"}
	below, _ := os.ReadDir(dir + "/slaves")
	for _, b := range below {
		m.Below = append(m.Below, b.Name())
	}
	return m, true
}

// FindMapped looks up a device of the device mapper by name. Its node, if there is
// one, says where to look first.
func FindMapped(name string) (Mapped, bool) {
	if n, err := NumberOf("/dev/mapper/" + name); err == nil {
		dir := fmt.Sprintf("/sys/block/dm-%d", n.Minor)
		if m, ok := readMapped(dir, readLine(dir+"/dm/name")); ok && m.Name == name && m.Number == n {
			return m, true
		}
	}
	for _, m := range MappedDevices(func(n string) bool { return n == name }) {
		return m, true
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
