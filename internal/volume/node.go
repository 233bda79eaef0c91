package volume

import (
	"context"
	"path/filepath"
	"time"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
)

// waitForNode waits until the node at a volume's device path is that of the device. udevd may be
// slow to create it, or to remove a former one of the same name; where there is no udevd, lvm
// creates it.
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

// isNode reports whether the node at a path is that of the kernel's device of that name.
func (s *Service) isNode(path string) bool {
	want, err := s.Devices.Identify(path)
	if err != nil {
		return false
	}
	have, err := s.Devices.NumberOf(path)
	return err == nil && have == want
}

// isSuspended reports whether a killed lvm left the logical volume of a volume suspended.
func (s *Service) isSuspended(vol Volume) bool {
	m, ok := s.mapped(vol)
	return ok && s.Devices.Suspended(m)
}

// anyNode returns a node of a new device that can be used now: the kernel's own exists at once,
// those of udevd and lvm appear later.
func (s *Service) anyNode(ctx context.Context, vol Volume) (string, error) {
	if m, ok := s.mapped(vol); ok {
		if own := m.Node(); s.isNode(own) {
			return own, nil
		}
	}
	return vol.Device, s.waitForNode(ctx, vol)
}

// linkNode creates the link that udevd is about to create, which takes longer than creating a
// logical volume; it keeps an existing one. Errors are ignored.
func (s *Service) linkNode(vol Volume) {
	if m, ok := s.mapped(vol); ok {
		s.Devices.LinkNode(m, vol.Device)
	}
}

// unlinkNode removes a link created by linkNode to a device that is gone; udevd does this only if
// it had created the link.
func (s *Service) unlinkNode(vol Volume) {
	if _, there := s.mapped(vol); !there {
		s.Devices.UnlinkNode(vol.Device)
	}
}

// mapped returns the mapped device of a logical volume; false for a direct volume, whose name
// another mapped device may have.
func (s *Service) mapped(vol Volume) (blockdev.Mapped, bool) {
	if vol.Type != TypeLVM {
		return blockdev.Mapped{}, false
	}
	return s.Devices.FindMapped(filepath.Base(vol.Device))
}
