package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// MountSpec says where and how to mount a volume.
type MountSpec struct {
	Name, Path string
	// FS is the file system to create on an empty volume; "" is ext4. A volume with another file
	// system is not mounted.
	FS string
	// Options of mount(8), without dax and ro.
	Options  []string
	NoDAX    bool
	ReadOnly bool
	// Formatted requires that the volume has a file system: an empty one is not formatted.
	Formatted bool

	opened *target // Path, if another program chose it
}

// Mount mounts a volume on a directory, which is created if missing. An all-zero volume is
// formatted first; a volume with content other than a file system is left unchanged. If DAX is
// requested and the kernel does not grant it, the volume is unmounted again. If it is already
// mounted there, nothing is done. A stale mount of the volume on that path is detached first. A
// file system that has errors, or a journal to be replayed, is checked before it is mounted
// writable. A file system that does not grow to its volume's size is reported in Health, and is
// not an error.
func (s *Service) Mount(ctx context.Context, m MountSpec) (Volume, error) {
	if err := ValidateName(m.Name); err != nil {
		return Volume{}, err
	}
	if err := validateOptions(m.Options); err != nil {
		return Volume{}, err
	}
	m.Options, m.ReadOnly = readOnly(m.Options, m.ReadOnly)
	path, err := s.pathToMountOn(m)
	if err != nil {
		return Volume{}, err
	}
	lock, err := s.lockVolume(ctx, m.Name)
	if err != nil {
		return Volume{}, err
	}
	defer lock.Release()
	if err := s.takeOffLost(m.Name, path); err != nil {
		return Volume{}, err
	}
	if err := s.noneLost(m.Name); err != nil {
		return Volume{}, err
	}
	vol, err := s.activated(ctx, m.Name)
	if err != nil {
		return Volume{}, err
	}
	if vol, done, err := s.alreadyMounted(ctx, vol, path, m); done || err != nil {
		return vol, err
	}
	if err := s.notPublished(vol); err != nil {
		return vol, err
	}
	fs, err := s.ensureFilesystem(ctx, vol, m)
	if err != nil {
		return vol, err
	}
	if !m.ReadOnly {
		if err := s.Mounts.Check(ctx, vol.Device); err != nil {
			return vol, errs.Wrap("", subject(m.Name), "is not mounted", "", err)
		}
	}
	number, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return vol, err
	}
	if err := s.rememberUse(vol, number, vol.Device); err != nil {
		return vol, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return vol, err
	}
	err = s.Mounts.Mount(vol.Device, path, fs, mountOptions(m))
	if errors.Is(err, os.ErrNotExist) {
		// udevd may still be removing the link of a former device of that name.
		if err = s.waitForNode(ctx, vol); err == nil {
			err = s.Mounts.Mount(vol.Device, path, fs, mountOptions(m))
		}
	}
	if err != nil {
		next := mount.HowToRepair(vol.Device, fs, err)
		if next == "" {
			next = "see the kernel's reason: dmesg | tail"
			if !m.NoDAX && errors.Is(err, unix.EINVAL) { // for example, blocks of 1 KiB
				next += "; or mount it without DAX: --no-dax"
			}
			return vol, errs.Wrap("", subject(m.Name), "cannot be mounted on "+path, next, err)
		}
		return vol, errs.Wrap(errs.Unsupported, subject(m.Name), "cannot be mounted on "+path+", because its "+fs+" is damaged"+s.andMedium(vol), next, err)
	}
	if vol, err = s.tryDAX(vol, path); !m.NoDAX && err != nil {
		undone := s.Mounts.Unmount(vol.Device, path)
		err = errs.Wrap(errs.Unsupported, subject(m.Name), "was mounted without DAX, and has been unmounted again", "see the kernel's reason: dmesg | tail; or mount it without: --no-dax", err)
		return vol, errors.Join(err, undone)
	}
	_, point, _, err := s.Mounts.At(path)
	if err != nil {
		return vol, err
	}
	return s.growIfWritable(ctx, vol, point, m), nil
}

func mountOptions(m MountSpec) []string {
	options := slices.Clone(m.Options)
	if !m.NoDAX && !slices.ContainsFunc(options, isDAXOption) {
		options = append(options, "dax")
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return options
}

// otherMounts are the options for which mount(2) does something other than mount a device.
var otherMounts = []string{"bind", "rbind", "remount", "move", "shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable", "loop"}

// otherDevices are the options of ext4 and XFS that name another device.
var otherDevices = []string{"journal_dev", "journal_path", "logdev", "rtdev"}

// readOnly removes the option ro from options.
func readOnly(options []string, already bool) ([]string, bool) {
	rest := slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == "ro" })
	return rest, already || len(rest) < len(options)
}

