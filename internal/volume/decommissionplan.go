package volume

import (
	"errors"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// RegionReturn is what Decommission gives back in a region. Sizes are raw bytes.
type RegionReturn struct {
	Region string `json:"region"`
	Size   uint64 `json:"size"`
	// VGs are the volume groups to be removed, Namespaces their devices in the region.
	VGs        []string `json:"vgs"`
	Namespaces []string `json:"namespaces"`
	// Returned is the size of these namespaces, Free the free space of the region afterwards.
	Returned uint64 `json:"raw_returned"`
	Free     uint64 `json:"raw_free"`
	// Kept are the namespaces that pmemctl did not create.
	Kept []string `json:"left_alone"`
}

// Changes reports whether anything is to be removed.
func (r RegionReturn) Changes() bool { return len(r.Namespaces) > 0 }

// regionsIn returns the regions of a plan.
func regionsIn(plan []RegionReturn) (names []string) {
	for _, r := range plan {
		names = append(names, r.Region)
	}
	return names
}

// groupsIn returns the volume groups of a plan.
func groupsIn(plan []RegionReturn) (names []string) {
	for _, r := range plan {
		names = append(names, r.VGs...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// within reports whether a plan removes nothing that another one does not remove.
func within(plan, other []RegionReturn) bool {
	return !slices.ContainsFunc(plan, func(r RegionReturn) bool {
		return !slices.ContainsFunc(other, func(o RegionReturn) bool {
			in := func(of []string) func(string) bool { return func(s string) bool { return !slices.Contains(of, s) } }
			return o.Region == r.Region && !slices.ContainsFunc(r.VGs, in(o.VGs)) && !slices.ContainsFunc(r.Namespaces, in(o.Namespaces))
		})
	})
}

// planDecommission lists what pmemctl has in the named regions besides volumes; without names, in
// all regions that have something of pmemctl's.
func (v View) planDecommission(names []string) ([]RegionReturn, error) {
	for _, name := range names {
		switch r, ok := v.PMEM.Region(name); {
		case !ok:
			return nil, v.noRegion(quoteIfOdd(name))
		case !r.Enabled():
			return nil, errs.New(errs.Unsupported, "region "+name, "is disabled", "pmemctl region enable "+name)
		}
	}
	plan := []RegionReturn{}
	for _, r := range v.PMEM.Regions {
		if len(names) > 0 && !slices.Contains(names, r.Dev) || len(names) == 0 && !ownsAny(v.PMEM, r) {
			continue
		}
		give := RegionReturn{Region: r.Dev, Size: r.Size, VGs: []string{}, Namespaces: []string{}, Kept: []string{}}
		for _, n := range v.PMEM.InRegion(r.Dev) {
			mark, vg := parseMark(n.Name)
			_, isVolume := directVolume(n)
			switch {
			case mark == markMember || mark == markJoining:
				give.Namespaces = append(give.Namespaces, n.Dev)
				give.Returned += n.RawSize
				if !slices.Contains(give.VGs, vg) {
					give.VGs = append(give.VGs, vg)
				}
			case !isVolume:
				give.Kept = append(give.Kept, n.Dev)
			}
		}
		give.Free = r.AvailableSize + give.Returned
		plan = append(plan, give)
	}
	return plan, nil
}

// remaining returns an error for each volume in the regions and groups of a plan, whatever its
// state, and for each foreign logical volume; nil if there is none.
func (v View) remaining(plan []RegionReturn, mountedAt func(Volume) []mount.Point) error {
	regions, groups := regionsIn(plan), groupsIn(plan)
	var all []error
	for _, vol := range v.Volumes() {
		if !slices.Contains(groups, vol.VG) && (vol.Type != TypeDirect || !slices.Contains(regions, first(vol.Regions))) {
			continue
		}
		all = append(all, vol.remains(mountedAt(vol)))
	}
	for _, vg := range v.OwnVGs() {
		for _, lv := range vg.LVs {
			if _, own := v.lvmVolume(lv); !own && slices.Contains(groups, vg.Name) {
				all = append(all, errs.New(errs.InUse, "volume group "+vg.Name, "has the logical volume "+lv.Name+", which pmemctl did not create", "if it is not needed: lvremove "+vg.Name+"/"+lv.Name))
			}
		}
	}
	return errors.Join(all...)
}

// remains is the error for a volume that must be deleted first.
func (vol Volume) remains(mounts []mount.Point) error {
	in := func(reason, next string) error {
		return errs.New(errs.InUse, subject(vol.Name), reason+" in "+vol.Place(), next)
	}
	switch {
	case vol.State == Deleting:
		return in("is deleted, but not yet erased,", "pmemctl gc")
	case vol.State == Creating:
		return in("still exists, unfinished,", "wait until it is created, copied or expanded; if that was interrupted: pmemctl volume delete "+vol.Name)
	case vol.State == Damaged:
		return in("is damaged, and still exists", "see: pmemctl volume show "+vol.Name+"; if its data is not needed: pmemctl volume delete "+vol.Name)
	case len(mounts) > 0:
		return in("is mounted on "+mounts[0].Path+", and still exists", "if its data is not needed: pmemctl volume delete --unmount "+vol.Name)
	}
	return in("still exists", "if its data is not needed: pmemctl volume delete "+vol.Name)
}

// mayRemoveGroup returns an error if a volume group cannot be removed together with its
// namespaces. A group that is not found has left only namespaces.
func (v View) mayRemoveGroup(name string, plan []RegionReturn) error {
	members := v.membersOf(name)
	if err := v.onlyOn(name, members, regionsIn(plan)); err != nil {
		return err
	}
	vg, err := v.ownGroup(name)
	if err == nil {
		err = v.present(vg.Ref())
	}
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	return v.notElsewhere(name, members)
}

// onlyOn returns an error if some of the namespaces of a volume group are in other regions.
func (v View) onlyOn(name string, members []pmem.Namespace, regions []string) error {
	var others []string
	for _, n := range members {
		if !slices.Contains(regions, n.Region) && !slices.Contains(others, n.Region) {
			others = append(others, n.Region)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return errs.New(errs.Conflict, "volume group "+name, "is also in "+strings.Join(others, ", "), "name all of its regions: pmemctl decommission "+strings.Join(slices.Concat(regions, others), " "))
}
