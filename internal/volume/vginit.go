package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// PlanVGInit returns what InitVGs would do, and changes nothing. Like InitVGs, it may return both
// steps and an error of the kind Damaged.
func (s *Service) PlanVGInit(ctx context.Context, spec VGInitSpec) ([]VGInitStep, error) {
	v, err := s.lookToInit(ctx)
	if err != nil {
		return nil, err
	}
	steps, damage, err := s.planInit(ctx, v, spec)
	return steps, errors.Join(err, damage)
}

// InitVGs gives regions, or a share of them, to volume groups. A region whose group already has
// its share is left unchanged; a larger share is added; a smaller one changes nothing. A region
// with a damaged group is left unchanged: the steps of the others are returned with an error of
// the kind Damaged.
func (s *Service) InitVGs(ctx context.Context, spec VGInitSpec) (steps []VGInitStep, err error) {
	err = s.changing(ctx, func() error {
		v, err := s.lookToInit(ctx)
		if err != nil {
			return err
		}
		if v, err = s.enableMembers(ctx, v); err != nil {
			return err
		}
		v, unsettled := s.settleMembers(ctx, v)
		if v, err = s.removeAbandoned(ctx, v, ""); err != nil {
			return err
		}
		if v, err = s.fresh(ctx, v); err != nil {
			return err
		}
		steps, err = s.initAll(ctx, v, spec)
		err = errors.Join(unsettled, err)
		var touched []string
		for _, step := range steps {
			touched = append(touched, step.Region)
		}
		s.rememberRegions(v, touched...)
		return err
	})
	return steps, err
}

// lookToInit reads what planInit requires. It does not check file systems, which may take long
// while the host is locked.
func (s *Service) lookToInit(ctx context.Context) (View, error) { return s.look(ctx, ndctl.Everything) }

// fresh returns a view with what planInit requires and Look omits.
func (s *Service) fresh(ctx context.Context, v View) (View, error) {
	if v.PMEM.DIMMs != nil {
		return v, nil
	}
	return s.lookToInit(ctx)
}

// maxInitRounds is the maximum number of namespaces that InitVGs adds to a region.
const maxInitRounds = 64

// initAll plans and executes until nothing is left to do. Only the largest free extent of a region
// is known, so each round adds one namespace per region.
func (s *Service) initAll(ctx context.Context, v View, spec VGInitSpec) ([]VGInitStep, error) {
	done, damage, err := s.planInit(ctx, v, spec)
	if err == nil {
		err = spec.CheckErases(done)
	}
	for steps, rounds := done, 0; err == nil && slices.ContainsFunc(steps, VGInitStep.Changes); rounds++ {
		if rounds == maxInitRounds {
			return nil, errs.New(errs.Internal, "regions", fmt.Sprintf("still do not have their full share after %d namespaces each", rounds), "report this, with: pmemctl region list -o json")
		}
		for _, step := range steps {
			if err := s.initRegion(ctx, step); err != nil {
				return nil, errs.Wrap("", "region "+step.Region, "is not completely in volume group "+step.VG+" yet", "try again: it continues where it stopped", err)
			}
		}
		if v, err = s.lookToInit(ctx); err != nil {
			return nil, err
		}
		before := steps
		if steps, damage, err = s.planInit(ctx, v, spec); err != nil {
			return nil, err
		}
		for _, now := range steps {
			i := slices.IndexFunc(before, func(b VGInitStep) bool { return b.Region == now.Region })
			j := slices.IndexFunc(done, func(d VGInitStep) bool { return d.Region == now.Region })
			if i < 0 || j < 0 || now.Has != before[i].Has+before[i].Add {
				return nil, errs.New(errs.Internal, "region "+now.Region, fmt.Sprintf("has %d bytes in volume group %s, which differs from the plan", now.Has, now.VG), "see what is there: pmemctl tree")
			}
			done[j].Add += now.Add
			done[j].Reason = now.Reason
		}
	}
	return done, errors.Join(err, damage)
}