func validateOptions(options []string) error {
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		if slices.Contains(otherMounts, name) {
			return errs.New(errs.Invalid, "mount option "+quote(o), "cannot be used to mount a volume", "omit it")
		}
		if slices.Contains(otherDevices, name) {
			return errs.New(errs.Invalid, "mount option "+quote(o), "names another device", "omit it")
		}
		if o == "" || strings.ContainsFunc(o, func(r rune) bool { return r == ',' || r <= ' ' || r == 0x7f }) {
			return errs.New(errs.Invalid, "mount option "+quote(o), "is not a single option", "specify each option separately")
		}
	}
	return nil
}

func isDAXOption(o string) bool { return o == "dax" || strings.HasPrefix(o, "dax=") }

// activated finds a volume and brings up its device.
func (s *Service) activated(ctx context.Context, name string) (Volume, error) {
	if vol, ok := s.findUp(name); ok {
		// udevd may still be removing a former device of that name.
		return vol, s.waitForNode(ctx, vol)
	}
	return s.activatedByLook(ctx, name)
}

func (s *Service) activatedByLook(ctx context.Context, name string) (Volume, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return Volume{}, err
	}
	vol, err := v.get(name)
	if err != nil {
		return vol, err
	}
	if vol.Device == "" || vol.State != Ready || s.needsRefresh(vol) {
		err = s.changing(ctx, func() error {
			vol, err = s.activate(ctx, vol)
			return err
		})
	}
	if err == nil {
		s.remember(vol)
		err = s.waitForNode(ctx, vol)
	}
	return vol, err
}

// alreadyMounted reports whether the volume is already mounted on the path; another mount there is
// an error. A file system that the kernel shut down is unmounted if it is not in use, so that it
// is checked and mounted again.
func (s *Service) alreadyMounted(ctx context.Context, vol Volume, path string, m MountSpec) (Volume, bool, error) {
	have, point, mounted, err := s.Mounts.At(path)
	if err != nil || !mounted {
		return vol, false, err
	}
	n, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return vol, false, err
	}
	switch {
	case have != n:
		return vol, false, errs.New(errs.Conflict, path, "has something else mounted on it ("+point.FSType+", device "+have.String()+")", "choose another directory, or unmount it: umount "+path)
	case m.FS != "" && m.FS != point.FSType:
		return vol, false, errs.New(errs.Conflict, subject(vol.Name), "is mounted on "+path+" with the file system "+point.FSType+", not "+m.FS, "omit --fs, or unmount it first: pmemctl volume unmount "+vol.Name)
	case m.ReadOnly != slices.Contains(point.Options, "ro"):
		return vol, false, errs.New(errs.Conflict, subject(vol.Name), "is already mounted on "+path+", but not with the requested access (read-only or read-write)", "pmemctl volume unmount "+vol.Name)
	}
	fault, err := s.faultAt(n, point)
	if err != nil {
		return vol, false, err
	}
	if fault != "" {
		if points, err := s.Mounts.Points(n); err == nil && len(points) == 1 && s.Mounts.Unmount(vol.Device, path) == nil {
			return vol, false, nil
		}
		return vol, false, s.faultError(vol, fault, path)
	}
	if how := m.differsFrom(point); how != "" {
		return vol, false, errs.New(errs.Conflict, subject(vol.Name), "is already mounted on "+path+", "+how, "pmemctl volume unmount "+vol.Name)
	}
	if vol, err = s.tryDAX(vol, path); !m.NoDAX && err != nil {
		return vol, false, errs.New(errs.Conflict, subject(vol.Name), "is already mounted on "+path+", without DAX", "pmemctl volume unmount "+vol.Name)
	}
	return s.growIfWritable(ctx, vol, point, m), true, nil
}

// growIfWritable grows the file system of a volume that was expanded while it was not mounted. If
// that fails, the file system stays mounted with its size.
func (s *Service) growIfWritable(ctx context.Context, vol Volume, p mount.Point, m MountSpec) Volume {
	if m.ReadOnly {
		return vol
	}
	if err := s.growMounted(ctx, vol, p); err != nil {
		vol.Health = "its file system did not grow to the volume's size: " + err.Error()
	}
	return vol
}

// notGrown describes a mounted file system that is smaller than its volume; "" if it is not.
func (s *Service) notGrown(vol Volume, p mount.Point) string {
	covered, err := s.Mounts.Extent(vol.Device, p.FSType)
	if err != nil || covered+2*ExtentSize > vol.Size {
		return ""
	}
	return fmt.Sprintf("its file system covers %s of the volume's %s; to grow it: pmemctl volume expand %s --size %d", pmem.FormatSize(covered), pmem.FormatSize(vol.Size), vol.Name, vol.Size)
}

