package volume

import (
	"context"
	"errors"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
)

// removeAbandoned removes everything on the host that killed processes left unfinished, because
// its space is needed. An operation in progress holds the lock of its volume; the caller holds
// that of the volume mine. The host is locked. It returns a fresh view if it changed anything.
func (s *Service) removeAbandoned(ctx context.Context, v View, mine string) (View, error) {
	// A namespace that cannot be settled is shown as damaged and does not block others.
	if settled, err := s.settleMembers(ctx, v); err == nil {
		v = settled
	}
	changed := false
	for _, vol := range inState(v.Volumes(), Creating) {
		if v.present(vol.group()) != nil {
			continue
		}
		if vol.Name != mine {
			lock, err := s.Locks.Try(volumeLock(vol.Name))
			if err != nil {
				return v, err
			}
			if lock == nil {
				continue
			}
			defer lock.Release()
			if !s.kindOf(vol.Type).isUnfinished(vol) { // it was finished in the meantime
				changed = true
				continue
			}
		}
		// One that cannot be removed is shown by list and does not block others.
		if err := s.removeUnfinished(ctx, vol); err == nil {
			changed = true
		} else if vol.Name == mine {
			return v, err
		}
	}
	if !changed {
		return v, nil
	}
	return s.Look(ctx)
}

// Abandoned lists the volumes that killed processes left unfinished. It changes nothing.
func (s *Service) Abandoned(ctx context.Context) (abandoned []Volume, err error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	for _, vol := range inState(v.Volumes(), Creating) {
		lock, err := s.Locks.Try(volumeLock(vol.Name))
		if err != nil {
			return nil, err
		}
		if lock != nil { // nobody is at work on it
			lock.Release()
			abandoned = append(abandoned, vol)
		}
	}
	return abandoned, nil
}

// RemoveAbandoned removes what Abandoned lists, and returns an error for each volume that cannot be
// removed.
func (s *Service) RemoveAbandoned(ctx context.Context) error {
	return s.changing(ctx, func() error {
		v, err := s.Look(ctx)
		if err == nil {
			_, err = s.removeAbandoned(ctx, v, "")
		}
		if err != nil {
			return err
		}
		left, err := s.Abandoned(ctx)
		for _, vol := range left {
			err = errors.Join(err, errs.New(errs.Damaged, subject(vol.Name), "is unfinished, and gc cannot remove it", "see what it is: pmemctl tree; try: pmemctl volume delete "+vol.Name))
		}
		return err
	})
}

// removeAbandonedNow finds and removes what is unfinished under a name whose lock the caller
// holds. The host is locked.
func (s *Service) removeAbandonedNow(ctx context.Context, name string) error {
	v, err := s.Look(ctx)
	if err != nil {
		return err
	}
	return s.removeAllUnfinished(ctx, v.find(name))
}

func (s *Service) removeAllUnfinished(ctx context.Context, found []Volume) error {
	for _, vol := range inState(found, Creating) {
		if err := s.removeUnfinished(ctx, vol); err != nil {
			return err
		}
	}
	return nil
}

// removeUnfinished removes a device that was never a finished volume, so no data is lost. The host
// is locked.
func (s *Service) removeUnfinished(ctx context.Context, vol Volume) error {
	if vol.isCopy() {
		err := s.deleteCopy(ctx, vol)
		return errs.Wrap("", subject(vol.Name), "its unfinished copy could not be marked as deleted", "", err)
	}
	err := s.kindOf(vol.Type).remove(ctx, vol)
	return errs.Wrap("", subject(vol.Name), "its unfinished "+vol.where()+" could not be removed", "", err)
}

// deleteCopy marks an unfinished copy as deleted, so that its data is erased. If there is no room
// for the mark, it is removed without erasing.
func (s *Service) deleteCopy(ctx context.Context, vol Volume) error {
	k := s.kindOf(vol.Type)
	marked, err := k.markDeleted(ctx, vol)
	switch {
	case errors.Is(err, ndctl.ErrNoSlot) || errors.Is(err, lvm.ErrMetadataFull):
		return k.remove(ctx, vol)
	case err == nil:
		s.keepErasure(marked, Erasure{Since: time.Now()})
	}
	return err
}
