// Package blockdev inspects, opens, zeroes and copies block devices.
package blockdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
)

// Number is the major and minor number of a device, which identifies it independently of its
// nodes.
type Number struct{ Major, Minor uint32 }

func (n Number) String() string { return fmt.Sprintf("%d:%d", n.Major, n.Minor) }

// NumberOf returns the number of a block device node.
func NumberOf(path string) (Number, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Number{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Number{}, fmt.Errorf("%s is not a block device", path)
	}
	return Number{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, nil
}

// Holders returns the names of the devices stacked on a device (device mapper, md).
func Holders(n Number) []string {
	entries, _ := os.ReadDir("/sys/dev/block/" + n.String() + "/holders")
	var names []string
	for _, e := range entries {
		name := e.Name()
		if dm, err := os.ReadFile("/sys/block/" + name + "/dm/name"); err == nil {
			name = "/dev/mapper/" + strings.TrimSpace(string(dm))
		}
		names = append(names, name)
	}
	return names
}

// Device is a block device that is open exclusively: nothing else can mount it, stack on it or
// hold it until it is closed.
type Device struct {
	file *os.File
	size uint64
}

// Size returns the size of the device in bytes.
func (d *Device) Size() uint64 { return d.size }

// ReadAt reads from the device, as io.ReaderAt.
func (d *Device) ReadAt(p []byte, offset int64) (int, error) { return d.file.ReadAt(p, offset) }

// Hold opens a device exclusively, after verifying that the node at the path is that of the
// kernel's device of that name, because it may be about to be zeroed. An error of the kind InUse
// says that something already holds it.
func Hold(path string) (*Device, error) { return hold(path, os.O_RDWR|unix.O_EXCL) }

// HoldToRead is Hold for reading only. When a device that was open for writing is closed, udevd
// probes it and thereby delays its removal.
func HoldToRead(path string) (*Device, error) { return hold(path, os.O_RDONLY|unix.O_EXCL) }

func hold(path string, mode int) (*Device, error) {
	want, err := Identify(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(Node(path), mode|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, errs.Wrap(errs.InUse, path, "is in use"+usedBy(path), "", err)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, err
	}
	if have := (Number{unix.Major(st.Rdev), unix.Minor(st.Rdev)}); st.Mode&unix.S_IFMT != unix.S_IFBLK || have != want {
		f.Close()
		return nil, errs.New(errs.Internal, path, "is a stale device node: it is not device "+want.String(), "check that /dev is the host's own and that udevd is running")
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Device{file: f, size: uint64(size)}, nil
}

func usedBy(path string) string {
	n, err := Identify(path)
	if err != nil {
		return ""
	}
	if h := Holders(n); len(h) > 0 {
		return " by " + strings.Join(h, ", ")
	}
	return ""
}

// Close closes the device and releases it.
func (d *Device) Close() error { return d.file.Close() }

// Progress is called with the bytes done and the total. It may be nil, and is not called
// concurrently.
type Progress func(done, total uint64)

// chunk is the size in bytes of a read or write. Each worker has a buffer of that size, and a
// process that reads the device through the page cache, such as udevd, waits for at most one
// chunk.
const chunk = 1 << 20

// zeroChunk is the size in bytes of a write of zeros, which needs no buffer of a worker.
const zeroChunk = 4 << 20

// zeros returns a buffer for O_DIRECT: it is page-aligned, and all of its pages are the zero page.
var zeros = sync.OnceValues(func() ([]byte, error) {
	return unix.Mmap(-1, 0, zeroChunk, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
})

// Zero zeroes a range of the medium, from one offset to another, in bytes. The kernel clears media
// errors there on a write. If some of it cannot be written, the rest is zeroed and the error is a
// *MediaError.
func (d *Device) Zero(ctx context.Context, from, to uint64, progress Progress) error {
	return d.ZeroWith(ctx, from, to, nil, progress)
}

// ZeroWith is Zero with limit returning the current maximum of workers; 0 is as many as help. It
// bypasses the page cache, because BLKZEROOUT serializes the ranges of a device.
func (d *Device) ZeroWith(ctx context.Context, from, to uint64, limit func() int, progress Progress) error {
	if to > d.size || from > to {
		return d.notWithin(from, to)
	}
	fault.Step("before zero")
	zeros, err := zeros()
	if err != nil {
		return err
	}
	buffered, err := d.setDirect()
	if err != nil {
		return err
	}
	defer buffered()
	bad := MediaError{Path: d.file.Name()}
	var mu sync.Mutex
	zero := func(offset, length uint64) error {
		if err := fault.Media(offset, length); err != nil {
			return err
		}
		_, err := d.file.WriteAt(zeros[:length], int64(offset))
		return err
	}
	err = work(ctx, from, to, zeroChunk, 0, limit, progress, func(offset, length uint64, _ []byte) error {
		err := zero(offset, length)
		if errors.Is(err, unix.EIO) {
			mu.Lock()
			defer mu.Unlock()
			return bad.pages(offset, length, zero)
		}
		return err
	})
	if err == nil {
		err = d.file.Sync()
	}
	if err == nil && bad.Bytes > 0 {
		err = &bad
	}
	fault.Step("after zero")
	return err
}

// setDirect sets O_DIRECT on the file until the returned function is called.
func (d *Device) setDirect() (buffered func(), err error) {
	flags, err := unix.FcntlInt(d.file.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(d.file.Fd(), unix.F_SETFL, flags|unix.O_DIRECT)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: O_DIRECT: %w", d.file.Name(), err)
	}
	return func() { _, _ = unix.FcntlInt(d.file.Fd(), unix.F_SETFL, flags) }, nil
}

func (d *Device) notWithin(from, to uint64) error {
	return fmt.Errorf("%s: bytes %d to %d are outside its %d bytes", d.file.Name(), from, to, d.size)
}

// MediaError is the error if bytes of a device cannot be written.
type MediaError struct {
	Path         string
	First, Bytes uint64 // the offset of the first, and their number
}

func (e *MediaError) Error() string {
	return fmt.Sprintf("%s: %d bytes cannot be written, the first at %d: %v", e.Path, e.Bytes, e.First, unix.EIO)
}

func (e *MediaError) Unwrap() error { return unix.EIO }

// pages writes a chunk page by page after it failed, and counts the pages that cannot be written.
// After many errors, whole chunks are counted.
func (e *MediaError) pages(offset, length uint64, write func(offset, length uint64) error) error {
	const page, most = 4096, 4 << 20
	if e.Bytes >= most {
		e.Bytes += length
		return nil
	}
	for end := offset + length; offset < end; offset += page {
		size := min(page, end-offset)
		err := write(offset, size)
		if err == nil {
			continue
		}
		if !errors.Is(err, unix.EIO) {
			return err
		}
		if e.Bytes == 0 {
			e.First = offset
		}
		e.Bytes += size
	}
	return nil
}

// Write writes to the medium and flushes it.
func (d *Device) Write(data []byte, offset int64) error {
	fault.Step("before write")
	_, err := d.file.WriteAt(data, offset)
	if err == nil {
		err = d.file.Sync()
	}
	fault.Step("after write")
	return err
}

// IsZero reports whether all bytes from one offset to another are zero.
func (d *Device) IsZero(ctx context.Context, from, to uint64, progress Progress) (bool, error) {
	if to > d.size || from > to {
		return false, d.notWithin(from, to)
	}
	zeros, err := zeros()
	if err != nil {
		return false, err
	}
	err = work(ctx, from, to, chunk, chunk, nil, progress, func(offset, length uint64, buffer []byte) error {
		buffer = buffer[:length]
		if _, err := d.file.ReadAt(buffer, int64(offset)); err != nil {
			return err
		}
		if !bytes.Equal(buffer, zeros[:length]) {
			return errNotZero
		}
		return nil
	})
	if errors.Is(err, errNotZero) {
		return false, nil
	}
	return err == nil, err
}

var errNotZero = errors.New("not zero")

// CopyFrom copies the first length bytes of another device, including zeros, because this device
// may contain anything.
func (d *Device) CopyFrom(ctx context.Context, from io.ReaderAt, length uint64, progress Progress) error {
	if length > d.size {
		return d.notWithin(0, length)
	}
	fault.Step("before copy")
	err := work(ctx, 0, length, chunk, chunk, nil, progress, func(offset, length uint64, buffer []byte) error {
		buffer = buffer[:length]
		if _, err := from.ReadAt(buffer, int64(offset)); err != nil {
			return err
		}
		_, err := d.file.WriteAt(buffer, int64(offset))
		return err
	})
	if err == nil {
		err = d.file.Sync()
	}
	fault.Step("after copy")
	return err
}
