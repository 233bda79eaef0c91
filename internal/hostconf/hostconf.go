// Package hostconf keeps a host's udev, LVM and boot from reading data that tenants write to their
// volumes: it installs the rule and the filter of deploy/host, and checks whether they are
// effective. docs/guide/host.md has the reasons.
package hostconf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	files "github.com/pmemctl/pmemctl/deploy/host"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/run"
)

// Host is the machine to set up or check. The zero value is this machine.
type Host struct {
	// Root is the directory that contains the host's /etc, in a container; "" is "/".
	Root string
	// Kernel is the directory that contains /sys, /dev and /run, for tests; "" is "/".
	Kernel string
	// LVM returns the block devices that lvm sees with the configuration in a directory; nil runs
	// lvm.
	LVM func(ctx context.Context, systemDir string) ([]string, error)
}

func (h Host) path(elem ...string) string {
	return filepath.Join(append([]string{"/", h.Root}, elem...)...)
}
func (h Host) sys(elem ...string) string {
	return filepath.Join(append([]string{"/", h.Kernel, "sys"}, elem...)...)
}
func (h Host) dev(elem ...string) string {
	return filepath.Join(append([]string{"/", h.Kernel, "dev"}, elem...)...)
}
func (h Host) run(elem ...string) string {
	return filepath.Join(append([]string{"/", h.Kernel, "run"}, elem...)...)
}

func (h Host) local() bool { return filepath.Join("/", h.Root) == "/" }

// State is the result of a check.
type State string

// The states. A note is something that pmemctl cannot check or change itself.
const (
	OK      State = "ok"
	Note    State = "note"
	Problem State = "problem"
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Next   string `json:"next,omitempty"`
}

const setupCommand = "pmemctl host setup"

// ruleDirs in the order of udev(7): a file hides those of the same name in later directories.
var ruleDirs = []string{"etc/udev/rules.d", "run/udev/rules.d", "usr/local/lib/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d"}

// rules are the rule files by name.
var rules = []struct{ name, text string }{{"12-pmemctl.rules", files.UdevRules}, {"98-pmemctl.rules", files.UdevRulesEnd}}

// linkDir is the directory below /dev in which the rule creates a link for each device.
const linkDir = "disk/pmemctl"

// Check checks whether the host reads the volumes. It changes nothing.
func (h Host) Check(ctx context.Context) ([]Finding, error) {
	own, err := h.devices()
	if err != nil {
		return nil, errs.Wrap("", "block devices", "could not be listed", "", err)
	}
	findings := []Finding{h.checkRules(), h.checkEffect(own), h.checkLVM(ctx, own)}
	return append(findings, slices.Concat(h.checkInitramfs(), h.checkMD(), h.checkFstab())...), nil
}

func (h Host) checkRules() Finding {
	f := Finding{Check: "udev rule", State: OK}
	var at []string
	for _, rule := range rules {
		path, text := h.effective(rule.name)
		switch {
		case path == "":
			f.State, f.Detail, f.Next = Problem, rule.name+" is not installed: udevd reads what tenants write", setupCommand
			return f
		case text != rule.text:
			f.State, f.Detail, f.Next = Problem, path+" is from another version of pmemctl", setupCommand
			return f
		}
		at = append(at, path)
	}
	f.Detail = strings.Join(at, ", ")
	return f
}

// effective returns the rule file of a name that udevd reads, and its text.
func (h Host) effective(name string) (path, text string) {
	for _, dir := range ruleDirs {
		path := h.path(dir, name)
		if data, err := os.ReadFile(path); err == nil {
			return path, string(data)
		}
	}
	return "", ""
}

// checkEffect checks how udevd has processed the existing devices.
func (h Host) checkEffect(own []string) Finding {
	f := Finding{Check: "udev links", State: OK}
	if _, err := os.Stat(h.run("udev/control")); err != nil {
		f.Detail = "udevd is not running"
		return f
	}
	unknown := h.notLinked(own)
	var wrong []string
	for _, dir := range []string{"by-uuid", "by-label", "by-partuuid", "by-partlabel", "by-id"} {
		entries, _ := os.ReadDir(h.dev("disk", dir))
		for _, entry := range entries {
			if dir == "by-id" && !strings.HasPrefix(entry.Name(), "lvm-pv-uuid-") {
				continue
			}
			link := h.dev("disk", dir, entry.Name())
			if name := linkTarget(link); slices.Contains(own, name) {
				wrong = append(wrong, fmt.Sprintf("%s points to %s", link, name))
			}
		}
	}
	for _, name := range own {
		data, _ := os.ReadFile(h.run("udev/data/b" + readLine(h.sys("class/block", name, "dev"))))
		if strings.Contains("\n"+string(data), "\nE:ID_FS_") || strings.Contains("\n"+string(data), "\nE:ID_PART_TABLE_") {
			wrong = append(wrong, "udevd has read "+name)
		}
	}
	switch {
	case len(wrong) > 0:
		f.State, f.Detail, f.Next = Problem, strings.Join(wrong, "; "), setupCommand
	case len(unknown) > 0:
		f.State, f.Detail, f.Next = Problem, "the rule did not apply to "+strings.Join(unknown, ", "), setupCommand
	case len(own) == 0:
		f.Detail = "no pmemctl device yet"
	default:
		f.Detail = fmt.Sprintf("none of %s", count(len(own), "device"))
	}
	return f
}

