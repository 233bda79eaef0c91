package volume

import (
	"github.com/pmemctl/pmemctl/internal/mount"
)

// Capacity is the size and the free space of one place. Sizes are usable bytes, as volumes would
// offer them.
type Capacity struct {
	Type   Type   `json:"type"`
	Region string `json:"region,omitempty"`
	VG     string `json:"vg,omitempty"`
	// Total is the size of the region (raw) or of the volume group.
	Total uint64 `json:"total"`
	// Free is the free space, and Largest the largest volume that can be created.
	Free    uint64 `json:"free"`
	Largest uint64 `json:"largest_possible"`
	// Erasing is the space of deleted volumes that is free once they are erased.
	Erasing uint64 `json:"erasing"`
	// Smallest is the size of the smallest volume that can be created there.
	Smallest uint64 `json:"smallest_possible"`
	// Reason says why no volume can be created there.
	Reason string `json:"reason,omitempty"`
}

// Capacities lists the capacity of each region for direct volumes, and of each of pmemctl's volume
// groups for lvm volumes.
func (v View) Capacities() []Capacity {
	all := []Capacity{}
	for _, r := range v.PMEM.Regions {
		c := Capacity{Type: TypeDirect, Region: r.Dev, Total: r.Size}
		if reason, _ := v.Unusable(r); reason != "" {
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
		if reason := MetadataFull(vg); reason != "" {
			all = append(all, Capacity{Type: TypeLVM, VG: vg.Name, Total: vg.Size, Reason: reason})
			continue
		}
		all = append(all, Capacity{Type: TypeLVM, VG: vg.Name, Total: vg.Size, Free: vg.Free, Largest: largestLV(vg, 1), Smallest: vg.ExtentSize})
	}
	for _, vol := range inState(v.Volumes(), Deleting) {
		for i, c := range all {
			if c.Type == vol.Type && c.VG == vol.VG && (c.Region == "" || c.Region == first(vol.Regions)) {
				all[i].Erasing += vol.RawSize
			}
		}
	}
	return all
}

// sized replaces Max by the size of the largest volume that fits, or of the smallest one if none
// does, for the error.
func (v View) sized(spec Spec) Spec {
	if !spec.Max {
		return spec
	}
	spec.Max = false
	c := v.capacityFor(spec)
	size := c.Largest
	if spec.Limit != 0 && size > spec.Limit {
		size = v.largestBelow(spec)
	}
	spec.Size = max(spec.Size, size, c.Smallest, 1)
	return spec
}

// largestBelow returns the size of the largest volume up to the limit of the spec; 0 if there is
// none.
func (v View) largestBelow(spec Spec) (largest uint64) {
	spec.Size = spec.Limit
	places, err := layoutOf(spec.Type).places(v, spec)
	if err != nil {
		return 0
	}
	for _, p := range places {
		size := p.plan.Usable
		if size > spec.Limit {
			size = p.below
		}
		if p.full == "" {
			largest = max(largest, min(size, p.largest))
		}
	}
	return largest
}

func (v View) capacityFor(spec Spec) Capacity {
	c := Capacity{Type: spec.Type}
	spec.Size = layoutOf(spec.Type).sizeForCapacity()
	places, err := layoutOf(spec.Type).places(v, spec)
	if err != nil {
		return c // no suitable region or group
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
