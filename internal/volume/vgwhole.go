package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// contentOfWhole returns what the namespace of a region without labels contains, for the user to
// judge; InUse if it is in use.
func (s *Service) contentOfWhole(ctx context.Context, v View, n pmem.Namespace, all bool) (string, error) {
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
	if left, err := s.leftRaw(n); err != nil {
		return "", err
	} else if left != 0 {
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
	end := endSize
	if all {
		end = maxSize
	}
	zero, err := s.endsAreZero(ctx, device, uint64(end))
	switch {
	case err != nil:
		return "", errs.Wrap("", "namespace "+n.Dev, "its content cannot be examined", "look for media errors: pmemctl namespace show "+n.Dev, err)
	case zero:
		return NothingFound, nil
	}
	return "data that is not recognized", nil
}

// endsAreZero reports whether both ends of a device, of a size in bytes, read as zeros.
func (s *Service) endsAreZero(ctx context.Context, path string, end uint64) (zero bool, err error) {
	dev, err := s.Devices.HoldToRead(path)
	if err != nil {
		return false, err
	}
	end = min(end, dev.Size())
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

// leftRaw returns the identity of a namespace without a label that has pmemctl's mark and is enabled
// without its info block, so that the mark is not visible; otherwise 0.
func (s *Service) leftRaw(n pmem.Namespace) (identity uint64, err error) {
	if n.Labels || n.Mode != pmem.ModeRaw || n.Blockdev == "" {
		return 0, nil
	}
	dev, err := s.Devices.Open(blockPath(n))
	if err != nil {
		return 0, err
	}
	block := make([]byte, pmem.InfoBlockSize)
	_, err = dev.ReadAt(block, pmem.InfoBlockOffset)
	if err = errors.Join(err, dev.Close()); err != nil {
		return 0, err
	}
	id, invalid := pmem.InfoUUID(block)
	if invalid != nil {
		return 0, nil
	}
	return identityOf(id.String()), nil
}

// mayBeHidden returns an error if a namespace without a label may be one of pmemctl's whose mark is
// not visible: it is raw, or disabled while a recorded region is missing.
func (s *Service) mayBeHidden(v View, n pmem.Namespace) error {
	if n.Labels {
		return nil
	}
	id, err := s.leftRaw(n)
	if err != nil {
		return err
	}
	if id != 0 {
		return errs.New(errs.Conflict, "namespace "+n.Dev, "has the mark of a volume group of pmemctl, but is enabled raw", "pmemctl vg init enables it as it was")
	}
	if n.Enabled() {
		return nil
	}
	gone, err := s.goneRegions(v)
	if err != nil || len(gone) == 0 {
		return err
	}
	return errs.New(errs.Conflict, "namespace "+n.Dev, "is disabled, and may belong to a volume group of pmemctl that is missing", "ndctl enable-namespace "+n.Dev+"; pmemctl tree")
}

// enableUnlabelled enables the recorded namespaces without a label that a crash left raw.
func (s *Service) enableUnlabelled(v View) (enabled bool) {
	for _, n := range v.PMEM.Namespaces {
		id, err := s.leftRaw(n)
		if err == nil && id == 0 || s.notHeld(n) != nil || s.StateDir == "" {
			continue
		}
		if _, unknown := os.Lstat(filepath.Join(s.seenDir(), SeenRegion{ISetID: id}.ID())); err == nil && unknown != nil {
			continue // another program's, or a copy
		}
		if err == nil {
			err = s.NDCTL.DisableRaw(n.Dev)
		}
		if err == nil {
			enabled = true
			_, err = s.NDCTL.EnableNamespace(n.Dev)
		}
		if err != nil {
			s.note(errs.Wrap("", "namespace "+n.Dev, "was left by an interrupted vg init or vg remove, and does not come up", "see why: dmesg | tail", err))
		}
	}
	return enabled
}

// readyForWhole checks again that a region contains what may be erased: others were set up since.
// It also makes the name of the group known, of which the mark has only a hash.
func (s *Service) readyForWhole(ctx context.Context, step VGInitStep) error {
	content, err := s.contentOfWhole(ctx, View{}, step.namespace, false)
	if err != nil {
		return err
	}
	if content != step.Erases && !strings.HasPrefix(step.Erases, "volume group ") {
		return changedMeanwhile("region " + step.Region)
	}
	if s.ArchiveDir == "" {
		return nil
	}
	return os.MkdirAll(filepath.Join(s.ArchiveDir, step.VG), 0o700)
}

// noneMissing returns an error if a recorded region is missing: one without labels may be that one.
func (s *Service) noneMissing(v View, region string) error {
	gone, err := s.goneRegions(v)
	if err != nil || len(gone) == 0 {
		return err
	}
	return errs.New(errs.Conflict, "region "+region, "may be one that had volumes: "+gone[0].Dev+" "+gone[0].damage().Reason, gone[0].damage().Next)
}
