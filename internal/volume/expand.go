package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Expand makes an lvm volume at least size bytes large, also while it is mounted.
// Its file system grows with it, or with the next Mount. A volume that is that
// large already only has its file system looked after, so that an interrupted
// call can be repeated.
//
// The new space is cleared like that of a new volume before the volume has it: it is first
// a logical volume of its own, whose extents the volume then takes over.
func (s *Service) Expand(ctx context.Context, name string, size uint64) (vol Volume, err error) {
	if err := ValidateName(name); err != nil {
		return Volume{}, err
	}
	if err := validateSize(name, size); err != nil {
		return Volume{}, err
	}
	lock, err := s.lockVolume(ctx, name)
	if err != nil {
		return Volume{}, err
	}
	defer lock.Release()
	s, done := s.operation()
	defer done()
	var reserve *Volume
	err = s.changing(ctx, func() error {
		vol, reserve, err = s.reserveExtension(ctx, name, size)
		return err
	})
	if err != nil {
		return Volume{}, err
	}
	if reserve != nil {
		if err := s.fill(ctx, *reserve, Spec{FS: mount.None}); err != nil {
			return Volume{}, s.undoCreate(ctx, *reserve, errs.Wrap("", subject(name), "could not be expanded", "", err))
		}
		err = s.changing(ctx, func() error {
			vol, err = s.takeOver(ctx, name)
			return err
		})
		if err != nil {
			return Volume{}, errs.Wrap("", subject(name), "could not be expanded", "try again: it goes on where it was", err)
		}
	}
	return vol, s.growFilesystem(ctx, vol)
}

// reserveExtension makes the space that a volume is to have more; nil when it
// is large enough. The host is locked.
func (s *Service) reserveExtension(ctx context.Context, name string, size uint64) (Volume, *Volume, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return Volume{}, nil, err
	}
	vol, err := v.get(name)
	if err != nil {
		return Volume{}, nil, err
	}
	if vol, err = s.activate(ctx, vol); err != nil {
		return vol, nil, err
	}
	if vol.Type == TypeDirect && size <= vol.Size {
		return vol, nil, nil
	}
	if vol.Type == TypeDirect {
		return vol, nil, errs.New(errs.FixedSize, subject(name), "is a direct volume, which cannot grow in place: its namespace would have to be made anew, and its data would be lost",
			fmt.Sprintf("copy it to a larger one: pmemctl volume clone %s NEWNAME --size %d", name, size))
	}
	if err := v.whole(vol.group()); err != nil {
		return vol, nil, err
	}
	vg, _ := v.LVM.Find(vol.group())
	step := vg.ExtentSize * uint64(max(vol.Stripes, 1))
	want := pmem.RoundUp(size, step)
	if want <= vol.Size {
		return vol, nil, s.removeAllUnfinished(ctx, v.find(name))
	}
	if v, err = s.removeAbandoned(ctx, v, name); err != nil {
		return vol, nil, err
	}
	s.noteDeleted(v)
	vg, _ = v.LVM.Find(vol.group())
	by := want - vol.Size
	// It stays in its regions where they have room, and with stripes in any case.
	within, devices := v.onlyIn(vg, vol.Regions)
	if vol.Stripes > 1 || by <= largestLV(within, 1) {
		vg = within
	} else {
		devices = nil
	}
	if most := largestLV(vg, max(vol.Stripes, 1)); by > most {
		err := errs.New(errs.NoSpace, subject(name), fmt.Sprintf("cannot grow to %s: volume group %s has room for %s", pmem.FormatSize(size), vg.Name, pmem.FormatSize(vol.Size+most)),
			fmt.Sprintf("use --size %d or less, or enlarge the group: pmemctl vg extend %s --percent N", vol.Size+most, vg.Name))
		// It does not wait for what is erased: the lock of a volume that is in use is held.
		if erasing := v.erasingIn(vol.group(), by, s.eraseFailed); len(erasing) > 0 {
			s.want(erasing[0])
			err = s.noSpaceYet(err, erasing)
		}
		return vol, nil, err
	}
	made, err := (logical{s}).makeLV(ctx, markMaking+name, Plan{Name: name, Type: TypeLVM, VG: vol.VG, vgUUID: vol.vgUUID, Usable: by, Raw: by, Stripes: vol.Stripes, devices: devices, forFS: vol.forFS})
	return vol, &made, err
}

