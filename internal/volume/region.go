package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// LabelsPlan describes what InitLabels would destroy.
type LabelsPlan struct {
	// Regions are the requested ones, and those that share a DIMM with one of them.
	Regions []pmem.Region
	// Namespaces are the namespaces in them. The one that a region without labels shows may be
	// empty, or in use as a disk.
	Namespaces []pmem.Namespace

	asked []string
}

// same reports whether two plans would destroy the same.
func (p LabelsPlan) same(other LabelsPlan) bool {
	return slices.EqualFunc(p.Regions, other.Regions, func(a, b pmem.Region) bool { return a.Dev == b.Dev && a.ISetID == b.ISetID }) &&
		slices.EqualFunc(p.Namespaces, other.Namespaces, func(a, b pmem.Namespace) bool { return a.Dev == b.Dev && a.UUID == b.UUID })
}

// PlanInitLabels finds the regions that InitLabels would erase; without names these are all
// regions that have no labels and can have them.
func (s *Service) PlanInitLabels(names ...string) (LabelsPlan, error) {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return LabelsPlan{}, err
	}
	v := View{PMEM: sys}
	if len(sys.Regions) == 0 {
		return LabelsPlan{}, NoPMEM(sys)
	}
	wanted := map[string]bool{}
	for _, name := range names {
		r, ok := sys.Region(name)
		if !ok {
			return LabelsPlan{}, v.noRegion(name)
		}
		if err := v.mayHoldLabels(r); err != nil {
			return LabelsPlan{}, err
		}
		wanted[name] = true
	}
	if len(names) == 0 {
		for _, r := range sys.Regions {
			wanted[r.Dev] = !r.Labels && v.mayHoldLabels(r) == nil && v.WholeOwner(r) == ""
		}
	}
	addSharing(sys, wanted)
	var plan LabelsPlan
	for _, r := range sys.Regions {
		if !wanted[r.Dev] {
			continue
		}
		for _, n := range sys.InRegion(r.Dev) {
			if err := s.mayBeHidden(n); err != nil {
				return LabelsPlan{}, err
			}
		}
		if vg := v.WholeOwner(r); vg != "" && len(names) == 0 {
			return LabelsPlan{}, errs.New(errs.Conflict, "region "+r.Dev, "shares a DIMM with a region that has no labels, and belongs to volume group "+vg, "name the regions, or remove the group first: pmemctl vg remove "+vg)
		}
		plan.Regions = append(plan.Regions, r)
		plan.Namespaces = append(plan.Namespaces, sys.InRegion(r.Dev)...)
	}
	plan.asked = names
	return plan, nil
}

func (v View) mayHoldLabels(r pmem.Region) error {
	switch {
	case len(r.Mappings) == 0:
		return errs.New(errs.Unsupported, "region "+r.Dev, "is not on a DIMM that can hold labels", "use it without: pmemctl vg init "+r.Dev+" --whole")
	case !v.labelsPossible(r):
		return errs.New(errs.Unsupported, "region "+r.Dev, "has DIMMs without room for labels", "use it without: pmemctl vg init "+r.Dev+" --whole")
	case r.ReadOnly:
		return errs.New(errs.Unsupported, "region "+r.Dev, "is read-only", "use another region: pmemctl region list")
	}
	return nil
}

// addSharing adds the regions that share a DIMM with one of the regions, transitively.
func addSharing(sys pmem.System, wanted map[string]bool) {
	for changed := true; changed; {
		changed = false
		for _, r := range sys.Regions {
			if wanted[r.Dev] {
				continue
			}
			for _, other := range sys.Regions {
				if wanted[other.Dev] && shareDIMM(r, other) {
					wanted[r.Dev], changed = true, true
				}
			}
		}
	}
}

func shareDIMM(a, b pmem.Region) bool {
	return slices.ContainsFunc(a.Mappings, func(m pmem.Mapping) bool {
		return slices.ContainsFunc(b.Mappings, func(n pmem.Mapping) bool { return m.DIMM == n.DIMM })
	})
}

// InitLabels writes empty label areas for regions; all data in them is lost. It changes nothing if
// anything in them is in use, or if their content no longer matches the plan.
func (s *Service) InitLabels(ctx context.Context, plan LabelsPlan) error {
	var names []string
	for _, r := range plan.Regions {
		names = append(names, r.Dev)
	}
	if len(names) == 0 {
		return nil
	}
	return s.changing(ctx, func() error {
		subject := "regions " + strings.Join(names, ", ")
		now, err := s.PlanInitLabels(plan.asked...)
		if err != nil {
			return err
		}
		if !now.same(plan) {
			return changedMeanwhile(subject)
		}
		for _, n := range plan.Namespaces {
			if err := s.notMapped(n); err != nil {
				return err
			}
		}
		err = s.NDCTL.InitLabels(names...)
		if err == nil {
			for _, n := range plan.Namespaces {
				s.forgetUnlabelled(n)
			}
			s.forgetEmptiedNow(names...)
		}
		if errs.Is(err, errs.InUse) {
			return errs.Wrap(errs.InUse, subject, "something in them is in use, and nothing was changed", s.nextInUse(names...), err)
		}
		return errs.Wrap("", subject, "labels could not be initialized", "see why: dmesg | tail", err)
	})
}

// changedMeanwhile is the error for regions that differ from what was confirmed.
func changedMeanwhile(subject string) error {
	return errs.New(errs.Aborted, subject, "their content changed in the meantime, and nothing was done", "look at it, then try again: pmemctl tree")
}

// nextInUse returns the next step if something in some regions is in use.
func (s *Service) nextInUse(regions ...string) string {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err == nil && slices.ContainsFunc(sys.Namespaces, func(n pmem.Namespace) bool {
		mark, _ := parseMark(n.Name)
		return mark == markRemoving && slices.Contains(regions, n.Region)
	}) {
		return "wait until the deleted volumes are erased: pmemctl gc"
	}
	return "unmount it, or remove what is stacked on it: pmemctl tree"
}

// EnableRegion enables a region.
func (s *Service) EnableRegion(ctx context.Context, dev string) error {
	s.forgetAll()
	return s.changeRegion(ctx, dev, "enabled", s.NDCTL.EnableRegion)
}

// DisableRegion disables a region that is not in use.
func (s *Service) DisableRegion(ctx context.Context, dev string) error {
	return s.changeRegion(ctx, dev, "disabled", func(dev string) error {
		sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
		if err != nil {
			return err
		}
		for _, n := range sys.InRegion(dev) {
			if err := s.notMapped(n); err != nil {
				return err
			}
		}
		return s.NDCTL.DisableRegion(dev)
	})
}

func (s *Service) changeRegion(ctx context.Context, dev, what string, change func(string) error) error {
	return s.changing(ctx, func() error {
		sys, err := s.NDCTL.Snapshot(ndctl.Select{})
		if err != nil {
			return err
		}
		if _, ok := sys.Region(dev); !ok {
			return View{PMEM: sys}.noRegion(quoteIfOdd(dev))
		}
		err = change(dev)
		if errs.Is(err, errs.InUse) {
			return errs.Wrap(errs.InUse, "region "+dev, "cannot be "+what+": something in it is in use", s.nextInUse(dev), err)
		}
		return errs.Wrap("", "region "+dev, fmt.Sprintf("cannot be %s", what), "see why: dmesg | tail", err)
	})
}

// Regions lists the regions of PMEM.
func (s *Service) Regions(context.Context) ([]pmem.Region, error) {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sys.Regions, func(r pmem.Region) bool { return r.Type != "pmem" }), nil
}
