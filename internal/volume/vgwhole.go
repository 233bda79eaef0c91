package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// contentOfWhole returns what the namespace of a region without labels contains, for the user to
// judge; InUse if it is in use.
func (s *Service) contentOfWhole(ctx context.Context, v View, n pmem.Namespace) (string, error) {
	if err := errors.Join(s.notMapped(n), s.notHeld(n)); err != nil {
		return "", err
	}
	device := blockPath(n)
	if device == "" {
		return fmt.Sprintf("a %s namespace, whose content is not known", n.Mode), nil
	}
	if err := s.notInUse(Volume{Name: n.Dev, Device: device}); err != nil {
		return "", errs.Wrap(errs.InUse, "namespace "+n.Dev, "is in use", "unmount it: findmnt "+device+"; stop what uses it: lsof "+device, err)
	}
	if left, err := s.isLeftRaw(n); err != nil {
		return "", err
	} else if left {
		return "", errs.New(errs.Conflict, "namespace "+n.Dev, "was left by an interrupted vg init or vg remove", "repeat it: it continues where it stopped")
	}
	for _, vg := range v.Foreign.VGs {
		for _, pv := range vg.PVs {
			if pv.Name == device {
				return fmt.Sprintf("volume group %s with %d logical volumes", vg.Name, len(vg.LVs)), nil
			}
		}
	}
	content, err := s.Mounts.Probe(ctx, device)
	switch {
	case err != nil:
		return "", errs.Wrap("", "namespace "+n.Dev, "its content cannot be examined", "look for media errors: pmemctl namespace show "+n.Dev, err)
	case content.Type != "":
		return content.Type, nil
	}
	zero, err := s.endsAreZero(ctx, device)
	switch {
	case err != nil:
		return "", errs.Wrap("", "namespace "+n.Dev, "its content cannot be examined", "look for media errors: pmemctl namespace show "+n.Dev, err)
	case zero:
		return NothingFound, nil
	}
	return "data that is not recognized", nil
}

// endsAreZero reports whether both ends of a device read as zeros.
func (s *Service) endsAreZero(ctx context.Context, path string) (zero bool, err error) {
	dev, err := s.Devices.HoldToRead(path)
	if err != nil {
		return false, err
	}
	end := min(endSize, dev.Size())
	zero = true
	for _, from := range []uint64{0, dev.Size() - end} {
		isZero, failed := dev.IsZero(ctx, from, from+end, nil)
		zero, err = zero && isZero, errors.Join(err, failed)
	}
	return zero, errors.Join(err, dev.Close())
}

// mayErase returns an error if a step erases what the caller has not accepted to lose.
func (spec VGInitSpec) mayErase(steps []VGInitStep) error {
	for _, step := range steps {
		if step.Erases == "" {
			continue
		}
		accepted, ok := spec.MayErase[step.Region]
		switch {
		case !ok:
			return errs.New(errs.Conflict, "region "+step.Region, "contains "+step.Erases+", which would be lost", "if it is not needed: pmemctl vg init "+step.Region+" --whole")
		case accepted != step.Erases:
			return errs.New(errs.Aborted, "region "+step.Region, "contains "+step.Erases+", which would be lost, and nothing was done", "look at it: pmemctl tree; if it is not needed: pmemctl vg init "+step.Region+" --whole")
		}
	}
	return nil
}

// isLeftRaw reports whether a namespace without a label has pmemctl's mark, which is not visible
// because the namespace is enabled without its info block.
func (s *Service) isLeftRaw(n pmem.Namespace) (bool, error) {
	if n.Labels || n.Mode != pmem.ModeRaw || n.Blockdev == "" {
		return false, nil
	}
	dev, err := s.Devices.Open(blockPath(n))
	if err != nil {
		return false, err
	}
	block := make([]byte, pmem.InfoBlockSize)
	_, err = dev.ReadAt(block, pmem.InfoBlockOffset)
	if err = errors.Join(err, dev.Close()); err != nil {
		return false, err
	}
	id, invalid := pmem.InfoUUID(block)
	return invalid == nil && isMarkedUUID(id), nil
}

// enableUnlabelled enables the namespaces without a label that have pmemctl's mark, and that a
// crash left disabled or raw. To examine a disabled one, it is enabled for a moment; this is done
// only if a recorded region is missing, which it may be.
func (s *Service) enableUnlabelled(v View) (enabled bool, err error) {
	gone, err := s.goneRegions(v)
	if err != nil {
		return false, err
	}
	for _, n := range v.PMEM.Namespaces {
		if n.Labels || !n.Enabled() && len(gone) == 0 {
			continue
		}
		raw := n
		if !n.Enabled() {
			blockdev, err := s.NDCTL.EnableRaw(n.Dev)
			if err != nil {
				return enabled, err
			}
			raw.Mode, raw.Blockdev = pmem.ModeRaw, blockdev
		}
		marked, err := s.isLeftRaw(raw)
		if err != nil {
			return enabled, err
		}
		if marked || !n.Enabled() {
			err = s.NDCTL.DisableRaw(n.Dev)
		}
		if marked && err == nil {
			enabled = true
			_, err = s.NDCTL.EnableNamespace(n.Dev)
		}
		if err != nil {
			return enabled, errs.Wrap("", "namespace "+n.Dev, "was left by an interrupted vg init or vg remove, and does not come up", "see why: dmesg | tail", err)
		}
	}
	return enabled, nil
}
