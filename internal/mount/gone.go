package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
)

// Use is a mount of a device, or a bind mount of its node.
type Use struct {
	Point
	Number blockdev.Number
	// Node says that it is a bind mount of the device's node. Source is then the path of the node.
	Node bool
	// Removed says that the node was removed from /dev, because the device disappeared.
	Removed bool
}

// Uses lists the mounts of block devices in this mount namespace, including devices that are gone,
// and the bind mounts of device nodes.
func Uses() ([]Use, error) {
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	var uses []Use
	for _, i := range infos {
		if u, ok := useOf(i); ok {
			uses = append(uses, u)
		}
	}
	return uses, nil
}

// UseAt returns the topmost mount at a path; false if it is not of a block device.
func UseAt(path string) (Use, bool, error) {
	path, err := RealPath(path)
	if err != nil {
		return Use{}, false, err
	}
	infos, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != path, false })
	if err != nil || len(infos) == 0 {
		return Use{}, false, err
	}
	u, ok := useOf(infos[len(infos)-1])
	return u, ok, nil
}

// deleted is the suffix that the kernel adds to the root of a mount whose source was removed, such
// as the node of a device that is gone.
const deleted = "//deleted"

func useOf(i *mountinfo.Info) (Use, bool) {
	u := Use{Point: pointOf(i), Number: blockdev.Number{Major: uint32(i.Major), Minor: uint32(i.Minor)}}
	if u.Number.Major != 0 {
		return u, true
	}
	if i.Root == "/" || i.FSType != "devtmpfs" && i.FSType != "tmpfs" {
		return u, false
	}
	n, err := blockdev.NumberOf(i.Mountpoint)
	u.Number, u.Node, u.Removed, u.Source = n, true, strings.HasSuffix(i.Root, deleted), "/dev"+strings.TrimSuffix(i.Root, deleted)
	return u, err == nil
}

// Detach detaches the topmost mount at a path even if it is in use; its users keep it until they
// close their files (umount2(2), MNT_DETACH). It is for devices that are gone, so no data can be
// lost. Mounts below it would be detached too, so there must be none. path may be one through a
// descriptor; real is the path in the mount table.
func Detach(path, real string) error {
	infos, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(i.Mountpoint, real+"/"), false
	})
	if err != nil {
		return err
	}
	if len(infos) > 0 {
		return errs.New(errs.InUse, real, "has "+infos[0].Mountpoint+" ("+infos[0].FSType+") mounted below it", "unmount that first: umount "+infos[0].Mountpoint)
	}
	fault.Step("before umount")
	err = unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	fault.Step("after umount")
	if errors.Is(err, unix.EINVAL) { // nothing is mounted there
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	return nil
}

// Propagates reports whether the mount that contains a directory is shared
// (mount_namespaces(7)).
func Propagates(dir string) (bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, err
	}
	infos, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return false, err
	}
	var at *mountinfo.Info
	for _, i := range infos {
		if at == nil || len(i.Mountpoint) >= len(at.Mountpoint) {
			at = i
		}
	}
	return at != nil && strings.Contains(at.Optional, "shared:"), nil
}
