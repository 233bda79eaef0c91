package volume

import (
	"context"
	"path/filepath"
	"time"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
)

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
			return errs.New(errs.Internal, subject(vol.Name), "its device "+vol.Device+" did not appear", "check that /dev is the host's own and that udevd is running")
		} else if waited > patience/10 && !asked {
			asked = true
			if err := s.LVM.MakeNodes(ctx, vol.group()); err != nil {
				return err
			}
		}
	}
}

// isNode reports whether a device node is the device that the kernel has under its
// name.
func (s *Service) isNode(path string) bool {
	want, err := s.Devices.Identify(path)
	if err != nil {
		return false
	}
	have, err := s.Devices.NumberOf(path)
	return err == nil && have == want
}

// isSuspended reports whether the logical volume of a volume was left suspended by an
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

// mapped is the device of the device mapper that a logical volume has; false for a
// direct volume, whose name another device may have there.
func (s *Service) mapped(vol Volume) (blockdev.Mapped, bool) {
	if vol.Type != TypeLVM {
		return blockdev.Mapped{}, false
	}
	return s.Devices.FindMapped(filepath.Base(vol.Device))
}