// settleMembers completes what an interrupted vg init or vg remove left. A joining namespace has
// no extent of any volume: if its group can be read, it becomes a member; otherwise it is
// destroyed. The host is locked, so no other process is working on them. One that cannot be
// settled does not block the others.
func (s *Service) settleMembers(ctx context.Context, v View) (View, error) {
	joining := func(n pmem.Namespace) bool { mark, _ := parseMark(n.Name); return mark == markJoining }
	if !slices.ContainsFunc(v.PMEM.Namespaces, joining) {
		return v, nil
	}
	// LVM's state decides, and the view may have been read without LVM.
	v, err := s.Look(ctx)
	if err != nil {
		return v, err
	}
	var failed error
	for _, n := range v.PMEM.Namespaces {
		if joining(n) && !n.Enabled() {
			if _, err := s.NDCTL.EnableNamespace(n.UUID); err != nil {
				failed = errors.Join(failed, s.settleDown(v, n))
			}
		}
	}
	if v, err = s.Look(ctx); err != nil {
		return v, err
	}
	if len(v.LVM.Problems) > 0 {
		return v, errs.New(errs.Damaged, "volume groups", "cannot all be read: "+strings.Join(v.LVM.Problems, "; "), "pmemctl vg check")
	}
	for _, n := range v.PMEM.Namespaces {
		if _, vg := parseMark(n.Name); joining(n) && n.Enabled() {
			failed = errors.Join(failed, s.settle(v, n, vg))
		}
	}
	v, err = s.Look(ctx)
	return v, errors.Join(failed, err)
}

// settleDown destroys a namespace whose creation was interrupted and which cannot be enabled.
func (s *Service) settleDown(v View, n pmem.Namespace) error {
	if _, vg := parseMark(n.Name); v.mayMiss(vg) {
		return errs.New(errs.Damaged, "namespace "+n.Dev, "left by an interrupted vg init or vg remove, does not come up, and may be the device that volume group "+vg+" is missing", "see why: dmesg | tail")
	}
	err := s.destroyMember(n)
	return errs.Wrap("", "namespace "+n.Dev, "left by an interrupted vg init or vg remove, could not be removed", "", err)
}

// mayMiss reports whether a volume group of that name is missing a device, or has a member that is
// in no readable group.
func (v View) mayMiss(name string) bool {
	for _, vg := range v.LVM.VGs {
		if vg.Name == name && vg.PartialPVMissing {
			return true
		}
	}
	return slices.ContainsFunc(v.PMEM.Namespaces, func(n pmem.Namespace) bool {
		mark, vg := parseMark(n.Name)
		_, in := v.groupOf(blockPath(n))
		return mark == markMember && isGroup(vg, name) && !in
	})
}

// hasUnreadLabel reports whether a namespace has an LVM label but lvm lists it neither in a group
// nor as an orphan.
func (s *Service) hasUnreadLabel(v View, n pmem.Namespace) bool {
	_, in := v.groupOf(blockPath(n))
	orphan := slices.ContainsFunc(v.LVM.Orphans, func(pv lvm.PV) bool { return pv.Name == blockPath(n) })
	return !in && !orphan && n.Blockdev != "" && s.LVM.HasLabel(blockPath(n))
}

func (s *Service) settle(v View, n pmem.Namespace, name string) error {
	vg, in := v.groupOf(blockPath(n))
	if s.hasUnreadLabel(v, n) {
		return errs.New(errs.Damaged, "namespace "+n.Dev, "was being added to or removed from volume group "+name+", has an LVM label, and is in no group that can be read", "see what it is: pvck --dump headers "+blockPath(n)+"; if it is not needed: pmemctl vg remove "+name+" --force")
	}
	if reason, next := whyNotUp(n); reason != "" && n.Granularity != 0 && !in {
		return errs.New(errs.Damaged, "namespace "+n.Dev, "was being added to or removed from volume group "+name+": "+reason, next)
	}
	if !in {
		err := s.destroyMember(n)
		return errs.Wrap("", "namespace "+n.Dev, "left by an interrupted vg init or vg remove, could not be removed", "", err)
	}
	unused := slices.ContainsFunc(vg.PVs, func(pv lvm.PV) bool { return pv.Name == blockPath(n) && pv.Free == pv.Size })
	if vg.Name != name || !vg.HasTag(tag) || !unused {
		return errs.New(errs.Conflict, "namespace "+n.Dev, "was being added to or removed from volume group "+name+", but is used in "+vg.Name+" by something other than pmemctl", "see what it is: pmemctl tree; remove it, or take the device out: vgreduce "+vg.Name+" "+blockPath(n))
	}
	if err := hasRecordedSize(vg, n); err != nil {
		return err
	}
	_, err := s.NDCTL.RenameNamespace(n.UUID, markMember+name)
	return errs.Wrap("", "namespace "+n.Dev, "is in volume group "+name+", but could not be marked as its member", "", err)
}

