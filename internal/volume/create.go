package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Plan returns what Create would do, and changes nothing.
func (s *Service) Plan(ctx context.Context, spec Spec) (Plan, error) {
	if err := spec.validate(); err != nil {
		return Plan{}, err
	}
	v, err := s.Look(ctx)
	if err != nil {
		return Plan{}, err
	}
	vol, err := finished(v.find(spec.Name))
	if err != nil {
		return Plan{}, err
	}
	if vol.Name != "" {
		if err := s.matches(ctx, v, vol, spec); err != nil {
			return Plan{}, err
		}
		return Plan{Name: vol.Name, Type: vol.Type, Region: first(vol.Regions), VG: vol.VG, Asked: cmp.Or(spec.Size, vol.Size), Usable: vol.Size, Raw: vol.RawSize, Overhead: vol.RawSize - vol.Size, Stripes: vol.Stripes, Exists: true}, nil
	}
	return v.plan(v.sized(spec))
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// Create creates a volume that reads as zeros or has an empty file system. If a volume of that
// name exists and matches the spec, it is returned and created is false; if it differs, the error
// is of the kind Conflict.
func (s *Service) Create(ctx context.Context, spec Spec) (vol Volume, created bool, err error) {
	if err := spec.validate(); err != nil {
		return Volume{}, false, err
	}
	lock, err := s.lockVolume(ctx, spec.Name)
	if err != nil {
		return Volume{}, false, err
	}
	defer lock.Release()
	s, done := s.operation()
	defer done()
	s.kindOf(spec.Type).warm()
	return s.create(ctx, spec, func(ctx context.Context, made Volume) error { return s.fill(ctx, made, spec) })
}

// create makes the device under a temporary name, calls fill to write its content, and renames it
// last. The volume's lock is held.
func (s *Service) create(ctx context.Context, spec Spec, fill func(context.Context, Volume) error) (vol Volume, created bool, err error) {
	var made Volume
	for wait := newSpaceWait(spec.SpaceWait); made.Name == ""; {
		var erasing []Volume
		err = s.changing(ctx, func() error {
			vol, made, erasing, err = s.findOrMake(ctx, spec)
			return err
		})
		if len(erasing) > 0 {
			err = s.waitForSpace(ctx, wait, erasing, err)
		}
		if err != nil || vol.Name != "" {
			return vol, false, err
		}
	}
	failed := func(err error) error {
		return s.undoCreate(ctx, made, couldNotBeCreated(spec.Name, err))
	}
	if err := fill(ctx, made); err != nil {
		return Volume{}, false, failed(err)
	}
	k := s.kindOf(made.Type)
	err = k.changing(ctx, func() error {
		vol, err = k.commit(ctx, made)
		return err
	})
	if err != nil {
		return Volume{}, false, failed(err)
	}
	vol.NoMapSync = vol.isInAny(made.refusing)
	if spec.NoErase {
		s.setNoErase(vol.UUID)
	}
	return vol, true, nil
}

func couldNotBeCreated(name string, err error) error {
	return errs.Wrap("", subject(name), "could not be created", "", vanished(name, err))
}

// findOrMake returns the existing volume that matches the spec, or makes the device of a new one.
// If there is not enough space, it also returns the deleted volumes whose erasing would free
// enough. The host is locked.
func (s *Service) findOrMake(ctx context.Context, spec Spec) (existing, made Volume, erasing []Volume, err error) {
	k := s.kindOf(spec.Type)
	v, err := k.prepare(ctx, spec.Name)
	if err != nil {
		return existing, made, nil, err
	}
	if existing, err = finished(v.find(spec.Name)); err != nil {
		return existing, made, nil, err
	}
	if existing.Name != "" {
		if existing, err = s.activate(ctx, existing); err == nil {
			err = s.matches(ctx, v, existing, spec)
		}
		return existing, made, nil, err
	}
	if v, err = s.removeAbandoned(ctx, v, spec.Name); err != nil {
		return existing, made, nil, vanished(spec.Name, err)
	}
	s.noteDeleted(v)
	spec = v.sized(spec)
	plan, err := v.plan(spec)
	if errs.Is(err, errs.NoSpace) {
		return existing, made, v.erasingFor(spec, s.eraseFailed), err
	}
	if err != nil {
		return existing, made, nil, err
	}
	plan.copyOf, plan.forFS = spec.copyOf, spec.hidesOldBytes()
	plan.uuid = v.copyUUID(spec.Name, spec.copyOf)
	s.rememberRegions(v, plan.Region)
	made, err = k.make(ctx, plan)
	made.refusing = v.refusingMapSync()
	return existing, made, nil, vanished(spec.Name, err)
}

// filledRaw reports whether the content of a direct volume is written to its raw namespace, behind
// the info block. To disable and enable a raw namespace for its mark takes half as long, and the
// kernel then creates struct pages only once. mkfs.xfs requires the device itself.
func filledRaw(spec Spec) bool { return spec.FS != mount.XFS }

// matches returns an error if a volume differs from the spec.
func (s *Service) matches(ctx context.Context, v View, vol Volume, spec Spec) error {
	const next = "choose another name, or delete it: pmemctl volume delete "
	differs := func(what, has, asked string) error {
		return errs.New(errs.Conflict, subject(spec.Name), fmt.Sprintf("exists with %s %s, but %s was requested", what, has, asked), next+spec.Name)
	}
	switch {
	case vol.State == Damaged:
		return errs.New(errs.Conflict, subject(spec.Name), "exists and is damaged", "see: pmemctl volume show "+spec.Name)
	case vol.Type != spec.Type:
		return differs("type", string(vol.Type), string(spec.Type))
	case spec.Region != "" && !slices.Contains(vol.Regions, spec.Region):
		return differs("region", first(vol.Regions), spec.Region)
	case len(spec.Within) > 0 && slices.ContainsFunc(vol.Regions, func(r string) bool { return !slices.Contains(spec.Within, r) }):
		return differs("regions", strings.Join(vol.Regions, ", "), strings.Join(spec.Within, ", "))
	case spec.MapSync && vol.NoMapSync:
		return differs("regions", strings.Join(vol.Regions, ", ")+" without MAP_SYNC", "MAP_SYNC")
	case spec.VG != "" && spec.VG != vol.VG:
		return differs("volume group", vol.VG, spec.VG)
	case spec.Stripe && vol.Stripes < 2 && v.couldStripe(vol.group()):
		return differs("layout", "linear", "striped")
	}
	if want := layoutOf(vol.Type).sizeFor(v, vol, spec); want != vol.Size && !((spec.OrLarger || spec.Max) && vol.Size > want) {
		return differs("size", pmem.FormatSize(vol.Size), sizeThatDiffers(spec.Size, vol.Size))
	}
	if spec.Limit != 0 && vol.Size > spec.Limit {
		return differs("size", pmem.FormatSize(vol.Size), "at most "+pmem.FormatSize(spec.Limit))
	}
	if spec.FS == mount.None && vol.forFS && !spec.forFS {
		return madeForFS(vol)
	}
	if spec.FS == mount.None || vol.Device == "" {
		return nil
	}
	content, err := s.Mounts.Probe(ctx, vol.Device)
	if err == nil && content.Type != "" && content.Type != spec.FS {
		err = differs("file system", content.Type, spec.FS)
	}
	return err
}

// sizeThatDiffers formats a size in bytes if rounding would hide the difference.
func sizeThatDiffers(size, other uint64) string {
	if text := pmem.FormatSize(size); text != pmem.FormatSize(other) {
		return text
	}
	return fmt.Sprintf("%d bytes", size)
}

func (v View) couldStripe(g lvm.VGRef) bool {
	vg, ok := v.LVM.Find(g)
	return ok && len(vg.PVs) > 1
}

// ownInfoBlocks reports whether pmemctl writes the info blocks of namespaces itself; it supports
// pages of 4 KiB only.
var ownInfoBlocks = os.Getpagesize() == 4*pmem.KiB

// copyUUID returns one of them that no namespace has; "" lets the caller choose a random one.
func (v View) copyUUID(name, source string) string {
	if source == "" {
		return ""
	}
	for id := range copyUUIDs(name, source) {
		if _, taken := v.PMEM.Namespace(id); !taken {
			return id
		}
	}
	return ""
}

// fill zeroes a new device as needed, and formats it.
func (s *Service) fill(ctx context.Context, vol Volume, spec Spec) error {
	var err error
	if !filledRaw(spec) {
		if vol, err = s.bringUp(ctx, vol); err != nil {
			return err
		}
	}
	node, err := s.anyNode(ctx, vol)
	if err != nil {
		return err
	}
	dev, err := s.Devices.Hold(node)
	if err != nil {
		return err
	}
	if err = sizeIs(dev, vol.deviceSize()); err == nil {
		err = s.clear(ctx, dev, vol, node)
	}
	if err == nil && vol.offset > 0 {
		err = writeInfoBlock(dev, vol)
	}
	if err := errors.Join(err, dev.Close()); err != nil {
		return err
	}
	if spec.FS != mount.None {
		if err := s.Mounts.Format(ctx, mount.Space{Device: node, Offset: vol.offset, Size: vol.Size}, spec.FS, spec.MkfsOptions...); err != nil {
			return err
		}
	}
	// From here on the volume is found by its name.
	return s.waitForNode(ctx, vol)
}

// writeInfoBlock writes the info block with which the kernel brings up a namespace as fsdax. The
// data begins at the offset.
func writeInfoBlock(dev Device, vol Volume) error {
	parent, err := uuid.Parse(vol.UUID)
	if err != nil {
		return err
	}
	id := uuid.New()
	if recorded := infoUUID(vol.UUID, vol.forFS, vol.granularity); recorded != "" {
		id = uuid.MustParse(recorded)
	}
	nothing := make([]byte, pmem.InfoBlockOffset)
	return dev.Write(append(nothing, pmem.PFNInfoBlock(id, parent, dev.Size(), vol.Size, pmem.DefaultAlign)...), 0)
}

// deviceSize returns the size in bytes of the device of a new volume.
func (vol Volume) deviceSize() uint64 {
	if vol.offset > 0 {
		return vol.RawSize
	}
	return vol.Size
}

// bringUp brings a raw namespace up as fsdax.
func (s *Service) bringUp(ctx context.Context, vol Volume) (Volume, error) {
	if vol.offset == 0 {
		return vol, nil
	}
	if err := s.waitForNode(ctx, vol); err != nil {
		return vol, err
	}
	dev, err := s.Devices.Hold(vol.Device)
	if err != nil {
		return vol, err
	}
	if err = sizeIs(dev, vol.RawSize); err == nil {
		err = writeInfoBlock(dev, vol)
	}
	if err := errors.Join(err, dev.Close()); err != nil {
		return vol, err
	}
	if err := s.NDCTL.DisableRaw(vol.UUID); err != nil {
		return vol, err
	}
	n, err := s.NDCTL.EnableNamespace(vol.UUID)
	if err != nil {
		return vol, err
	}
	up, _ := directVolume(n)
	if up.Size != vol.Size {
		return vol, errs.New(errs.Internal, subject(vol.Name), fmt.Sprintf("its namespace came up with %d bytes instead of %d", up.Size, vol.Size), "see why: dmesg | tail")
	}
	up.forFS = vol.forFS
	return up, nil
}

// sizeIs returns an error if a device that is about to be written does not have the expected size.
func sizeIs(dev Device, size uint64) error {
	if dev.Size() != size {
		return errs.New(errs.Internal, "", fmt.Sprintf("the device has %d bytes instead of %d and was not touched", dev.Size(), size), "check that /dev is the host's own and that udevd is running")
	}
	return nil
}

// undoCreate removes an unfinished volume, and joins errors of that with the cause.
func (s *Service) undoCreate(ctx context.Context, vol Volume, cause error) error {
	ctx, cancel := undoing(ctx)
	defer cancel()
	err := s.changing(ctx, func() error { return s.removeAbandonedNow(ctx, vol.Name) })
	if err != nil {
		err = errs.Wrap("", subject(vol.Name), "what was created so far could not be removed", "pmemctl volume delete "+vol.Name, err)
	}
	return errors.Join(cause, err)
}
