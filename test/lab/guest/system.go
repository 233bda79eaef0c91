package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/test/lab/protocol"
)

type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func mountAll(mounts []mountPoint) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

func mountKernelFilesystems() error {
	return mountAll([]mountPoint{
		{source: "proc", target: "/proc", fstype: "proc"},
		{source: "sysfs", target: "/sys", fstype: "sysfs"},
		{source: "devtmpfs", target: "/dev", fstype: "devtmpfs"},
	})
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("load %s: %w", filepath.Base(path), err)
	}
	return nil
}

// switchToHostRoot puts a writable overlay over the host's read-only root and
// makes it the root of the guest.
func switchToHostRoot(s protocol.Settings) error {
	if err := mountAll([]mountPoint{
		{protocol.ShareTag, "/host", "9p", unix.MS_RDONLY, "trans=virtio,version=9p2000.L,msize=512000,cache=loose"},
		{"tmpfs", "/rw", "tmpfs", 0, "mode=0755"},
	}); err != nil {
		return err
	}
	for _, d := range []string{"/rw/upper", "/rw/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mountPoint{
		{"overlay", "/newroot", "overlay", 0, "lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work"},
		{"/proc", "/newroot/proc", "", unix.MS_MOVE, ""},
		{"/sys", "/newroot/sys", "", unix.MS_MOVE, ""},
		{"/dev", "/newroot/dev", "", unix.MS_MOVE, ""},
		{"tmpfs", "/newroot/run", "tmpfs", 0, "mode=0755"},
	}); err != nil {
		return err
	}
	if err := os.Chdir("/newroot"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := mountAll([]mountPoint{
		{filepath.Join(s.ModuleTree, "lib/modules"), "/lib/modules", "", unix.MS_BIND, ""},
		{"devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666"},
		{"tmpfs", "/dev/shm", "tmpfs", 0, ""},
		{"debugfs", "/sys/kernel/debug", "debugfs", 0, ""},
		{"tracefs", "/sys/kernel/tracing", "tracefs", 0, ""},
		{"", "/", "", unix.MS_REC | unix.MS_SHARED, ""},
	}); err != nil {
		return err
	}
	// The host's mount table is not the guest's, and nothing here is a session
	// of the host.
	for _, link := range [][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}} {
		_ = os.Symlink(link[0], link[1])
	}
	if err := os.MkdirAll("/run/lock", 0o1777); err != nil {
		return err
	}
	return unix.Sethostname([]byte(s.Hostname))
}

// upLoopback gives programs in the guest 127.0.0.1.
func upLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo)
}

func startUdev() error {
	for _, args := range [][]string{
		{"/lib/systemd/systemd-udevd", "--daemon"},
		// Not for all: the modules of a processor's and a board's devices would be loaded.
		{"udevadm", "trigger", "--action=add", "--subsystem-match=block", "--subsystem-match=dax", "--subsystem-match=misc", "--subsystem-match=nd"},
		{"udevadm", "settle", "--timeout=120"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	return nil
}
