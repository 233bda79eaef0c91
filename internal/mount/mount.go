// Package mount formats, mounts, grows and inspects file systems for DAX.
package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
	"github.com/pmemctl/pmemctl/internal/run"
)

// The supported file systems.
const (
	Ext4 = "ext4"
	XFS  = "xfs"
	// None is a volume without a file system.
	None = "none"
)

// MinXFS is the minimum size in bytes of a device for mkfs.xfs.
const MinXFS = 300 << 20

// smallXFS is the size in bytes below which mkfs.xfs, with stripes, would create allocation groups
// that are too small for its minimum log.
const smallXFS = 2 << 30

// Space is the space for a file system: size bytes of a device, from an offset.
type Space struct {
	Device       string
	Offset, Size uint64
}

// Format creates a file system on zeroed space. The options suit DAX: the block size is that of a
// page, because DAX excludes smaller ones, and data is aligned to 2 MiB, so that a fault can map a
// huge page. XFS is supported at offset 0 only.
func Format(ctx context.Context, on Space, fs string, extra ...string) error {
	var args, blocks []string
	switch fs {
	case Ext4:
		// The kernel zeroes inode tables in the background after the mount; they are 1.6 % of a
		// volume. The journal is zeroed now, because its content would be replayed.
		args = []string{"-q", "-F", "-b", "4096", "-m", "0", "-E", "stride=512,stripe_width=512,nodiscard,lazy_itable_init=1,lazy_journal_init=0"}
		if on.Offset > 0 {
			args[len(args)-1] = fmt.Sprintf("offset=%d,%s", on.Offset, args[len(args)-1])
			blocks = []string{fmt.Sprintf("%dk", on.Size>>10)}
		}
	case XFS:
		// Reflink and DAX exclude each other up to Linux 6.0. mkfs.xfs warns that the log cannot
		// have stripes of 2 MiB, and creates it without.
		args = []string{"-q", "-K", "-b", "size=4096", "-m", "reflink=0", "-d", "su=2m,sw=1,extszinherit=512"}
		if on.Size < smallXFS {
			args = append(args, "-d", "agcount=2")
		}
		args = append(args, xfsForKernel()...)
	default:
		return errs.New(errs.Invalid, "file system "+fs, "is not supported", "use ext4, xfs or none")
	}
	// Only the last of several -E options would take effect.
	if e, own := slices.Index(extra, "-E"), slices.Index(args, "-E"); e >= 0 && e+1 < len(extra) && own >= 0 {
		args[own+1] = extra[e+1] + "," + args[own+1]
		extra = slices.Delete(slices.Clone(extra), e, e+2)
	}
	args = slices.Concat(args, extra, []string{blockdev.Node(on.Device)}, blocks)
	ctx, cancel := context.WithTimeout(ctx, mkfsTimeout)
	defer cancel()
	_, err := run.Change(ctx, "mkfs."+fs, args...)
	return errs.Wrap("", on.Device, "cannot be formatted as "+fs, "", err)
}

// mkfsTimeout allows for zeroing the journal or log of a large volume on a slow medium: at most 2
// GiB.
const mkfsTimeout = 10 * time.Minute

// xfsForKernel disables features that the running kernel cannot mount: mkfs may be newer than the
// kernel, for example in a container.
func xfsForKernel() []string {
	if kernelAtLeast(5, 10) {
		return nil
	}
	return []string{"-m", "bigtime=0,inobtcount=0"}
}

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return true
	}
	var a, b int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); n != 2 {
		return true
	}
	return a > major || a == major && b >= minor
}

// Content is what blkid finds on a device.
type Content struct {
	Type string // ext4, xfs, LVM2_member, …; "" if nothing is recognized
}

// Probe looks for signatures on the device itself, not in udev's database.
func Probe(ctx context.Context, device string) (Content, error) {
	device = blockdev.Node(device)
	if fs, err := ownFilesystem(device); err != nil || fs != "" {
		return Content{Type: fs}, err
	}
	out, err := run.Command(ctx, "blkid", "-p", "-o", "export", device)
	var failed *run.Error
	const nothingFound, ambivalent = 2, 8
	switch {
	case errors.As(err, &failed) && failed.Code == nothingFound:
		return Content{}, nil
	case errors.As(err, &failed) && failed.Code == ambivalent:
		return Content{Type: "several signatures"}, nil
	case err != nil:
		return Content{}, err
	}
	var c Content
	for _, line := range strings.Split(string(out), "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "TYPE":
			c.Type = value
		case "PTTYPE":
			if c.Type == "" {
				c.Type = value + " partition table"
			}
		}
	}
	return c, nil
}

// Point is a mount point of a device.
type Point struct {
	Path    string
	FSType  string
	Options []string
	Root    string // the directory within the file system; "/" for the whole
	Source  string // the device as it was named at the mount
	// Own are the per-mount options, Super the superblock options, which all mount points of the
	// file system share.
	Own, Super []string
}

// Points lists the mount points of a device in this mount namespace, by its number.
func Points(n blockdev.Number) ([]Point, error) {
	infos, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return uint32(i.Major) != n.Major || uint32(i.Minor) != n.Minor, false
	})
	if err != nil {
		return nil, err
	}
	var points []Point
	for _, i := range infos {
		points = append(points, pointOf(i))
	}
	return points, nil
}

// BoundNodes returns the files to which the node of a block device is bound.
func BoundNodes(n blockdev.Number) ([]string, error) {
	infos, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return i.Root == "/" || i.FSType != "devtmpfs" && i.FSType != "tmpfs", false
	})
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, i := range infos {
		if have, err := blockdev.NumberOf(i.Mountpoint); err == nil && have == n {
			paths = append(paths, i.Mountpoint)
		}
	}
	return paths, nil
}