// takeOver gives the extents of the reserve to the volume. The host is locked,
// so that nothing of pmemctl takes them in between.
func (s *Service) takeOver(ctx context.Context, name string) (Volume, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return Volume{}, err
	}
	found := v.find(name)
	vol, err := finished(found)
	if err != nil {
		return Volume{}, err
	}
	reserves := inState(found, Creating)
	if vol.Name == "" || len(reserves) != 1 {
		return Volume{}, errs.New(errs.Internal, subject(name), "changed while it was being expanded", "see who else changes volumes on this host")
	}
	vg, _ := v.LVM.Find(vol.group())
	var ranges []string
	for _, lv := range vg.LVs {
		if lv.Name == reserves[0].lv {
			ranges = lv.Ranges
		}
	}
	by := reserves[0].Size
	if len(ranges) > lvm.MaxRanges {
		return Volume{}, errs.New(errs.NoSpace, subject(name), fmt.Sprintf("the free space of %s is in %d pieces, more than can be taken at once", vol.VG, len(ranges)), "expand in smaller steps, or extend the group: pmemctl vg extend "+vol.VG+" --percent N")
	}
	if err := (logical{s}).remove(ctx, reserves[0]); err != nil {
		return Volume{}, err
	}
	if err := s.LVM.ExtendLV(ctx, vol.group(), name, by, vol.Stripes, ranges); err != nil {
		return Volume{}, err
	}
	vol.Size += by
	vol.RawSize += by
	return vol, nil
}

// growFilesystem grows the file system of a mounted volume to the volume's size.
// One that is not mounted here grows when it is: growing it unmounted is not safe
// against a crash.
func (s *Service) growFilesystem(ctx context.Context, vol Volume) error {
	fail := func(err error) error { // nil stays nil
		return errs.Wrap("", subject(vol.Name), "has "+pmem.FormatSize(vol.Size)+" now, but its file system did not grow", fmt.Sprintf("try again: pmemctl volume expand %s --size %d", vol.Name, vol.Size), err)
	}
	n, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return fail(err)
	}
	points, err := s.Mounts.Points(n)
	if err != nil {
		return fail(err)
	}
	if len(points) == 0 {
		return nil
	}
	return fail(s.growMounted(ctx, vol, points[0]))
}

// growMounted grows a file system that is smaller than its volume. What is less
// than two extents is what the file system cannot use.
func (s *Service) growMounted(ctx context.Context, vol Volume, p mount.Point) error {
	if p.FSType != mount.Ext4 && p.FSType != mount.XFS {
		return nil
	}
	covered, err := s.Mounts.Extent(vol.Device, p.FSType)
	if err != nil {
		return err
	}
	if covered+2*ExtentSize > vol.Size {
		return nil
	}
	if p.FSType == mount.Ext4 && s.Mounts.HasErrors(vol.Device) {
		return errs.New(errs.Unsupported, vol.Device, "has errors, and does not grow before it was checked", "unmount it everywhere (pmemctl volume unmount "+vol.Name+") and mount it again: it is checked then")
	}
	return s.Mounts.Grow(ctx, vol.Device, p)
}

// Clone copies a volume that is not in use into a new one as the spec has it, which may be larger
// and of the other type; its file system then grows with the first Mount. The copy is a volume
// like any other, with DAX. Of the spec, Type "" is that of the source, Size 0 is its size, and FS
// is what the source must have: none copies it as it is, as a device, and "" takes what there is.
// A volume that exists under the name is a Conflict, since its content may be older than the
// source's by now; with OrExisting a copy of the source is returned.
func (s *Service) Clone(ctx context.Context, source string, spec Spec) (Volume, error) {
	if err := ValidateName(source); err != nil {
		return Volume{}, err
	}
	if err := ValidateName(spec.Name); err != nil {
		return Volume{}, err
	}
	if source == spec.Name {
		return Volume{}, errs.Invalidf(subject(spec.Name), "choose another name for the copy", "cannot be a clone of itself")
	}
	for _, name := range slices.Sorted(slices.Values([]string{source, spec.Name})) { // or two clones could wait for each other
		lock, err := s.lockVolume(ctx, name)
		if err != nil {
			return Volume{}, err
		}
		defer lock.Release()
	}
	s, done := s.operation()
	defer done()
	var from Volume
	err := s.changing(ctx, func() error {
		v, err := s.Look(ctx)
		if err != nil {
			return err
		}
		if from, err = v.get(source); err != nil {
			return err
		}
		from, err = s.activate(ctx, from)
		return err
	})
	if err != nil {
		return Volume{}, err
	}
	fs := spec.FS
	if spec, err = spec.copyingFrom(from); err != nil {
		return Volume{}, err
	}
	vol, created, err := s.create(ctx, spec, func(ctx context.Context, made Volume) error { return s.copyInto(ctx, made, from, fs) })
	if err == nil && !created && !(spec.OrExisting && vol.isCopyOf(from.UUID)) {
		return Volume{}, errs.New(errs.Conflict, subject(spec.Name), "exists already, and was not overwritten", "choose another name, or delete it: pmemctl volume delete "+spec.Name)
	}
	return vol, err
}

