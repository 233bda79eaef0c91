package model

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// devices are the block devices of the host.
type devices struct{ *Host }

func (h *Host) identify(path string) (blockdev.Number, error) {
	if name, ok := strings.CutPrefix(path, "/dev/mapper/"); ok {
		for _, m := range h.mapped {
			if m.Name == name {
				return m.Number, nil
			}
		}
		return blockdev.Number{}, fmt.Errorf("device mapper, %s: %w", path, os.ErrNotExist)
	}
	for _, r := range h.regions {
		for _, n := range r.namespaces {
			if n.up() && "/dev/"+n.block() == path {
				return n.number, nil
			}
		}
	}
	return blockdev.Number{}, fmt.Errorf("block device %s: %w", path, os.ErrNotExist)
}

func (d devices) Identify(path string) (blockdev.Number, error) {
	if err := d.reading("identify"); err != nil {
		return blockdev.Number{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.identify(path)
}

// NumberOf also finds a node that is bound to a file.
func (d devices) NumberOf(path string) (blockdev.Number, error) {
	if err := d.reading("stat"); err != nil {
		return blockdev.Number{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if real, err := realPath(path); err == nil {
		for _, m := range slices.Backward(d.mounts) {
			if m.point.Path == real && m.node {
				return m.number, nil
			}
		}
	}
	return d.identify(path)
}

func (d devices) Node(path string) string                    { return path }
func (d devices) RealNode(path string) (string, error)       { return path, nil }
func (d devices) LinkNode(blockdev.Mapped, string)           {}
func (d devices) UnlinkNode(string)                          {}
func (d devices) Hold(path string) (volume.Device, error)    { return d.hold(path) }
func (d devices) Holders(n blockdev.Number) []string         { return d.aboveOf(n) }
func (d devices) HoldToRead(p string) (volume.Device, error) { return d.hold(p) }
func (d devices) HoldShared(p string) (volume.Device, error) { return d.open(p, false) }

func (d devices) Open(path string) (volume.Opened, error) {
	dev, err := d.open(path, false)
	if err != nil {
		return nil, err
	}
	return dev, nil
}

// Table is in the words of the kernel what a mapped device is made of.
func (d devices) Table(m blockdev.Mapped) (string, error) {
	if err := d.reading("table"); err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, have := range d.mapped {
		if have.UUID == m.UUID {
			return have.table, nil
		}
	}
	return "", fmt.Errorf("table of %s: %w", m.Name, os.ErrNotExist)
}

func (d devices) aboveOf(n blockdev.Number) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.above(n)
}

func (d devices) hold(path string) (volume.Device, error) { return d.open(path, true) }

func (d devices) open(path string, alone bool) (volume.Device, error) {
	if err := d.reading("open"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, ErrDead
	}
	n, err := d.identify(path)
	if err != nil {
		return nil, err
	}
	if slices.Contains(d.hidden, path) {
		return nil, &os.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	if alone && d.inUse(n) {
		return nil, errs.New(errs.InUse, path, "is in use", "")
	}
	if alone {
		d.held[n]++
	}
	return &device{host: d.Host, path: path, number: n, size: d.sizeOf(n), closed: !alone}, nil
}

func (d devices) Mapped() ([]blockdev.Mapped, error) {
	if err := d.reading("list of mapped devices"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []blockdev.Mapped
	for _, m := range d.mapped {
		all = append(all, m.Mapped)
	}
	return all, nil
}

func (d devices) FindMapped(name string) (blockdev.Mapped, bool) {
	all, _ := d.Mapped()
	for _, m := range all {
		if m.Name == name {
			return m, true
		}
	}
	return blockdev.Mapped{}, false
}

func (d devices) RemoveMapped(m blockdev.Mapped) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.step("removing the mapped device", func() error {
		i := slices.IndexFunc(d.mapped, func(have *mapped) bool { return have.UUID == m.UUID })
		switch {
		case i < 0:
			return unix.ENXIO
		case d.inUse(d.mapped[i].Number):
			return unix.EBUSY
		}
		d.mapped = slices.Delete(d.mapped, i, i+1)
		return nil
	})
}

func (d devices) Suspended(m blockdev.Mapped) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.mapped, func(have *mapped) bool { return have.UUID == m.UUID && have.suspended })
}

func (d devices) SizeOf(m blockdev.Mapped) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sizeOf(m.Number)
}

func (d devices) Below(m blockdev.Mapped) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for _, p := range d.partsOf(m.Number) {
		if !slices.Contains(names, p.on.block()) {
			names = append(names, p.on.block())
		}
	}
	return names
}

func (d devices) Exists(n blockdev.Number) bool { return d.KernelName(n) != "" }

