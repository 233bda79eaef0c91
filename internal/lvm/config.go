package lvm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
)

// config is the complete configuration of lvm. The host's lvm.conf is not read, because it may not
// be suitable (a container without udev, a devices file without PMEM). Other settings have lvm's
// defaults. lvm scans a directory of links instead of /dev: devices without a link do not exist
// for it, neither a failed disk, which would block every command, nor a volume, whose content
// belongs to its tenant.
const config = `# Written by pmemctl for one lvm process.
devices {
	scan = [ "%LINKS%" ]
	global_filter = [ "a|^%LINKS%/|", "r|.*|" ]
	use_devicesfile = 0
	obtain_device_list_from_udev = 0
	external_device_info_source = "none"
	multipath_component_detection = 0
	md_component_detection = 0
	scan_lvs = 0
	hints = "none"
}
activation {
	udev_sync = 0
	udev_rules = %UDEV%
	monitoring = 0
}
backup {
	backup = 0
	archive = 0
}
global {
	# Tearing down asynchronous I/O would make each command wait for every CPU.
	use_aio = 0
	event_activation = 0
	notify_dbus = 0
	use_lvmpolld = 0
}
log {
	report_command_log = 1
	command_log_selection = "all"
}
report {
	output_format = "json"
}
`

// systemDir is the directory of one lvm process: its configuration, and links to the devices that
// it may scan.
type systemDir struct {
	path string
	// lock is held while the directory is needed, so that the next process can remove those of
	// killed ones.
	lock *os.File
}

// leftover is the minimum age at which a directory without a lock is removed. An lvm may outlive
// the pmemctl that started it until its command has finished.
const leftover = time.Hour

// makeSystemDir creates the directory for a process that sees the devices. Each process has its
// own, because a container may share the parent directory with the host and require other devices.
func makeSystemDir(base string, devices []blockdev.Disk) (dir *systemDir, err error) {
	defer func() {
		if err == nil {
			return
		}
		dir.remove()
		next := ""
		if os.IsPermission(err) {
			next = "run it as root"
		}
		err = errs.Wrap("", "lvm", "its configuration cannot be written", next, err)
	}()
	above := filepath.Join(base, "lvm")
	if err = os.MkdirAll(above, 0o700); err == nil {
		removeLeftovers(above)
		dir, err = fillSystemDir(above, devices)
	}
	// Volumes must be found and unmounted even if /run is full.
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS) {
		dir.remove()
		dir, err = fillSystemDir("/dev/shm", devices)
	}
	return dir, err
}

// fillSystemDir creates the directory, with an unpredictable name.
func fillSystemDir(above string, devices []blockdev.Disk) (dir *systemDir, err error) {
	path, err := os.MkdirTemp(above, "pmemctl-lvm-")
	if err != nil {
		return nil, err
	}
	dir = &systemDir{path: path}
	if dir.lock, err = os.Open(path); err != nil {
		return dir, err
	}
	if err := unix.Flock(int(dir.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return dir, err
	}
	if err := os.MkdirAll(dir.links(), 0o700); err != nil {
		return dir, err
	}
	for _, d := range devices {
		if err := os.Symlink("/dev/"+d.Name, filepath.Join(dir.links(), d.Name)); err != nil {
			return dir, err
		}
	}
	text := strings.NewReplacer("%LINKS%", dir.links(), "%UDEV%", udevRules()).Replace(config)
	return dir, os.WriteFile(filepath.Join(path, "lvm.conf"), []byte(text), 0o600)
}

func (d *systemDir) links() string { return filepath.Join(d.path, "dev") }

// remove is called when the process has exited.
func (d *systemDir) remove() {
	if d == nil {
		return
	}
	_ = os.RemoveAll(d.path)
	if d.lock != nil {
		d.lock.Close()
	}
}

func removeLeftovers(above string) {
	entries, _ := os.ReadDir(above)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < leftover {
			continue
		}
		f, err := os.Open(filepath.Join(above, e.Name()))
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(f.Name())
		}
		f.Close()
	}
}

// inside converts a device path to lvm's, and outside converts paths in its output back.
func (d *systemDir) inside(arg string) string {
	if name, ok := strings.CutPrefix(arg, "/dev/"); ok {
		return d.links() + "/" + name
	}
	return arg
}

func (d *systemDir) outside(text []byte) []byte {
	return bytes.ReplaceAll(text, []byte(d.links()+"/"), []byte("/dev/"))
}

// udevControl is the socket of a running udevd.
const udevControl = "/run/udev/control"

// udevRules makes udevd create the device nodes where it is running, so that it and lvm agree on
// them; elsewhere, as in a container, lvm creates them. Neither waits for the other (udev_sync),
// because udevd could never answer a container with its own IPC namespace.
func udevRules() string {
	if _, err := os.Stat(udevControl); err == nil {
		return "1"
	}
	return "0"
}
