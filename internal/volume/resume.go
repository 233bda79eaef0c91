package volume

import (
	"context"
)

// ResumeErasing goes on with the erasing of what was deleted under a name, where nobody is
// at work on it. A volume that is not being deleted is not touched.
func (s *Service) ResumeErasing(ctx context.Context, name string) error {
	lock, err := s.Locks.Try(volumeLock(name))
	if lock == nil || err != nil {
		return err
	}
	defer lock.Release()
	s, done := s.operation()
	defer done()
	var erasing []Volume
	err = s.changing(ctx, func() error {
		v, err := s.Look(ctx)
		if err != nil {
			return err
		}
		erasing = inState(v.find(name), Deleting)
		for _, vol := range erasing {
			if err := v.present(vol.group()); err != nil {
				return err
			}
			if s.needsRefresh(vol) { // or the erasing waits for ever, or fails
				if err := s.refresh(ctx, vol); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.finishDeleting(ctx, erasing)
}
