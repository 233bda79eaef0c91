package lvm

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// config is all of lvm's configuration: the host's lvm.conf is not read, since
// it may not suit (a container without udev, a devices file without PMEM).
// What is not set here has lvm's own default.
const config = `# Written by pmemctl for its own use of lvm; changes are overwritten.
devices {
	use_devicesfile = 0
	obtain_device_list_from_udev = 0
	external_device_info_source = "none"
	multipath_component_detection = 0
	md_component_detection = 0
	scan_lvs = 0
	hints = "none"
	%DEVICES%
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
	# To end asynchronous input and output, each command would wait for every processor.
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

// pmemOnly keeps lvm away from every disk that is no PMEM: a dead one must not
// hold up a volume, and none can be changed by mistake. Lvm looks at a folder of links
// instead of /dev, which has seven nodes for every volume.
const pmemOnly = `scan = [ "%LINKS%" ]
	global_filter = [ "a|^%LINKS%/pmem|", "r|.*|" ]`

// links is the folder of links to the block devices of PMEM.
type links string

// update adds links that are missing. None is removed, so that no other pmemctl misses
// one that it just made; lvm passes over one that leads nowhere.
func (l links) update() error {
	if l == "" {
		return nil
	}
	dev, err := os.Open("/dev")
	if err != nil {
		return err
	}
	defer dev.Close()
	names, err := dev.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "pmem") {
			if err := os.Symlink("/dev/"+name, string(l)+"/"+name); err != nil && !os.IsExist(err) {
				return err
			}
		}
	}
	return nil
}

// inside is what lvm knows a device as, outside what everybody else does.
func (l links) inside(arg string) string {
	if name, ok := strings.CutPrefix(arg, "/dev/pmem"); ok && l != "" {
		return string(l) + "/pmem" + name
	}
	return arg
}

func (l links) outside(text []byte) []byte {
	if l == "" {
		return text
	}
	return bytes.ReplaceAll(text, []byte(l), []byte("/dev"))
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

// writeConfig puts the configuration in a folder and returns the folder, and the one
// of links that lvm is to look at, if it is.
func writeConfig(base string, allDevices bool) (dir string, devices links, err error) {
	// Each variant has a folder of its own: a container may share this one with the
	// host, and differ in what it needs.
	variant, udev := "lvm", udevRules()
	if allDevices {
		variant = "lvm-all"
	}
	dir = filepath.Join(base, variant+"-udev"+udev)
	file := filepath.Join(dir, "lvm.conf")
	limits := ""
	if !allDevices {
		devices = links(filepath.Join(dir, "dev"))
		limits = strings.ReplaceAll(pmemOnly, "%LINKS%", string(devices))
	}
	want := []byte(strings.NewReplacer("%DEVICES%", limits, "%UDEV%", udev).Replace(config))
	if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, want) {
		return dir, devices, nil
	}
	fail := func(err error) (string, links, error) {
		next := ""
		if os.IsPermission(err) {
			next = "run it as root"
		}
		return "", "", errs.Wrap("", "lvm", "its configuration cannot be written", next, err)
	}
	if err := os.MkdirAll(cmp.Or(string(devices), dir), 0o700); err != nil {
		return fail(err)
	}
	temp, err := os.CreateTemp(dir, "lvm.conf.")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(temp.Name())
	if _, err := temp.Write(want); err != nil {
		return fail(err)
	}
	if err := temp.Close(); err != nil {
		return fail(err)
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return fail(err)
	}
	return dir, devices, nil
}
