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
	UUID   string // prefixed by its owner; LVM's begin with LVM-
	Number Number
}

// Size returns the size of the device in bytes; 0 if it is gone.
func (m Mapped) Size() uint64 {
	sectors, _ := strconv.ParseUint(readLine(m.sysfs()+"/size"), 10, 64)
	return sectors * 512
}

// Below returns the names of the underlying block devices.
func (m Mapped) Below() []string {
	var names []string
	below, _ := os.ReadDir(m.sysfs() + "/slaves")
	for _, b := range below {
		names = append(names, b.Name())
	}
	return names
}

// Node returns the kernel's own node of the device.
func (m Mapped) Node() string { return fmt.Sprintf("/dev/dm-%d", m.Number.Minor) }

// Suspended reports whether the device is suspended, so that all I/O waits.
func (m Mapped) Suspended() bool { return readLine(m.sysfs()+"/dm/suspended") == "1" }

func (m Mapped) sysfs() string { return "/sys/dev/block/" + m.Number.String() }

// mapperControl is the device for the ioctls of the device mapper (drivers/md/dm-ioctl.c).
const mapperControl = "/dev/mapper/control"

// MappedDevices lists the devices of the device mapper with a single ioctl. Without a device
// mapper there are none.
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

// uuidsSince is the minor version of the ioctls that also list UUIDs; with an older kernel they
// are read from sysfs.
const uuidsSince = 45

// parseMapped parses a list of struct dm_name_list, each with an event number, flags and the UUID
// after its name.
func parseMapped(data []byte, uuids bool) ([]Mapped, error) {
	const header, flags = 12, 8 // flags: size of the event number and the flags
	errShort := errors.New("the device mapper's list is truncated")
	var all []Mapped
	for {
		if len(data) < header {
			return all, errShort
		}
		dev, next := binary.NativeEndian.Uint64(data), int(binary.NativeEndian.Uint32(data[8:]))
		if dev == 0 {
			return all, nil // the list is empty
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

// FindMapped finds a device of the device mapper by name.
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

// lookUpMapped returns os.ErrNotExist only if the device mapper says that there is no such device.
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

// askMapper issues an ioctl with a buffer of size bytes that begins with param.
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
