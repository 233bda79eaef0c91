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

// OpenShared is Hold for a device that others have open or lie on, and that is written
// where they do not.
func OpenShared(path string) (*Device, error) { return hold(path, os.O_RDWR) }

// Table is what the device is made of: a line for each target, with its first sector,
// the number of sectors, its type and parameters, as dmsetup table shows it.
func (m Mapped) Table() (string, error) {
	for size := 16 << 10; ; size *= 2 {
		buf := make([]byte, size)
		answer := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
		answer.Flags = unix.DM_STATUS_TABLE_FLAG
		answer.Dev = unix.Mkdev(m.Number.Major, m.Number.Minor)
		if err := askMapper(unix.DM_TABLE_STATUS, answer, size); err != nil {
			return "", fmt.Errorf("table of %s: %w", m.Name, err)
		}
		if answer.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
			continue
		}
		if uuid, _ := cString(answer.Uuid[:]); uuid != m.UUID {
			return "", fmt.Errorf("table of %s: %w", m.Name, os.ErrNotExist) // its number is another's by now
		}
		return parseTable(buf[min(int(answer.Data_start), size):], int(answer.Target_count))
	}
}

// parseTable reads a list of struct dm_target_spec, each with its parameters behind it;
// next is from the beginning of the data.
func parseTable(data []byte, targets int) (string, error) {
	const header = 40
	var lines []string
	for at := 0; len(lines) < targets; {
		if at < 0 || at+header > len(data) {
			return "", errors.New("the table of the device mapper is cut short")
		}
		spec := data[at:]
		start, length, next := binary.NativeEndian.Uint64(spec), binary.NativeEndian.Uint64(spec[8:]), binary.NativeEndian.Uint32(spec[20:])
		kind, _ := cString(spec[24:header])
		parameters, ok := cString(spec[header:])
		if !ok || int(next) <= at {
			return "", errors.New("the table of the device mapper is cut short")
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d %d %s %s", start, length, kind, parameters)))
		at = int(next)
	}
	return strings.Join(lines, "\n"), nil
}

// Extent is a part of a device, in sectors of 512 bytes.
type Extent struct {
	Device        Number
	Start, Length uint64
}

// Extents are the parts of other devices that a mapped device consists of. Targets other
// than linear and striped have none.
func (m Mapped) Extents() ([]Extent, error) {
	table, err := m.Table()
	if err != nil {
		return nil, err
	}
	return extentsOf(table)
}

func extentsOf(table string) ([]Extent, error) {
	var all []Extent
	for _, line := range strings.Split(table, "\n") {
		words := strings.Fields(line)
		if len(words) < 3 {
			continue
		}
		length, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the table of the device mapper has %q: %w", line, err)
		}
		kind, words := words[2], words[3:]
		switch {
		case kind == "striped" && len(words) > 2: // number of stripes, size of a chunk
			words = words[2:]
			length /= max(1, uint64(len(words)/2))
		case kind != "linear":
			continue
		}
		for ; len(words) >= 2; words = words[2:] {
			e := Extent{Length: length}
			if _, err := fmt.Sscanf(words[0]+" "+words[1], "%d:%d %d", &e.Device.Major, &e.Device.Minor, &e.Start); err != nil {
				return nil, fmt.Errorf("the table of the device mapper has %q: %w", line, err)
			}
			all = append(all, e)
		}
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
