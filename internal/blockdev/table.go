package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Extent is a part of a device, in sectors of 512 bytes.
type Extent struct {
	Device        Number
	Start, Length uint64
}

// Extents are the parts of other devices that a mapped device consists of, from its
// active table (DM_TABLE_STATUS). Targets other than linear and striped have none.
func (m Mapped) Extents() ([]Extent, error) {
	for size := 16 << 10; ; size *= 2 {
		buf := make([]byte, size)
		answer := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
		answer.Dev = unix.Mkdev(m.Number.Major, m.Number.Minor)
		answer.Flags = unix.DM_STATUS_TABLE_FLAG
		if err := askMapper(unix.DM_TABLE_STATUS, answer, size); err != nil {
			return nil, fmt.Errorf("the table of mapped device %s: %w", m.Name, err)
		}
		if answer.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
			continue
		}
		return parseTable(buf[min(int(answer.Data_start), size):], int(answer.Target_count))
	}
}

// parseTable reads structures dm_target_spec, each followed by its parameters; the
// offset to the next one counts from the first (drivers/md/dm-ioctl.c, retrieve_status).
func parseTable(data []byte, targets int) ([]Extent, error) {
	const header, length, next, kind = 40, 8, 20, 24
	errShort := errors.New("the table of the device mapper is cut short")
	var all []Extent
	for at := 0; targets > 0; targets-- {
		if at < 0 || at+header > len(data) {
			return nil, errShort
		}
		spec := data[at:]
		name, _ := cString(spec[kind:header])
		params, ok := cString(spec[header:])
		if !ok {
			return nil, errShort
		}
		sectors := binary.NativeEndian.Uint64(spec[length:])
		words := strings.Fields(params)
		switch {
		case name == "striped" && len(words) > 2: // number of stripes, size of a chunk
			words = words[2:]
			sectors /= max(1, uint64(len(words)/2))
		case name != "linear":
			words = nil
		}
		for ; len(words) >= 2; words = words[2:] {
			e := Extent{Length: sectors}
			if _, err := fmt.Sscanf(words[0]+" "+words[1], "%d:%d %d", &e.Device.Major, &e.Device.Minor, &e.Start); err != nil {
				return nil, fmt.Errorf("the table of the device mapper has %q: %w", params, err)
			}
			all = append(all, e)
		}
		at = int(binary.NativeEndian.Uint32(spec[next:]))
	}
	return all, nil
}

// Badblocks tells whether the kernel lists media errors in a part of a device.
func (e Extent) Badblocks() bool {
	data, _ := os.ReadFile("/sys/dev/block/" + e.Device.String() + "/badblocks")
	return hasBadblocks(string(data), e.Start, e.Length)
}

func hasBadblocks(list string, start, length uint64) bool {
	for _, line := range strings.Split(list, "\n") {
		var from, count uint64
		if n, _ := fmt.Sscanf(line, "%d %d", &from, &count); n == 2 && from < start+length && from+count > start {
			return true
		}
	}
	return false
}
