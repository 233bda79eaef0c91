package volume

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Plan is the place of a volume and the space it takes. Sizes are bytes.
type Plan struct {
	Name   string `json:"name"`
	Type   Type   `json:"type"`
	Region string `json:"region,omitempty"`
	VG     string `json:"vg,omitempty"`
	// Asked is the requested size, Usable the size that the volume will have.
	Asked  uint64 `json:"asked"`
	Usable uint64 `json:"usable"`
	// Raw is what the volume takes of its region or volume group, and Overhead the part of it that
	// is not usable.
	Raw      uint64 `json:"raw"`
	Overhead uint64 `json:"overhead"`
	// FreeAfter is the free raw space that remains there.
	FreeAfter uint64 `json:"free_after"`
	// Largest is the usable size of the largest volume that could be created there instead.
	Largest uint64 `json:"largest_possible"`
	Stripes int    `json:"stripes,omitempty"`
	// Exists says that the volume already exists as requested.
	Exists bool `json:"exists"`

	vgUUID  string
	devices []string // devices to allocate extents from; none means any
	copyOf  string   // UUID of the source if it is a copy
	uuid    string   // UUID for the namespace; "" is any
	forFS   bool     // a file system hides what is not zeroed
}

// place is a place in which a volume could be created.
type place struct {
	name string // "region0", "volume group pmemvgregion0"
	plan Plan
	// Usable bytes: free is the free space, largest and smallest the limits for a volume.
	free, largest, smallest uint64
	// rawFree is the free raw space in bytes.
	rawFree uint64
	// full says why no volume can be created there despite free space; "" if one can.
	full string
	// below is the next smaller size than that of the plan; 0 if there is none.
	below uint64
}

// plan chooses the place with the least sufficient room, so that large volumes remain possible.
func (v View) plan(spec Spec) (Plan, error) {
	places, err := v.placesFor(spec)
	if err != nil {
		return Plan{}, err
	}
	best, aboveLimit := -1, -1
	var largest place
	for i, p := range places {
		if p.largest > largest.largest || i == 0 {
			largest = p
		}
		if p.full != "" || p.plan.Usable > p.largest {
			continue
		}
		if spec.Limit != 0 && p.plan.Usable > spec.Limit {
			if aboveLimit < 0 || p.plan.Usable < places[aboveLimit].plan.Usable {
				aboveLimit = i
			}
			continue
		}
		if best < 0 || p.largest < places[best].largest {
			best = i
		}
	}
	switch {
	case best < 0 && aboveLimit >= 0:
		usable, below := places[aboveLimit].plan.Usable, places[aboveLimit].below
		next := fmt.Sprintf("raise the limit to %d bytes", usable)
		if below > 0 {
			next += fmt.Sprintf(", or request %d bytes, the next smaller size", below)
		}
		return Plan{}, errs.New(errs.OutOfRange, subject(spec.Name),
			fmt.Sprintf("the smallest possible size of at least %s is %s, above the limit of %s", pmem.FormatSize(spec.Size), pmem.FormatSize(usable), pmem.FormatSize(spec.Limit)),
			next)
	case best < 0:
		return Plan{}, v.noSpace(spec, places, largest)
	}
	plan := places[best].plan
	plan.Largest = places[best].largest
	return plan, nil
}

func (v View) placesFor(spec Spec) ([]place, error) {
	if spec.Type == TypeDirect {
		return v.directPlaces(spec)
	}
	return v.lvmPlaces(spec)
}

func (v View) noSpace(spec Spec, places []place, largest place) error {
	if i := slices.IndexFunc(places, func(p place) bool { return p.full != "" }); i >= 0 && largest.largest == 0 {
		return errs.New(errs.NoSpace, subject(spec.Name), "no volume fits in "+places[i].name+": "+places[i].full, "delete volumes that are not needed: pmemctl volume list; or use another region or group: pmemctl capacity")
	}
	next := "see what is free: pmemctl capacity"
	switch {
	case len(v.erasingFor(spec, func(Volume) bool { return false })) > 0:
		next = "reclaim the space of deleted volumes: pmemctl gc"
	case largest.largest > 0 && spec.FS == mount.XFS && largest.largest < mount.MinXFS:
	case largest.largest > 0:
		next = fmt.Sprintf("use --size %d or less, or free space: pmemctl volume list", largest.largest)
	}
	return errs.New(errs.NoSpace, subject(spec.Name),
		fmt.Sprintf("%s does not fit; the largest possible %s volume is %s, in %s", pmem.FormatSize(spec.Size), spec.Type, pmem.FormatSize(largest.largest), largest.name), next)
}

