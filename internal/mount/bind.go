package mount

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/fault"
)

// attributes are the options that each mount point of a file system has for
// itself (mount_setattr(2)).
var attributes = map[string]uint64{
	"ro": unix.MOUNT_ATTR_RDONLY, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV,
	"noexec": unix.MOUNT_ATTR_NOEXEC, "nodiratime": unix.MOUNT_ATTR_NODIRATIME,
}

// Bind makes what is at one path visible at another one too. Of the options those
// count that a mount point has for itself. It appears there with all of them at
// once, where the kernel can do that (5.12).
func Bind(from, to string, readOnly bool, options []string) error {
	var set uint64
	var own []string
	if readOnly {
		options = append(slices.Clone(options), "ro")
	}
	for _, o := range options {
		if attributes[o] != 0 {
			set |= attributes[o]
			own = append(own, o)
		}
	}
	fault.Point("before bind")
	err := bindAtOnce(from, to, set)
	if errors.Is(err, unix.ENOSYS) {
		err = bindInSteps(from, to, own)
	}
	fault.Point("after bind")
	return err
}

func bindAtOnce(from, to string, set uint64) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: from, Err: err}
	}
	defer unix.Close(tree)
	if set != 0 {
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: set}); err != nil {
			return &os.PathError{Op: "mount_setattr", Path: from, Err: err}
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: to, Err: err}
	}
	return nil
}

func bindInSteps(from, to string, own []string) error {
	if err := mount.Mount(from, to, "", "bind"); err != nil || len(own) == 0 {
		return err
	}
	if err := mount.Mount("", to, "", "remount,bind,"+strings.Join(own, ",")); err != nil {
		return errors.Join(err, UnmountPath(to))
	}
	return nil
}