// enableMembers enables the namespaces of volume groups that a crash left disabled.
func (s *Service) enableMembers(ctx context.Context, v View) (View, error) {
	enabled := s.enableUnlabelled(v)
	for _, n := range v.PMEM.Namespaces {
		if mark, vg := parseMark(n.Name); mark == markMember && !n.Enabled() {
			if _, err := s.NDCTL.EnableNamespace(n.UUID); err != nil {
				return v, errs.Wrap("", "namespace "+n.Dev, "of volume group "+vg+" does not come up", "see why: dmesg | tail", err)
			}
			enabled = true
		}
	}
	if !enabled {
		return v, nil
	}
	return s.lookToInit(ctx)
}

// initRegion creates the namespace of a step, adds it to the group, verifies that, and marks it as
// a member last: a namespace with that mark was once in a group, and is never taken for new. The
// host is locked.
func (s *Service) initRegion(ctx context.Context, step VGInitStep) error {
	if step.Add == 0 {
		return nil
	}
	if step.namespace.Dev != "" {
		if err := s.readyForWhole(ctx, step); err != nil {
			return err
		}
	}
	n, err := s.makeMember(ctx, step.Region, step.VG, step.Add)
	if err != nil {
		return err
	}
	s.rememberUnlabelled(step.Region, n)
	if err := s.join(ctx, step, n); err != nil {
		undo, cancel := undoing(ctx)
		defer cancel()
		if errs.Is(err, errs.Deadline) { // lvm is still running
			return err
		}
		v, failed := s.Look(undo)
		if failed == nil {
			_, failed = s.settleMembers(undo, v)
		}
		return errors.Join(err, failed)
	}
	renamed, err := s.NDCTL.RenameNamespace(n.UUID, markMember+step.VG)
	if err == nil && (renamed.Mode != pmem.ModeFSDAX || renamed.Size != n.Size) {
		err = errs.New(errs.Internal, "namespace "+n.Dev, fmt.Sprintf("did not come up as fsdax with %d bytes: the memory may not keep what is written to it", n.Size), "see why: dmesg | tail")
	}
	return err
}

// join adds a new namespace to the group, and creates the group if there is none.
func (s *Service) join(ctx context.Context, step VGInitStep, n pmem.Namespace) error {
	device := blockPath(n)
	state, err := s.LVM.Report(ctx)
	if err != nil {
		return err
	}
	group := step.group
	// With Span, the previous region may have created it.
	if vg, exists := state.VG(step.VG); exists && group.UUID == "" {
		group = vg.Ref()
	}
	if err := s.blank(ctx, n); err != nil {
		return err
	}
	if group.UUID != "" {
		err = s.LVM.ExtendVG(ctx, group, ExtentSize, device)
	} else if err = waitUntilGone(ctx, "/dev/"+step.VG); err == nil {
		err = s.LVM.CreateVG(ctx, step.VG, tag, ExtentSize, ExtentSize, device)
	}
	if err != nil {
		return err
	}
	if state, err = s.LVM.Report(ctx); err != nil {
		return err
	}
	vg, in := View{LVM: state}.groupOf(device)
	if !in || vg.Name != step.VG || group.UUID != "" && vg.UUID != group.UUID {
		return errs.New(errs.Internal, "volume group "+step.VG, "does not have "+device+" after it was added", "see what LVM reports: pvs -a")
	}
	return hasRecordedSize(vg, n)
}

