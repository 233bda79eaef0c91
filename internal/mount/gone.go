package mount

import (
	"errors"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
)

// Use is where a device is mounted, or its node bound to a file.
type Use struct {
	Point
	Number blockdev.Number
	// Node says that the device's node is bound there. Source is its path then.
	Node bool
	// Removed says that the node is not in /dev any more: its device went.
	Removed bool
}

// Uses lists what is mounted in this mount namespace from block devices, also from
// those that are gone, and the nodes of devices that are bound to files.
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

// UseAt is what is on top at a path; false when that is no block device.
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

// deleted is what the kernel puts behind the root of a mount that was removed where it
// came from, such as the node of a device that is gone.
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

// Detach takes what is on top at a path off, whoever uses it: those go on having it
// until they let it go (umount2(2), MNT_DETACH). It is for what lies on a device that is
// gone, from which nothing can be lost any more. What was mounted below goes with it,
// and so there must be nothing.
// The path may be one by descriptor; real is as the table of mounts has it.
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
	if errors.Is(err, unix.EINVAL) { // nothing is mounted there any more
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	return nil
}