// andMedium describes media errors of a volume, which may be the reason for an error.
func (s *Service) andMedium(vol Volume) string {
	if bad := s.badblocks(vol); bad != "" {
		return " (" + bad + ")"
	}
	return ""
}

// howToSave returns the commands to save a volume with media errors in its superblock, and to
// clear the first range of them by writing.
func (s *Service) howToSave(vol Volume) string {
	next := "save what can be read: dd if=" + vol.Device + " of=FILE bs=512 iflag=direct conv=noerror,sync"
	if bad, err := s.Devices.BadRanges(vol.Device, vol.Size); err == nil && len(bad) > 0 {
		next += fmt.Sprintf("; overwrite the bad blocks, which clears them: dd if=/dev/zero of=%s bs=512 oflag=direct seek=%d count=%d", vol.Device, bad[0].From/512, (bad[0].To-bad[0].From)/512)
		if len(bad) > 1 {
			next += fmt.Sprintf(" (the first of %d ranges)", len(bad))
		}
	}
	return next + "; then repair the file system: e2fsck -b 32768 -B 4096 " + vol.Device + " (ext4) or xfs_repair " + vol.Device + " (XFS)"
}

// ensureFilesystem returns the file system of a volume, and creates one on an empty volume.
func (s *Service) ensureFilesystem(ctx context.Context, vol Volume, m MountSpec) (string, error) {
	want := m.FS
	if want == "" {
		want = mount.Ext4
	}
	if want != mount.Ext4 && want != mount.XFS {
		return "", errs.New(errs.Invalid, subject(m.Name), fmt.Sprintf("file system %s is not supported", quote(m.FS)), "use ext4 or xfs")
	}
	content, err := s.Mounts.Probe(ctx, vol.Device)
	if err != nil {
		if errors.Is(err, unix.EIO) {
			return "", errs.Wrap(errs.Unsupported, subject(m.Name), "its content could not be read"+s.andMedium(vol), s.howToSave(vol), err)
		}
		return "", errs.Wrap("", subject(m.Name), "its content could not be read", "", err)
	}
	switch {
	case content.Type == mount.Ext4 || content.Type == mount.XFS:
		if m.FS != "" && m.FS != content.Type {
			return "", errs.New(errs.Conflict, subject(m.Name), "has the file system "+content.Type+", not "+m.FS, "omit --fs to mount it as it is")
		}
		return content.Type, nil
	case content.Type != "":
		return "", unknownContent(m.Name, "has content that is not ext4 or XFS ("+content.Type+")")
	case m.Formatted:
		return "", errs.New(errs.Damaged, subject(m.Name), "has no file system any more, and is not formatted at boot", "find out what happened to its data: pmemctl doctor; to format it if it is empty: pmemctl volume mount "+m.Name+" "+m.Path)
	case m.ReadOnly:
		return "", errs.New(errs.Unsupported, subject(m.Name), "has no file system, and a read-only mount does not create one", "mount it once without --read-only")
	case want == mount.XFS && vol.Size < mount.MinXFS:
		return "", errs.New(errs.OutOfRange, subject(m.Name), "is too small for XFS, which needs 300 MiB", "use --fs ext4")
	}
	dev, err := s.Devices.HoldToRead(vol.Device)
	if err != nil {
		return "", err
	}
	step, done := s.progress("checking that " + vol.Name + " is empty")
	empty, err := dev.IsZero(ctx, 0, dev.Size(), step)
	done()
	if err := errors.Join(err, dev.Close()); err != nil {
		return "", err
	}
	if !empty {
		return "", unknownContent(m.Name, "has content that is not a file system")
	}
	return want, s.Mounts.Format(ctx, mount.Space{Device: vol.Device, Size: vol.Size}, want)
}

func unknownContent(name, reason string) error {
	return errs.New(errs.Conflict, subject(name), reason+", so it is not formatted", fmt.Sprintf("if the content is not needed: pmemctl volume delete %s, and create it again", name))
}

// tryDAX returns an error if files of a mounted volume do not use DAX, and the volume with what is
// true of MAP_SYNC.
func (s *Service) tryDAX(vol Volume, path string) (Volume, error) {
	_, point, mounted, err := s.Mounts.At(path)
	if err != nil {
		return vol, err
	}
	if !mounted {
		return vol, fmt.Errorf("%s is not a mount point", path)
	}
	dax, noMapSync, err := s.Mounts.DAX(path, point)
	if err == nil && !dax {
		err = errors.New("the file system does not use DAX for new files")
	}
	vol.NoMapSync = vol.NoMapSync || dax && (noMapSync || s.refusesMapSync(vol))
	return vol, err
}

