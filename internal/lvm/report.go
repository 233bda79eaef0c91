package lvm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pmemctl/pmemctl/internal/blockdev"
)

// VG is a volume group. Sizes are bytes.
type VG struct {
	Name, UUID string
	Size, Free uint64
	ExtentSize uint64
	// MetadataSize is the size of the smallest metadata area in bytes, MetadataFree how many bytes
	// the text in it can still grow. LVM reserves room for two copies of the text.
	MetadataSize, MetadataFree uint64
	Tags                       []string
	PartialPVMissing           bool
	PVs                        []PV
	LVs                        []LV
}

// PV is a physical volume, in a volume group or in none.
type PV struct {
	Name, UUID string // Name is a path such as /dev/pmem0
	VG         string
	DeviceSize uint64
	Size, Free uint64
	DataStart  uint64 // pe_start
}

// LV is a logical volume.
type LV struct {
	Name, UUID string
	VG         string
	VGUUID     string
	Size       uint64
	Tags       []string
	Active     bool
	// Type is linear, striped, …; of the first segment.
	Type    string
	Stripes int
	// Ranges are its extents as lvm writes them: /dev/pmem0:0-127
	Ranges []string
	// Partial: part of it is on a physical volume that is missing.
	Partial bool
}

// DeviceOfRange returns the physical volume of a range, such as /dev/pmem0.
func DeviceOfRange(extents string) string { return extents[:max(0, strings.LastIndex(extents, ":"))] }

// Path returns the device node that lvm creates.
func (l LV) Path() string { return "/dev/" + l.VG + "/" + l.Name }

// MapperPath returns the device mapper's node, whose name has doubled hyphens.
func (l LV) MapperPath() string { return MapperPath(l.VG, l.Name) }

// MapperPath returns the device mapper's node for a logical volume.
func MapperPath(vg, lv string) string {
	return "/dev/mapper/" + escape(vg) + "-" + escape(lv)
}

func escape(name string) string { return strings.ReplaceAll(name, "-", "--") }

// ParseMapper parses the device mapper's name and UUID of a logical volume
// (lib/activate/dev_manager.c); false if it is not one, or a part of one.
func ParseMapper(name, uuid string) (vg, lv, lvUUID string, ok bool) {
	ids, ok := strings.CutPrefix(uuid, "LVM-")
	if !ok || len(ids) != 64 {
		return "", "", "", false
	}
	const hyphen = "\x00" // no name has it
	vg, lv, ok = strings.Cut(strings.ReplaceAll(name, "--", hyphen), "-")
	unescape := func(s string) string { return strings.ReplaceAll(s, hyphen, "-") }
	return unescape(vg), unescape(lv), formatUUID(ids[32:]), ok
}

// MapperGroupUUID returns the UUID of the volume group in such a UUID; "" for any other.
func MapperGroupUUID(uuid string) string {
	ids, ok := strings.CutPrefix(uuid, "LVM-")
	if !ok || len(ids) < 32 {
		return ""
	}
	return formatUUID(ids[:32])
}

// formatUUID inserts the hyphens that lvm shows into 32 characters of a UUID.
func formatUUID(id string) string {
	var parts []string
	for _, n := range []int{6, 4, 4, 4, 4, 4, 6} {
		parts = append(parts, id[:n])
		id = id[n:]
	}
	return strings.Join(parts, "-")
}

// HasTag reports whether the logical volume has a tag.
func (l LV) HasTag(tag string) bool { return slices.Contains(l.Tags, tag) }

// HasTag reports whether the volume group has a tag.
func (v VG) HasTag(tag string) bool { return slices.Contains(v.Tags, tag) }

// State is what lvm knows of the devices that it may scan.
type State struct {
	VGs []VG
	// Orphans are physical volumes in no volume group.
	Orphans []PV
	// Problems are errors of lvm or of parsing its report. The other fields are valid
	// nevertheless.
	Problems []string
}

// Ref is the group's name and UUID.
func (v VG) Ref() VGRef { return VGRef{v.Name, v.UUID} }

// VG finds a volume group by name, the first if several have it.
func (s State) VG(name string) (VG, bool) {
	return s.find(func(v VG) bool { return v.Name == name })
}

// Find finds a volume group by its UUID, or by its name if the UUID is "".
func (s State) Find(g VGRef) (VG, bool) {
	return s.find(func(v VG) bool { return v.UUID == g.UUID || g.UUID == "" && v.Name == g.Name })
}

func (s State) find(is func(VG) bool) (VG, bool) {
	if i := slices.IndexFunc(s.VGs, is); i >= 0 {
		return s.VGs[i], true
	}
	return VG{}, false
}

// reportArgs request no attribute of logical volumes for which lvm would query the device mapper
// for each of them: there may be hundreds.
var reportArgs = []string{
	"fullreport", "--units", "b", "--nosuffix",
	"--configreport", "vg", "-o", "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_tags,vg_missing_pv_count,vg_mda_size,vg_mda_free",
	"--configreport", "pv", "-o", "pv_name,pv_uuid,dev_size,pv_size,pv_free,pe_start,pv_missing",
	"--configreport", "lv", "-o", "lv_name,lv_uuid,lv_size,lv_tags",
	"--configreport", "seg", "-o", "lv_uuid,segtype,stripes,seg_pe_ranges",
	"--configreport", "pvseg", "-o", "pv_uuid",
}

