//go:build cgo

package ndctl

// #include "optional.h"
import "C"

import (
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Select says how much of the system a snapshot reads; less is faster.
type Select struct {
	DIMMs  bool
	Health bool // queries each DIMM's firmware; implies DIMMs
	// Namespaces are those with a size; the kernel's empty seeds are omitted. The DIMMs of regions
	// without labels are included, because they show whether the region can have labels.
	Namespaces bool
	Badblocks  bool // of regions and namespaces
}

// Everything is the whole system.
var Everything = Select{DIMMs: true, Health: true, Namespaces: true, Badblocks: true}

// Snapshot reads the buses and regions, and what else is selected.
func (l Lib) Snapshot(sel Select) (pmem.System, error) {
	s, err := l.read(sel)
	if err != nil {
		return s, err
	}
	hides := func(r pmem.Region) bool { return s.Hidden(r) > 0 }
	if sel.Namespaces && slices.ContainsFunc(s.Regions, hides) {
		// It also looks like this if a namespace was destroyed meanwhile.
		before := s
		if s, err = l.read(sel); err != nil {
			return s, err
		}
		for i, r := range s.Regions {
			was, _ := before.Region(r.Dev)
			s.Regions[i].HiddenSize = min(s.Hidden(r), before.Hidden(was))
		}
	}
	_, err = os.Stat(filepath.Dir(filepath.Clean(sysfsNVDIMM)))
	s.NoDriver = err != nil
	s.Memdevs = cxl.Memdevs(cxl.Root)
	return s, nil
}

func (l Lib) read(sel Select) (pmem.System, error) {
	if s, ok := fromSysfs(sel); ok {
		l.forget()
		return s, nil
	}
	return l.snapshot(sel)
}

// snapshot reads the system through libndctl.
func (l Lib) snapshot(sel Select) (pmem.System, error) {
	l.forget()
	c, done, err := l.context()
	if err != nil {
		return pmem.System{}, err
	}
	defer done(nil)
	var s pmem.System
	for b := range buses(c) {
		bus := snapshotBus(b)
		s.Buses = append(s.Buses, bus)
		withDIMMs := sel.DIMMs || sel.Health
		for r := range regions(b) {
			region := snapshotRegion(r, bus.Dev, sel.Badblocks)
			withDIMMs = withDIMMs || sel.Namespaces && !region.Labels
			s.Regions = append(s.Regions, region)
			if !sel.Namespaces {
				continue
			}
			for n := range namespaces(r) {
				if C.ndctl_namespace_get_size(n) > 0 {
					s.Namespaces = append(s.Namespaces, snapshotNamespace(n, sel.Badblocks))
				}
			}
		}
		if !withDIMMs {
			continue
		}
		for d := range dimms(b) {
			s.DIMMs = append(s.DIMMs, snapshotDIMM(d, bus.Dev, sel.Health))
		}
	}
	sortSystem(&s)
	return s, nil
}

func snapshotBus(b *C.struct_ndctl_bus) pmem.Bus {
	bus := pmem.Bus{
		Dev:      C.GoString(C.ndctl_bus_get_devname(b)),
		Provider: C.GoString(C.ndctl_bus_get_provider(b)),
	}
	switch state := C.ndctl_bus_get_scrub_state(b); {
	case state == 0:
		bus.ScrubState = "idle"
	case state > 0:
		bus.ScrubState = "active"
	}
	return bus
}

func state(enabled C.int) string {
	if enabled == 1 {
		return pmem.StateEnabled
	}
	return pmem.StateDisabled
}

// node converts libndctl's values for a missing node or attribute to nil.
func node(n C.int) *int {
	if n < 0 {
		return nil
	}
	v := int(n)
	return &v
}

func snapshotRegion(r *C.struct_ndctl_region, bus string, withBadblocks bool) pmem.Region {
	region := pmem.Region{
		Dev:               C.GoString(C.ndctl_region_get_devname(r)),
		Bus:               bus,
		Size:              uint64(C.ndctl_region_get_size(r)),
		AvailableSize:     uint64(C.ndctl_region_get_available_size(r)),
		Type:              C.GoString(C.ndctl_region_get_type_name(r)),
		State:             state(C.ndctl_region_is_enabled(r)),
		PersistenceDomain: persistenceDomain(C.ndctl_region_get_persistence_domain(r)),
		TargetNode:        node(C.region_target_node(r)),
		InterleaveWays:    uint(C.ndctl_region_get_interleave_ways(r)),
		Granularity:       cxl.Granularity(cxl.Root, C.GoString(C.ndctl_region_get_devname(r))),
		ReadOnly:          C.ndctl_region_get_ro(r) == 1,
		Mappings:          []pmem.Mapping{},
		Labels:            C.ndctl_region_get_nstype(r) == C.ND_DEVICE_NAMESPACE_PMEM,
	}
	if C.ndctl_region_has_numa(r) == 1 {
		region.NUMANode = node(C.ndctl_region_get_numa_node(r))
	}
	if align := uint64(C.region_align(r)); align != math.MaxUint64 {
		region.Align = align
	}
	if region.AvailableSize == math.MaxUint64 { // not readable
		region.AvailableSize = 0
	}
	// Old kernels do not show the largest extent.
	region.MaxAvailableExtent = uint64(C.region_max_extent(r))
	if region.MaxAvailableExtent == math.MaxUint64 {
		region.MaxAvailableExtent = region.AvailableSize
	}
	if set := C.ndctl_region_get_interleave_set(r); set != nil {
		region.ISetID = uint64(C.ndctl_interleave_set_get_cookie(set))
	}
	for m := C.ndctl_mapping_get_first(r); m != nil; m = C.ndctl_mapping_get_next(m) {
		region.Mappings = append(region.Mappings, pmem.Mapping{
			DIMM:     C.GoString(C.ndctl_dimm_get_devname(C.ndctl_mapping_get_dimm(m))),
			Offset:   uint64(C.ndctl_mapping_get_offset(m)),
			Length:   uint64(C.ndctl_mapping_get_length(m)),
			Position: int(C.ndctl_mapping_get_position(m)),
		})
	}
	region.LabelsFull = region.Labels && labelsFull(region.Mappings)
	if withBadblocks {
		for b := C.ndctl_region_get_first_badblock(r); b != nil; b = C.ndctl_region_get_next_badblock(r) {
			region.Badblocks = append(region.Badblocks, badblock(b))
			region.BadblockCount += uint64(b.len)
		}
	}
	return region
}

func badblock(b *C.struct_badblock) pmem.Badblock {
	return pmem.Badblock{Offset: uint64(b.offset), Length: uint64(b.len)}
}

func persistenceDomain(d C.enum_ndctl_persistence_domain) string {
	switch d {
	case C.PERSISTENCE_NONE:
		return "none"
	case C.PERSISTENCE_MEM_CTRL:
		return "memory_controller"
	case C.PERSISTENCE_CPU_CACHE:
		return "cpu_cache"
	}
	return "unknown"
}

func snapshotNamespace(n *C.struct_ndctl_namespace, withBadblocks bool) pmem.Namespace {
	ns := pmem.Namespace{
		Dev:        C.GoString(C.ndctl_namespace_get_devname(n)),
		Region:     C.GoString(C.ndctl_region_get_devname(C.ndctl_namespace_get_region(n))),
		RawSize:    uint64(C.ndctl_namespace_get_size(n)),
		UUID:       namespaceUUID(n),
		State:      pmem.StateDisabled,
		NUMANode:   node(C.ndctl_namespace_get_numa_node(n)),
		TargetNode: node(C.namespace_target_node(n)),
		Labels:     C.ndctl_namespace_get_type(n) == C.ND_DEVICE_NAMESPACE_PMEM,
	}
	ns.Granularity = cxl.Granularity(cxl.Root, ns.Region)
	if C.ndctl_namespace_is_active(n) {
		ns.State = pmem.StateEnabled
	}
	if name := C.ndctl_namespace_get_alt_name(n); name != nil {
		ns.Name = C.GoString(name)
	}
	describeMode(n, &ns)
	if withBadblocks {
		for b := C.ndctl_namespace_get_first_badblock(n); b != nil; b = C.ndctl_namespace_get_next_badblock(n) {
			ns.Badblocks = append(ns.Badblocks, badblock(b))
			ns.BadblockCount += uint64(b.len)
		}
	}
	return ns
}

// describeMode sets the fields that depend on the mode, which libndctl has in the pfn, dax or btt
// device on top of the namespace.
func describeMode(n *C.struct_ndctl_namespace, ns *pmem.Namespace) {
	ns.Mode = pmem.ModeUnknown
	switch C.ndctl_namespace_get_mode(n) {
	case C.NDCTL_NS_MODE_FSDAX:
		ns.Mode = pmem.ModeFSDAX
		if pfn := C.ndctl_namespace_get_pfn(n); pfn != nil {
			ns.Map = mapOf(C.ndctl_pfn_get_location(pfn))
			ns.Size = uint64(C.ndctl_pfn_get_size(pfn))
			ns.Align = uint64(C.ndctl_pfn_get_align(pfn))
			var u C.uuid_t
			C.ndctl_pfn_get_uuid(pfn, &u[0])
			ns.InfoUUID = formatUUID(&u)
			ns.Blockdev = C.GoString(C.ndctl_pfn_get_block_device(pfn))
		} else {
			// A legacy namespace that the kernel maps without an info block.
			ns.Map = pmem.MapMem
			ns.Size = ns.RawSize
			ns.Blockdev = C.GoString(C.ndctl_namespace_get_block_device(n))
		}
	case C.NDCTL_NS_MODE_DEVDAX:
		ns.Mode = pmem.ModeDevDAX
		if dax := C.ndctl_namespace_get_dax(n); dax != nil {
			ns.Map = mapOf(C.ndctl_dax_get_location(dax))
			ns.Size = uint64(C.ndctl_dax_get_size(dax))
			ns.Align = uint64(C.ndctl_dax_get_align(dax))
			if ns.Enabled() {
				ns.Chardev = chardev(dax)
			}
		}
	case C.NDCTL_NS_MODE_SECTOR:
		ns.Mode = pmem.ModeSector
		if btt := C.ndctl_namespace_get_btt(n); btt != nil {
			ns.Size = uint64(C.ndctl_btt_get_size(btt))
			ns.SectorSize = uint(C.ndctl_btt_get_sector_size(btt))
			ns.Blockdev = C.GoString(C.ndctl_btt_get_block_device(btt))
		}
	case C.NDCTL_NS_MODE_RAW:
		ns.Mode = pmem.ModeRaw
		ns.Size = ns.RawSize
		ns.Blockdev = C.GoString(C.ndctl_namespace_get_block_device(n))
	}
	if ns.SectorSize == 0 && ns.Mode != pmem.ModeDevDAX {
		ns.SectorSize = uint(C.ndctl_namespace_get_sector_size(n))
		if ns.SectorSize == 0 || ns.SectorSize == math.MaxUint32 {
			ns.SectorSize = 512
		}
	}
	if !ns.Enabled() {
		ns.Size, ns.Blockdev = 0, ""
	}
}

func mapOf(loc C.enum_ndctl_pfn_loc) pmem.Map {
	switch loc {
	case C.NDCTL_PFN_LOC_RAM:
		return pmem.MapMem
	case C.NDCTL_PFN_LOC_PMEM:
		return pmem.MapDev
	}
	return ""
}
