package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Gone reports whether a device is not there any more, or, for one of the device mapper,
// a device below it: what was mounted from it gives errors. What cannot be told is not
// gone. The kernel keeps the number as long as the old device is held; the same device
// that comes back has another one.
func Gone(n Number) bool { return gone("/sys/dev/block", n, tableOn) }

// gone looks below a directory like /sys/dev/block, and asks for the devices below one
// of the device mapper.
func gone(sysfs string, n Number, below func(Number) ([]Number, error)) bool {
	if n.Major == 0 { // no block device: proc, tmpfs, …
		return false
	}
	device, err := filepath.EvalSymlinks(filepath.Join(sysfs, n.String()))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	if _, err := os.Lstat(filepath.Join(device, "dm")); err != nil {
		return false
	}
	numbers, err := below(n)
	if err != nil {
		return false
	}
	// A kernel without the links that say which device holds which says less.
	slaves, _ := os.ReadDir(filepath.Join(device, "slaves"))
	for _, b := range numbers {
		if gone(sysfs, b, below) {
			return true
		}
		// One that came back, or another with its number, is not held by this table.
		_, err := os.Stat(filepath.Join(sysfs, b.String(), "holders", filepath.Base(device)))
		if len(slaves) > 0 && errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// Exists reports whether the kernel has a block device of that number.
func (n Number) Exists() bool {
	_, err := os.Stat("/sys/dev/block/" + n.String())
	return err == nil
}

// KernelName is what the kernel calls a block device, such as pmem0 or dm-1; "" for one
// that is gone.
func (n Number) KernelName() string {
	device, err := filepath.EvalSymlinks("/sys/dev/block/" + n.String())
	if err != nil {
		return ""
	}
	return filepath.Base(device)
}

// tableOn are the devices that the active table of a mapped device lies on
// (DM_TABLE_DEPS, struct dm_target_deps).
func tableOn(n Number) ([]Number, error) {
	const header, each = 8, 8
	for size := 4 << 10; ; size *= 2 {
		buf := make([]byte, size)
		answer := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
		answer.Dev = unix.Mkdev(n.Major, n.Minor)
		if err := askMapper(unix.DM_TABLE_DEPS, answer, size); err != nil {
			return nil, fmt.Errorf("the devices below %s: %w", n, err)
		}
		if answer.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
			continue
		}
		data := buf[min(int(answer.Data_start), size):]
		if len(data) < header {
			return nil, nil // no table
		}
		count := int(binary.NativeEndian.Uint32(data))
		if data = data[header:]; count > len(data)/each {
			return nil, errors.New("the device mapper's answer is truncated")
		}
		var on []Number
		for i := range count {
			dev := binary.NativeEndian.Uint64(data[i*each:]) // huge_encode_dev
			on = append(on, Number{unix.Major(dev), unix.Minor(dev)})
		}
		return on, nil
	}
}

// Remove takes a mapped device away that nobody has open; unix.EBUSY says that
// somebody has. No data is touched.
func (m Mapped) Remove() error {
	param := unix.DmIoctl{}
	if m.UUID == "" || len(m.UUID) >= len(param.Uuid) {
		return fmt.Errorf("mapped device %s has no UUID to identify it", m.Name)
	}
	copy(param.Uuid[:], m.UUID)
	if err := askMapper(unix.DM_DEV_REMOVE, &param, int(unsafe.Sizeof(param))); err != nil {
		return fmt.Errorf("mapped device %s: %w", m.Name, err)
	}
	return nil
}
