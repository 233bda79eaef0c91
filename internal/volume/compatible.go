package volume

import (
	"context"
	"slices"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
)

// UsableAs returns an error of the kind Conflict if a volume cannot be used as requested: as a raw
// block device (file system None), or with a file system, where "" is any. A raw device on which
// its user made a file system can be distinguished from a volume with a file system only while it
// is published.
func (s *Service) UsableAs(ctx context.Context, name, fs string) error {
	if err := ValidateName(name); err != nil {
		return err
	}
	find := s.activated
	if fs == mount.None { // sysfs does not show whether it was created for a file system
		find = s.activatedByLook
	}
	vol, err := find(ctx, name)
	if err != nil {
		return err
	}
	content, err := s.Mounts.Probe(ctx, vol.Device)
	if err != nil {
		return errs.Wrap("", subject(name), "its content could not be read", "", err)
	}
	number, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return err
	}
	raw, err := s.Mounts.BoundNodes(number)
	if err != nil {
		return err
	}
	if fs == mount.None && vol.forFS {
		return madeForFS(vol)
	}
	return usableAs(name, content.Type, fs, len(raw) > 0)
}

func usableAs(name, has, fs string, publishedRaw bool) error {
	differs := func(reason string) error {
		return errs.New(errs.Conflict, subject(name), reason, "see: pmemctl volume show "+name)
	}
	own := has == mount.Ext4 || has == mount.XFS
	switch {
	case fs == mount.None && own && !publishedRaw:
		return differs("has the file system " + has + ", but a raw block device was requested")
	case fs == mount.None:
		return nil
	case publishedRaw:
		return differs("is published as a raw block device, but a file system was requested")
	case !own:
		return differs("has no file system, but one was requested")
	case fs != "" && fs != has:
		return differs("has the file system " + has + ", but " + fs + " was requested")
	}
	return nil
}

// ownFlags are the mount options that the kernel shows for each mount point, and the options that
// undo them. The kernel may show options of the file system itself differently, or omit defaults.
var ownFlags = map[string]string{"nosuid": "suid", "nodev": "dev", "noexec": "exec", "nodiratime": "diratime", "noatime": "atime", "sync": "async"}

// flagsAsked returns the ownFlags that are set by options; the last option wins.
func flagsAsked(options []string) map[string]bool {
	asked := map[string]bool{}
	for _, o := range options {
		if ownFlags[o] != "" {
			asked[o] = true
		}
		for flag, undone := range ownFlags {
			if o == undone || flag == "noatime" && (o == "relatime" || o == "strictatime") {
				delete(asked, flag)
			}
		}
	}
	return asked
}

// differentFlag names one of some flags that is in effect at a mount point but was not requested,
// or the other way round; "" if there is none.
func differentFlag(asked []string, p mount.Point, flags ...string) string {
	want := flagsAsked(asked)
	for _, flag := range flags {
		if has := slices.Contains(p.Options, flag); has && !want[flag] {
			return "with " + flag
		} else if !has && want[flag] {
			return "without " + flag
		}
	}
	return ""
}

// differsFrom says how a mount point differs from the request. For a manual mount, options that
// were not requested do not matter.
func (m MountSpec) differsFrom(p mount.Point) string {
	asked := m.Options
	if m.opened == nil {
		asked = append(slices.Clone(p.Options), asked...)
	}
	return differentFlag(asked, p, "nosuid", "nodev", "noexec", "nodiratime", "noatime", "sync")
}

// differsFrom says how the mount point of a published volume differs from the request. It inherits
// the options of the mount point where the volume is staged.
func (p PublishSpec) differsFrom(point, staged mount.Point) string {
	var inherited []string
	for flag := range ownFlags {
		if slices.Contains(staged.Own, flag) {
			inherited = append(inherited, flag)
		}
	}
	return differentFlag(append(inherited, p.Options...), point, "nosuid", "nodev", "noexec", "nodiratime")
}
