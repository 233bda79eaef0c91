package hostconf

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	files "github.com/pmemctl/pmemctl/deploy/host"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/run"
)

// Change is a file that was written, removed or left unchanged.
type Change struct {
	File string `json:"file"`
	Done string `json:"done"`
	Next string `json:"next,omitempty"`
}

// signature is in the first lines of every installed file.
const signature = "Installed by pmemctl."

const (
	blockBegin = "# pmemctl begin"
	blockEnd   = "# pmemctl end\n"
)

// Setup installs what is missing. Files and filters of others are kept. With force it continues
// even if /etc/fstab would no longer find a volume by its content.
func (h Host) Setup(ctx context.Context, force bool) ([]Change, error) {
	if _, err := os.Stat(h.path("etc")); err != nil {
		return nil, errs.Wrap(errs.NotFound, h.path("etc"), "is not the host's /etc", "mount the host's directory there, or omit --root", err)
	}
	own, err := h.devices()
	if err != nil {
		return nil, err
	}
	if !force {
		if err := h.fstab(own); err != nil {
			return nil, err
		}
	}
	var changes []Change
	failed := func(err error) ([]Change, error) { return changes, err }
	for _, rule := range rules {
		if _, text := h.effective(rule.name); text == rule.text {
			continue
		}
		change, err := h.install(filepath.Join(ruleDirs[0], rule.name), rule.text, 0o644)
		if err != nil {
			return failed(err)
		}
		changes = append(changes, change)
	}
	for _, tool := range early {
		name := earlyName(tool.name)
		if _, err := os.Stat(h.path(tool.etc)); err != nil || !h.earlyFile(tool.etc, tool.shared, name).IsZero() {
			continue
		}
		mode := os.FileMode(0o644)
		if tool.name != "dracut" {
			mode = 0o755
		}
		change, err := h.install(filepath.Join(tool.etc, name), tool.text, mode)
		if errors.Is(err, syscall.EROFS) { // a container has only the directories for udev and LVM
			change, err = Change{File: h.path(tool.etc, name), Done: "not written: read-only here"}, nil
			change.Next = "on the host: " + setupCommand
		} else {
			change.Next = tool.again
		}
		if err != nil {
			return failed(err)
		}
		changes = append(changes, change)
	}
	change, err := h.installFilter()
	if err != nil {
		return failed(err)
	}
	if change.File != "" {
		changes = append(changes, change)
	}
	return changes, h.apply(ctx, own, true)
}

// Remove removes what Setup installed, and nothing else.
func (h Host) Remove(ctx context.Context) ([]Change, error) {
	own, err := h.devices()
	if err != nil {
		return nil, err
	}
	names := []string{filepath.Join(ruleDirs[0], rules[0].name), filepath.Join(ruleDirs[0], rules[1].name)}
	again := map[string]string{}
	for _, tool := range early {
		name := filepath.Join(tool.etc, earlyName(tool.name))
		names, again[name] = append(names, name), tool.again
	}
	var changes []Change
	link := h.path(regionsUnitLink)
	if target, err := os.Readlink(link); err == nil && target == filepath.Join("/", regionsUnit) {
		if err := os.Remove(link); err != nil {
			return changes, errs.Wrap("", link, "could not be removed", "", err)
		}
		changes = append(changes, Change{File: link, Done: "removed"})
	}
	for _, name := range append(names, regionsUnit) {
		file := h.path(name)
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || err == nil && !strings.Contains(string(data), signature) {
			continue
		}
		if err == nil {
			err = os.Remove(file)
		}
		if err != nil {
			return changes, errs.Wrap("", file, "could not be removed", "", err)
		}
		changes = append(changes, Change{File: file, Done: "removed", Next: again[name]})
	}
	conf := h.path("etc/lvm/lvmlocal.conf")
	if data, err := os.ReadFile(conf); err == nil {
		if rest, had := withoutBlock(string(data)); had {
			if err := write(conf, rest, 0o644); err != nil {
				return changes, err
			}
			changes = append(changes, Change{File: conf, Done: "pmemctl's filter removed"})
		}
	}
	return changes, h.apply(ctx, own, false)
}

// regionsUnit is the systemd unit that creates saved CXL regions at boot, and regionsUnitLink is
// what enables it.
const (
	regionsUnit     = "etc/systemd/system/pmemctl-regions.service"
	regionsUnitLink = "etc/systemd/system/sysinit.target.wants/pmemctl-regions.service"
)

// SetupRegions installs and enables the unit that runs a program at boot to create the saved CXL
// regions. It reports false if the host does not have systemd.
func (h Host) SetupRegions(program string) (installed bool, err error) {
	if _, err := os.Stat(h.path("etc/systemd/system")); err != nil {
		return false, nil
	}
	text := strings.Replace(files.RegionsUnit, "PROGRAM", program, 1)
	if data, err := os.ReadFile(h.path(regionsUnit)); err != nil || string(data) != text {
		if _, err := h.install(regionsUnit, text, 0o644); err != nil {
			return false, err
		}
	}
	link := h.path(regionsUnitLink)
	err = os.MkdirAll(filepath.Dir(link), 0o755)
	if err == nil {
		err = os.Symlink(filepath.Join("/", regionsUnit), link)
	}
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	return err == nil, errs.Wrap("", link, "could not be created", "systemctl enable pmemctl-regions.service", err)
}

