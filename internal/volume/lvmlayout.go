package volume

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// lvmLayout is the layout of volumes that are logical volumes.
type lvmLayout struct{}

func (lvmLayout) validate(spec Spec) error {
	if spec.VG != "" && spec.Region != "" {
		return errs.New(errs.Invalid, subject(spec.Name), "cannot have both a region and a volume group", "use --region or --vg")
	}
	return nil
}

func (lvmLayout) places(v View, spec Spec) ([]place, error) {
	var places []place
	for _, vg := range v.OwnVGs() {
		if v.whole(vg.Ref()) != nil || spec.VG != "" && vg.Name != spec.VG {
			continue
		}
		name := "volume group " + vg.Name
		var devices []string
		all := v.VGRegions(vg)
		if some := slices.DeleteFunc(slices.Clone(all), func(r string) bool { return !v.mayUse(r, spec) }); len(some) == 0 {
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
		if p.full = MetadataFull(vg); p.full != "" {
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
	var regions []string
	for _, vg := range v.OwnVGs() {
		if spec.VG == "" || vg.Name == spec.VG {
			regions = append(regions, v.VGRegions(vg)...)
		}
	}
	if err := v.noMapSync(spec, regions); err != nil {
		return nil, err
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
			return nil, errs.New(errs.Conflict, "volume group "+spec.VG, "was not created by pmemctl and is left unchanged", "list pmemctl's groups: pmemctl vg list; to take it over: pmemctl adopt "+spec.VG)
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

// sizeForCapacity exceeds any group, so the largest volume is the one with the best number of
// stripes.
func (lvmLayout) sizeForCapacity() uint64 { return maxSize }

func (lvmLayout) sizeFor(v View, vol Volume, spec Spec) uint64 {
	vg, _ := v.LVM.Find(vol.group())
	return pmem.RoundUp(spec.Size, vg.ExtentSize*uint64(max(vol.Stripes, 1)))
}

func (lvmLayout) free(v View, vol Volume) (free, total uint64) {
	vg, _ := v.LVM.Find(vol.group())
	return vg.Free, vg.Size
}

func (lvmLayout) place(vol Volume) string { return "volume group " + vol.VG }

func (lvmLayout) where(vol Volume) string { return "logical volume " + vol.VG + "/" + vol.Name }

func (lvmLayout) damaged(vol Volume) error {
	return errs.New(errs.Unsupported, subject(vol.Name), "is damaged: LVM reports "+vol.Health, "see what is missing: pmemctl tree; pvs -a")
}

func (lvmLayout) isCopy(vol Volume) bool { return vol.copyOf != "" }

func (lvmLayout) isCopyOf(vol Volume, source string) bool { return vol.copyOf == source }

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

// roomToGrow returns how much a volume can grow in its group, and the devices to allocate extents
// from; none means any. It stays in its regions if they have room for some bytes, and always if it
// is striped; and it stays where the kernel permits MAP_SYNC.
func (v View) roomToGrow(vg lvm.VG, vol Volume, by uint64) (devices []string, most uint64) {
	within, devices := v.onlyIn(vg, vol.Regions)
	if vol.Stripes > 1 || by <= largestLV(within, 1) {
		return devices, largestLV(within, max(vol.Stripes, 1))
	}
	refusing := func(r string) bool { return !v.PMEM.MapSync(r) }
	if all := v.VGRegions(vg); !vol.NoMapSync && slices.ContainsFunc(all, refusing) {
		within, devices = v.onlyIn(vg, slices.DeleteFunc(slices.Clone(all), refusing))
		return devices, largestLV(within, 1)
	}
	return nil, largestLV(vg, 1)
}

// metadataReserve is the free space, in bytes, that must remain in LVM's metadata area to mark and
// expand volumes: about a hundred times what such a change adds.
const metadataReserve = 32 * pmem.KiB

// MetadataFull says why no volume can be created in a volume group; "" if one can.
func MetadataFull(vg lvm.VG) string {
	if vg.MetadataSize == 0 || vg.MetadataFree >= metadataReserve { // 0: unknown
		return ""
	}
	return "its metadata area has no room for another volume"
}
