package volume

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// PlanDecommission returns what Decommission would remove from regions, and changes nothing. It
// fails if they have volumes. Without names, the regions are all that have something of pmemctl's.
func (s *Service) PlanDecommission(ctx context.Context, names ...string) ([]RegionReturn, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	if len(v.PMEM.Regions) == 0 {
		return nil, NoPMEM(v.PMEM)
	}
	plan, err := v.planDecommission(names)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if err := s.hidden(v); err != nil {
			return nil, err
		}
	}
	for _, r := range plan {
		for _, n := range v.PMEM.InRegion(r.Region) {
			if err := s.mayBeHidden(n); err != nil {
				return nil, err
			}
		}
	}
	return plan, s.mayDecommission(v, plan, false)
}

// Decommission removes pmemctl's volume groups and their namespaces from the regions of a plan, in
// the order of vg remove, and returns what the regions are then. It removes nothing if they have
// volumes, or something that the plan does not have. An interrupted call can be repeated with a new
// plan.
func (s *Service) Decommission(ctx context.Context, plan []RegionReturn) (done []RegionReturn, err error) {
	var touched []string
	for _, r := range plan {
		if r.Changes() {
			touched = append(touched, r.Region)
		}
	}
	if len(touched) == 0 {
		return plan, nil
	}
	err = s.changing(ctx, func() error {
		if done, err = s.decommission(ctx, plan); err == nil {
			s.forgetEmptiedNow(touched...)
		}
		return err
	})
	return done, err
}

// decommission is Decommission with the host locked.
func (s *Service) decommission(ctx context.Context, plan []RegionReturn) ([]RegionReturn, error) {
	regions := regionsIn(plan)
	what := "regions " + strings.Join(regions, ", ")
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	now, err := v.planDecommission(regions)
	if err == nil {
		err = s.mayDecommission(v, now, false)
	}
	if err != nil {
		return nil, err
	}
	if !within(now, plan) {
		return nil, changedMeanwhile(what)
	}
	if v, err = s.enableMembers(ctx, v); err != nil {
		return nil, err
	}
	// What is left unsettled is refused if it is in one of the regions.
	_, unsettled := s.settleMembers(ctx, v)
	if v, err = s.Look(ctx); err != nil {
		return nil, err
	}
	if now, err = v.planDecommission(regions); err == nil {
		err = s.mayDecommission(v, now, true)
	}
	if err != nil {
		return nil, errors.Join(err, unsettled)
	}
	for _, vg := range groupsIn(now) {
		if _, err := s.removeVGNow(ctx, vg, false); err != nil {
			return nil, errs.Wrap("", what, "are not completely given back yet", "continue: pmemctl decommission "+strings.Join(regions, " "), err)
		}
	}
	if v.PMEM, err = s.NDCTL.Snapshot(ndctl.Select{Namespaces: true}); err != nil {
		return nil, err
	}
	after, err := v.planDecommission(regions)
	for i, r := range after {
		before := plan[slices.Index(regions, r.Region)]
		after[i].VGs, after[i].Namespaces, after[i].Returned = before.VGs, before.Namespaces, before.Returned
	}
	return after, err
}

// mayDecommission returns an error if something in the regions of a plan keeps it from being
// executed. What an interrupted call left is judged only when it is settled.
func (s *Service) mayDecommission(v View, plan []RegionReturn, settled bool) error {
	groups := groupsIn(plan)
	if len(v.LVM.Problems) > 0 && len(groups) > 0 {
		return errs.New(errs.Damaged, "volume groups", "cannot all be read: "+strings.Join(v.LVM.Problems, "; "), "pmemctl vg check")
	}
	all := []error{v.remaining(plan, s.MountedAt)}
	for _, name := range groups {
		members := v.membersOf(name)
		if !settled && slices.ContainsFunc(members, isUnsettled) {
			all = append(all, v.onlyOn(name, members, regionsIn(plan)))
			continue
		}
		all = append(all, cmp.Or(v.mayRemoveGroup(name, plan), s.Lost(v, name)))
	}
	if err := errors.Join(all...); err != nil {
		return err
	}
	for _, name := range groups {
		for _, n := range v.membersOf(name) {
			if err := s.notHeld(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// isUnsettled reports whether a namespace of a volume group is in a state in which a crash left it.
func isUnsettled(n pmem.Namespace) bool {
	mark, _ := parseMark(n.Name)
	return mark == markJoining || !n.Enabled()
}

// hidden returns an error for each region whose content is not visible, if it is known to have had
// something of pmemctl's.
func (s *Service) hidden(v View) (err error) {
	for _, d := range s.Damage(v) {
		if d.VG == "" && d.Volume == "" {
			err = errors.Join(err, d.Error())
		}
	}
	return err
}
