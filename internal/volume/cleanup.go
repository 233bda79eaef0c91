package volume

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/blockdev"
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
			// A direct volume is finished without the host's lock, since it was looked at.
			if vol.Type == TypeDirect && !s.isUnfinished(vol) {
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

// isUnfinished tells whether a namespace still has the mark of one that is being made.
func (s *Service) isUnfinished(vol Volume) bool {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return false
	}
	n, ok := sys.Namespace(vol.UUID)
	mark, name := parseMark(n.Name)
	return ok && mark == markMaking && name == vol.Name
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
	if vol.Type == TypeDirect {
		return errs.Wrap("", subject(vol.Name), "its unfinished namespace "+vol.Namespace+" could not be removed", "", s.NDCTL.DestroyNamespace(vol.UUID))
	}
	return errs.Wrap("", subject(vol.Name), "its unfinished logical volume could not be removed", "", s.removeLV(ctx, vol))
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
	marked, err := s.mark(ctx, vol)
	switch {
	case errors.Is(err, ndctl.ErrNoSlot):
		return s.NDCTL.DestroyNamespace(vol.UUID)
	case errors.Is(err, lvm.ErrMetadataFull):
		return s.removeLV(ctx, vol)
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

// linkNode makes the link that udevd is about to make, which takes it longer than
// the making of a logical volume; it keeps one that is there. It need not succeed.
func (s *Service) linkNode(vol Volume) {
	if m, ok := s.mapped(vol); ok {
		s.Devices.LinkNode(m, vol.Device)
	}
}

// unlinkNode takes away a link of linkNode's to a device that is gone, which udevd
// does only when it had come to making the link.
func (s *Service) unlinkNode(vol Volume) {
	if _, there := s.mapped(vol); !there && vol.Type == TypeLVM {
		s.Devices.UnlinkNode(vol.Device)
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

// mapped is the device of the device mapper that a logical volume has; false for a
// direct volume, whose name another device may have there.
func (s *Service) mapped(vol Volume) (blockdev.Mapped, bool) {
	if vol.Type != TypeLVM {
		return blockdev.Mapped{}, false
	}
	return s.Devices.FindMapped(filepath.Base(vol.Device))
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
	case vol.State == Damaged && vol.Type == TypeDirect:
		return vol, damaged(vol)
	case vol.State == Damaged:
		return vol, errs.New(errs.Unsupported, subject(vol.Name), "is damaged: lvm says "+vol.Health, "see what is missing: pmemctl tree; pvs -a")
	case s.needsRefresh(vol):
		return vol, s.refresh(ctx, vol)
	case vol.Device != "":
		return vol, nil
	case vol.Type == TypeLVM:
		if err := s.LVM.Activate(ctx, vol.group(), vol.lv); err != nil {
			return vol, err
		}
		vol.Device = lvm.MapperPath(vol.VG, vol.lv)
		return vol, s.waitForNode(ctx, vol)
	}
	n, err := s.NDCTL.EnableNamespace(vol.UUID)
	if err != nil {
		return vol, errs.Wrap("", subject(vol.Name), "its namespace "+vol.Namespace+" does not come up", "see why: dmesg | tail", err)
	}
	up, ok := directVolume(n)
	if !ok || up.Device == "" || up.State == Damaged {
		return vol, damaged(vol)
	}
	return up, nil
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

func damaged(vol Volume) error {
	return errs.New(errs.Unsupported, subject(vol.Name), "is damaged: its namespace "+vol.Namespace+" did not come up as fsdax, so that its info block is lost", "keep it if you need its data, and look for media errors: pmemctl namespace show "+vol.Namespace)
}
