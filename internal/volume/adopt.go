package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// AdoptLVM is what Adopt requires of LVM; *lvm.Client implements it. It sees all namespaces but
// volumes, so that a group is complete also when only some of its devices are adopted.
type AdoptLVM interface {
	Reporter
	Activate(ctx context.Context, vg lvm.VGRef, name string) error
	Deactivate(ctx context.Context, vg lvm.VGRef, name string) error
	RenameLV(ctx context.Context, vg lvm.VGRef, name, to string) error
	AddTag(ctx context.Context, vg lvm.VGRef, tag string) error
	AddLVTags(ctx context.Context, vg lvm.VGRef, name string, tags ...string) error
}

// NoVolumes returns the names of the block devices of all namespaces but volumes, also those of
// other drivers: what a tenant wrote must not become a group.
func NoVolumes(from NDCTL) ([]string, error) {
	sys, err := from.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range sys.Namespaces {
		if MayBePV(n) {
			names = append(names, n.Blockdev)
		}
	}
	return names, nil
}

// MayBePV reports whether a namespace is no volume, as far as its name shows.
func MayBePV(n pmem.Namespace) bool {
	_, own := Owned(n.Name)
	return n.Blockdev != "" && (MayBeMember(n) || !own && !looksLikeVolume(n))
}

// PlanAdopt returns what Adopt would do with the requested volume groups and namespaces, or with
// all that pmemctl did not create. It changes nothing.
func (s *Service) PlanAdopt(ctx context.Context, requests ...AdoptRequest) ([]Adoption, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	if len(v.PMEM.Regions) == 0 {
		return nil, NoPMEM(v.PMEM)
	}
	return s.planAdopt(ctx, v, requests)
}

func (s *Service) planAdopt(ctx context.Context, v View, requests []AdoptRequest) ([]Adoption, error) {
	all, err := s.All.Report(ctx)
	if err != nil && ctx.Err() == nil {
		all, err = lvm.State{Problems: []string{err.Error()}}, nil // namespaces can be adopted all the same
	}
	if err != nil {
		return nil, err
	}
	plan, err := v.planAdopt(all, requests, func(device string) (string, error) {
		content, err := s.Mounts.Probe(ctx, device)
		return content.Type, err
	})
	for i := range plan {
		s.examineGroup(&plan[i], v)
	}
	return plan, err
}

// examineGroup judges a group by its metadata on the devices.
func (s *Service) examineGroup(a *Adoption, v View) {
	if a.Kind != groupToAdopt || a.err != nil {
		return
	}
	var newest lvm.Group
	for _, n := range v.PMEM.Namespaces {
		if !MayBePV(n) {
			continue
		}
		member := slices.ContainsFunc(a.namespaces, func(m pmem.Namespace) bool { return m.UUID == n.UUID })
		for _, c := range s.readMember(n).disk.Copies {
			switch {
			case c.Text == nil || c.Guessed || c.Group.UUID != a.uuid:
			case !member:
				// LVM would believe the newer of the two, whoever wrote it.
				a.refuse(errs.Conflict, "has the UUID of another group, which is on "+n.Dev, "one of them is a copy, perhaps by a tenant; see both: pvck --dump headers "+blockPath(n)+"; pmemctl tree")
			case c.Group.Seqno > newest.Seqno:
				newest = c.Group
			}
		}
	}
	a.judge(newest)
}

// Adopt makes volumes of the objects of a plan, in place: their data is neither read nor written,
// except for signatures. Nothing may be in use, because the name of a namespace can only be changed
// while it is disabled. If anything is not as planned, nothing is changed. An interrupted call can
// be repeated with a new plan.
func (s *Service) Adopt(ctx context.Context, plan []Adoption) (done []Adoption, err error) {
	if err := errors.Join(errorsOf(plan)...); err != nil {
		return nil, err
	}
	err = s.changing(ctx, func() error {
		v, err := s.Look(ctx)
		if err != nil {
			return err
		}
		var requests []AdoptRequest
		for _, a := range plan {
			q := AdoptRequest{Object: a.uuid, Raw: a.raw}
			if a.Kind == namespaceToAdopt {
				q.Name = a.Volumes[0].Name
			}
			requests = append(requests, q)
		}
		now, err := s.planAdopt(ctx, v, requests)
		if err != nil {
			return err
		}
		if err := errors.Join(errorsOf(now)...); err != nil {
			return err
		}
		if !slices.EqualFunc(now, plan, Adoption.same) {
			return changedMeanwhile("what was to be adopted")
		}
		for _, a := range now {
			if err := s.unused(a); err != nil {
				return err
			}
		}
		for _, a := range now {
			if err := s.adopt(ctx, a); err != nil {
				return errs.Wrap("", a.subject(), "is not completely adopted yet", "continue: "+a.command(), err)
			}
			a.Done = true
			done = append(done, a)
		}
		if v, err = s.Look(ctx); err == nil {
			s.rememberRegions(v)
		}
		return err
	})
	return done, err
}