// Report reads the state of all volume groups. Groups that cannot be read or parsed do not hide
// others: they are in Problems.
func (c *Client) Report(ctx context.Context) (State, error) {
	a, err := c.read(ctx, reportArgs...)
	if err != nil {
		return State{}, err
	}
	reason := a.failure()
	if reason != "" && len(a.Report) == 0 {
		return State{}, classify(reportArgs[0], reason)
	}
	s := parseReport(a.Report)
	if reason != "" {
		s.Problems = append(s.Problems, reason)
	}
	mapped, err := blockdev.MappedDevices()
	if err != nil {
		return State{}, err
	}
	s.setActive(mapped)
	c.mu.Lock()
	c.last = s
	c.mu.Unlock()
	return s, nil
}

// setActive marks the logical volumes that have a device. The device mapper identifies them by the
// UUIDs of the group and of the volume.
func (s State) setActive(mapped []blockdev.Mapped) {
	up := map[string]bool{}
	for _, m := range mapped {
		up[m.UUID] = true
	}
	for _, vg := range s.VGs {
		for i, lv := range vg.LVs {
			vg.LVs[i].Active = up["LVM-"+strings.ReplaceAll(vg.UUID+lv.UUID, "-", "")]
		}
	}
}

// All values in lvm's JSON are strings.
type (
	vgRow struct {
		Name    string `json:"vg_name"`
		UUID    string `json:"vg_uuid"`
		Size    string `json:"vg_size"`
		Free    string `json:"vg_free"`
		Extent  string `json:"vg_extent_size"`
		Tags    string `json:"vg_tags"`
		Missing string `json:"vg_missing_pv_count"`
		MDASize string `json:"vg_mda_size"`
		MDAFree string `json:"vg_mda_free"`
	}
	pvRow struct {
		Name    string `json:"pv_name"`
		UUID    string `json:"pv_uuid"`
		DevSize string `json:"dev_size"`
		Size    string `json:"pv_size"`
		Free    string `json:"pv_free"`
		Start   string `json:"pe_start"`
		Missing string `json:"pv_missing"`
	}
	lvRow struct {
		Name string `json:"lv_name"`
		UUID string `json:"lv_uuid"`
		Size string `json:"lv_size"`
		Tags string `json:"lv_tags"`
	}
	segRow struct {
		LVUUID  string `json:"lv_uuid"`
		Type    string `json:"segtype"`
		Stripes string `json:"stripes"`
		Ranges  string `json:"seg_pe_ranges"`
	}
)

func parseReport(objects []map[string]json.RawMessage) State {
	var s State
	for _, o := range objects {
		if err := s.add(o); err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
	}
	slices.SortFunc(s.VGs, func(a, b VG) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UUID, b.UUID)) })
	return s
}

// add adds an object of the report: a volume group, or the orphans.
func (s *State) add(o map[string]json.RawMessage) error {
	var (
		vgs  []vgRow
		pvs  []pvRow
		lvs  []lvRow
		segs []segRow
	)
	for key, into := range map[string]any{"vg": &vgs, "pv": &pvs, "lv": &lvs, "seg": &segs} {
		if raw, ok := o[key]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return fmt.Errorf("lvm's report of %s: %w", key, err)
			}
		}
	}
	var n numbers
	var vg VG
	if len(vgs) == 1 {
		v := vgs[0]
		vg = VG{Name: v.Name, UUID: v.UUID, Size: n.parse(v.Size), Free: n.parse(v.Free), ExtentSize: n.parse(v.Extent), Tags: list(v.Tags), PartialPVMissing: n.parse(v.Missing) > 0}
		vg.MetadataSize, vg.MetadataFree = n.parse(v.MDASize), n.parse(v.MDAFree)
	}
	var orphans []PV
	missing := map[string]bool{} // by name
	for _, p := range pvs {
		missing[p.Name] = missing[p.Name] || p.Missing != ""
		pv := PV{Name: p.Name, UUID: p.UUID, VG: vg.Name, DeviceSize: n.parse(p.DevSize), Size: n.parse(p.Size), Free: n.parse(p.Free), DataStart: n.parse(p.Start)}
		if vg.Name == "" {
			orphans = append(orphans, pv)
		} else {
			vg.PVs = append(vg.PVs, pv)
		}
	}
	segsOf := map[string][]segRow{}
	for _, seg := range segs {
		segsOf[seg.LVUUID] = append(segsOf[seg.LVUUID], seg)
	}
	for _, l := range lvs {
		lv := LV{Name: l.Name, UUID: l.UUID, VG: vg.Name, VGUUID: vg.UUID, Size: n.parse(l.Size), Tags: list(l.Tags)}
		for _, seg := range segsOf[l.UUID] {
			if lv.Type == "" {
				lv.Type, lv.Stripes = seg.Type, int(n.parse(seg.Stripes))
			}
			for _, r := range strings.Fields(seg.Ranges) {
				lv.Ranges = append(lv.Ranges, r)
				lv.Partial = lv.Partial || missing[DeviceOfRange(r)]
			}
		}
		vg.LVs = append(vg.LVs, lv)
	}
	if n.err != nil {
		return fmt.Errorf("lvm's report of %s: %w", vg.Name, n.err)
	}
	s.Orphans = append(s.Orphans, orphans...)
	if vg.Name != "" {
		slices.SortFunc(vg.PVs, func(a, b PV) int { return cmp.Compare(a.Name, b.Name) })
		slices.SortFunc(vg.LVs, func(a, b LV) int { return cmp.Compare(a.Name, b.Name) })
		s.VGs = append(s.VGs, vg)
	}
	return nil
}

// numbers parses numbers and keeps the first error.
type numbers struct{ err error }

func (n *numbers) parse(s string) uint64 {
	if s == "" {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil && n.err == nil {
		n.err = err
	}
	return v
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
