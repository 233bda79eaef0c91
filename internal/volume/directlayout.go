package volume

import (
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// directLayout is the layout of volumes that are namespaces.
type directLayout struct{}

func (directLayout) validate(spec Spec) error {
	switch {
	case spec.VG != "":
		return errs.New(errs.Invalid, subject(spec.Name), "a direct volume does not belong to a volume group", "omit --vg, or use --type lvm")
	case spec.Stripe:
		return errs.New(errs.Invalid, subject(spec.Name), "a direct volume is in one region and cannot be striped", "omit --stripe, or use --type lvm")
	}
	return nil
}

func (directLayout) places(v View, spec Spec) ([]place, error) {
	var places []place
	var usable []string
	for _, r := range v.PMEM.Regions {
		if reason, next := v.Unusable(r); reason != "" {
			if spec.Region == r.Dev {
				return nil, errs.New(errs.Unsupported, "region "+r.Dev, reason, next)
			}
			continue
		}
		usable = append(usable, r.Dev)
		if !v.mayUse(r.Dev, spec) {
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
		if err := v.noMapSync(spec, usable); err != nil {
			return nil, err
		}
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
		if reason, next := v.Unusable(r); reason != "" {
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
	if err := noCXLRegion(s); err != nil {
		return err
	}
	if len(s.Buses) == 0 {
		return errs.New(errs.NotFound, "", "no persistent memory found: the kernel shows no NVDIMM bus",
			"see what the firmware offers: dmesg | grep -iE 'nvdimm|nfit|cxl|persistent'")
	}
	return errs.New(errs.NotFound, "", "no persistent memory found: there is a bus "+s.Buses[0].Dev+", but no region on it",
		"check whether the DIMMs are configured for App Direct in the firmware: pmemctl dimm list")
}

// noCXLRegion is the error for a host whose CXL memory is in no region.
func noCXLRegion(s pmem.System) error {
	var devices, commands []string
	for _, m := range s.Memdevs {
		if len(m.Regions) > 0 {
			continue
		}
		devices = append(devices, m.Describe())
		if m.Decoder != "" {
			commands = append(commands, m.CreateRegion())
		}
	}
	if len(devices) == 0 {
		return nil
	}
	next := "see why no decoder can address persistent memory: cxl list -D"
	if len(commands) > 0 {
		next = "create the saved ones: pmemctl region restore; or new ones: " + strings.Join(commands, "; ") + "; then: pmemctl region save"
	}
	return errs.New(errs.NotFound, "", "no persistent memory found: CXL memory is in no region: "+strings.Join(devices, ", "), next)
}

// Unusable says why no namespace can be created in a region, and what to do; "" if one can, or if
// the region is only full.
func (v View) Unusable(r pmem.Region) (reason, next string) {
	switch {
	case r.Type != "pmem":
		return "is of type " + r.Type + ", not pmem", "use another region: pmemctl region list"
	case !r.Enabled():
		return "is disabled", "pmemctl region enable " + r.Dev
	case r.ReadOnly:
		return "is read-only", "use another region: pmemctl region list"
	case !r.Labels && v.WholeOwner(r) != "":
		return "has no labels, so it cannot be divided, and belongs to volume group " + v.WholeOwner(r), "use an lvm volume, which has DAX as well"
	case !r.Labels && !v.labelsPossible(r):
		return "cannot have labels, so it is a single namespace and cannot be divided", "give it to a volume group, for lvm volumes: pmemctl vg init " + r.Dev + " --whole (destroys what is in it)"
	case !r.Labels:
		return "has no labels, so it is a single namespace and cannot be divided", "pmemctl region init-labels " + r.Dev + " (destroys what is in it)"
	}
	return v.lostOrder(r)
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

// sizeForCapacity is 1, because the capacity of a region does not depend on the request.
func (directLayout) sizeForCapacity() uint64 { return 1 }

func (directLayout) sizeFor(v View, vol Volume, spec Spec) uint64 {
	r, _ := v.PMEM.Region(first(vol.Regions))
	raw, err := pmem.RawFor(spec.Size, pmem.MapDev, pmem.DefaultAlign, r.SizeAlign(pmem.DefaultAlign))
	if err != nil {
		return 0
	}
	// Earlier versions gave a volume all usable bytes of its namespace.
	if most := pmem.Usable(raw, pmem.MapDev, pmem.DefaultAlign); vol.Size == most {
		return most
	}
	return directSize(spec.Size, raw)
}

func (directLayout) free(v View, vol Volume) (free, total uint64) {
	r, _ := v.PMEM.Region(first(vol.Regions))
	return r.AvailableSize, r.Size
}

func (directLayout) place(vol Volume) string { return "region " + first(vol.Regions) }

func (directLayout) where(vol Volume) string { return "namespace " + vol.Namespace }

func (directLayout) damaged(vol Volume) error {
	return errs.New(errs.Unsupported, subject(vol.Name), "is damaged: "+vol.damage, "keep it if you need its data, and "+vol.next)
}

func (directLayout) isCopy(vol Volume) bool {
	id, err := uuid.Parse(vol.UUID)
	return err == nil && id.Version() == 5 // from copyUUIDs; all other UUIDs are random
}

func (directLayout) isCopyOf(vol Volume, source string) bool {
	for id := range copyUUIDs(vol.Name, source) {
		if vol.UUID == id {
			return true
		}
	}
	return false
}

// capacityOf returns the capacity of a usable region for direct volumes.
func capacityOf(r pmem.Region) Capacity {
	align := r.SizeAlign(pmem.DefaultAlign)
	c := Capacity{Type: TypeDirect, Region: r.Dev, Total: r.Size}
	if r.LabelsFull {
		c.Reason = "the label area of its DIMMs has no room for another namespace"
		return c
	}
	c.Free = pmem.Usable(pmem.RoundDown(r.AvailableSize, align), pmem.MapDev, pmem.DefaultAlign)
	c.Largest = pmem.Usable(r.MaxRaw(pmem.DefaultAlign), pmem.MapDev, pmem.DefaultAlign)
	if raw, err := pmem.RawFor(1, pmem.MapDev, pmem.DefaultAlign, align); err == nil {
		c.Smallest = directSize(1, raw)
	}
	return c
}

// directSize returns the usable size of a direct volume of a requested size in a namespace of a
// raw size.
func directSize(asked, raw uint64) uint64 {
	if !ownInfoBlocks {
		return pmem.Usable(raw, pmem.MapDev, pmem.DefaultAlign)
	}
	return pmem.RoundUp(asked, pmem.DefaultAlign)
}

// copyUUIDs returns possible UUIDs for the namespace of a copy, which identify its source. There
// are many, because deleted copies may not be erased yet.
func copyUUIDs(name, source string) iter.Seq[string] {
	const most = 1000
	return func(yield func(string) bool) {
		for n, text := 0, "pmemctl:copy/"+source+"/"+name; n < most; n++ {
			if n > 0 {
				text = fmt.Sprintf("pmemctl:copy/%s/%s/%d", source, name, n)
			}
			if !yield(uuid.NewSHA1(uuid.NameSpaceURL, []byte(text)).String()) {
				return
			}
		}
	}
}
