package volume

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Volume describes a volume. Sizes are bytes.
type Volume struct {
	Name  string `json:"name"`
	Type  Type   `json:"type"`
	State State  `json:"state"`
	// Size is the usable size, that of the block device.
	Size uint64 `json:"size"`
	// RawSize is the space it takes of its region or volume group.
	RawSize   uint64   `json:"raw_size"`
	Device    string   `json:"device,omitempty"` // path of the block device
	Regions   []string `json:"regions"`
	VG        string   `json:"vg,omitempty"`
	Namespace string   `json:"namespace,omitempty"` // changes over a reboot
	UUID      string   `json:"uuid"`
	Stripes   int      `json:"stripes,omitempty"`
	Health    string   `json:"health,omitempty"`
	// Erasing is the progress of erasing a deleted volume.
	Erasing *Erasure `json:"erasing,omitempty"`
	// NoMapSync: the kernel refuses to map files in one of the regions with MAP_SYNC.
	NoMapSync bool `json:"no_map_sync,omitempty"`

	lv     string // name of the logical volume
	vgUUID string
	offset uint64 // of its data on Device, while that is the raw namespace
	copyOf string // UUID of the source if it is a copy
	forFS  bool   // created for a file system, and not zeroed
	// granularity of the interleaving of its region in bytes, 0 for unknown.
	granularity uint64
	// damage says why a damaged direct volume does not show its content, and next what to do.
	damage, next string

	refusing []string // regions where the kernel refuses MAP_SYNC, of a new volume
}

// View is the state of the host at one moment.
type View struct {
	PMEM pmem.System
	// LVM is the state of the devices of pmemctl's volume groups, Foreign that of other PMEM.
	LVM, Foreign lvm.State

	examined []Volume
}

// group returns the volume group of a volume; empty for a direct one.
func (vol Volume) group() lvm.VGRef { return lvm.VGRef{Name: vol.VG, UUID: vol.vgUUID} }

// Examined returns the volumes with their health, if the view is from LookAtEverything.
func (v View) Examined() []Volume {
	if v.examined != nil {
		return v.examined
	}
	return v.Volumes()
}

// Recorded returns a view as it was read earlier, with the volumes as they were examined.
func Recorded(sys pmem.System, own, foreign lvm.State, examined []Volume) View {
	return View{PMEM: sys, LVM: own, Foreign: foreign, examined: examined}
}

// MayBeMember reports whether a namespace may be a device of one of pmemctl's volume groups.
// Volumes and foreign namespaces never are.
func MayBeMember(n pmem.Namespace) bool {
	mark, _ := parseMark(n.Name)
	return n.Blockdev != "" && n.Mode == pmem.ModeFSDAX && !isScrambled(n) && (mark == markMember || mark == markJoining)
}