// notLinked returns the devices to which udevd did not apply the rule.
func (h Host) notLinked(own []string) []string {
	return slices.DeleteFunc(slices.Clone(own), func(name string) bool { return linkTarget(h.dev(linkDir, name)) == name })
}

func linkTarget(link string) string {
	target, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// ownFilter matches a global_filter in a file of LVM's configuration, which a second one would
// override.
var ownFilter = regexp.MustCompile(`(?m)^[^#\n]*\bglobal_filter"?\s*=`)

// lvmState is the state of filters in the host's LVM configuration.
type lvmState struct {
	installed   bool   // LVM's configuration directory exists
	devicesFile bool   // lvm sees only the devices in that file, and ignores filters
	ours        bool   // it contains the filter of deploy/host
	foreign     string // a file with another filter, or ""
}

func (h Host) lvmState() lvmState {
	var s lvmState
	if info, err := os.Stat(h.path("etc/lvm")); err != nil || !info.IsDir() {
		return s
	}
	s.installed = true
	_, err := os.Stat(h.path("etc/lvm/devices/system.devices"))
	s.devicesFile = err == nil
	confs, _ := filepath.Glob(h.path("etc/lvm/lvm*.conf"))
	for _, conf := range confs {
		data, err := os.ReadFile(conf)
		if err != nil {
			continue
		}
		rest, had := withoutBlock(string(data))
		s.ours = s.ours || had && filepath.Base(conf) == "lvmlocal.conf"
		if ownFilter.MatchString(rest) {
			s.foreign = conf
		}
	}
	return s
}

// addToFilter is the next step for users with their own filter. LVM accepts a device if any of its
// names is accepted by the first pattern that matches that name.
const addToFilter = `put "r|^/dev/disk/pmemctl/|", "r|^/dev/pmem|" before the patterns that its global_filter accepts, and the /dev/disk/by-id names of PMEM that you use yourself before these`

func (h Host) checkLVM(ctx context.Context, own []string) Finding {
	f := Finding{Check: "LVM", State: OK}
	s := h.lvmState()
	if !s.installed {
		f.Detail = "not installed"
		return f
	}
	next := setupCommand
	if s.foreign != "" {
		next = "in " + s.foreign + ", " + addToFilter
	}
	if s.devicesFile {
		next = "lvmdevices --deldev DEVICE"
	}
	ask := h.LVM
	if ask == nil {
		ask = askLVM
	}
	seen, err := ask(ctx, h.path("etc/lvm"))
	if errs.Is(err, errs.Unsupported) {
		f.Detail = "not installed"
		return f
	}
	var visible []string
	for _, device := range seen {
		name := filepath.Base(device)
		if real, err := filepath.EvalSymlinks(device); err == nil {
			name = filepath.Base(real)
		}
		if slices.Contains(own, name) {
			visible = append(visible, device)
		}
	}
	switch {
	case len(visible) > 0:
		f.State, f.Detail, f.Next = Problem, "the host's LVM sees "+strings.Join(visible, ", "), next
	case err != nil:
		f.State, f.Detail = Note, "cannot list what it sees: "+err.Error()
	case s.devicesFile:
		f.Detail = "sees only the devices in its devices file"
	case s.foreign != "":
		f.Detail = "sees none of " + count(len(own), "device") + "; the global_filter in " + s.foreign + " is your own"
		if len(own) == 0 {
			f.State, f.Next = Note, "check again when a volume exists: pmemctl host check"
		}
	case !s.ours:
		f.State, f.Detail, f.Next = Problem, "has no filter for pmemctl's devices", setupCommand
	default:
		f.Detail = "sees none of " + count(len(own), "device")
	}
	return f
}

// askLVM returns the devices that pass lvm's filters. Tenants' data can make lvm fail, but its
// list is complete nevertheless, so the exit code does not matter.
func askLVM(ctx context.Context, systemDir string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd, err := run.Prepare(ctx, "lvm", "pvs", "--all", "--readonly", "--nohints", "--noheadings", "-o", "pv_name")
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "LVM_SYSTEM_DIR="+systemDir)
	out, err := cmd.Output()
	return strings.Fields(string(out)), err
}

// early are the tools that build an initramfs: how to include the rules, and how to rebuild it.
var early = []struct{ name, etc, shared, text, images, again string }{
	{"initramfs-tools", "etc/initramfs-tools/hooks", "usr/share/initramfs-tools/hooks", files.InitramfsHook, "boot/initrd.img-*", "update-initramfs -u -k all"},
	{"dracut", "etc/dracut.conf.d", "usr/lib/dracut/dracut.conf.d", files.DracutConf, "boot/initramfs-*.img", "dracut --force --regenerate-all"},
}

