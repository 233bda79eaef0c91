package volume

import (
	"context"
	"slices"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
)

// Absent returns an error if a volume that was not found may exist on a device that is not
// visible.
func (s *Service) Absent(ctx context.Context, name string) error {
	v, err := s.Look(ctx)
	if err != nil {
		return err
	}
	hidden := func(what, next string) error {
		return errs.New(errs.Unsupported, subject(name), "was not found, but may be in "+what, next)
	}
	if found := slices.DeleteFunc(v.find(name), func(vol Volume) bool { return vol.State == Deleting }); len(found) > 0 {
		return errs.New(errs.Internal, subject(name), "was not found, but exists as "+found[0].where(), "try again")
	}
	if len(v.PMEM.Regions) == 0 {
		return hidden("PMEM that is currently missing", errs.NextStep(NoPMEM(v.PMEM)))
	}
	for _, r := range v.PMEM.Regions {
		if r.Type == "pmem" && !r.Enabled() {
			return hidden("region "+r.Dev+", which is disabled", "pmemctl region enable "+r.Dev)
		}
		if r.HiddenSize > 0 {
			reason, next := hiddenSpace(r)
			return hidden("region "+r.Dev+", which "+reason, next)
		}
	}
	gone, err := s.goneRegions(v)
	if err != nil {
		return err
	}
	for _, r := range gone {
		return hidden("region "+r.Dev+", which "+r.damage().Reason, r.damage().Next)
	}
	for _, n := range v.PMEM.Namespaces {
		mark, vg := parseMark(n.Name)
		switch {
		case mark != markMember:
		case !n.Enabled():
			return hidden("volume group "+vg+", whose namespace "+n.Dev+" is disabled", "ndctl enable-namespace "+n.Dev)
		case len(v.LVM.Problems) > 0:
			return hidden("a volume group that cannot be read: "+v.LVM.Problems[0], "pmemctl vg check")
		case !v.inOwnVG(blockPath(n)):
			if d, damaged := v.memberDamage(n); damaged {
				return hidden("volume group "+vg+": "+d.Reason, d.Next)
			}
			return hidden("volume group "+vg+", which is not visible on "+n.Dev+" as a group of pmemctl", "see what is wrong: pvs -a; vgs -o +vg_tags; pmemctl vg list")
		}
	}
	for _, vg := range v.OwnVGs() {
		if err := v.whole(vg.Ref()); err != nil {
			return hidden(err.Error(), errs.NextStep(err))
		}
	}
	return nil
}

func (v View) inOwnVG(device string) bool {
	return slices.ContainsFunc(v.OwnVGs(), func(vg lvm.VG) bool {
		return slices.ContainsFunc(vg.PVs, func(pv lvm.PV) bool { return pv.Name == device })
	})
}
