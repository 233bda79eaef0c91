package volume

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/fault"
)

// PublishSpec describes where to publish a volume: its file system, which is staged at From, or
// its device if From is "".
type PublishSpec struct {
	Name     string
	FS       string // required file system; "" is any
	From     string // where its file system is staged; "" for the device itself
	Target   string // a directory, or for a device a file; created if missing
	ReadOnly bool
	Options  []string // of mount, for this mount point only
	Alone    bool     // it must not be published anywhere else
}

// Publish binds a volume to a path. If it is already published there in the same way, nothing is
// done.
func (s *Service) Publish(ctx context.Context, p PublishSpec) (err error) {
	if err := ValidateName(p.Name); err != nil {
		return err
	}
	target, err := s.openTarget(p.Target)
	if err != nil {
		return asPrecondition(err)
	}
	defer func() { err = target.done(err) }()
	p.Target = target.at
	if p.From != "" {
		from, err := s.openTarget(p.From)
		if err != nil {
			return asPrecondition(err)
		}
		defer from.done(nil)
		p.From = from.at
	}
	if err := validateOptions(p.Options); err != nil {
		return err
	}
	p.Options, p.ReadOnly = readOnly(p.Options, p.ReadOnly)
	lock, err := s.lockVolume(ctx, p.Name)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := s.takeOffLost(p.Name, p.Target); err != nil {
		return err
	}
	if p.From == "" {
		// A raw device was not mounted, so sysfs alone does not show whether it is being deleted.
		vol, err := s.activatedByLook(ctx, p.Name)
		if err != nil {
			return err
		}
		if vol.forFS {
			return madeForFS(vol)
		}
		return s.publishDevice(vol, p)
	}
	vol, err := s.activated(ctx, p.Name)
	if err != nil {
		return err
	}
	return s.publishFilesystem(vol, p)
}

func (s *Service) publishFilesystem(vol Volume, p PublishSpec) error {
	from, err := s.Mounts.RealPath(p.From)
	if err != nil {
		return err
	}
	number, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return err
	}
	have, staged, mounted, err := s.Mounts.At(from)
	if err != nil {
		return err
	}
	if mounted && s.Devices.Gone(have) {
		return goneError(vol.Name, from)
	}
	if !mounted || have != number {
		return errs.New(errs.Unsupported, subject(vol.Name), "is not mounted on "+from, "stage it first")
	}
	if p.FS != "" && p.FS != staged.FSType {
		return errs.New(errs.Conflict, subject(vol.Name), "is mounted on "+from+" with the file system "+staged.FSType+", not "+p.FS, "unstage it, and stage it with "+staged.FSType)
	}
	fault, err := s.faultAt(number, staged)
	if err != nil {
		return err
	}
	if fault != "" {
		return s.faultError(vol, fault, from)
	}
	have, point, mounted, err := s.Mounts.At(p.Target)
	switch {
	case err != nil:
		return err
	case mounted && have != number:
		return errs.New(errs.Conflict, p.Target, "has something else mounted on it ("+point.FSType+", device "+have.String()+")", "unmount it: umount "+p.Target)
	case mounted && p.ReadOnly != slices.Contains(point.Options, "ro"):
		return errs.New(errs.Conflict, subject(vol.Name), "is already published at "+p.Target+", but not with the requested access (read-only or read-write)", "unpublish it there first: umount "+p.Target)
	case mounted && p.differsFrom(point, staged) != "":
		return errs.New(errs.Conflict, subject(vol.Name), "is already published at "+p.Target+", "+p.differsFrom(point, staged), "unpublish it there first: umount "+p.Target)
	case mounted:
		return nil
	}
	if p.Alone {
		points, err := s.Mounts.Points(number)
		if err != nil {
			return err
		}
		for _, other := range points {
			if other.Path != from && other.Path != p.Target {
				return publishedElsewhere(vol, other.Path)
			}
		}
	}
	remove, err := makeLast(p.Target, func() error { return os.Mkdir(p.Target, 0o750) })
	if err != nil {
		return err
	}
	if err := s.Mounts.Bind(p.From, p.Target, p.ReadOnly, p.Options); err != nil {
		return errors.Join(errs.Wrap("", subject(vol.Name), "cannot be bound to "+p.Target, "", err), remove())
	}
	return nil
}

func publishedElsewhere(vol Volume, path string) error {
	return errs.New(errs.InUse, subject(vol.Name), "is already published at "+path+", but exclusive access was requested", "unpublish it there first: umount "+path)
}