// refusesMapSync reports whether the kernel ought to refuse MAP_SYNC on a volume. If the device of
// another volume was removed before, it may grant it: dax_alloc_inode does not clear the flag
// DAXDEV_SYNC in memory that it uses again (drivers/dax/super.c).
func (s *Service) refusesMapSync(vol Volume) bool {
	marked := slices.DeleteFunc(s.NDCTL.EnabledFSDAX(), func(n pmem.Namespace) bool { return identityOf(n.InfoUUID) == 0 })
	if len(marked) == 0 { // all regions have labels
		return false
	}
	up, ok := s.mapped(vol)
	if !ok {
		return false
	}
	below := s.Devices.Below(up)
	marked = slices.DeleteFunc(marked, func(n pmem.Namespace) bool { return !slices.Contains(below, n.Blockdev) })
	if len(marked) == 0 {
		return false
	}
	sys, err := s.NDCTL.Snapshot(ndctl.Select{})
	return err != nil || slices.ContainsFunc(marked, func(n pmem.Namespace) bool { return !sys.MapSync(n.Region) })
}

// Unmount unmounts a volume everywhere in this mount namespace, or only from path if it is not "".
// It returns the paths. It is not an error if the volume is not mounted, unless path is given.
func (s *Service) Unmount(ctx context.Context, name, path string) ([]string, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	lock, err := s.lockVolume(ctx, name)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	lost, _ := s.lostUses(name)
	vol, ok := s.findUp(name)
	if !ok { // if it is not up, it is mounted nowhere or its device is gone
		if vol, err = s.Get(ctx, name); err != nil && len(lost) == 0 {
			return nil, err
		}
	}
	if path != "" {
		if path, err = s.Mounts.RealPath(path); err != nil {
			return nil, err
		}
	}
	var paths []string
	for _, u := range slices.Backward(lost) { // the topmost mount is last
		if path != "" && u.Path != path {
			continue
		}
		top, used, err := s.Mounts.UseAt(u.Path)
		if err != nil {
			return paths, errs.Wrap("", subject(name), "could not be unmounted", "see what is mounted there: findmnt "+u.Path, err)
		}
		if !used || top.Number != u.Number {
			return paths, errs.New(errs.InUse, u.Path, "has something else mounted over it", "unmount that first: umount "+u.Path)
		}
		if err := s.Mounts.Detach(u.Path, u.Path); err != nil {
			return paths, errs.Wrap("", subject(name), "could not be unmounted", "", err)
		}
		s.forgetUse(u.Number)
		paths = append(paths, u.Path)
	}
	points, err := s.mountedAt(vol)
	if err != nil {
		return paths, errs.Wrap("", subject(name), "may still be mounted", "try again", err)
	}
	for _, p := range slices.Backward(points) {
		if path != "" && p.Path != path {
			continue
		}
		if err := s.Mounts.Unmount(vol.Device, p.Path); err != nil {
			return paths, errs.Wrap("", subject(name), "could not be unmounted", "", err)
		}
		paths = append(paths, p.Path)
	}
	if n, err := s.Devices.Identify(vol.Device); err == nil && len(paths) > 0 {
		s.forgetUse(n)
	}
	if path != "" && len(paths) == 0 {
		return nil, errs.New(errs.NotFound, subject(name), "is not mounted on "+path, "see where it is: pmemctl volume show "+name)
	}
	return paths, nil
}

// MountedAt returns the mount points of a volume in this mount namespace.
func (s *Service) MountedAt(vol Volume) []mount.Point {
	points, _ := s.mountedAt(vol)
	return points
}

// Mounted is a mounted file system.
type Mounted struct {
	mount.Point
	Size uint64 // bytes, as df shows it; 0 if unknown
}

// MountsOn returns the mount points of the device at a path.
func (s *Service) MountsOn(device string) []Mounted {
	n, err := s.Devices.NumberOf(device)
	if err != nil {
		return nil
	}
	points, _ := s.Mounts.Points(n)
	var mounted []Mounted
	for _, p := range points {
		m := Mounted{Point: p}
		if fs, err := s.Mounts.Usage(p.Path, n); err == nil {
			m.Size = fs.Blocks * uint64(fs.Bsize)
		}
		mounted = append(mounted, m)
	}
	return mounted
}

// mountedAt is MountedAt; a volume whose device does not exist is mounted nowhere.
func (s *Service) mountedAt(vol Volume) ([]mount.Point, error) {
	if vol.Device == "" {
		return nil, nil
	}
	n, err := s.Devices.Identify(vol.Device)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.Mounts.Points(n)
}

// Stage is Mount on a path that another program chose.
func (s *Service) Stage(ctx context.Context, m MountSpec) (Volume, error) {
	target, err := s.openTarget(m.Path)
	if err != nil {
		return Volume{}, asPrecondition(err)
	}
	m.opened = target
	vol, err := s.Mount(ctx, m)
	return vol, target.done(err)
}
