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

// Devices is what the service needs of the block devices of a host; KernelDevices is that of
// the machine.
type Devices interface {
	// Identify returns the number of the device that the kernel has under a path in /dev or
	// /dev/mapper, whatever node is there; os.ErrNotExist when there is none.
	Identify(path string) (blockdev.Number, error)
	// NumberOf returns the number of the node at a path; os.ErrNotExist when there is none.
	NumberOf(path string) (blockdev.Number, error)
	// Node returns the kernel's own node of the device at a path, or the path.
	Node(path string) string
	// RealNode is Node without links: udev's names are some.
	RealNode(path string) (string, error)
	// LinkNode makes a missing link at a path to the kernel's node of a mapped device.
	LinkNode(m blockdev.Mapped, path string)
	// UnlinkNode removes the link at a path.
	UnlinkNode(path string)
	// Hold opens a device so that nobody else can mount or hold it; InUse when somebody
	// does already.
	Hold(path string) (Device, error)
	// HoldToRead is Hold for a device that is only read.
	HoldToRead(path string) (Device, error)
	// Mapped lists the devices of the device mapper.
	Mapped() ([]blockdev.Mapped, error)
	// FindMapped finds a device of the device mapper by its name.
	FindMapped(name string) (blockdev.Mapped, bool)
	// RemoveMapped takes a mapped device away, by its UUID; unix.EBUSY when it is open,
	// unix.ENXIO when there is none.
	RemoveMapped(m blockdev.Mapped) error
	// Suspended reports whether the input and output of a mapped device waits.
	Suspended(m blockdev.Mapped) bool
	// SizeOf returns the bytes of a mapped device; 0 when it is gone.
	SizeOf(m blockdev.Mapped) uint64
	// Below returns the names of the devices that a mapped device lies on.
	Below(m blockdev.Mapped) []string
	// Gone reports whether the device of a number, or one below it, is not there any more.
	Gone(n blockdev.Number) bool
	// Exists reports whether the kernel has a device of that number.
	Exists(n blockdev.Number) bool
	// KernelName returns what the kernel calls a device, such as pmem0; "" when it is gone.
	KernelName(n blockdev.Number) string
	// Holders returns the names of the devices that lie on a device.
	Holders(n blockdev.Number) []string
	// BadRanges returns where the kernel lists media errors in so many bytes of a device.
	BadRanges(path string, size uint64) ([]blockdev.BadRange, error)
	// Users returns the processes that have the device at a path open or mapped.
	Users(path string) []int
}

// Device is a block device that is held. Offsets and sizes are bytes.
type Device interface {
	io.ReaderAt
	io.Closer
	Size() uint64
	// Zero makes a range read as zeros, on the medium, and heals media errors in it; a
	// *blockdev.MediaError when some of it takes no write.
	Zero(ctx context.Context, from, to uint64, progress blockdev.Progress) error
	// ZeroWith is Zero with at most so many workers; 0 is as many as help.
	ZeroWith(ctx context.Context, from, to uint64, workers func() int, progress blockdev.Progress) error
	// Write writes to the medium.
	Write(data []byte, offset int64) error
	// IsZero reports whether a range reads as zeros.
	IsZero(ctx context.Context, from, to uint64, progress blockdev.Progress) (bool, error)
	// CopyFrom copies so many bytes from the start of another device to its own.
	CopyFrom(ctx context.Context, from io.ReaderAt, length uint64, progress blockdev.Progress) error
}

// Mounts is what the service needs of file systems and of the table of mounts; KernelMounts is
// that of the machine.
type Mounts interface {
	// RealPath returns a path as the table of mounts has it.
	RealPath(path string) (string, error)
	// At returns what device is mounted on a path, on top of what else is there.
	At(path string) (n blockdev.Number, p mount.Point, mounted bool, err error)
	// Points returns where a device is mounted.
	Points(n blockdev.Number) ([]mount.Point, error)
	// BoundNodes returns the files that the node of a device is bound to.
	BoundNodes(n blockdev.Number) ([]string, error)
	// Uses returns what is mounted from block devices, and the nodes that are bound to files.
	Uses() ([]mount.Use, error)
	// UseAt returns what is on top at a path; false when it is no block device's.
	UseAt(path string) (mount.Use, bool, error)
	// Mount mounts a device with options as mount(8) has them.
	Mount(device, path, fs string, options []string) error
	// Unmount takes a device off a path; InUse when it is busy or covered.
	Unmount(device, path string) error
	// UnmountPath takes off what is on top at a path; InUse when it is busy.
	UnmountPath(path string) error
	// Detach takes off what is left of a device that is gone.
	Detach(path, real string) error
	// Bind mounts what is at a path at another one too.
	Bind(from, to string, readOnly bool, options []string) error
	// Format makes a file system in a space, whatever is there.
	Format(ctx context.Context, on mount.Space, fs string, options ...string) error
	// Probe returns what is recognised on a device.
	Probe(ctx context.Context, device string) (mount.Content, error)
	// Check repairs a file system that says that it needs it.
	Check(ctx context.Context, device string) error
	// HasErrors reports whether an ext4 has recorded errors.
	HasErrors(device string) bool
	// Extent returns the bytes of a device that its file system covers.
	Extent(device, fs string) (uint64, error)
	// Grow grows a mounted file system to the size of its device.
	Grow(ctx context.Context, device string, p mount.Point) error
	// Separate gives the file system in a copy a UUID of its own.
	Separate(ctx context.Context, device string) error
	// DAX reports whether new files below a mount point use DAX.
	DAX(path string, p mount.Point) (bool, error)
	// FaultOf returns what the kernel found wrong with a mounted file system; "" for nothing.
	FaultOf(n blockdev.Number, p mount.Point, all []mount.Point) mount.Fault
	// Usage returns how full the file system at a path is; os.ErrNotExist when it is not that
	// of the device.
	Usage(path string, n blockdev.Number) (unix.Statfs_t, error)
}

// KernelDevices are the block devices of the machine.
type KernelDevices struct{}

// Each method is that of the function in blockdev that it calls.

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
func (KernelDevices) Mapped() ([]blockdev.Mapped, error) { return blockdev.MappedDevices() }
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

// held keeps a nil device from becoming an interface that is not nil.
func held(d *blockdev.Device, err error) (Device, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// KernelMounts are the file systems and mounts of the machine, in this mount namespace.
type KernelMounts struct{}

// Each method is that of the function in mount that it calls.

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
func (KernelMounts) DAX(path string, p mount.Point) (bool, error)    { return mount.DAX(path, p) }
func (KernelMounts) Check(ctx context.Context, device string) error  { return mount.Check(ctx, device) }
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
func (KernelMounts) FaultOf(n blockdev.Number, p mount.Point, all []mount.Point) mount.Fault {
	return mount.FaultOf(n, p, all)
}
func (KernelMounts) Usage(path string, n blockdev.Number) (unix.Statfs_t, error) {
	return mount.Usage(path, n)
}
