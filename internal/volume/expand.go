package volume

import (
	"context"
	"fmt"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Expand makes an lvm volume at least size and at most limit bytes large (0: no limit), also while
// it is mounted. Its file system
// grows at the same time, or at the next Mount. If the volume is large enough, only its file
// system is grown, so that an interrupted call can be repeated.
//
// The new space is zeroed like that of a new volume before the volume gets it: it is first a
// separate logical volume, whose extents the volume then takes over.
func (s *Service) Expand(ctx context.Context, name string, size, limit uint64) (Volume, error) {
	if err := ValidateName(name); err != nil {
		return Volume{}, err
	}
	if err := validateSize(name, size, limit); err != nil {
		return Volume{}, err
	}
	return s.expand(ctx, name, growth{size: size, limit: limit})
}

// ExpandMax is Expand to the largest size that is possible now. That may be the present one.
func (s *Service) ExpandMax(ctx context.Context, name string) (Volume, error) {
	if err := ValidateName(name); err != nil {
		return Volume{}, err
	}
	return s.expand(ctx, name, growth{max: true})
}

// growth is the size that a volume is to have: at least size and at most limit bytes (0: no limit),
// or as much as is possible.
type growth struct {
	size, limit uint64
	max         bool
}

func (s *Service) expand(ctx context.Context, name string, want growth) (vol Volume, err error) {
	lock, err := s.lockVolume(ctx, name)
	if err != nil {
		return Volume{}, err
	}
	defer lock.Release()
	s, done := s.operation()
	defer done()
	// More than once if stripes cannot use all the space at once.
	for more := true; more; more = want.max {
		var reserve *Volume
		err = s.changing(ctx, func() error {
			vol, reserve, err = s.reserveExtension(ctx, name, want)
			return err
		})
		if err != nil {
			return Volume{}, err
		}
		if reserve == nil {
			break
		}
		if err := s.fill(ctx, *reserve, Spec{FS: mount.None}); err != nil {
			return Volume{}, s.undoCreate(ctx, *reserve, errs.Wrap("", subject(name), "could not be expanded", "", err))
		}
		err = s.changing(ctx, func() error {
			vol, err = s.takeOver(ctx, name)
			return err
		})
		if err != nil {
			return Volume{}, errs.Wrap("", subject(name), "could not be expanded", "try again: it continues where it stopped", err)
		}
	}
	return vol, s.growFilesystem(ctx, vol)
}

// reserveExtension creates the logical volume with the additional space; nil if the volume is
// large enough. The host is locked.
func (s *Service) reserveExtension(ctx context.Context, name string, want growth) (Volume, *Volume, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return Volume{}, nil, err
	}
	vol, err := v.get(name)
	if err != nil {
		return Volume{}, nil, err
	}
	if want.limit != 0 && vol.Size > want.limit {
		return vol, nil, errs.New(errs.OutOfRange, subject(name), fmt.Sprintf("is %d bytes large, which exceeds the limit of %d; volumes do not shrink", vol.Size, want.limit), "raise the limit")
	}
	if vol, err = s.activate(ctx, vol); err != nil {
		return vol, nil, err
	}
	reserve, err := s.kindOf(vol.Type).reserveExtension(ctx, v, vol, want)
	return vol, reserve, err
}

// takeOver moves the extents of the reserve to the volume. The host is locked, so no other pmemctl
// takes them in between.
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
		return Volume{}, errs.New(errs.Internal, subject(name), "changed while it was being expanded", "check what else changes volumes on this host")
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
		return Volume{}, errs.New(errs.NoSpace, subject(name), fmt.Sprintf("the free space of %s is in %d pieces, more than can be used at once", vol.VG, len(ranges)), "expand in smaller steps, or extend the group: pmemctl vg extend "+vol.VG+" --percent N")
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

// growFilesystem grows the file system of a mounted volume to the volume's size. If it is not
// mounted here, it grows at the next mount: growing it unmounted is not crash-safe.
func (s *Service) growFilesystem(ctx context.Context, vol Volume) error {
	fail := func(err error) error { // nil if err is nil
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

// growMounted grows a file system that is smaller than its volume. A file system may be unable to
// use less than two extents.
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
		return errs.New(errs.Unsupported, vol.Device, "has errors and must be checked before it can grow", "unmount it everywhere (pmemctl volume unmount "+vol.Name+") and mount it again: it is checked then")
	}
	return s.Mounts.Grow(ctx, vol.Device, p)
}
