package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// VGInfo describes a volume group. Sizes are bytes.
type VGInfo struct {
	Name    string   `json:"name"`
	Owner   string   `json:"owner"` // pmemctl or foreign
	Size    uint64   `json:"size"`
	Free    uint64   `json:"free"`
	Regions []string `json:"regions"`
	Devices []string `json:"devices"`
	Volumes int      `json:"volumes"`
	UUID    string   `json:"uuid"`
	// State is ready or damaged.
	State State `json:"state"`
	// Missing says that a device of the group is missing.
	Missing bool `json:"missing_devices"`
}

// Owners of objects.
const (
	OwnerPmemctl = "pmemctl"
	OwnerForeign = "foreign"
)

// VGs lists the volume groups on PMEM: those of pmemctl, including unreadable ones, and foreign
// ones.
func (v View) VGs() []VGInfo {
	infos := []VGInfo{}
	for _, vg := range slices.Concat(v.LVM.VGs, v.Foreign.VGs) {
		info := VGInfo{Name: vg.Name, Owner: OwnerForeign, Size: vg.Size, Free: vg.Free, Regions: v.VGRegions(vg), Devices: []string{}, Volumes: len(vg.LVs), UUID: vg.UUID, State: Ready, Missing: vg.PartialPVMissing}
		if v.Owns(vg) {
			info.Owner = OwnerPmemctl
			for _, lv := range vg.LVs {
				if vol, own := v.lvmVolume(lv); own && vol.State == Deleting {
					info.Volumes--
				}
			}
			if v.whole(vg.Ref()) != nil {
				info.State = Damaged
			}
		}
		for _, pv := range vg.PVs {
			info.Devices = append(info.Devices, pv.Name)
		}
		infos = append(infos, info)
	}
	for _, n := range v.PMEM.Namespaces {
		d, damaged := v.memberDamage(n)
		if !damaged {
			continue
		}
		i := slices.IndexFunc(infos, func(info VGInfo) bool { return info.Name == d.VG && info.State == Damaged })
		if i < 0 {
			i = len(infos)
			infos = append(infos, VGInfo{Name: d.VG, Owner: OwnerPmemctl, Regions: []string{}, Devices: []string{}, State: Damaged})
		}
		infos[i].Regions = append(infos[i].Regions, n.Region)
		if d.Device != "" {
			infos[i].Devices = append(infos[i].Devices, d.Device)
		}
	}
	slices.SortStableFunc(infos, func(a, b VGInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// RemoveVG removes a volume group without volumes and frees its space, and also removes what an
// interrupted call left. A group that cannot be read is removed only with force: everything in it
// is lost.
func (s *Service) RemoveVG(ctx context.Context, name string, force bool) error {
	if err := ValidateName(name); err != nil {
		return err
	}
	var regions []string
	err := s.changing(ctx, func() (err error) {
		regions, err = s.removeVGNow(ctx, name, force)
		return err
	})
	s.forgetEmptied(ctx, regions...)
	return err
}

// removeVGNow is RemoveVG with the host locked. It returns the regions of the namespaces that it
// destroyed.
func (s *Service) removeVGNow(ctx context.Context, name string, force bool) (regions []string, err error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	known := len(v.membersOf(name)) > 0
	if v, err = s.enableMembers(ctx, v); err != nil && !force {
		return nil, err
	}
	if v, err = s.removeAbandoned(ctx, v, ""); err != nil {
		return nil, err
	}
	members := v.membersOf(name)
	known = known || len(members) > 0
	vg, err := v.ownGroup(name)
	switch {
	case errs.Is(err, errs.NotFound) && len(members) > 0:
		if lost := s.Lost(v, name); lost != nil && !force {
			return nil, lost
		}
	case errs.Is(err, errs.NotFound) && known: // what was left of it has been removed
		return nil, nil
	case err != nil:
		return nil, err
	case v.present(vg.Ref()) != nil:
		return nil, v.present(vg.Ref())
	case len(v.strays(vg)) > 0 && !force:
		return nil, s.Lost(v, name)
	case len(v.strays(vg)) > 0: // the group itself remains
		members = v.strays(vg)
	case len(vg.LVs) > 0 && !slices.ContainsFunc(vg.LVs, func(lv lvm.LV) bool { vol, own := v.lvmVolume(lv); return !own || vol.State != Deleting }):
		return nil, errs.New(errs.InUse, "volume group "+name, "has deleted volumes that are not yet erased", "erase them first: pmemctl gc")
	case len(vg.LVs) > 0:
		return nil, errs.New(errs.InUse, "volume group "+name, "has logical volumes, such as "+vg.LVs[0].Name, "delete them first: pmemctl volume delete NAME (a foreign one: lvremove)")
	default:
		if members, err = s.leave(ctx, v, vg); err != nil {
			return nil, errs.Wrap("", "volume group "+name, "could not be removed", "try again: pmemctl vg remove "+name, err)
		}
	}
	if err := v.notElsewhere(name, members); err != nil {
		return nil, err
	}
	for _, n := range members { // before the first one is wiped
		if err := v.onlyOne(n); err != nil {
			return nil, err
		}
	}
	for _, n := range members {
		if err := s.wipeEnds(ctx, n); err != nil && (n.Mode == pmem.ModeFSDAX || !force) {
			return regions, errs.Wrap("", "volume group "+name, "is removed, but its namespace "+n.Dev+" could not be wiped", "try again: pmemctl vg remove "+name, err)
		}
		if err := s.destroyMember(n); err != nil {
			return regions, errs.Wrap("", "volume group "+name, "is removed, but its namespace "+n.Dev+" is not", "try again: pmemctl vg remove "+name, err)
		}
		regions = append(regions, n.Region)
	}
	return regions, nil
}

// leave removes the devices of an empty group from it. They are marked first, so that what a crash
// leaves of them does not count as damage.
func (s *Service) leave(ctx context.Context, v View, vg lvm.VG) ([]pmem.Namespace, error) {
	var namespaces, members []pmem.Namespace
	var devices []string
	for _, pv := range vg.PVs { // check all of them before the first one is marked
		n, ok := v.namespaceOf(pv.Name)
		if !ok {
			return nil, errs.New(errs.Internal, "volume group "+vg.Name, pv.Name+" is not on a namespace", "compare: pmemctl tree; pvs -a")
		}
		namespaces = append(namespaces, n)
	}
	for _, n := range namespaces {
		n, err := s.NDCTL.RenameNamespace(n.UUID, markJoining+vg.Name)
		if err != nil {
			return nil, err
		}
		members, devices = append(members, n), append(devices, blockPath(n))
	}
	err := s.LVM.RemoveVG(ctx, vg.Ref(), devices...)
	if err != nil && !errs.Is(err, errs.Deadline) {
		if fresh, failed := s.Look(ctx); failed == nil {
			_, failed = s.settleMembers(ctx, fresh)
			err = errors.Join(err, failed)
		}
	}
	return members, err
}

// Lost says what is lost if a volume group that cannot be read is removed; nil if nothing is.
func (s *Service) Lost(v View, name string) error {
	var reasons, volumes []string
	stays, err := v.ownGroup(name)
	for _, n := range v.membersOf(name) {
		if _, damaged := v.memberDamage(n); damaged || !n.Enabled() || s.hasUnreadLabel(v, n) {
			reasons = append(reasons, fmt.Sprintf("%s (%s, %s)", n.Dev, n.Region, pmem.FormatSize(n.RawSize)))
			if g := s.onceOn(v, name, n.Dev); g != nil && g.uuid() != stays.UUID {
				volumes = append(volumes, volumesOf(g.source.group)...)
			}
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	what := "cannot be read, so every volume in it would be lost"
	if err == nil {
		what = "is complete without devices that have its mark; the data on them would be lost, and the group would remain"
	}
	slices.Sort(volumes)
	if volumes = slices.Compact(volumes); len(volumes) > 0 {
		what += " (" + strings.Join(volumes, ", ") + ")"
	}
	return errs.New(errs.Damaged, "volume group "+name, what+": "+strings.Join(reasons, ", "),
		"bring it back: pmemctl vg check "+name+"; if its data is not needed: pmemctl vg remove "+name+" --force")
}

// notElsewhere returns an error if a namespace created for a volume group is now in another one:
// the group may have been renamed.
func (v View) notElsewhere(name string, members []pmem.Namespace) error {
	for _, vg := range v.LVM.VGs {
		for _, pv := range vg.PVs {
			if n, ok := v.namespaceOf(pv.Name); ok && vg.Name != name && slices.ContainsFunc(members, func(m pmem.Namespace) bool { return m.UUID == n.UUID }) {
				return errs.New(errs.Conflict, "volume group "+name, "its namespace "+n.Dev+" is in volume group "+vg.Name+", and is left unchanged", "if the group was renamed: vgrename "+vg.Name+" "+name)
			}
		}
	}
	return nil
}

func (v View) membersOf(vg string) []pmem.Namespace {
	var members []pmem.Namespace
	for _, n := range v.PMEM.Namespaces {
		if mark, name := parseMark(n.Name); (mark == markMember || mark == markJoining) && isGroup(name, vg) {
			members = append(members, n)
		}
	}
	return members
}

// FindVG finds a volume group by name.
func (v View) FindVG(name string) (VGInfo, error) {
	for _, vg := range v.VGs() {
		if vg.Name == name {
			return vg, nil
		}
	}
	return VGInfo{}, errs.New(errs.NotFound, "volume group "+quoteIfOdd(name), "does not exist", "see what there is: pmemctl vg list")
}

// VGRegions returns the regions of a volume group of pmemctl.
func (s *Service) VGRegions(ctx context.Context, name string) ([]string, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	vg, err := v.ownGroup(name)
	if err != nil {
		return nil, err
	}
	return v.VGRegions(vg), nil
}
