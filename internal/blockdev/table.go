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