func earlyName(tool string) string {
	if tool == "dracut" {
		return "90-pmemctl.conf"
	}
	return "pmemctl"
}

func (h Host) checkInitramfs() []Finding {
	var findings []Finding
	for _, tool := range early {
		if _, err := os.Stat(h.path(tool.etc)); err != nil {
			continue
		}
		f := Finding{Check: "initramfs", State: OK, Detail: tool.name + " includes the udev rule"}
		installed, made := h.earlyFile(tool.etc, tool.shared, earlyName(tool.name)), h.oldest(tool.images)
		changed := installed
		for _, rule := range rules {
			path, _ := h.effective(rule.name)
			if info, err := os.Stat(path); err == nil && info.ModTime().After(changed) {
				changed = info.ModTime()
			}
		}
		switch {
		case installed.IsZero():
			f.State, f.Detail, f.Next = Problem, tool.name+" omits the udev rule, which is needed while it looks for the root disk", setupCommand
		case !made.IsZero() && made.Before(changed):
			f.State, f.Detail, f.Next = Problem, "was built before the udev rule was installed or changed", tool.again
		}
		findings = append(findings, f)
	}
	return findings
}

// earlyFile returns when the file was installed; zero if it was not.
func (h Host) earlyFile(etc, shared, name string) time.Time {
	for _, dir := range []string{etc, shared} {
		if info, err := os.Stat(h.path(dir, name)); err == nil {
			return info.ModTime()
		}
	}
	return time.Time{}
}

func (h Host) oldest(pattern string) time.Time {
	var oldest time.Time
	images, _ := filepath.Glob(h.path(pattern))
	for _, image := range images {
		if info, err := os.Stat(image); err == nil && (oldest.IsZero() || info.ModTime().Before(oldest)) {
			oldest = info.ModTime()
		}
	}
	return oldest
}

var mdDevices = regexp.MustCompile(`(?mi)^dev`)

// checkMD: mdadm --assemble --scan reads every device itself, independently of udev.
func (h Host) checkMD() []Finding {
	for _, conf := range []string{"etc/mdadm/mdadm.conf", "etc/mdadm.conf"} {
		data, err := os.ReadFile(h.path(conf))
		if err != nil || mdDevices.Match(data) {
			continue
		}
		return []Finding{{Check: "MD", State: Note, Detail: h.path(conf) + " names no devices, so mdadm --assemble --scan reads all of them",
			Next: "add a line that names your disks, for example: DEVICE /dev/sd* /dev/nvme*"}}
	}
	return nil
}

// checkFstab: a rule installed by a package may have removed a link that the boot waits for.
func (h Host) checkFstab() []Finding {
	if _, err := os.Stat(h.run("udev/control")); err != nil {
		return nil
	}
	var findings []Finding
	for _, l := range h.fstabLinks() {
		if _, err := os.Lstat(l.link); errors.Is(err, os.ErrNotExist) {
			findings = append(findings, Finding{Check: "fstab", State: Note, Detail: l.name + " points to no device", Next: "if it is a pmemctl volume, " + byID})
		}
	}
	return findings
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Serve is for the CSI driver: it sets the host up if root, the directory that contains the host's
// /etc, is given, and logs the findings.
func Serve(ctx context.Context, root string, log *slog.Logger) []Finding {
	h := Host{Root: root}
	if root != "" {
		changes, err := h.Setup(ctx, false)
		for _, c := range changes {
			log.Info("host setup: changed a file", "file", c.File, "done", c.Done)
		}
		if err != nil {
			log.Error("host setup failed", "error", err.Error(), "next", errs.NextStep(err))
		}
	}
	findings, err := h.CheckVisible(ctx)
	if err != nil {
		log.Error("host check failed", "error", err.Error())
		return nil
	}
	for _, f := range findings {
		args := []any{"check", f.Check, "detail", f.Detail}
		if f.Next != "" {
			args = append(args, "next", f.Next)
		}
		switch f.State {
		case Problem:
			log.Warn("host check: data written by a tenant can change this host", args...)
		case Note:
			log.Info("host check: note", args...)
		default:
			log.Debug("host check: ok", args...)
		}
	}
	return findings
}

// CheckVisible is Check, without what cannot be known in a container that does not have the host's
// /etc.
func (h Host) CheckVisible(ctx context.Context) ([]Finding, error) {
	findings, err := h.Check(ctx)
	if err != nil || h.Root != "" || !inContainer() {
		return findings, err
	}
	// The files are those of the container, but the effects of udevd are visible.
	findings = slices.DeleteFunc(findings, func(f Finding) bool { return f.Check != "udev links" })
	return append(findings, Finding{Check: "files", State: Note, Detail: "the host's /etc is not visible here",
		Next: "name its directory: serve-csi --host-dir, or --root; or run on the host: pmemctl host check"}), nil
}

// inContainer checks for the marks of systemd, of common runtimes and of Kubernetes.
func inContainer() bool {
	if os.Getenv("container") != "" || os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return true
	}
	for _, file := range []string{"/run/.containerenv", "/.dockerenv"} {
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}
