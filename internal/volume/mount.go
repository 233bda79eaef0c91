package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
)

// MountSpec says where and how to mount a volume.
type MountSpec struct {
	Name, Path string
	// FS is the file system to make on a volume without one; "" is ext4. A volume
	// that has another one is not mounted.
	FS string
	// Options of mount, besides dax and ro.
	Options  []string
	NoDAX    bool
	ReadOnly bool

	opened *target // Path, when another program gave it
}

// Mount mounts a volume on a folder, which is made when missing. A volume whose
// every byte is zero is formatted first; one with content that is no file
// system is left alone. With DAX asked for, the mount is undone when the kernel
// does not grant it. Mounted there already: nothing is done.
func (s *Service) Mount(ctx context.Context, m MountSpec) (Volume, error) {
	if err := ValidateName(m.Name); err != nil {
		return Volume{}, err
	}
	if err := validateOptions(m.Options); err != nil {
		return Volume{}, err
	}
	m.Options, m.ReadOnly = readOnly(m.Options, m.ReadOnly)
	path, err := m.pathToMountOn()
	if err != nil {
		return Volume{}, err
	}
	lock, err := s.lockVolume(ctx, m.Name)
	if err != nil {
		return Volume{}, err
	}
	defer lock.Release()
	vol, err := s.ready(ctx, m.Name)
	if err != nil {
		return Volume{}, err
	}
	if done, err := alreadyMounted(ctx, vol, path, m); done || err != nil {
		return vol, err
	}
	fs, err := s.ensureFilesystem(ctx, vol, m)
	if err != nil {
		return vol, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return vol, err
	}
	err = mount.Mount(vol.Device, path, fs, mountOptions(m))
	if errors.Is(err, os.ErrNotExist) {
		// Udevd may only now be at the removal of an older one of the name, with the link.
		if err = s.waitForNode(ctx, vol); err == nil {
			err = mount.Mount(vol.Device, path, fs, mountOptions(m))
		}
	}
	if err != nil {
		return vol, errs.Wrap("", subject(m.Name), "cannot be mounted on "+path, "see the kernel's reason: dmesg | tail", err)
	}
	if err := checkDAX(path); !m.NoDAX && err != nil {
		return vol, errors.Join(errs.Wrap(errs.Unsupported, subject(m.Name), "was mounted, but without DAX, and is unmounted again", "see the kernel's reason: dmesg | tail; or mount it without: --no-dax", err), mount.Unmount(vol.Device, path))
	}
	_, point, _, err := mount.At(path)
	if err != nil {
		return vol, err
	}
	return vol, growIfWritable(ctx, vol, point, m)
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

// otherMounts are the options with which mount(2) does something else than to
// mount a device.
var otherMounts = []string{"bind", "rbind", "remount", "move", "shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable", "loop"}

// otherDevices are the options of ext4 and xfs that name one.
var otherDevices = []string{"journal_dev", "journal_path", "logdev", "rtdev"}

// readOnly takes the option ro out of the others.
func readOnly(options []string, already bool) ([]string, bool) {
	rest := slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == "ro" })
	return rest, already || len(rest) < len(options)
}

func validateOptions(options []string) error {
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		if slices.Contains(otherMounts, name) {
			return errs.Invalidf("mount option "+quote(o), "leave it away", "is not for mounting a volume")
		}
		if slices.Contains(otherDevices, name) {
			return errs.Invalidf("mount option "+quote(o), "leave it away", "names another device")
		}
		if o == "" || strings.ContainsFunc(o, func(r rune) bool { return r == ',' || r <= ' ' || r == 0x7f }) {
			return errs.Invalidf("mount option "+quote(o), "give each option by itself", "is not one option")
		}
	}
	return nil
}

func isDAXOption(o string) bool { return o == "dax" || strings.HasPrefix(o, "dax=") }

// ready finds a volume and brings up its device.
func (s *Service) ready(ctx context.Context, name string) (Volume, error) {
	if vol, ok := s.up(name); ok {
		// Udevd may still be at the removal of an older one of the name.
		return vol, s.waitForNode(ctx, vol)
	}
	return s.readyByLook(ctx, name)
}