func pointOf(i *mountinfo.Info) Point {
	own, super := strings.Split(i.Options, ","), strings.Split(i.VFSOptions, ",")
	return Point{Path: i.Mountpoint, FSType: i.FSType, Options: slices.Concat(own, super), Own: own, Super: super, Root: i.Root, Source: i.Source}
}

// RealPath returns a path as it appears in the kernel's mount table.
func RealPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	// It does not exist yet, or a file system on it does not respond.
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path)), nil
	}
	return path, nil
}

// At returns the device that is mounted topmost on a path; false if none is.
func At(path string) (n blockdev.Number, p Point, mounted bool, err error) {
	if path, err = RealPath(path); err != nil {
		return n, p, false, err
	}
	infos, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != path, false })
	if err != nil || len(infos) == 0 {
		return n, p, false, err
	}
	top := infos[len(infos)-1]
	return blockdev.Number{Major: uint32(top.Major), Minor: uint32(top.Minor)}, pointOf(top), true, nil
}

// isOnTop returns an error if something else is mounted over a device on a path, because
// operations on the path would affect that.
func isOnTop(device, path string) error {
	want, err := blockdev.Identify(device)
	if err != nil {
		return err
	}
	have, point, mounted, err := At(path)
	switch {
	case err != nil:
		return err
	case !mounted:
		return errs.New(errs.NotFound, path, "is not a mount point", "see where the device is mounted: findmnt "+device)
	case have != want:
		return errs.New(errs.InUse, path, "has another file system ("+point.FSType+") mounted over it", "unmount that first: umount "+path)
	}
	return nil
}

// Mount mounts a device (mount(2)), with options as mount(8) has them.
func Mount(device, path, fs string, options []string) error {
	options = noPanic(fs, slices.DeleteFunc(slices.Clone(options), forPrograms))
	fault.Step("before mount")
	err := mountAt(device, path, fs, strings.Join(options, ","))
	fault.Step("after mount")
	return err
}

// noPanic makes ext4 become read-only on an error, whatever its superblock says. A tenant may have
// written errors=panic there, which would stop the machine.
func noPanic(fs string, options []string) []string {
	if fs == Ext4 && !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "errors=") }) {
		options = append(options, "errors=remount-ro")
	}
	return options
}

// forPrograms reports whether an option is not for the kernel, but for programs that read
// /etc/fstab.
func forPrograms(option string) bool {
	name, _, _ := strings.Cut(option, "=")
	return slices.Contains([]string{"defaults", "nofail", "auto", "noauto", "_netdev", "user", "users", "nouser", "owner", "group", "comment"}, name) ||
		strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-")
}

// Unmount unmounts a device from a path; InUse if it is busy, or something else is mounted over
// it.
func Unmount(device, path string) error {
	if err := isOnTop(device, path); err != nil {
		return err
	}
	return UnmountPath(path)
}

// UnmountPath unmounts the topmost mount at a path; InUse if it is busy.
func UnmountPath(path string) error {
	fault.Step("before umount")
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	fault.Step("after umount")
	if errors.Is(err, unix.EBUSY) {
		return errs.Wrap(errs.InUse, path, "is in use", "see what uses it: fuser -vm "+path, err)
	}
	if err != nil {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	return nil
}

// Grow grows a mounted file system to the size of its device. The kernel does this for mounted
// file systems, and a crash in the middle does no harm.
func Grow(ctx context.Context, device string, p Point) error {
	if err := isOnTop(device, p.Path); err != nil {
		return err
	}
	var err error
	switch p.FSType {
	case Ext4:
		_, err = run.Change(ctx, "resize2fs", blockdev.Node(device))
	case XFS:
		_, err = run.Change(ctx, "xfs_growfs", "-d", p.Path)
	default:
		err = errs.New(errs.Unsupported, p.Path, "has the file system "+p.FSType+", which cannot be grown", "")
	}
	return err
}

// DAX reports whether a new file below path bypasses the page cache, according to the kernel
// (statx, STATX_ATTR_DAX). The mount option alone proves nothing: a file system may accept and
// ignore it. If no file can be created, because the file system is read-only or full, or the
// kernel cannot tell (before 5.8), the mount option decides.
//
// noMapSync reports whether the kernel refuses to map the file with MAP_SYNC (mmap(2)).
func DAX(path string, p Point) (dax, noMapSync bool, err error) {
	fd, err := unix.Open(path, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	for _, cannot := range []error{unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.EOPNOTSUPP} {
		if errors.Is(err, cannot) {
			return HasDAXOption(p), false, nil
		}
	}
	if err != nil {
		return false, false, &os.PathError{Op: "create a file to test DAX below", Path: path, Err: err}
	}
	defer unix.Close(fd)
	// The file is empty, and its pages are not touched.
	data, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED_VALIDATE|unix.MAP_SYNC)
	noMapSync = errors.Is(err, unix.EOPNOTSUPP)
	if err == nil {
		_ = unix.Munmap(data)
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return false, noMapSync, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	if st.Attributes_mask&unix.STATX_ATTR_DAX == 0 {
		return HasDAXOption(p), noMapSync, nil
	}
	return st.Attributes&unix.STATX_ATTR_DAX != 0, noMapSync, nil
}

// HasDAXOption reports whether it is mounted with dax or dax=always, which are equivalent.
func HasDAXOption(p Point) bool {
	for _, o := range p.Options {
		if o == "dax" || o == "dax=always" {
			return true
		}
	}
	return false
}