// copyingFrom is the spec of a volume that has room for a copy of another one.
func (s Spec) copyingFrom(source Volume) (Spec, error) {
	if s.FS == mount.None && source.forFS {
		return s, errs.Invalidf(subject(s.Name), "clone it as a volume with a filesystem", "%s was made for a filesystem and may hold bytes of former volumes below it, so no raw block volume can be a copy of it", source.Name)
	}
	if s.Limit != 0 && source.Size > s.Limit {
		return s, errs.New(errs.OutOfRange, subject(s.Name), fmt.Sprintf("a copy of %s has at least its %d bytes, more than the limit of %d", source.Name, source.Size, s.Limit), "raise the limit")
	}
	if s.Size == 0 || s.OrLarger {
		s.Size = max(s.Size, source.Size)
	}
	if s.Size < source.Size {
		return s, errs.New(errs.OutOfRange, subject(s.Name), fmt.Sprintf("a copy of %s needs at least its %s", source.Name, pmem.FormatSize(source.Size)), fmt.Sprintf("use --size %d or more", source.Size))
	}
	if s.Type == "" {
		s.Type = source.Type
	}
	// What is in it is the source's.
	s.FS, s.MkfsOptions, s.copyOf, s.forFS = mount.None, nil, source.UUID, source.forFS
	return s, s.validate()
}

// copyInto fills a new device with a copy of a volume, and zeros behind it. A file
// system in it becomes one of its own.
func (s *Service) copyInto(ctx context.Context, made, source Volume, fs string) error {
	if err := s.notPublished(source); err != nil {
		return errs.Wrap("", subject(source.Name), "is in use, and a copy of it would not be consistent", "", err)
	}
	from, err := s.Devices.HoldToRead(source.Device)
	if err != nil {
		if errs.Is(err, errs.InUse) {
			return errs.Wrap(errs.InUse, subject(source.Name), "is in use, and a copy of it would not be consistent", "pmemctl volume unmount "+source.Name, err)
		}
		return err
	}
	defer from.Close()
	if fs == mount.Ext4 || fs == mount.XFS {
		content, err := s.Mounts.Probe(ctx, source.Device)
		if err != nil {
			return err
		}
		if content.Type != "" && content.Type != fs {
			return errs.Invalidf(subject(source.Name), "ask for a copy with "+content.Type, "has %s, and a copy with %s was asked for", content.Type, fs)
		}
	}
	if made, err = s.bringUp(ctx, made); err != nil {
		return err
	}
	if err := s.waitForNode(ctx, made); err != nil {
		return err
	}
	to, err := s.Devices.Hold(made.Device)
	if err != nil {
		return err
	}
	if err := errors.Join(sizeIs(from, source.Size), sizeIs(to, made.Size)); err != nil {
		return errors.Join(err, to.Close())
	}
	step, done := s.progress("copying " + source.Name)
	err = to.CopyFrom(ctx, from, from.Size(), step)
	switch {
	case err != nil:
	case made.forFS:
		if err = clearTail(ctx, to, from.Size(), to.Size()); err == nil {
			err = s.heal(ctx, to, made.Device, from.Size())
		}
	default:
		err = to.Zero(ctx, from.Size(), to.Size(), step)
	}
	done()
	if err := errors.Join(notHealed(err), to.Close()); err != nil {
		return err
	}
	if fs != mount.None {
		if err := s.Mounts.Separate(ctx, made.Device); err != nil {
			return err
		}
	}
	return s.waitForNode(ctx, made) // it is known by its name from here on
}