func (s *Service) readyByLook(ctx context.Context, name string) (Volume, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return Volume{}, err
	}
	vol, err := v.get(name)
	if err != nil {
		return vol, err
	}
	if vol.Device == "" || vol.State != Ready || s.isSuspended(vol) {
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

// alreadyMounted tells whether the volume is on that path already; what else is
// there is an error.
func alreadyMounted(ctx context.Context, vol Volume, path string, m MountSpec) (bool, error) {
	have, point, mounted, err := mount.At(path)
	if err != nil || !mounted {
		return false, err
	}
	n, err := blockdev.Identify(vol.Device)
	if err != nil {
		return false, err
	}
	switch {
	case have != n:
		return false, errs.New(errs.Conflict, path, "has something else mounted on it ("+point.FSType+", device "+have.String()+")", "choose another folder, or unmount it: umount "+path)
	case m.FS != "" && m.FS != point.FSType:
		return false, errs.New(errs.Conflict, subject(vol.Name), "is mounted on "+path+" with the file system "+point.FSType+", not "+m.FS, "")
	case m.ReadOnly != slices.Contains(point.Options, "ro"):
		return false, errs.New(errs.Conflict, subject(vol.Name), "is mounted on "+path+" already, and not as asked (read-only or read-write)", "pmemctl volume unmount "+vol.Name)
	}
	if how := m.differsFrom(point); how != "" {
		return false, errs.New(errs.Conflict, subject(vol.Name), "is mounted on "+path+" already, "+how, "pmemctl volume unmount "+vol.Name)
	}
	if !m.NoDAX && checkDAX(path) != nil {
		return false, errs.New(errs.Conflict, subject(vol.Name), "is mounted on "+path+" already, without DAX", "pmemctl volume unmount "+vol.Name)
	}
	return true, growIfWritable(ctx, vol, point, m)
}

// growIfWritable lets the file system have what its volume was expanded by while
// it was not mounted.
func growIfWritable(ctx context.Context, vol Volume, p mount.Point, m MountSpec) error {
	if m.ReadOnly {
		return nil
	}
	return errs.Wrap("", subject(vol.Name), "is mounted, but its file system could not grow to the volume's size", "", growMounted(ctx, vol, p))
}

// ensureFilesystem returns the file system of a volume, and makes one on a
// volume that is empty.
func (s *Service) ensureFilesystem(ctx context.Context, vol Volume, m MountSpec) (string, error) {
	want := m.FS
	if want == "" {
		want = mount.Ext4
	}
	if want != mount.Ext4 && want != mount.XFS {
		return "", errs.Invalidf(subject(m.Name), "use ext4 or xfs", "file system %s is not one that pmemctl makes", quote(m.FS))
	}
	content, err := mount.Probe(ctx, vol.Device)
	if err != nil {
		return "", errs.Wrap("", subject(m.Name), "its content could not be read", "", err)
	}
	switch {
	case content.Type == mount.Ext4 || content.Type == mount.XFS:
		if m.FS != "" && m.FS != content.Type {
			return "", errs.New(errs.Conflict, subject(m.Name), "has the file system "+content.Type+", not "+m.FS, "leave --fs away to mount it as it is")
		}
		return content.Type, nil
	case content.Type != "":
		return "", unknownContent(m.Name, "has content that is no file system of pmemctl's ("+content.Type+")")
	case m.ReadOnly:
		return "", errs.New(errs.Unsupported, subject(m.Name), "has no file system, and none is made for a read-only mount", "mount it without --read-only once")
	case want == mount.XFS && vol.Size < mount.MinXFS:
		return "", errs.New(errs.OutOfRange, subject(m.Name), "is too small for XFS, which needs 300 MiB", "use --fs ext4")
	}
	dev, err := blockdev.HoldToRead(vol.Device)
	if err != nil {
		return "", err
	}
	step, done := s.progress("checking that " + vol.Name + " is empty")
	empty, err := dev.IsZero(ctx, step)
	done()
	if err := errors.Join(err, dev.Close()); err != nil {
		return "", err
	}
	if !empty {
		return "", unknownContent(m.Name, "has content that is no file system")
	}
	return want, mount.Format(ctx, mount.Space{Device: vol.Device, Size: vol.Size}, want)
}

func unknownContent(name, reason string) error {
	return errs.New(errs.Conflict, subject(name), reason+", so that it is not formatted", fmt.Sprintf("if the content is not needed: pmemctl volume delete %s, and create it again", name))
}

func checkDAX(path string) error {
	_, point, mounted, err := mount.At(path)
	if err != nil {
		return err
	}
	if !mounted {
		return fmt.Errorf("%s is no mount point", path)
	}
	dax, err := mount.DAX(path, point)
	if err == nil && !dax {
		err = errors.New("the file system does not use DAX for new files")
	}
	return err
}

// Unmount unmounts a volume from everywhere in this mount namespace, or from one
// path when it is given, which must be one of its. A volume that is not mounted
// is fine. It returns the paths.
func (s *Service) Unmount(ctx context.Context, name, path string) ([]string, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	lock, err := s.lockVolume(ctx, name)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	vol, ok := s.up(name)
	if !ok { // one that is not up is mounted nowhere
		if vol, err = s.Get(ctx, name); err != nil {
			return nil, err
		}
	}
	if path != "" {
		if path, err = mount.RealPath(path); err != nil {
			return nil, err
		}
	}
	var paths []string
	for _, p := range slices.Backward(Mounts(vol)) { // the last one mounted is on top
		if path != "" && p.Path != path {
			continue
		}
		if err := mount.Unmount(vol.Device, p.Path); err != nil {
			return paths, errs.Wrap("", subject(name), "is still mounted", "", err)
		}
		paths = append(paths, p.Path)
	}
	if path != "" && len(paths) == 0 {
		return nil, errs.New(errs.NotFound, subject(name), "is not mounted on "+path, "see where it is: pmemctl volume show "+name)
	}
	return paths, nil
}

// Mounts tells where a volume is mounted in this mount namespace.
func Mounts(vol Volume) []mount.Point {
	if vol.Device == "" {
		return nil
	}
	n, err := blockdev.Identify(vol.Device)
	if err != nil {
		return nil
	}
	points, _ := mount.Points(n)
	return points
}
