package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Clone copies a volume that is not in use to a new one, which may be larger and of the other
// type; its file system then grows at the first Mount. The copy is a volume like any other, with
// DAX. In the spec, Type "" is that of the source and Size 0 its size. FS is what the source must
// have: none copies it as a raw device, and "" accepts any. If a volume of the name exists, the
// error is of the kind Conflict, because the source may have changed since it was copied; with
// OrExisting, an existing copy of the source is returned.
func (s *Service) Clone(ctx context.Context, source string, spec Spec) (Volume, error) {
	if err := ValidateName(source); err != nil {
		return Volume{}, err
	}
	if err := ValidateName(spec.Name); err != nil {
		return Volume{}, err
	}
	if source == spec.Name {
		return Volume{}, errs.New(errs.Invalid, subject(spec.Name), "cannot be a clone of itself", "choose another name for the copy")
	}
	for _, name := range slices.Sorted(slices.Values([]string{source, spec.Name})) { // in a fixed order, so that two clones cannot deadlock
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
		return Volume{}, errs.New(errs.Conflict, subject(spec.Name), "already exists and was not overwritten", "choose another name, or delete it: pmemctl volume delete "+spec.Name)
	}
	return vol, err
}

// copyingFrom returns the spec of a volume that can hold a copy of the source.
func (s Spec) copyingFrom(source Volume) (Spec, error) {
	if s.FS == mount.None && source.forFS {
		return s, errs.New(errs.Invalid, subject(s.Name), fmt.Sprintf("%s was created for a file system and may hold data of deleted volumes below it, so it cannot be copied to a raw block volume", source.Name), "clone it as a volume with a file system")
	}
	if s.Limit != 0 && source.Size > s.Limit {
		return s, errs.New(errs.OutOfRange, subject(s.Name), fmt.Sprintf("a copy of %s requires %d bytes, which exceeds the limit of %d", source.Name, source.Size, s.Limit), "raise the limit")
	}
	if s.Size == 0 || s.OrLarger {
		s.Size = max(s.Size, source.Size)
	}
	if s.Size < source.Size {
		return s, errs.New(errs.OutOfRange, subject(s.Name), fmt.Sprintf("a copy of %s requires at least %s", source.Name, pmem.FormatSize(source.Size)), fmt.Sprintf("use --size %d or more", source.Size))
	}
	if s.Type == "" {
		s.Type = source.Type
	}
	// The content comes from the source.
	s.FS, s.MkfsOptions, s.copyOf, s.forFS = mount.None, nil, source.UUID, source.forFS
	return s, s.validate()
}

// copyInto copies a volume to a new device and zeroes the rest of it. A file system in the copy
// gets a new UUID.
func (s *Service) copyInto(ctx context.Context, made, source Volume, fs string) error {
	if err := s.notPublished(source); err != nil {
		return errs.Wrap("", subject(source.Name), "is in use, so a copy would not be consistent", "", err)
	}
	from, err := s.Devices.HoldToRead(source.Device)
	if err != nil {
		if errs.Is(err, errs.InUse) {
			return errs.Wrap(errs.InUse, subject(source.Name), "is in use, so a copy would not be consistent", "pmemctl volume unmount "+source.Name, err)
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
			return errs.New(errs.Invalid, subject(source.Name), fmt.Sprintf("has the file system %s, but a copy with %s was requested", content.Type, fs), "request a copy with "+content.Type)
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
	return s.waitForNode(ctx, made) // from here on it is found by its name
}
