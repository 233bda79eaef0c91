package volume

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
)

// removeAbandoned removes what killed processes left half made, in the whole
// host, since its space is wanted; whoever is at work holds the volume's lock,
// as the caller does for the name mine. The host is locked. It returns a fresh
// view if it changed anything.
func (s *Service) removeAbandoned(ctx context.Context, v View, mine string) (View, error) {
	// One that cannot be settled is shown, and does not hold up others.
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
			if !s.kindOf(vol.Type).isUnfinished(vol) { // it was finished since it was looked at
				changed = true
				continue
			}
		}
		// One that cannot be removed is shown by list, and does not hold up others.
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

// removeAbandonedNow looks for what is half made under a name whose lock the
// caller holds, and removes it. The host is locked.
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

// removeUnfinished removes a device that never was a volume: there is nothing to
// lose in it. The host is locked.
func (s *Service) removeUnfinished(ctx context.Context, vol Volume) error {
	if vol.isCopy() {
		return errs.Wrap("", subject(vol.Name), "what was copied for it could not be marked as deleted", "", s.deleteCopy(ctx, vol))
	}
	err := s.kindOf(vol.Type).remove(ctx, vol)
	return errs.Wrap("", subject(vol.Name), "its unfinished "+vol.where()+" could not be removed", "", err)
}

// isCopy reports whether an unfinished volume may hold the bytes of another one.
func (vol Volume) isCopy() bool {
	if vol.Type == TypeLVM {
		return vol.copyOf != ""
	}
	id, err := uuid.Parse(vol.UUID)
	return err == nil && id.Version() == 5 // of copyUUIDs; of others it is random
}

// deleteCopy marks an unfinished copy as deleted: its bytes are somebody's, and are to be
// erased. Where there is no room for the mark it is removed as it is.
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

// waitForNode waits until the device node of a volume is the device itself. Udev
// may be slow to make it, and slow to take away an older one of the same name;
// where there is no udev, lvm makes it.
func (s *Service) waitForNode(ctx context.Context, vol Volume) error {
	const patience, poll = 5 * time.Second, 10 * time.Millisecond
	s.linkNode(vol)
	for begun, asked := time.Now(), false; ; time.Sleep(poll) {
		if s.isNode(vol.Device) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if waited := time.Since(begun); waited > patience {
			return errs.New(errs.Internal, subject(vol.Name), "its device "+vol.Device+" did not appear", "see whether /dev is the host's own and udevd runs")
		} else if waited > patience/10 && !asked {
			asked = true
			if err := s.LVM.MakeNodes(ctx, vol.group()); err != nil {
				return err
			}
		}
	}
}

// isNode tells whether a device node is the device that the kernel has under its
// name.
func (s *Service) isNode(path string) bool {
	want, err := s.Devices.Identify(path)
	if err != nil {
		return false
	}
	have, err := s.Devices.NumberOf(path)
	return err == nil && have == want
}

// isSuspended tells whether the logical volume of a volume was left suspended by an
// lvm that was killed.
func (s *Service) isSuspended(vol Volume) bool {
	m, ok := s.mapped(vol)
	return ok && s.Devices.Suspended(m)
}

// anyNode is a node of a new device that is usable now: the kernel's own is there
// at once, udev's and lvm's come later.
func (s *Service) anyNode(ctx context.Context, vol Volume) (string, error) {
	if m, ok := s.mapped(vol); ok {
		if own := m.Node(); s.isNode(own) {
			return own, nil
		}
	}
	return vol.Device, s.waitForNode(ctx, vol)
}

// activate brings up a volume that a reboot, or a crash, left without its device.
// The host is locked.
func (s *Service) activate(ctx context.Context, vol Volume) (Volume, error) {
	switch {
	case vol.State == Damaged:
		return vol, damaged(vol)
	case s.needsRefresh(vol):
		return vol, s.refresh(ctx, vol)
	case vol.Device != "":
		return vol, nil
	}
	return s.kindOf(vol.Type).activate(ctx, vol)
}

func damaged(vol Volume) error {
	if vol.Type == TypeDirect {
		return errs.New(errs.Unsupported, subject(vol.Name), "is damaged: its namespace "+vol.Namespace+" did not come up as fsdax, so that its info block is lost", "keep it if you need its data, and look for media errors: pmemctl namespace show "+vol.Namespace)
	}
	return errs.New(errs.Unsupported, subject(vol.Name), "is damaged: lvm says "+vol.Health, "see what is missing: pmemctl tree; pvs -a")
}

// Resume has the logical volumes go on that an lvm left suspended when it was
// killed: whoever uses one waits. It returns their names.
func (s *Service) Resume(ctx context.Context) (resumed []string, err error) {
	if any, err := s.anySuspended(); err != nil || !any {
		return nil, err
	}
	err = s.changing(ctx, func() error { // or it may be about to be resumed
		resumed, err = s.resume(ctx)
		return err
	})
	return resumed, err
}

func (s *Service) anySuspended() (bool, error) {
	mapped, err := s.Devices.Mapped()
	return slices.ContainsFunc(mapped, s.Devices.Suspended), err
}

// resume is Resume with the host locked.
func (s *Service) resume(ctx context.Context) (resumed []string, err error) {
	if any, err := s.anySuspended(); err != nil || !any {
		return nil, err
	}
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	for _, vg := range v.OwnVGs() {
		for _, lv := range vg.LVs {
			if m, up := s.Devices.FindMapped(filepath.Base(lv.MapperPath())); !lv.HasTag(tag) || !up || !s.Devices.Suspended(m) {
				continue
			}
			if failed := s.LVM.Refresh(ctx, vg.Ref(), lv.Name); failed != nil {
				err = errors.Join(err, failed)
			} else {
				resumed = append(resumed, lv.Name)
			}
		}
	}
	return resumed, err
}
