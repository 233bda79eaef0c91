package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mapped is a device of the device mapper.
type Mapped struct {
	Name   string // as in /dev/mapper
	UUID   string // that of its maker; LVM's begins with LVM-
	Number Number
}

// Size is the bytes of the device; 0 when it is gone.
func (m Mapped) Size() uint64 {
	sectors, _ := strconv.ParseUint(readLine(m.sysfs()+"/size"), 10, 64)
	return sectors * 512
}

// Below are the names of the block devices that the device lies on.
func (m Mapped) Below() []string {
	var names []string
	below, _ := os.ReadDir(m.sysfs() + "/slaves")
	for _, b := range below {
		names = append(names, b.Name())
	}
	return names
}

// Node is the kernel's own node of the device.
func (m Mapped) Node() string { return fmt.Sprintf("/dev/dm-%d", m.Number.Minor) }

// Suspended reports whether all input and output waits until the device is resumed.
func (m Mapped) Suspended() bool { return readLine(m.sysfs()+"/dm/suspended") == "1" }

func (m Mapped) sysfs() string { return "/sys/dev/block/" + m.Number.String() }

// mapperControl is the device that takes the ioctls of the device mapper
// (drivers/md/dm-ioctl.c).
const mapperControl = "/dev/mapper/control"

// MappedDevices lists the devices of the device mapper. It takes one ioctl, however
// many there are. Without a device mapper there are none.
func MappedDevices() ([]Mapped, error) {
	for size := 32 << 10; ; size *= 2 {
		buf := make([]byte, size)
		answer := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
		answer.Flags = unix.DM_UUID_FLAG
		err := askMapper(unix.DM_LIST_DEVICES, answer, size)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the devices of the device mapper: %w", err)
		}
		if answer.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
			continue
		}
		return parseMapped(buf[min(int(answer.Data_start), size):], answer.Version[1] >= uuidsSince)
	}
}

// uuidsSince is the minor version of the ioctls that list UUIDs too; an older kernel's
// are read from sysfs.
const uuidsSince = 45

// parseMapped reads a list of struct dm_name_list, each with an event number, flags
// and the UUID behind its name.
func parseMapped(data []byte, uuids bool) ([]Mapped, error) {
	const header, flags = 12, 8 // flags: bytes of the event number and the flags
	errShort := errors.New("the device mapper's list is truncated")
	var all []Mapped
	for {
		if len(data) < header {
			return all, errShort
		}
		dev, next := binary.NativeEndian.Uint64(data), int(binary.NativeEndian.Uint32(data[8:]))
		if dev == 0 {
			return all, nil // none at all
		}
		entry := data
		if next != 0 {
			if next < header || next > len(data) {
				return all, errShort
			}
			entry = data[:next]
		}
		name, ok := cString(entry[header:])
		if !ok {
			return all, errShort
		}
		m := Mapped{Name: name, Number: Number{unix.Major(dev), unix.Minor(dev)}}
		behind := align8(header + len(name) + 1)
		switch {
		case !uuids:
			m.UUID = readLine(m.sysfs() + "/dm/uuid")
		case behind+flags > len(entry):
			return all, errShort
		case binary.NativeEndian.Uint32(entry[behind+4:])&unix.DM_NAME_LIST_FLAG_HAS_UUID != 0:
			if m.UUID, ok = cString(entry[behind+flags:]); !ok {
				return all, errShort
			}
		}
		all = append(all, m)
		if next == 0 {
			return all, nil
		}
		data = data[next:]
	}
}

func align8(n int) int { return (n + 7) &^ 7 }

func cString(data []byte) (string, bool) {
	text, _, ok := strings.Cut(string(data), "\x00")
	return text, ok
}

// FindMapped looks up a device of the device mapper by name.
func FindMapped(name string) (Mapped, bool) {
	m, err := lookUpMapped(name)
	return m, err == nil
}

// mappedByNumber finds a mapped device by its number.
func mappedByNumber(n Number) (Mapped, bool) {
	m := Mapped{Number: n}
	m.Name, m.UUID = readLine(m.sysfs()+"/dm/name"), readLine(m.sysfs()+"/dm/uuid")
	return m, m.Name != ""
}

// lookUpMapped says os.ErrNotExist only when the device mapper said that it has none.
func lookUpMapped(name string) (Mapped, error) {
	var answer unix.DmIoctl
	if name == "" || len(name) >= len(answer.Name) {
		return Mapped{}, os.ErrNotExist
	}
	copy(answer.Name[:], name)
	err := askMapper(unix.DM_DEV_STATUS, &answer, int(unsafe.Sizeof(answer)))
	switch {
	case errors.Is(err, unix.ENXIO):
		return Mapped{}, os.ErrNotExist
	case err != nil:
		return Mapped{}, fmt.Errorf("cannot query it: %v", err)
	}
	uuid, _ := cString(answer.Uuid[:])
	return Mapped{Name: name, UUID: uuid, Number: Number{unix.Major(answer.Dev), unix.Minor(answer.Dev)}}, nil
}

// askMapper does an ioctl with a structure that size bytes of memory begin with.
func askMapper(request uintptr, param *unix.DmIoctl, size int) error {
	control, err := os.OpenFile(mapperControl, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	param.Version = [3]uint32{unix.DM_VERSION_MAJOR, 0, 0}
	param.Data_size, param.Data_start = uint32(size), unix.SizeofDmIoctl
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), request, uintptr(unsafe.Pointer(param))); errno != 0 {
		return errno
	}
	return nil
}
