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

// config is all of lvm's configuration: the host's lvm.conf is not read, since
// it may not suit (a container without udev, a devices file without PMEM).
// What is not set here has lvm's own default. Lvm looks at a directory of links in
// place of /dev: what has no link there does not exist for it, neither a dead disk,
// which would hold up every command, nor a volume, whose bytes are its tenant's.
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

// systemDir is the directory of one lvm process: its configuration and the links to
// the devices that it may look at.
type systemDir struct {
	path string
	// lock is held as long as the directory is needed, so that the next process removes
	// what a killed one left.
	lock *os.File
}

// leftover is the age from which on a directory without a lock is removed. An lvm may
// outlive the pmemctl that started it, to the end of its command.
const leftover = time.Hour

// makeSystemDir makes the directory for a process that sees the devices. Each process has
// one of its own: a container may share the directory above it with the host, and differ
// in what it needs.
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
	// What is mounted has to be found, and unmounted, also when /run is full.
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS) {
		dir.remove()
		dir, err = fillSystemDir("/dev/shm", devices)
	}
	return dir, err
}

// fillSystemDir makes the directory, with a name that nobody else can have made.
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

// remove is for when the process has ended.
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

// inside is what lvm knows a device as, outside what everybody else does.
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

// udevRules lets udevd make the device nodes where it runs, so that its idea of
// them and lvm's stay the same; where there is none, as in a container, lvm makes
// them. Neither waits for the other (udev_sync): in a container of its own IPC
// namespace udevd could never answer.
func udevRules() string {
	if _, err := os.Stat(udevControl); err == nil {
		return "1"
	}
	return "0"
}