// Volumes lists the volumes, including unfinished ones.
func (v View) Volumes() []Volume {
	volumes := []Volume{}
	for _, n := range v.PMEM.Namespaces {
		if vol, ok := directVolume(n); ok {
			volumes = append(volumes, vol)
		}
	}
	for _, vg := range v.LVM.VGs {
		if !v.Owns(vg) {
			continue
		}
		for _, lv := range vg.LVs {
			if vol, ok := v.lvmVolume(lv); ok {
				volumes = append(volumes, vol)
			}
		}
	}
	refusing := v.refusingMapSync()
	for i, vol := range volumes {
		volumes[i].NoMapSync = vol.isInAny(refusing)
	}
	slices.SortStableFunc(volumes, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
	return volumes
}

// refusingMapSync returns the regions where the kernel refuses MAP_SYNC.
func (v View) refusingMapSync() (regions []string) {
	for _, r := range v.PMEM.Regions {
		if !v.PMEM.MapSync(r.Dev) {
			regions = append(regions, r.Dev)
		}
	}
	return regions
}

// isInAny reports whether a part of a volume is in one of some regions.
func (vol Volume) isInAny(regions []string) bool {
	return slices.ContainsFunc(vol.Regions, func(r string) bool { return slices.Contains(regions, r) })
}

func directVolume(n pmem.Namespace) (Volume, bool) {
	mark, name := parseMark(n.Name)
	vol := Volume{Name: name, Type: TypeDirect, Size: n.Size, RawSize: n.RawSize, Regions: []string{n.Region}, Namespace: n.Dev, UUID: n.UUID, granularity: n.Granularity}
	vol.forFS, _ = recordedIn(n)
	if n.Blockdev != "" {
		vol.Device = "/dev/" + n.Blockdev
	}
	if n.Mode == pmem.ModeDevDAX || n.Mode == pmem.ModeSector {
		return Volume{}, false // foreign, whatever its name
	}
	switch mark {
	case markVolume, markAdopted:
		vol.State, vol.forFS = Ready, vol.forFS || mark == markAdopted
		if reason, next := whyNotUp(n); n.Enabled() && reason != "" {
			vol.State, vol.Device, vol.damage, vol.next = Damaged, "", reason, next
		}
	case markMaking:
		vol.State = Creating
	case markRemoving:
		vol.State = Deleting
		if vol.Size == 0 { // a deleted volume stays disabled
			vol.Size = vol.RawSize
		}
	default:
		return Volume{}, false
	}
	return vol, true
}

func (v View) lvmVolume(lv lvm.LV) (Volume, bool) {
	if !lv.HasTag(tag) {
		return Volume{}, false
	}
	mark, name := parseMark(lv.Name)
	vol := Volume{Name: name, Type: TypeLVM, State: Ready, Size: lv.Size, RawSize: lv.Size, VG: lv.VG, vgUUID: lv.VGUUID, UUID: lv.UUID, Regions: v.regionsOf(lv), lv: lv.Name, forFS: lv.HasTag(tagForFS)}
	if lv.Active {
		vol.Device = lv.MapperPath()
	}
	if lv.Stripes > 1 {
		vol.Stripes = lv.Stripes
	}
	for _, t := range lv.Tags {
		if source, ok := strings.CutPrefix(t, tagCopyOf); ok {
			vol.copyOf = source
		}
	}
	switch {
	case mark == markRemoving: // also an unfinished copy
		vol.State = Deleting
	case mark == markMaking || lv.HasTag(tagMaking):
		vol.State = Creating
	case lv.HasTag(tagRemoving):
		vol.State = Deleting
	case lv.Partial:
		vol.State, vol.Health = Damaged, "partial"
	}
	return vol, true
}

// regionsOf returns the regions on which a logical volume has extents.
func (v View) regionsOf(lv lvm.LV) []string {
	regions := []string{}
	for _, r := range lv.Ranges {
		if n, ok := v.namespaceOf(lvm.DeviceOfRange(r)); ok && !slices.Contains(regions, n.Region) {
			regions = append(regions, n.Region)
		}
	}
	return regions
}

// namespaceOf finds the namespace of a block device such as /dev/pmem0.
func (v View) namespaceOf(device string) (pmem.Namespace, bool) {
	for _, n := range v.PMEM.Namespaces {
		if n.Blockdev != "" && "/dev/"+n.Blockdev == device {
			return n, true
		}
	}
	return pmem.Namespace{}, false
}

// Owns reports whether pmemctl created a volume group: it has the tag, and all of its devices are
// namespaces that pmemctl created for a group. The tag alone could be copied.
func (v View) Owns(vg lvm.VG) bool {
	ours := func(pv lvm.PV) bool {
		n, ok := v.namespaceOf(pv.Name)
		return ok && MayBeMember(n)
	}
	if vg.PartialPVMissing {
		return vg.HasTag(tag) && slices.ContainsFunc(vg.PVs, ours)
	}
	return vg.HasTag(tag) && !slices.ContainsFunc(vg.PVs, func(pv lvm.PV) bool { return !ours(pv) })
}

// group finds a volume group by name, including foreign ones.
func (v View) group(name string) (lvm.VG, bool) {
	if vg, ok := v.LVM.VG(name); ok {
		return vg, true
	}
	return v.Foreign.VG(name)
}

// ownGroup finds a volume group of pmemctl by name.
func (v View) ownGroup(name string) (lvm.VG, error) {
	var found []lvm.VG
	for _, vg := range v.OwnVGs() {
		if vg.Name == name {
			found = append(found, vg)
		}
	}
	what := "volume group " + quoteIfOdd(name)
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return lvm.VG{}, errs.New(errs.Conflict, what, fmt.Sprintf("there are two of that name (UUID %s and %s)", found[0].UUID, found[1].UUID), "rename one by its UUID: vgrename "+found[1].UUID+" NEWNAME")
	}
	if _, exists := v.group(name); exists {
		return lvm.VG{}, errs.New(errs.Conflict, what, "was not created by pmemctl and is left unchanged", "list pmemctl's groups: pmemctl vg list")
	}
	return lvm.VG{}, errs.New(errs.NotFound, what, "does not exist", "see what there is: pmemctl vg list")
}

// OwnVGs returns the volume groups that pmemctl created.
func (v View) OwnVGs() []lvm.VG {
	var own []lvm.VG
	for _, vg := range v.LVM.VGs {
		if v.Owns(vg) {
			own = append(own, vg)
		}
	}
	return own
}

// VGRegions returns the regions on which a volume group has devices.
func (v View) VGRegions(vg lvm.VG) []string {
	regions := []string{}
	for _, pv := range vg.PVs {
		if n, ok := v.namespaceOf(pv.Name); ok && !slices.Contains(regions, n.Region) {
			regions = append(regions, n.Region)
		}
	}
	return regions
}

// find returns the volumes of a name, including unfinished and deleted ones.
func (v View) find(name string) []Volume {
	var found []Volume
	for _, vol := range v.Volumes() {
		if vol.Name == name {
			found = append(found, vol)
		}
	}
	return found
}

// finished returns the one volume among found that is neither unfinished nor deleted; its Name is
// "" if there is none. There may be two of a name if a region was missing while the second was
// created.
func finished(found []Volume) (Volume, error) {
	var one Volume
	for _, vol := range found {
		if vol.State != Ready && vol.State != Damaged {
			continue
		}
		if one.Name != "" {
			return Volume{}, errs.New(errs.Conflict, subject(vol.Name), fmt.Sprintf("there are two of that name (%s and %s)", one.where(), vol.where()), "rename one of them: lvrename for a logical volume, or mount it by its device and copy it")
		}
		one = vol
	}
	return one, nil
}

// get returns the finished volume of a name; NotFound if there is none.
func (v View) get(name string) (Volume, error) {
	vol, err := finished(v.find(name))
	if err == nil && vol.Name == "" {
		err = notFound(name)
	}
	return vol, err
}

// inState returns the volumes in a state.
func inState(found []Volume, state State) []Volume {
	var in []Volume
	for _, vol := range found {
		if vol.State == state {
			in = append(in, vol)
		}
	}
	return in
}