func (v View) directPlaces(spec Spec) ([]place, error) {
	var places []place
	for _, r := range v.PMEM.Regions {
		if !spec.mayUse(r.Dev) {
			continue
		}
		if reason, next := unusable(r, v); reason != "" {
			if spec.Region != "" {
				return nil, errs.New(errs.Unsupported, "region "+r.Dev, reason, next)
			}
			continue
		}
		raw, err := pmem.RawFor(spec.Size, pmem.MapDev, pmem.DefaultAlign, r.SizeAlign(pmem.DefaultAlign))
		if err != nil {
			return nil, errs.Wrap(errs.OutOfRange, subject(spec.Name), "is too large", "see what fits: pmemctl capacity", err)
		}
		usable := directSize(spec.Size, raw)
		free := r.AvailableSize
		c := capacityOf(r)
		p := place{name: r.Dev, free: c.Free, largest: c.Largest, smallest: c.Smallest, full: c.Reason, rawFree: free}
		p.plan = Plan{Name: spec.Name, Type: TypeDirect, Region: r.Dev, Asked: spec.Size, Usable: usable, Raw: raw, Overhead: raw - usable}
		if free >= raw {
			p.plan.FreeAfter = free - raw
		}
		if step := r.SizeAlign(pmem.DefaultAlign); usable > c.Smallest {
			p.below = pmem.Usable(raw-step, pmem.MapDev, pmem.DefaultAlign)
			if ownInfoBlocks {
				p.below = usable - pmem.DefaultAlign
			}
		}
		places = append(places, p)
	}
	if len(places) == 0 {
		return nil, v.noRegion(spec.Region)
	}
	return places, nil
}

// noRegion is the error if there is no region to use.
func (v View) noRegion(wanted string) error {
	if r, ok := v.PMEM.Region(wanted); ok {
		return errs.New(errs.NoSpace, "region "+r.Dev, "is not one of the regions that the topology requires", "request a topology that includes it, or omit the region")
	}
	if wanted != "" {
		return errs.New(errs.NotFound, "region "+wanted, "does not exist", "see what there is: pmemctl region list")
	}
	if len(v.PMEM.Regions) == 0 {
		return NoPMEM(v.PMEM)
	}
	for _, r := range v.PMEM.Regions {
		if reason, next := unusable(r, v); reason != "" {
			return errs.New(errs.Unsupported, "region "+r.Dev, reason, next)
		}
	}
	return errs.New(errs.Unsupported, "", "no region can be used", "see why: pmemctl region list -o wide")
}

// NoPMEM is the error for a host without usable PMEM.
func NoPMEM(s pmem.System) error {
	if s.NoDriver {
		return errs.New(errs.NotFound, "", "no persistent memory found: the kernel's NVDIMM driver is not loaded", "modprobe nfit (for CXL memory: modprobe cxl_pmem)")
	}
	if len(s.Buses) == 0 {
		return errs.New(errs.NotFound, "", "no persistent memory found: the kernel shows no NVDIMM bus",
			"see what the firmware offers: dmesg | grep -iE 'nvdimm|nfit|cxl|persistent'")
	}
	return errs.New(errs.NotFound, "", "no persistent memory found: there is a bus "+s.Buses[0].Dev+", but no region on it",
		"check whether the DIMMs are configured for App Direct in the firmware: pmemctl dimm list")
}

// unusable says why no namespace can be created in a region, and what to do; "" if one can, or if
// the region is only full.
func unusable(r pmem.Region, v View) (reason, next string) {
	switch {
	case r.Type != "pmem":
		return "is of type " + r.Type + ", not pmem", "use another region: pmemctl region list"
	case !r.Enabled():
		return "is disabled", "pmemctl region enable " + r.Dev
	case r.ReadOnly:
		return "is read-only", "use another region: pmemctl region list"
	case !r.Labels && !v.labelsPossible(r):
		return "has DIMMs without room for labels, so it is a single namespace and cannot be divided", "use it whole: pmemctl namespace create --region " + r.Dev + " --mode fsdax --force"
	case !r.Labels:
		return "has no labels, so it is a single namespace and cannot be divided", "pmemctl region init-labels " + r.Dev + " (destroys what is in it)"
	}
	return "", ""
}

// labelsPossible reports whether all DIMMs of a region can hold labels.
func (v View) labelsPossible(r pmem.Region) bool {
	if len(r.Mappings) == 0 {
		return false
	}
	for _, m := range r.Mappings {
		for _, d := range v.PMEM.DIMMs {
			if d.Dev == m.DIMM && d.LabelSize == 0 {
				return false
			}
		}
	}
	return true
}

