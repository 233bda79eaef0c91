// Package blockdev looks at block devices, holds them, and clears them.
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
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
)

// Number is the major and minor number of a device: what it is, whatever its
// nodes are called.
type Number struct{ Major, Minor uint32 }

func (n Number) String() string { return fmt.Sprintf("%d:%d", n.Major, n.Minor) }

// NumberOf reads the number of a block device node.
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

// Holders names the devices stacked on a device (device mapper, md).
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

// Device is a block device that is held: nothing else can mount it, stack on
// it, or hold it, until it is closed.
type Device struct {
	file *os.File
	Size uint64 // bytes
}

// Hold opens a device exclusively, after it made sure that the node at the path
// is the device that the kernel has under that name: what is held may be about
// to be cleared. An error of the kind InUse says that something has it already.
func Hold(path string) (*Device, error) { return hold(path, os.O_RDWR|unix.O_EXCL) }

// HoldToRead is Hold for what is only looked at. When a device that was open for
// writing is closed, udevd looks at it again, and is in the way of its removal.
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
		return nil, errs.New(errs.Internal, path, "is a stale device node: it is not device "+want.String(), "see whether /dev is the host's own and udevd runs")
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Device{file: f, Size: uint64(size)}, nil
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

// Close lets the device go.
func (d *Device) Close() error { return d.file.Close() }

// Progress is told how many bytes of how many are done. It may be nil, and is
// called by one goroutine at a time.
type Progress func(done, total uint64)

const (
	// A server keeps what buffers need: they are small, and each worker has one.
	chunk = 1 << 20
	// Whoever reads the device through the page cache, such as udevd, waits for the
	// zeroing of a chunk.
	zeroChunk = 8 << 20
	// The kernel zeroes one range of a device at a time; what is read and compared
	// or copied gains from a second core.
	zeroWorkers, copyWorkers = 1, 4
)

// Zero makes the bytes from one offset to another read as zeros, on the medium.
// It also heals media errors there, which the kernel clears on a write. What cannot be
// written does not keep it from the rest: the error is a *MediaError then.
func (d *Device) Zero(ctx context.Context, from, to uint64, progress Progress) error {
	fault.Point("before zero")
	bad := MediaError{Path: d.file.Name()}
	zero := func(offset, length uint64) error {
		if err := fault.Media(offset, length); err != nil {
			return err
		}
		extent := [2]uint64{offset, length}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.file.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&extent)))
		if errno != 0 {
			return fmt.Errorf("%s: zero %d bytes at %d: %w", d.file.Name(), length, offset, errno)
		}
		return nil
	}
	err := d.chunks(ctx, from, to, zeroChunk, zeroWorkers, progress, func(_ []byte, offset, length uint64) error {
		err := zero(offset, length)
		if errors.Is(err, unix.EIO) {
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
	fault.Point("after zero")
	return err
}

// MediaError says that bytes of a device cannot be written.
type MediaError struct {
	Path         string
	First, Bytes uint64 // the offset of the first one, and how many there are
}

func (e *MediaError) Error() string {
	return fmt.Sprintf("%s: %d bytes cannot be written, the first at %d: %v", e.Path, e.Bytes, e.First, unix.EIO)
}

func (e *MediaError) Unwrap() error { return unix.EIO }

// pages writes what can be written of a chunk in which something cannot, and counts the rest.
// A device that takes nothing any more is given up.
func (e *MediaError) pages(offset, length uint64, write func(offset, length uint64) error) error {
	const page, most = 4096, 4 << 20
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
		if e.Bytes += size; e.Bytes > most {
			return e
		}
	}
	return nil
}

// Write writes to the medium.
func (d *Device) Write(data []byte, offset int64) error {
	fault.Point("before write")
	_, err := d.file.WriteAt(data, offset)
	if err == nil {
		err = d.file.Sync()
	}
	fault.Point("after write")
	return err
}

// IsZero reads the whole device and tells whether every byte is zero.
func (d *Device) IsZero(ctx context.Context, progress Progress) (bool, error) {
	return d.isZero(ctx, 0, d.Size, progress)
}

// IsZeroFrom reads the bytes from one offset to another and tells whether each is zero.
func (d *Device) IsZeroFrom(ctx context.Context, from, to uint64) (bool, error) {
	return d.isZero(ctx, from, to, nil)
}

func (d *Device) isZero(ctx context.Context, from, to uint64, progress Progress) (bool, error) {
	err := d.chunks(ctx, from, to, chunk, copyWorkers, progress, func(buf []byte, offset, length uint64) error {
		buf = buf[:length]
		if _, err := d.file.ReadAt(buf, int64(offset)); err != nil {
			return err
		}
		if !bytes.Equal(buf, zeros[:length]) {
			return errNotZero
		}
		return nil
	})
	if errors.Is(err, errNotZero) {
		return false, nil
	}
	return err == nil, err
}

var (
	errNotZero = errors.New("not zero")
	zeros      [chunk]byte
)

// CopyTo copies the first length bytes to another device, and leaves out no
// zeros: the other device may contain anything.
func (d *Device) CopyTo(ctx context.Context, to *Device, length uint64, progress Progress) error {
	if length > to.Size {
		return fmt.Errorf("%s: %d bytes do not fit into %s of %d", d.file.Name(), length, to.file.Name(), to.Size)
	}
	fault.Point("before copy")
	err := d.chunks(ctx, 0, length, chunk, copyWorkers, progress, func(buf []byte, offset, length uint64) error {
		buf = buf[:length]
		if _, err := d.file.ReadAt(buf, int64(offset)); err != nil {
			return err
		}
		_, err := to.file.WriteAt(buf, int64(offset))
		return err
	})
	if err == nil {
		err = to.file.Sync()
	}
	fault.Point("after copy")
	return err
}

// chunks calls do for each chunk, from several goroutines, until the first
// error. Each has a buffer of its own, of at most chunk bytes.
func (d *Device) chunks(ctx context.Context, from, to, size uint64, workers int, progress Progress, do func(buf []byte, offset, length uint64) error) error {
	if to > d.Size || from > to {
		return fmt.Errorf("%s: bytes %d to %d are not within its %d", d.file.Name(), from, to, d.Size)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, done atomic.Uint64
	next.Store(from)
	var report sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			buf := make([]byte, min(size, chunk))
			for ctx.Err() == nil {
				offset := next.Add(size) - size
				if offset >= to {
					return
				}
				length := min(size, to-offset)
				if err := do(buf, offset, length); err != nil {
					cancel(err)
					return
				}
				finished := done.Add(length)
				if progress != nil {
					report.Lock()
					progress(finished, to-from)
					report.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
