package volume

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
)

// activate brings up the device of a volume after a reboot or a crash. The host is locked.
func (s *Service) activate(ctx context.Context, vol Volume) (Volume, error) {
	switch {
	case vol.State == Damaged:
		return vol, layoutOf(vol.Type).damaged(vol)
	case s.needsRefresh(vol):
		return vol, s.refresh(ctx, vol)
	case vol.Device != "":
		return vol, nil
	}
	return s.kindOf(vol.Type).activate(ctx, vol)
}

// Resume resumes the logical volumes that a killed lvm left suspended, which block their users,
// and returns their names.
func (s *Service) Resume(ctx context.Context) (resumed []string, err error) {
	if any, err := s.anySuspended(); err != nil || !any {
		return nil, err
	}
	err = s.changing(ctx, func() error { // one of them may be about to be resumed
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