// hasRecordedSize returns an error if a group has another size for the device of a namespace than
// the namespace provides: its volumes would end beyond the device, or in another one.
func hasRecordedSize(vg lvm.VG, n pmem.Namespace) error {
	for _, pv := range vg.PVs {
		if pv.Name == blockPath(n) && pv.DeviceSize != n.Size {
			return errs.New(errs.Internal, "volume group "+vg.Name, fmt.Sprintf("records %s with %d bytes, but it has %d", pv.Name, pv.DeviceSize, n.Size), "take it out of the group: vgreduce "+vg.Name+" "+pv.Name+"; then try again")
		}
	}
	return nil
}

// waitUntilGone waits until udevd has removed the directory of a former group of that name.
func waitUntilGone(ctx context.Context, path string) error {
	const patience, poll = 5 * time.Second, 20 * time.Millisecond
	for begun := time.Now(); ; time.Sleep(poll) {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(begun) > patience {
			return errs.New(errs.Conflict, path, "exists, but the volume group needs that name in /dev", "see what it is: ls -l "+path+"; remove it if it is left over")
		}
	}
}

// makeMember creates a namespace for a volume group and wipes both ends of it.
func (s *Service) makeMember(ctx context.Context, region, vg string, raw uint64) (pmem.Namespace, error) {
	id := uuid.NewString()
	n, err := s.createNamespace(pmem.NamespaceSpec{
		Region: region, Mode: pmem.ModeFSDAX, Map: pmem.MapDev, RawSize: raw, Align: pmem.DefaultAlign, Name: markJoining + vg,
		UUID: id, InfoUUID: infoUUID(id, false, s.NDCTL.Granularity(region)),
	})
	if err != nil {
		return n, err
	}
	if err := s.wipeEnds(ctx, n); err != nil {
		return n, errors.Join(err, s.destroyMember(n))
	}
	return n, nil
}

// blank returns an error unless both ends of a namespace read as zeros, as wipeEnds left them.
// Only then may LVM use it.
func (s *Service) blank(ctx context.Context, n pmem.Namespace) error {
	zero, err := s.endsAreZero(ctx, "/dev/"+n.Blockdev, endSize)
	if err == nil && !zero {
		err = errs.New(errs.Conflict, "namespace "+n.Dev, "was just wiped, but is not empty: something else writes to it", "see what it is: lsof /dev/"+n.Blockdev)
	}
	return err
}

// wipeEnds zeroes both ends of a namespace that is not a volume.
func (s *Service) wipeEnds(ctx context.Context, n pmem.Namespace) error {
	if n.Blockdev == "" {
		var err error
		if n, err = s.NDCTL.EnableNamespace(n.UUID); err != nil {
			return err
		}
	}
	return zeroEnds(ctx, s.Devices, "/dev/"+n.Blockdev, endSize, endSize)
}

// planInit plans the steps, and returns an error if a volume group elsewhere has the name of a new
// one.
func (s *Service) planInit(ctx context.Context, v View, spec VGInitSpec) (steps []VGInitStep, damage, err error) {
	if steps, damage, err = v.planVGInit(spec); err == nil {
		err = s.checkNamesakes(ctx, v, steps)
	}
	for i := range steps {
		if step := &steps[i]; err == nil && step.Changes() && step.namespace.Dev != "" {
			step.Caveat = v.PMEM.BusOf(step.Region).Caveat()
			if err = s.mayBeHidden(step.namespace); err == nil {
				err = s.noneMissing(v, step.Region)
			}
			if err == nil {
				step.Erases, err = s.contentOfWhole(ctx, v, step.namespace, spec.OnlyZeros)
			}
		}
	}
	return steps, damage, err
}

// checkNamesakes returns an error if a disk of any kind has a volume group with the name of a new
// one.
func (s *Service) checkNamesakes(ctx context.Context, v View, steps []VGInitStep) error {
	var names []string
	for _, step := range steps {
		if step.group.UUID == "" && step.Changes() {
			names = append(names, step.VG)
		}
	}
	if len(names) == 0 {
		return nil
	}
	all, err := s.Disks.Report(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if vg, ok := all.VG(name); ok {
			where := ""
			if len(vg.PVs) > 0 {
				where = " on " + vg.PVs[0].Name
			}
			return errs.New(errs.Conflict, "volume group "+name, "exists"+where+" and was not created by pmemctl", "rename it (vgrename "+name+" NEWNAME), or choose a name: pmemctl vg init --span --name NAME")
		}
	}
	return nil
}