// same reports whether two plans adopt the same.
func (a Adoption) same(b Adoption) bool {
	return a.uuid == b.uuid && slices.EqualFunc(a.Volumes, b.Volumes, func(x, y Adopted) bool {
		return x.UUID == y.UUID && x.Name == y.Name && x.Size == y.Size && x.Content == y.Content
	})
}

// unused returns an error if something uses the volumes of a group, or a namespace: has it mounted,
// held, open, or bound into a container.
func (s *Service) unused(a Adoption) error {
	for _, vol := range a.Volumes {
		if a.Kind == groupToAdopt && vol.lv.Active {
			if err := s.unusedDevice(a, "logical volume "+vol.OldName, vol.lv.MapperPath()); err != nil {
				return err
			}
		}
	}
	if a.Kind == groupToAdopt {
		return nil // its devices are held by its logical volumes
	}
	if err := s.notHeld(a.namespaces[0]); err != nil {
		return err
	}
	return s.unusedDevice(a, "device "+blockPath(a.namespaces[0]), blockPath(a.namespaces[0]))
}

func (s *Service) unusedDevice(a Adoption, what, path string) error {
	err := s.notInUse(Volume{Name: a.Object, Device: path})
	if errs.Is(err, errs.InUse) {
		return errs.Wrap(errs.InUse, a.subject(), "has the "+what+", which is in use", "unmount it: findmnt "+path+"; stop what uses it: lsof "+path, err)
	}
	return err
}

func (s *Service) adopt(ctx context.Context, a Adoption) error {
	if a.Kind == groupToAdopt {
		return s.adoptGroup(ctx, a)
	}
	mark := markVolume
	if a.forFS(a.Volumes[0].Content) {
		mark = markAdopted
	}
	return s.adoptNamespace(a.namespaces[0], mark+a.Volumes[0].Name)
}

// adoptNamespace gives a namespace its mark, and verifies that it comes up with the same device.
func (s *Service) adoptNamespace(n pmem.Namespace, name string) error {
	renamed, err := s.NDCTL.RenameNamespace(n.UUID, name)
	if err != nil {
		return err
	}
	if renamed.Mode != pmem.ModeFSDAX || renamed.Size != n.Size {
		return errs.New(errs.Internal, "namespace "+n.Dev, fmt.Sprintf("did not come up as fsdax with %d bytes", n.Size), "see why: dmesg | tail")
	}
	return nil
}

// adoptLV takes down a logical volume, and gives it pmemctl's tags and a name that pmemctl allows.
func (s *Service) adoptLV(ctx context.Context, a Adoption, vol Adopted) error {
	group, tags := a.group.Ref(), []string{tag}
	if !vol.lv.HasTag(tag) {
		if !vol.lv.Active {
			if err := s.All.Activate(ctx, group, vol.OldName); err != nil {
				return err
			}
		}
		content, err := s.Mounts.Probe(ctx, vol.lv.MapperPath())
		if err != nil {
			return err
		}
		if a.forFS(content.Type) {
			tags = append(tags, tagForFS)
		}
	}
	if err := s.All.Deactivate(ctx, group, vol.OldName); err != nil {
		return err
	}
	if vol.Name != vol.OldName {
		if err := s.All.RenameLV(ctx, group, vol.OldName, vol.Name); err != nil {
			return err
		}
	}
	if vol.lv.HasTag(tag) {
		return nil
	}
	return s.All.AddLVTags(ctx, group, vol.Name, tags...)
}

// adoptGroup marks the volumes first, then the group, and its devices last: only then is it
// pmemctl's.
func (s *Service) adoptGroup(ctx context.Context, a Adoption) error {
	ref := a.group.Ref()
	for _, vol := range a.Volumes {
		if err := s.adoptLV(ctx, a, vol); err != nil {
			return err
		}
	}
	if !a.group.HasTag(tag) {
		if err := s.All.AddTag(ctx, ref, tag); err != nil {
			return err
		}
	}
	for _, n := range a.namespaces {
		if err := s.notHeld(n); err != nil {
			return err
		}
	}
	for _, n := range a.namespaces {
		if mark, _ := parseMark(n.Name); mark == markMember {
			continue
		}
		if err := s.adoptNamespace(n, markMember+a.Object); err != nil {
			return err
		}
	}
	return nil
}
