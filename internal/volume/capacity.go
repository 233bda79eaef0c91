package volume

import (
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Capacity is what one place has and can still take. Sizes are bytes, and what
// volumes would offer: usable.
type Capacity struct {
	Type   Type   `json:"type"`
	Region string `json:"region,omitempty"`
	VG     string `json:"vg,omitempty"`
	// Total is the size of the region (raw) or of the volume group.
	Total uint64 `json:"total"`
	// Free is what is not taken, and Largest the largest volume that can be made.
	Free    uint64 `json:"free"`
	Largest uint64 `json:"largest_possible"`
	// Erasing is what deleted volumes still take: it is free when they are erased.
	Erasing uint64 `json:"erasing"`
	// Smallest is the size of the smallest volume that can be made there.
	Smallest uint64 `json:"smallest_possible"`
	// Reason says why nothing can be made there.
	Reason string `json:"reason,omitempty"`
}

// Capacities lists what each region can take as direct volumes, and each volume
// group of pmemctl's as lvm volumes.
func (v View) Capacities() []Capacity {
	all := []Capacity{}
	for _, r := range v.PMEM.Regions {
		c := Capacity{Type: TypeDirect, Region: r.Dev, Total: r.Size}
		if reason, _ := unusable(r, v); reason != "" {
			c.Reason = reason
		} else {
			c = capacityOf(r)
		}
		all = append(all, c)
	}
	for _, vg := range v.OwnVGs() {
		if vg.PartialPVMissing {
			all = append(all, Capacity{Type: TypeLVM, VG: vg.Name, Total: vg.Size, Reason: "one of its devices is missing"})
			continue
		}
		if v.whole(vg.Ref()) != nil {
			all = append(all, Capacity{Type: TypeLVM, VG: vg.Name, Total: vg.Size, Reason: "it is damaged"})
			continue
		}
		if reason := metadataFull(vg); reason != "" {
			all = append(all, Capacity{Type: TypeLVM, VG: vg.Name, Total: vg.Size, Reason: reason})
			continue
		}
		all = append(all, Capacity{Type: TypeLVM, VG: vg.Name, Total: vg.Size, Free: vg.Free, Largest: largestLV(vg, 1), Smallest: vg.ExtentSize})
	}
	for _, vol := range inState(v.Volumes(), Deleting) {
		for i, c := range all {
			if c.Type == vol.Type && (vol.Type == TypeLVM && c.VG == vol.VG || vol.Type == TypeDirect && c.Region == first(vol.Regions)) {
				all[i].Erasing += vol.RawSize
			}
		}
	}
	return all
}

// capacityOf is what a region that can be used can take as direct volumes.
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

// metadataReserve is what is left free of LVM's metadata, in bytes, so that volumes can be
// marked and grown: some hundred times what a change adds to it.
const metadataReserve = 32 * pmem.KiB

// metadataFull says why nothing can be made in a volume group; "" when something can.
func metadataFull(vg lvm.VG) string {
	if vg.MetadataSize == 0 || vg.MetadataFree >= metadataReserve { // 0: not known
		return ""
	}
	return "its metadata area has no room for another volume"
}

func (v View) capacityFor(spec Spec) Capacity {
	c := Capacity{Type: spec.Type}
	// More than there is: the largest volume is one over as many stripes as give most.
	spec.Size = maxSize
	if spec.Type == TypeDirect {
		spec.Size = 1
	}
	places, err := v.placesFor(spec)
	if err != nil {
		return c // no region or group that would take one
	}
	for _, p := range places {
		if p.full != "" {
			c.Reason = p.full
			continue
		}
		c.Free += p.free
		c.Largest = max(c.Largest, p.largest)
		if c.Smallest == 0 || p.smallest < c.Smallest {
			c.Smallest = p.smallest
		}
	}
	if spec.FS == mount.XFS {
		c.Smallest = max(c.Smallest, mount.MinXFS)
	}
	if c.Largest < c.Smallest {
		c.Largest = 0
	}
	if c.Largest > 0 {
		c.Reason = "" // there is another place
	}
	return c
}
