package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
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
	for _, vg := range v.Foreign.VGs {
		for _, pv := range vg.PVs {
			if pv.Name == device {
				return fmt.Sprintf("volume group %s (logical volumes: %d)", vg.Name, len(vg.LVs)), nil
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
func (s *Service) endsAreZero(ctx context.Context, path string, end uint64) (bool, error) {
	dev, err := s.Devices.HoldToRead(path)
	if err != nil {
		return false, err
	}
	size := dev.Size()
	head := min(end, size)
	zero, err := dev.IsZero(ctx, 0, head, nil)
	if err == nil && zero {
		zero, err = dev.IsZero(ctx, max(head, size-head), size, nil)
	}
	return zero, errors.Join(err, dev.Close())
}

// CheckErases returns an error if a step erases what the caller has not accepted to lose.
func (spec VGInitSpec) CheckErases(steps []VGInitStep) error {
	for _, step := range steps {
		if step.Erases == "" {
			continue
		}
		accepted, ok := spec.MayErase[step.Region]
		switch {
		case !ok:
			return errs.New(errs.Conflict, "region "+step.Region, "contains "+step.Erases+", which would be lost", "if it is not needed: pmemctl vg init "+step.Region+" --whole")
		case accepted != step.Erases && step.Erases != NothingFound:
			return errs.New(errs.Aborted, "region "+step.Region, "contains "+step.Erases+", which would be lost, and nothing was done", "look at it: pmemctl tree; if it is not needed: pmemctl vg init "+step.Region+" --whole")
		}
	}
	return nil
}

// leftRaw returns the marked UUID of a namespace without a label that is enabled without its info
// block, so that the mark is not visible; otherwise "". A block that cannot be read has no mark.
func (s *Service) leftRaw(n pmem.Namespace) (marked string, err error) {
	if n.Labels || n.InfoUUID != "" || n.Blockdev == "" {
		return "", nil
	}
	dev, err := s.Devices.Open(blockPath(n))
	if err != nil {
		return "", err
	}
	block := make([]byte, pmem.InfoBlockSize)
	_, err = dev.ReadAt(block, pmem.InfoBlockOffset)
	if errors.Is(err, unix.EIO) {
		return "", dev.Close()
	}
	if err = errors.Join(err, dev.Close()); err != nil {
		return "", err
	}
	id, invalid := pmem.InfoUUID(block)
	if invalid != nil || !isMarkedUUID(id) {
		return "", nil
	}
	return id.String(), nil
}

// mayBeHidden returns an error if a namespace without a label may be one of pmemctl's whose mark is
// not visible: it has the mark but is raw, or it shows no info block while a recorded region is
// missing.
func (s *Service) mayBeHidden(n pmem.Namespace) error {
	if n.Labels || n.InfoUUID != "" {
		return nil
	}
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return err
	}
	gone, err := s.goneRegions(View{PMEM: sys})
	if err != nil {
		return err
	}
	marked, err := s.leftRaw(n)
	if err != nil {
		return err
	}
	if marked != "" {
		return errs.New(errs.Conflict, "namespace "+n.Dev, "has the mark of a volume group of pmemctl, but is enabled without it", howToEnable(n, marked, gone))
	}
	r, _ := sys.Region(n.Region)
	i := slices.IndexFunc(gone, func(seen SeenRegion) bool { return seen.mayBe(r) })
	if i < 0 {
		return nil
	}
	next := gone[i].damage().Next
	if !n.Enabled() {
		next = "ndctl enable-namespace " + n.Dev + "; or, if that region is lost for good: pmemctl region forget " + gone[i].ID()
	}
	return errs.New(errs.Conflict, "namespace "+n.Dev, "may belong to a volume group of pmemctl: region "+gone[i].Dev+" "+gone[i].damage().Reason, next)
}

// continues reports whether vg init enables a namespace with a marked UUID that is raw: its region
// is recorded and missing, or there is no volume on it. Otherwise it is another host's, or a copy.
func continues(marked string, gone []SeenRegion) bool {
	name, _ := MarkedName(marked)
	mark, _ := parseMark(name)
	return mark == markJoining || slices.ContainsFunc(gone, func(r SeenRegion) bool { return r.ISetID == identityOf(marked) })
}

func howToEnable(n pmem.Namespace, marked string, gone []SeenRegion) string {
	if continues(marked, gone) {
		return "pmemctl vg init " + n.Region + " enables it as it was"
	}
	return fmt.Sprintf("if it is not a copy: ndctl disable-namespace %s; echo 0 >/sys/bus/nd/devices/%[1]s/force_raw; ndctl enable-namespace %[1]s", n.Dev)
}

// enableUnlabelled enables the namespaces without a label that a crash left raw. A disabled one
// stays so: it may be a copy.
func (s *Service) enableUnlabelled(v View) (enabled bool) {
	gone, _ := s.goneRegions(v)
	for _, n := range v.PMEM.Namespaces {
		marked, err := s.leftRaw(n)
		if err != nil || marked == "" || !continues(marked, gone) || s.notHeld(n) != nil {
			continue
		}
		if err = s.NDCTL.DisableRaw(n.Dev); err == nil {
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
	return s.makeNameKnown(step.VG)
}

// noneMissing returns an error if a recorded region is missing that may be one without labels.
func (s *Service) noneMissing(v View, region string) error {
	gone, err := s.goneRegions(v)
	if err != nil {
		return err
	}
	r, _ := v.PMEM.Region(region)
	for _, seen := range gone {
		if seen.mayBe(r) {
			return errs.New(errs.Conflict, "region "+region, "may be one that had volumes: "+seen.Dev+" "+seen.damage().Reason, seen.damage().Next)
		}
	}
	return nil
}