// publishDevice binds the device node to a file; the container runtime creates its own node from
// that.
func (s *Service) publishDevice(vol Volume, p PublishSpec) error {
	if p.ReadOnly {
		return errs.New(errs.Unsupported, subject(vol.Name), "is a raw block device, which cannot be read-only in one place and writable in another", "publish it writable, or use a file system")
	}
	bound, err := s.isDeviceAt(vol, p.Target)
	if err != nil || bound {
		return err
	}
	number, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return err
	}
	paths, err := s.Mounts.BoundNodes(number)
	if err != nil {
		return err
	}
	if len(paths) > 0 {
		if was, ok := s.lastUse(number); ok && was.UUID != vol.UUID {
			return errs.New(errs.InUse, subject(vol.Name), "has the device number of volume "+was.Name+", whose device is gone but still published at "+paths[0], "unpublish that first: umount "+paths[0])
		}
		if p.Alone {
			return publishedElsewhere(vol, paths[0])
		}
	} else if err := s.notMounted(vol); err != nil {
		return err
	}
	create := func() error {
		f, err := os.OpenFile(p.Target, os.O_CREATE|os.O_EXCL|os.O_RDONLY|unix.O_NOFOLLOW, 0o660)
		if err == nil {
			err = f.Close()
		}
		return err
	}
	node, err := s.Devices.RealNode(vol.Device)
	if err != nil {
		return err
	}
	remove, err := makeLast(p.Target, create)
	if err != nil {
		return err
	}
	if err := s.rememberUse(vol, number, node); err != nil {
		return errors.Join(err, remove())
	}
	if err := s.Mounts.Bind(node, p.Target, false, nil); err != nil {
		return errors.Join(errs.Wrap("", subject(vol.Name), "its device cannot be bound to "+p.Target, "", err), remove())
	}
	return nil
}

// makeLast creates the last part of a path, and returns a function that removes it if it did not
// exist before. An existing path must not be a symbolic link.
func makeLast(path string, create func() error) (remove func() error, err error) {
	fault.Step("before making the target")
	err = create()
	fault.Step("after making the target")
	if !errors.Is(err, os.ErrExist) {
		return func() error { return os.Remove(path) }, err
	}
	st, err := os.Lstat(path)
	if err == nil && st.Mode()&os.ModeSymlink != 0 {
		err = errs.New(errs.Invalid, path, "is a symbolic link", "remove it")
	}
	return func() error { return nil }, err
}

// isDeviceAt reports whether the device of a volume is bound to a path.
func (s *Service) isDeviceAt(vol Volume, path string) (bool, error) {
	_, _, mounted, err := s.Mounts.At(path)
	if err != nil || !mounted {
		return false, err
	}
	want, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return false, err
	}
	if have, err := s.Devices.NumberOf(path); err != nil || have != want {
		return false, errs.New(errs.Conflict, path, "has something else mounted on it", "unmount it: umount "+path)
	}
	return true, nil
}

// Unpublish unmounts a volume's file system or device from a path and removes the path. It is not
// an error if it is not published there, or if the volume does not exist and nothing is mounted
// there.
func (s *Service) Unpublish(ctx context.Context, name, path string) (err error) {
	opened, err := s.openTarget(path)
	if errs.Is(err, errs.NotFound) { // its directory does not exist either
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = opened.done(err) }()
	target := opened.at
	if err := s.takeOff(ctx, name, target); err != nil {
		return err
	}
	st, err := os.Lstat(target)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && !st.IsDir() && (!st.Mode().IsRegular() || st.Size() > 0) {
		return errs.New(errs.Conflict, target, "was not created for a volume: it is neither a directory nor an empty file", "remove it by hand if it is not needed")
	}
	if err != nil {
		return err
	}
	fault.Step("before removing the target")
	err = os.Remove(target)
	fault.Step("after removing the target")
	return err
}

// Unstage unmounts a volume from a path, and keeps the path.
func (s *Service) Unstage(ctx context.Context, name, path string) error {
	target, err := s.openTarget(path)
	if errs.Is(err, errs.NotFound) { // its directory does not exist either
		return nil
	}
	if err != nil {
		return err
	}
	return target.done(s.takeOff(ctx, name, target.at))
}

func (s *Service) takeOff(ctx context.Context, name, path string) error {
	if err := ValidateName(name); err != nil {
		return err
	}
	lock, err := s.lockVolume(ctx, name)
	if err != nil {
		return err
	}
	defer lock.Release()
	// Mounts may be stacked on each other.
	for {
		if err := s.takeOffLost(name, path); err != nil {
			return errs.Wrap("", subject(name), "could not be unmounted from "+path, "", err)
		}
		number, _, mounted, err := s.Mounts.At(path)
		if err != nil || !mounted {
			return err
		}
		vol, ok := s.findUp(name)
		if !ok {
			if vol, err = s.Get(ctx, name); err != nil {
				return errs.Wrap("", path, "has something mounted on it that is not this volume", "see what it is: findmnt "+path, err)
			}
			if s.isSuspended(vol) {
				if err := s.changing(ctx, func() error { return s.LVM.Refresh(ctx, vol.group(), vol.lv) }); err != nil {
					return err
				}
			}
		}
		if vol.Device == "" {
			return errs.New(errs.Conflict, path, "has something mounted on it that is not this volume", "see what it is: findmnt "+path)
		}
		want, err := s.Devices.Identify(vol.Device)
		if err != nil {
			return err
		}
		if number != want {
			if bound, err := s.isDeviceAt(vol, path); !bound {
				return err
			}
		}
		if err := s.Mounts.UnmountPath(path); err != nil {
			return errs.Wrap("", subject(name), "could not be unmounted from "+path, "", err)
		}
		s.forgetUse(want)
	}
}