// install writes a file below the root, unless a file of another owner has that name.
func (h Host) install(name, text string, mode os.FileMode) (Change, error) {
	file := h.path(name)
	done := "written"
	if data, err := os.ReadFile(file); err == nil {
		if !strings.Contains(string(data), signature) {
			return Change{}, errs.New(errs.Conflict, file, "exists and is not pmemctl's", "move it away, then: "+setupCommand)
		}
		done = "rewritten"
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return Change{}, errs.Wrap("", file, "could not be written", "", err)
	}
	return Change{File: file, Done: done}, write(file, text, mode)
}

func (h Host) installFilter() (Change, error) {
	s := h.lvmState()
	switch {
	case !s.installed || s.ours && s.foreign == "":
		return Change{}, nil
	case s.devicesFile: // it takes precedence over filters, and lvm warns about both
		return Change{}, nil
	case s.foreign != "":
		return Change{File: s.foreign, Done: "left unchanged: it has a global_filter of your own", Next: addToFilter}, nil
	}
	conf := h.path("etc/lvm/lvmlocal.conf")
	data, err := os.ReadFile(conf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Change{}, errs.Wrap("", conf, "could not be read", "", err)
	}
	text := string(data)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return Change{File: conf, Done: "filter added"}, write(conf, text+files.LVMFilter, 0o644)
}

// withoutBlock removes pmemctl's block from a file of LVM's configuration.
func withoutBlock(text string) (rest string, had bool) {
	from := strings.Index(text, blockBegin)
	if from < 0 {
		return text, false
	}
	to := strings.Index(text[from:], blockEnd)
	if to < 0 { // somebody changed it
		return text, false
	}
	return text[:from] + text[from+to+len(blockEnd):], true
}

// write replaces a file atomically. udevd, lvm and initramfs-tools ignore the name of the
// temporary file.
func write(file, text string, mode os.FileMode) error {
	fail := func(err error) error { return errs.Wrap("", file, "could not be written", "", err) }
	if info, err := os.Stat(file); err == nil {
		mode = info.Mode().Perm()
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".pmemctl.*~")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(text)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	return fail(err)
}

// fstab refuses lines that name a volume by its content: after Setup the link no longer exists,
// and systemd would wait for it at boot.
func (h Host) fstab(own []string) error {
	for _, l := range h.fstabLinks() {
		if slices.Contains(own, linkTarget(l.link)) {
			return errs.New(errs.InUse, h.path("etc/fstab"), l.name+" is a pmemctl volume, and the udev rule would remove that link", byID+", then: "+setupCommand)
		}
	}
	return nil
}

const byID = "use its link in /dev/disk/by-id (pmem-…), which does not depend on the volume's content"

// contentLink is a name in /etc/fstab that refers to the content of a device, and the udev link
// for it.
type contentLink struct{ name, link string }

func (h Host) fstabLinks() []contentLink {
	data, _ := os.ReadFile(h.path("etc/fstab"))
	dirs := map[string]string{"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel"}
	var links []contentLink
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		link := fields[0]
		if key, value, ok := strings.Cut(link, "="); ok && dirs[key] != "" {
			link = filepath.Join("/dev/disk", dirs[key], strings.Trim(value, `"`))
		}
		if rest, ok := strings.CutPrefix(link, "/dev/disk/by-"); ok && !strings.HasPrefix(rest, "id/") && !strings.HasPrefix(rest, "path/") {
			links = append(links, contentLink{fields[0], h.dev("disk/by-" + rest)})
		}
	}
	return links
}

// udevWait is how often and how long to wait for udevd, which checks for changed rules at least
// every 3 seconds.
const (
	udevTries = 8
	udevPause = time.Second
)

// apply makes udevd process pmemctl's devices again.
func (h Host) apply(ctx context.Context, own []string, linked bool) error {
	if _, err := os.Stat(h.run("udev/control")); err != nil {
		return nil
	}
	if h.local() && run.Installed("udevadm") == nil {
		if _, err := run.Change(ctx, "udevadm", "control", "--reload"); err != nil {
			return errs.Wrap("", "udevd", "did not reload its rules", "udevadm control --reload", err)
		}
	}
	todo := own
	for range udevTries {
		if todo = slices.DeleteFunc(slices.Clone(own), func(name string) bool { return (linkTarget(h.dev(linkDir, name)) == name) == linked }); len(todo) == 0 {
			return nil
		}
		for _, name := range todo {
			err := os.WriteFile(h.sys("class/block", name, "uevent"), []byte("change"), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return errs.Wrap("", "device "+name, "cannot trigger a udev event", "udevadm trigger --subsystem-match=block", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(udevPause):
		}
	}
	return errs.New(errs.Internal, "udevd", "did not apply the rule to "+strings.Join(todo, ", "), "udevadm control --reload && udevadm trigger --subsystem-match=block; then: pmemctl host check")
}
