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

// Gone reports whether a device or, for a mapped device, an underlying one is gone: mounts of it
// return errors. If that cannot be determined, it returns false. The kernel does not reuse the
// number while the old device is held; the same device gets another one when it is added again.
func Gone(n Number) bool { return gone("/sys/dev/block", n, tableOn) }

// gone uses a directory like /sys/dev/block, and below to find the underlying devices of a mapped
// device.
func gone(sysfs string, n Number, below func(Number) ([]Number, error)) bool {
	if n.Major == 0 { // not a block device: proc, tmpfs, …
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
	// Without these links the kernel does not show which device holds which.
	slaves, _ := os.ReadDir(filepath.Join(device, "slaves"))
	for _, b := range numbers {
		if gone(sysfs, b, below) {
			return true
		}
		// A device that was added again, or another one with its number, is not held by this
		// table.
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

// KernelName returns the kernel's name of a block device, such as pmem0 or dm-1; "" if it is gone.
func (n Number) KernelName() string {
	device, err := filepath.EvalSymlinks("/sys/dev/block/" + n.String())
	if err != nil {
		return ""
	}
	return filepath.Base(device)
}

// tableOn returns the underlying devices in the active table of a mapped device (DM_TABLE_DEPS,
// struct dm_target_deps).
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

// Remove removes a mapped device that is not open; unix.EBUSY if it is. Its data is not touched.
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
