package volume

import (
	"context"
	"io"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/devuser"
	"github.com/pmemctl/pmemctl/internal/mount"
)

// Devices is what the service requires of the block devices of a host; KernelDevices is the
// implementation.
type Devices interface {
	// Identify returns the number of the device that the kernel has under a path in /dev or
	// /dev/mapper, whatever node exists there; os.ErrNotExist if there is none.
	Identify(path string) (blockdev.Number, error)
	// NumberOf returns the number of the device node at a path; os.ErrNotExist if there is none.
	NumberOf(path string) (blockdev.Number, error)
	// Node returns the kernel's own node of the device at a path, or else the path.
	Node(path string) string
	// RealNode is Node with symbolic links resolved, such as udev's.
	RealNode(path string) (string, error)
	// LinkNode creates a missing link at a path to the kernel's node of a mapped device.
	LinkNode(m blockdev.Mapped, path string)
	// UnlinkNode removes the link at a path.
	UnlinkNode(path string)
	// Hold opens a device exclusively, so that nothing else can mount or hold it; InUse if
	// something already does.
	Hold(path string) (Device, error)
	// HoldToRead is Hold for a device that is only read.
	HoldToRead(path string) (Device, error)
	// HoldShared is Hold for a device that others lie on, and that is written where they do not.
	HoldShared(path string) (Device, error)
	// Open opens a device to read it as it is, whoever uses it.
	Open(path string) (Opened, error)
	// Table returns what a mapped device is made of, as dmsetup table shows it; os.ErrNotExist
	// when it is gone.
	Table(m blockdev.Mapped) (string, error)
	// Mapped lists the devices of the device mapper.
	Mapped() ([]blockdev.Mapped, error)
	// FindMapped finds a device of the device mapper by its name.
	FindMapped(name string) (blockdev.Mapped, bool)
	// RemoveMapped removes a mapped device by its UUID; unix.EBUSY if it is open, unix.ENXIO if
	// there is none.
	RemoveMapped(m blockdev.Mapped) error
	// Suspended reports whether a mapped device is suspended.
	Suspended(m blockdev.Mapped) bool
	// SizeOf returns the size of a mapped device in bytes; 0 if it is gone.
	SizeOf(m blockdev.Mapped) uint64
	// Below returns the names of the underlying devices of a mapped device.
	Below(m blockdev.Mapped) []string
	// Gone reports whether the device of a number, or an underlying one, is gone.
	Gone(n blockdev.Number) bool
	// Exists reports whether the kernel has a device of that number.
	Exists(n blockdev.Number) bool
	// KernelName returns the kernel's name of a device, such as pmem0; "" if it is gone.
	KernelName(n blockdev.Number) string
	// Holders returns the names of the devices stacked on a device.
	Holders(n blockdev.Number) []string
	// BadRanges returns the ranges of the first size bytes of a device for which the kernel lists
	// media errors.
	BadRanges(path string, size uint64) ([]blockdev.BadRange, error)
	// Users returns the processes that have the device at a path open or mapped.
	Users(path string) []int
}

// Opened is a block device that is open for reading.
type Opened interface {
	io.ReaderAt
	io.Closer
	Size() uint64 // bytes
}

// Device is a block device that is held. Offsets and sizes are bytes.
type Device interface {
	io.ReaderAt
	io.Closer
	Size() uint64
	// Zero zeroes a range on the medium, and clears media errors in it; the error is a
	// *blockdev.MediaError if some of it cannot be written.
	Zero(ctx context.Context, from, to uint64, progress blockdev.Progress) error
	// ZeroWith is Zero with a limit of workers; 0 is as many as help.
	ZeroWith(ctx context.Context, from, to uint64, workers func() int, progress blockdev.Progress) error
	// Write writes to the medium and flushes it.
	Write(data []byte, offset int64) error
	// IsZero reports whether a range reads as zeros.
	IsZero(ctx context.Context, from, to uint64, progress blockdev.Progress) (bool, error)
	// CopyFrom copies the first length bytes of another device.
	CopyFrom(ctx context.Context, from io.ReaderAt, length uint64, progress blockdev.Progress) error
}

