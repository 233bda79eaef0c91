package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenShared is Hold for a device that others have open or use, to write outside of their data.
func OpenShared(path string) (*Device, error) { return hold(path, os.O_RDWR) }

// OpenToRead opens a device to read it, whoever uses it.
func OpenToRead(path string) (*Device, error) {
	f, err := os.Open(Node(path))
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Device{file: f, size: uint64(size)}, nil
}

// Table returns the table of the device in the format of dmsetup table: for each target a line
// with its first sector, number of sectors, type and parameters.
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

// parseTable parses a list of struct dm_target_spec, each followed by its parameters; next is
// relative to the beginning of the data.
func parseTable(data []byte, targets int) (string, error) {
	const header = 40
	var lines []string
	for at := 0; len(lines) < targets; {
		if at < 0 || at+header > len(data) {
			return "", errors.New("the device mapper's table is truncated")
		}
		spec := data[at:]
		start, length, next := binary.NativeEndian.Uint64(spec), binary.NativeEndian.Uint64(spec[8:]), binary.NativeEndian.Uint32(spec[20:])
		kind, _ := cString(spec[24:header])
		parameters, ok := cString(spec[header:])
		if !ok || int(next) <= at {
			return "", errors.New("the device mapper's table is truncated")
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
	// It is mapped at sector At of the mapped device. With stripes it is number Stripe of Stripes,
	// in chunks of Chunk sectors.
	At, Stripes, Stripe, Chunk uint64
}

// BadRange is a range of a device with media errors, in bytes, and the underlying device that has
// them.
type BadRange struct {
	From, To uint64
	On       Number
}

// Extents returns the parts of other devices that a mapped device consists of. Targets other than
// linear and striped are omitted.
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
		wrong := func(err error) ([]Extent, error) {
			return nil, fmt.Errorf("the device mapper's table has %q: %w", line, err)
		}
		var part Extent
		if _, err := fmt.Sscan(words[0]+" "+words[1], &part.At, &part.Length); err != nil {
			return wrong(err)
		}
		kind, words := words[2], words[3:]
		part.Stripes = 1
		switch {
		case kind == "striped" && len(words) > 2: // number of stripes, size of a chunk
			if _, err := fmt.Sscan(words[0]+" "+words[1], &part.Stripes, &part.Chunk); err != nil {
				return wrong(err)
			}
			if part.Stripes == 0 || part.Chunk == 0 {
				return wrong(errors.New("no stripes"))
			}
			words = words[2:]
			part.Length /= part.Stripes
		case kind != "linear":
			continue
		}
		for ; len(words) >= 2; words = words[2:] {
			if _, err := fmt.Sscanf(words[0]+" "+words[1], "%d:%d %d", &part.Device.Major, &part.Device.Minor, &part.Start); err != nil {
				return wrong(err)
			}
			all = append(all, part)
			part.Stripe++
		}
	}
	return all, nil
}

// BadRanges returns the ranges of a device of size bytes, or of the underlying devices of a mapped
// device, for which the kernel lists media errors.
func BadRanges(path string, size uint64) ([]BadRange, error) {
	n, err := Identify(path)
	if err != nil {
		return nil, err
	}
	parts := []Extent{{Device: n, Length: size / 512}}
	if mapped, ok := mappedByNumber(n); ok {
		if parts, err = mapped.Extents(); err != nil {
			return nil, err
		}
	}
	var bad []BadRange
	for _, part := range parts {
		bad = append(bad, part.BadRanges()...)
	}
	return bad, nil
}

// BadRanges returns the ranges of a part of a device for which the kernel lists media errors, in
// bytes of the mapped device. The list is that of the driver (drivers/nvdimm/badrange.c).
func (e Extent) BadRanges() []BadRange {
	data, _ := os.ReadFile("/sys/dev/block/" + e.Device.String() + "/badblocks")
	return e.badIn(string(data))
}

func (e Extent) badIn(list string) []BadRange {
	var bad []BadRange
	for _, line := range strings.Split(list, "\n") {
		var from, count uint64
		if n, _ := fmt.Sscanf(line, "%d %d", &from, &count); n != 2 || from >= e.Start+e.Length || from+count <= e.Start {
			continue
		}
		to := min(from+count, e.Start+e.Length) - e.Start
		from = max(from, e.Start) - e.Start
		if e.Stripes <= 1 {
			bad = append(bad, BadRange{(e.At + from) * 512, (e.At + to) * 512, e.Device})
			continue
		}
		for from < to { // chunk by chunk
			chunk, end := from/e.Chunk, min(to, (from/e.Chunk+1)*e.Chunk)
			at := e.At + (chunk*e.Stripes+e.Stripe)*e.Chunk
			bad = append(bad, BadRange{(at + from%e.Chunk) * 512, (at + end - chunk*e.Chunk) * 512, e.Device})
			from = end
		}
	}
	return bad
}