func (d devices) KernelName(n blockdev.Number) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.mapped {
		if m.Number == n {
			return fmt.Sprintf("dm-%d", n.Minor)
		}
	}
	for _, p := range d.partsOf(n) {
		return p.on.block()
	}
	return ""
}

func (d devices) Users(path string) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.users[path]
}

func (d devices) Gone(n blockdev.Number) bool {
	if n.Major == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	parts := d.partsOf(n)
	return len(parts) == 0 || slices.ContainsFunc(parts, func(p part) bool { return p.on.number != p.number })
}

func (d devices) BadRanges(path string, size uint64) ([]blockdev.BadRange, error) {
	if err := d.reading("bad ranges"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.identify(path)
	if err != nil {
		return nil, err
	}
	var bad []blockdev.BadRange
	begin := uint64(0)
	for _, p := range d.partsOf(n) {
		for _, b := range d.bad {
			if from, to := max(b.from, p.from), min(b.to, p.from+p.size); b.on == p.on.region && from < to && begin < size {
				bad = append(bad, blockdev.BadRange{From: from - p.from + begin, To: to - p.from + begin, On: p.number})
			}
		}
		begin += p.size
	}
	return bad, nil
}

// device is an open device.
type device struct {
	host   *Host
	path   string
	number blockdev.Number
	size   uint64
	closed bool
}

func (d *device) Size() uint64 { return d.size }

func (d *device) Close() error {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if !d.closed {
		d.closed = true
		d.host.held[d.number]--
	}
	return nil
}

func (d *device) ReadAt(p []byte, offset int64) (int, error) {
	if err := d.host.reading("read"); err != nil {
		return 0, err
	}
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if d.host.dead {
		return 0, ErrDead
	}
	n := copy(p, d.host.read(d.number, uint64(offset), min(uint64(len(p)), d.size-uint64(offset))))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// change is a step that writes.
func (d *device) change(name string, from, to uint64, progress blockdev.Progress, do func()) error {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if from > to || to > d.size {
		return fmt.Errorf("%s: bytes %d to %d are outside its %d bytes", d.path, from, to, d.size)
	}
	err := d.host.step(name, func() error {
		do()
		return nil
	})
	if err == nil && progress != nil {
		progress(to-from, to-from)
	}
	return err
}

// Zero clears media errors that a write clears; where the medium cannot be written, it zeroes the
// rest.
func (d *device) Zero(_ context.Context, from, to uint64, progress blockdev.Progress) error {
	failed := blockdev.MediaError{Path: d.path}
	err := d.change("zero", from, to, progress, func() {
		d.host.each(d.number, from, to, func(c *content, begin, end, at uint64) {
			c.put(extent{from: begin, to: end})
			for i := len(d.host.bad) - 1; i >= 0; i-- {
				b := d.host.bad[i]
				switch {
				case &b.on.content != c || b.to <= begin || b.from >= end:
				case b.sticks:
					failed.First, failed.Bytes = from+at+max(b.from, begin)-begin, failed.Bytes+min(b.to, end)-max(b.from, begin)
				default:
					d.host.bad = slices.Delete(d.host.bad, i, i+1)
				}
			}
		})
	})
	if err == nil && failed.Bytes > 0 {
		err = &failed
	}
	return err
}

func (d *device) ZeroWith(ctx context.Context, from, to uint64, _ func() int, progress blockdev.Progress) error {
	return d.Zero(ctx, from, to, progress)
}

func (d *device) Write(data []byte, offset int64) error {
	from := uint64(offset)
	return d.change("write", from, from+uint64(len(data)), nil, func() { d.host.write(d.number, from, data) })
}

func (d *device) IsZero(_ context.Context, from, to uint64, _ blockdev.Progress) (bool, error) {
	if err := d.host.reading("read"); err != nil {
		return false, err
	}
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if d.host.dead {
		return false, ErrDead
	}
	zero := true
	d.host.each(d.number, from, to, func(c *content, from, to, _ uint64) { zero = zero && c.isZero(from, to) })
	return zero, nil
}

func (d *device) CopyFrom(_ context.Context, from io.ReaderAt, length uint64, progress blockdev.Progress) error {
	source, ok := from.(*device)
	if !ok {
		return fmt.Errorf("%s: only a device of the same host is copied", d.path)
	}
	return d.change("copy", 0, length, progress, func() {
		var parts []extent
		source.host.each(source.number, 0, length, func(c *content, from, to, at uint64) {
			parts = append(parts, c.parts(from, to, at)...)
		})
		for _, e := range parts {
			d.host.each(d.number, e.from, e.to, func(c *content, from, to, at uint64) {
				piece := extent{from: from, to: to, old: e.old}
				if e.data != nil {
					piece.data = e.data[at : at+to-from]
				}
				c.put(piece)
			})
		}
	})
}