// Mounts is what the service requires of file systems and the mount table; KernelMounts is the
// implementation.
type Mounts interface {
	// RealPath returns a path as it appears in the mount table.
	RealPath(path string) (string, error)
	// At returns the device that is mounted topmost on a path.
	At(path string) (n blockdev.Number, p mount.Point, mounted bool, err error)
	// Points returns the mount points of a device.
	Points(n blockdev.Number) ([]mount.Point, error)
	// BoundNodes returns the files to which the node of a device is bound.
	BoundNodes(n blockdev.Number) ([]string, error)
	// Uses returns the mounts of block devices, and the device nodes bound to files.
	Uses() ([]mount.Use, error)
	// UseAt returns the topmost mount at a path; false if it is not of a block device.
	UseAt(path string) (mount.Use, bool, error)
	// Mount mounts a device with options as mount(8) has them.
	Mount(device, path, fs string, options []string) error
	// Unmount unmounts a device from a path; InUse if it is busy or covered by another mount.
	Unmount(device, path string) error
	// UnmountPath unmounts the topmost mount at a path; InUse if it is busy.
	UnmountPath(path string) error
	// Detach detaches the mount of a device that is gone.
	Detach(path, real string) error
	// Bind bind-mounts one path at another.
	Bind(from, to string, readOnly bool, options []string) error
	// Format creates a file system in a space, whatever it contains.
	Format(ctx context.Context, on mount.Space, fs string, options ...string) error
	// Probe returns the content recognized on a device.
	Probe(ctx context.Context, device string) (mount.Content, error)
	// Check checks and repairs a file system whose superblock requests it.
	Check(ctx context.Context, device string) error
	// HasErrors reports whether an ext4 file system has recorded errors.
	HasErrors(device string) bool
	// Extent returns the number of bytes of a device that its file system covers.
	Extent(device, fs string) (uint64, error)
	// Grow grows a mounted file system to the size of its device.
	Grow(ctx context.Context, device string, p mount.Point) error
	// Separate gives the file system of a copy a new UUID.
	Separate(ctx context.Context, device string) error
	// DAX reports whether new files below a mount point use DAX, and whether the kernel refuses to
	// map them with MAP_SYNC.
	DAX(path string, p mount.Point) (dax, noMapSync bool, err error)
	// WhyNoDAX returns why a mounted file system does not use DAX; "" if no reason is known.
	WhyNoDAX(device string, n blockdev.Number, p mount.Point) string
	// MapFile maps an unnamed file in a directory, and writes to it.
	MapFile(dir string) (mount.Mapped, error)
	// FaultOf returns what the kernel found wrong with a mounted file system; "" if nothing.
	FaultOf(n blockdev.Number, p mount.Point, all []mount.Point) mount.Fault
	// Usage returns the usage of the file system at a path; os.ErrNotExist if it is not on the
	// device.
	Usage(path string, n blockdev.Number) (unix.Statfs_t, error)
}

// KernelDevices are the block devices of this machine.
type KernelDevices struct{}

// Each method calls the function of package blockdev.

func (KernelDevices) Identify(path string) (blockdev.Number, error) { return blockdev.Identify(path) }
func (KernelDevices) NumberOf(path string) (blockdev.Number, error) { return blockdev.NumberOf(path) }
func (KernelDevices) Node(path string) string                       { return blockdev.Node(path) }
func (KernelDevices) RealNode(path string) (string, error) {
	return filepath.EvalSymlinks(blockdev.Node(path))
}
func (KernelDevices) LinkNode(m blockdev.Mapped, path string) { blockdev.LinkNode(m, path) }
func (KernelDevices) UnlinkNode(path string)                  { blockdev.UnlinkNode(path) }
func (KernelDevices) Hold(path string) (Device, error)        { return held(blockdev.Hold(path)) }
func (KernelDevices) HoldToRead(path string) (Device, error) {
	return held(blockdev.HoldToRead(path))
}
func (KernelDevices) HoldShared(path string) (Device, error) {
	return held(blockdev.OpenShared(path))
}
func (KernelDevices) Open(path string) (Opened, error) {
	d, err := blockdev.OpenToRead(path)
	if err != nil {
		return nil, err
	}
	return d, nil
}
func (KernelDevices) Table(m blockdev.Mapped) (string, error) { return m.Table() }
func (KernelDevices) Mapped() ([]blockdev.Mapped, error)      { return blockdev.MappedDevices() }
func (KernelDevices) FindMapped(name string) (blockdev.Mapped, bool) {
	return blockdev.FindMapped(name)
}
func (KernelDevices) RemoveMapped(m blockdev.Mapped) error { return m.Remove() }
func (KernelDevices) Suspended(m blockdev.Mapped) bool     { return m.Suspended() }
func (KernelDevices) SizeOf(m blockdev.Mapped) uint64      { return m.Size() }
func (KernelDevices) Below(m blockdev.Mapped) []string     { return m.Below() }
func (KernelDevices) Gone(n blockdev.Number) bool          { return blockdev.Gone(n) }
func (KernelDevices) Exists(n blockdev.Number) bool        { return n.Exists() }
func (KernelDevices) KernelName(n blockdev.Number) string  { return n.KernelName() }
func (KernelDevices) Holders(n blockdev.Number) []string   { return blockdev.Holders(n) }
func (KernelDevices) Users(path string) []int              { return devuser.Of(path) }
func (KernelDevices) BadRanges(path string, size uint64) ([]blockdev.BadRange, error) {
	return blockdev.BadRanges(path, size)
}

