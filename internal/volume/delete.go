package volume

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Delete deletes a volume that is not in use; its name is free afterwards. With erase, its data
// must be zeroed before its space is free: the caller erases the volumes that are returned.
// Without erase, the data stays on the medium, where later volumes do not show it. The error is of
// the kind NotFound if there is no such volume.
//
// If only deleted volumes of that name exist, they are returned.
func (s *Service) Delete(ctx context.Context, name string, erase bool) (deleted []Volume, err error) {
	return s.delete(ctx, name, func(Volume) bool { return erase })
}

// DeleteAsCreated deletes a volume, and erases it or not as its Spec said.
func (s *Service) DeleteAsCreated(ctx context.Context, name string) error {
	_, err := s.delete(ctx, name, func(vol Volume) bool { return !s.isNoErase(vol.UUID) })
	return err
}

// delete calls erase to find out whether the volume's data is to be erased; with a zero Volume if
// only deleted volumes of that name exist.
func (s *Service) delete(ctx context.Context, name string, erase func(Volume) bool) (deleted []Volume, err error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	lock, err := s.lockVolume(ctx, name)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	s, done := s.operation()
	defer done()
	var d deletion
	err = s.changing(ctx, func() error {
		d, err = s.beginDeleting(ctx, name, erase)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = vanished(name, err) }()
	for _, vol := range slices.Concat(d.remove, d.mark) {
		s.kindOf(vol.Type).warm()
	}
	for _, vol := range d.remove {
		if err := s.remove(ctx, vol); err != nil {
			return nil, err
		}
		s.forgetEmptied(ctx, vol.Regions...)
	}
	for _, vol := range d.mark {
		marked, err := s.markDeleted(ctx, vol)
		if errors.Is(err, ndctl.ErrNoSlot) || errors.Is(err, lvm.ErrMetadataFull) {
			err = s.eraseUnmarked(ctx, marked)
		} else if err == nil {
			s.keepErasure(marked, Erasure{Since: time.Now()})
			d.erase = append(d.erase, marked)
		}
		if err != nil {
			return nil, err
		}
	}
	return d.erase, nil
}

// deletion lists the volumes of a name that are to be removed without erasing, marked as deleted,
// or erased.
type deletion struct{ remove, mark, erase []Volume }

// beginDeleting removes unfinished volumes, and returns what to do with the others. The host is
// locked.
func (s *Service) beginDeleting(ctx context.Context, name string, erase func(Volume) bool) (d deletion, err error) {
	v, err := s.lookFor(ctx, name)
	if err != nil {
		return d, err
	}
	found := v.find(name)
	if len(found) == 0 {
		return d, notFound(name)
	}
	if err := s.noneLost(name); err != nil {
		return d, err
	}
	live := slices.DeleteFunc(slices.Clone(found), func(vol Volume) bool { return vol.State == Deleting })
	for _, vol := range live {
		if err := v.present(vol.group()); err != nil {
			return d, errs.Wrap("", subject(name), "is not deleted", "", err)
		}
	}
	for _, vol := range live {
		if s.needsRefresh(vol) { // otherwise changes to it would block or fail
			if err := s.refresh(ctx, vol); err != nil {
				return d, err
			}
		}
	}
	if err := s.removeAllUnfinished(ctx, found); err != nil {
		return d, vanished(name, err)
	}
	s.noteDeleted(v)
	d.erase = inState(found, Deleting)
	vol, err := finished(found)
	switch {
	case err != nil:
		return d, err
	case vol.Name != "" && erase(vol):
		d.mark = []Volume{vol}
	case vol.Name != "":
		d.remove = []Volume{vol}
	case !erase(Volume{}) && len(d.erase) > 0:
		return d, errs.New(errs.NotFound, subject(name), "is already deleted, and its data is still to be erased", "to leave the data on the medium: pmemctl gc --give-up "+d.erase[0].UUID)
	}
	return d, nil
}

// remove removes a volume without erasing it.
func (s *Service) remove(ctx context.Context, vol Volume) error {
	if err := s.notInUse(vol); err != nil {
		return err
	}
	s.forget(vol)
	k := s.kindOf(vol.Type)
	err := k.changing(ctx, func() error { return k.remove(ctx, vol) })
	return errs.Wrap("", subject(vol.Name), "could not be removed", "", err)
}

// markDeleted marks a volume as deleted: it is no longer available, and its name is free.
func (s *Service) markDeleted(ctx context.Context, vol Volume) (Volume, error) {
	if err := s.notInUse(vol); err != nil {
		return vol, err
	}
	s.forget(vol)
	k := s.kindOf(vol.Type)
	err := k.changing(ctx, func() (err error) {
		vol, err = k.markDeleted(ctx, vol)
		return err
	})
	return vol, errs.Wrap("", subject(vol.Name), "could not be deleted", "", err)
}

// eraseUnmarked erases and removes a volume if no label slot or LVM metadata is free for its mark;
// removal requires neither. Its head is erased first: after a crash the volume then reappears as
// damaged or without a file system, and can be deleted again.
func (s *Service) eraseUnmarked(ctx context.Context, vol Volume) error {
	lock, err := s.Locks.Acquire(ctx, eraseLock(vol))
	if err != nil {
		return err
	}
	defer lock.Release()
	if vol, err = s.eraseHead(ctx, vol); err != nil {
		return err
	}
	return s.eraseAndRemove(ctx, vol, &erasureLog{})
}

// eraseHead erases the signature of a volume: the info block of a namespace, or the superblock of
// a file system.
func (s *Service) eraseHead(ctx context.Context, vol Volume) (_ Volume, err error) {
	k := s.kindOf(vol.Type)
	err = s.changing(ctx, func() error {
		vol, err = k.bringUpToErase(ctx, vol)
		return err
	})
	if err != nil {
		return vol, err
	}
	if err := k.checkErasable(ctx, vol); err != nil {
		return vol, err
	}
	dev, err := s.Devices.Hold(vol.Device)
	if err != nil {
		return vol, err
	}
	return vol, errors.Join(dev.Zero(ctx, 0, min(dev.Size(), pmem.DefaultAlign), nil), dev.Close())
}
