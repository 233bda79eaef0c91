package mount

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/fault"
)

// attributes are the per-mount options (mount_setattr(2)).
var attributes = map[string]uint64{
	"ro": unix.MOUNT_ATTR_RDONLY, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV,
	"noexec": unix.MOUNT_ATTR_NOEXEC, "nodiratime": unix.MOUNT_ATTR_NODIRATIME,
}

// Bind bind-mounts one path at another. Only per-mount options have an effect. On kernels that
// support it (5.12), the mount appears with all of them at once.
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
	fault.Step("before bind")
	err := bindAtOnce(from, to, set)
	if errors.Is(err, unix.ENOSYS) {
		err = bindInSteps(from, to, own)
	}
	fault.Step("after bind")
	return err
}

func bindAtOnce(from, to string, set uint64) error {
	return byDescriptor(to, func(target int) error {
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
		if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
			return &os.PathError{Op: "move_mount", Path: to, Err: err}
		}
		return nil
	})
}

// byDescriptor opens the mount point, which must not be a symbolic link, so that it cannot be
// replaced by one afterwards.
func byDescriptor(path string, do func(fd int) error) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return &os.PathError{Op: "mount on", Path: path, Err: unix.ELOOP}
	}
	return do(fd)
}

// mountAt calls mount(2) on a path that is not a symbolic link.
func mountAt(device, path, fs, options string) error {
	return byDescriptor(path, func(fd int) error {
		err := mount.Mount(device, fmt.Sprintf("/proc/self/fd/%d", fd), fs, options)
		if errno := unix.Errno(0); errors.As(err, &errno) {
			return &os.PathError{Op: "mount " + device + " on", Path: path, Err: errno}
		}
		return err
	})
}

func bindInSteps(from, to string, own []string) error {
	if err := mountAt(from, to, "", "bind"); err != nil || len(own) == 0 {
		return err
	}
	if err := mount.Mount("", to, "", "remount,bind,"+strings.Join(own, ",")); err != nil {
		return errors.Join(err, UnmountPath(to))
	}
	return nil
}