// held returns a nil interface for a nil device.
func held(d *blockdev.Device, err error) (Device, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// KernelMounts are the file systems and mounts of this machine, in this mount namespace.
type KernelMounts struct{}

// Each method calls the function of package mount.

func (KernelMounts) RealPath(path string) (string, error) { return mount.RealPath(path) }
func (KernelMounts) At(path string) (blockdev.Number, mount.Point, bool, error) {
	return mount.At(path)
}
func (KernelMounts) Points(n blockdev.Number) ([]mount.Point, error) { return mount.Points(n) }
func (KernelMounts) BoundNodes(n blockdev.Number) ([]string, error)  { return mount.BoundNodes(n) }
func (KernelMounts) Uses() ([]mount.Use, error)                      { return mount.Uses() }
func (KernelMounts) UseAt(path string) (mount.Use, bool, error)      { return mount.UseAt(path) }
func (KernelMounts) Unmount(device, path string) error               { return mount.Unmount(device, path) }
func (KernelMounts) UnmountPath(path string) error                   { return mount.UnmountPath(path) }
func (KernelMounts) Detach(path, real string) error                  { return mount.Detach(path, real) }
func (KernelMounts) HasErrors(device string) bool                    { return mount.HasErrors(device) }
func (KernelMounts) Extent(device, fs string) (uint64, error)        { return mount.Extent(device, fs) }
func (KernelMounts) DAX(path string, p mount.Point) (dax, noMapSync bool, err error) {
	return mount.DAX(path, p)
}
func (KernelMounts) Check(ctx context.Context, device string) error { return mount.Check(ctx, device) }
func (KernelMounts) Mount(device, path, fs string, options []string) error {
	return mount.Mount(device, path, fs, options)
}
func (KernelMounts) Bind(from, to string, readOnly bool, options []string) error {
	return mount.Bind(from, to, readOnly, options)
}
func (KernelMounts) Format(ctx context.Context, on mount.Space, fs string, options ...string) error {
	return mount.Format(ctx, on, fs, options...)
}
func (KernelMounts) Probe(ctx context.Context, device string) (mount.Content, error) {
	return mount.Probe(ctx, device)
}
func (KernelMounts) Grow(ctx context.Context, device string, p mount.Point) error {
	return mount.Grow(ctx, device, p)
}
func (KernelMounts) Separate(ctx context.Context, device string) error {
	return mount.Separate(ctx, device)
}
func (KernelMounts) WhyNoDAX(device string, n blockdev.Number, p mount.Point) string {
	return mount.WhyNoDAX(device, n, p)
}
func (KernelMounts) MapFile(dir string) (mount.Mapped, error) { return mount.MapFile(dir) }
func (KernelMounts) FaultOf(n blockdev.Number, p mount.Point, all []mount.Point) mount.Fault {
	return mount.FaultOf(n, p, all)
}
func (KernelMounts) Usage(path string, n blockdev.Number) (unix.Statfs_t, error) {
	return mount.Usage(path, n)
}