func (v View) lvmPlaces(spec Spec) ([]place, error) {
	var places []place
	for _, vg := range v.OwnVGs() {
		if v.whole(vg.Ref()) != nil || spec.VG != "" && vg.Name != spec.VG {
			continue
		}
		name := "volume group " + vg.Name
		var devices []string
		all := v.VGRegions(vg)
		if some := slices.DeleteFunc(slices.Clone(all), func(r string) bool { return !spec.mayUse(r) }); len(some) == 0 {
			continue
		} else if len(some) < len(all) {
			vg, devices = v.onlyIn(vg, some)
			name += " in " + strings.Join(some, ", ")
		}
		stripes, largest := 1, vg.Free
		if spec.Stripe {
			if devices, largest = v.stripes(vg, spec.Size); len(devices) < 2 {
				continue
			}
			stripes = len(devices)
		}
		step := vg.ExtentSize * uint64(stripes)
		usable := pmem.RoundUp(spec.Size, step)
		p := place{name: name, free: vg.Free, rawFree: vg.Free, smallest: step, largest: largest, below: usable - step}
		if p.full = metadataFull(vg); p.full != "" {
			p.free, p.largest = 0, 0
		}
		p.plan = Plan{Name: spec.Name, Type: TypeLVM, VG: vg.Name, vgUUID: vg.UUID, Asked: spec.Size, Usable: usable, Raw: usable, devices: devices}
		if stripes > 1 {
			p.plan.Stripes = stripes
		}
		if vg.Free >= usable {
			p.plan.FreeAfter = vg.Free - usable
		}
		places = append(places, p)
	}
	if len(places) > 0 {
		return places, nil
	}
	for _, vg := range v.OwnVGs() {
		if err := v.whole(vg.Ref()); err != nil && (spec.VG == "" || spec.VG == vg.Name) {
			return nil, err
		}
	}
	for _, d := range v.Damage() {
		if d.VG != "" && (spec.VG == "" || spec.VG == d.VG) {
			return nil, d.Error()
		}
	}
	if spec.VG != "" {
		if vg, ok := v.group(spec.VG); ok && !v.Owns(vg) {
			return nil, errs.New(errs.Conflict, "volume group "+spec.VG, "was not created by pmemctl and is left unchanged", "list pmemctl's groups: pmemctl vg list")
		}
		return nil, errs.New(errs.NotFound, "volume group "+spec.VG, "does not exist", "see what there is: pmemctl vg list")
	}
	if spec.Region != "" {
		if _, ok := v.PMEM.Region(spec.Region); !ok {
			return nil, v.noRegion(spec.Region)
		}
	}
	if spec.Stripe && len(v.OwnVGs()) > 0 {
		return nil, errs.New(errs.Unsupported, subject(spec.Name), "cannot be striped: no volume group has room in two or more regions", "omit --stripe, or create a group over several regions: pmemctl vg init --span --percent N")
	}
	if spec.Region != "" {
		return nil, errs.New(errs.NotFound, "region "+spec.Region, "has no volume group", "pmemctl vg init "+spec.Region+" --percent N")
	}
	if len(v.PMEM.Regions) == 0 {
		return nil, NoPMEM(v.PMEM)
	}
	return nil, errs.New(errs.NotFound, "", "there is no volume group for lvm volumes", "pmemctl vg init --percent N")
}

// onlyIn reduces a volume group to some regions, and returns its devices there.
func (v View) onlyIn(vg lvm.VG, regions []string) (lvm.VG, []string) {
	var pvs []lvm.PV
	var devices []string
	vg.Free = 0
	for _, pv := range vg.PVs {
		if n, ok := v.namespaceOf(pv.Name); ok && slices.Contains(regions, n.Region) {
			pvs, devices = append(pvs, pv), append(devices, pv.Name)
			vg.Free += pv.Free
		}
	}
	vg.PVs = pvs
	return vg, devices
}

// stripes returns the devices for a striped volume: one of each region, because each region has
// its own memory bus, as far as they have room. largest is the size of the largest volume on them.
func (v View) stripes(vg lvm.VG, size uint64) (devices []string, largest uint64) {
	best := map[string]lvm.PV{}
	for _, pv := range vg.PVs {
		n, _ := v.namespaceOf(pv.Name)
		if have, ok := best[n.Region]; !ok || pv.Free > have.Free {
			best[n.Region] = pv
		}
	}
	byRoom := slices.SortedFunc(maps.Values(best), func(a, b lvm.PV) int {
		return cmp.Or(cmp.Compare(b.Free, a.Free), cmp.Compare(a.Name, b.Name))
	})
	for n := len(byRoom); n > 1; n-- {
		room := pmem.RoundDown(byRoom[n-1].Free, vg.ExtentSize) * uint64(n)
		if room < largest {
			continue
		}
		largest = room
		devices = nil
		for _, pv := range byRoom[:n] {
			devices = append(devices, pv.Name)
		}
		if room >= size {
			break
		}
	}
	slices.Sort(devices)
	return devices, largest
}

// largestLV returns the size in bytes of the largest logical volume with a number of stripes.
func largestLV(vg lvm.VG, stripes int) uint64 {
	if stripes <= 1 {
		return vg.Free
	}
	var free []uint64
	for _, pv := range vg.PVs {
		free = append(free, pv.Free)
	}
	slices.Sort(free)
	if len(free) < stripes {
		return 0
	}
	return pmem.RoundDown(free[len(free)-stripes], vg.ExtentSize) * uint64(stripes)
}
