// Package pmem defines persistent memory as plain values, and the arithmetic of sizes and
// alignments. It uses no library and no command.
package pmem

import "fmt"

// Mode is the mode of a namespace, in ndctl's terms.
type Mode string

// The modes of a namespace.
const (
	ModeRaw     Mode = "raw"
	ModeSector  Mode = "sector"
	ModeFSDAX   Mode = "fsdax"
	ModeDevDAX  Mode = "devdax"
	ModeUnknown Mode = "unknown"
)

// Map is the location of the struct pages of an fsdax or devdax namespace.
type Map string

// The locations of struct pages.
const (
	MapMem Map = "mem" // in DRAM
	MapDev Map = "dev" // in the namespace itself
)

// Bus is one libnvdimm bus. Fields are named as in ndctl.
type Bus struct {
	Dev        string `json:"dev"`
	Provider   string `json:"provider"`
	ScrubState string `json:"scrub_state,omitempty"`
}

// NoMapSync is what users of a medium without MAP_SYNC are told.
const NoMapSync = "no map_sync: stores are persistent only after fsync or msync"

// Caveat says what the memory of a bus does not promise; "" is nothing.
func (b Bus) Caveat() string {
	switch b.Provider {
	case ProviderE820:
		return "may be DRAM: contents may not outlive a power-off"
	case ProviderVirtio:
		return NoMapSync
	}
	return ""
}

// The providers of buses that are not ACPI's.
const (
	ProviderCXL    = "CXL"         // drivers/cxl/core/pmem.c
	ProviderE820   = "e820"        // memmap= (drivers/nvdimm/e820.c)
	ProviderVirtio = "virtio-pmem" // drivers/nvdimm/virtio_pmem.c
)

// DIMM is one NVDIMM.
type DIMM struct {
	Dev string `json:"dev"`
	Bus string `json:"bus"`
	ID  string `json:"id,omitempty"`
	// Handle and PhysID are those of ACPI; nil for CXL memory.
	Handle    *uint32  `json:"handle,omitempty"`
	PhysID    *uint16  `json:"phys_id,omitempty"`
	State     string   `json:"state"` // enabled or disabled
	Security  string   `json:"security,omitempty"`
	LabelSize uint64   `json:"label_size"` // bytes; 0: cannot hold labels
	Flags     []string `json:"flags"`      // failed_save, smart_event, …
	Health    *Health  `json:"health,omitempty"`
}

// MinGranularity and MaxGranularity are the limits of a CXL interleave granularity in bytes, a power of
// two (CXL 3.0, section 8.2.4.19.7).
const MinGranularity, MaxGranularity = 256, 16 * KiB

// Memdev is one CXL memory device with persistent memory.
type Memdev struct {
	Dev string `json:"memdev"` // changes over a reboot
	// Serial identifies the device.
	Serial   uint64 `json:"serial"`
	Size     uint64 `json:"pmem_size"` // bytes
	Host     string `json:"host"`      // its PCI device
	NUMANode *int   `json:"numa_node,omitempty"`
	// Decoder is the root decoder for a new region; "" if there is none.
	Decoder string `json:"decoder,omitempty"`
	// Regions are the CXL regions that it is in, as in "cxl list".
	Regions []string `json:"regions"`
}

// Describe names the device by what identifies it.
func (m Memdev) Describe() string {
	return fmt.Sprintf("%s (serial %#x, %s)", m.Dev, m.Serial, FormatSize(m.Size))
}

// CreateRegion returns the command that creates a region on the device alone.
func (m Memdev) CreateRegion() string {
	return fmt.Sprintf("cxl create-region -m -t pmem -d %s %s", m.Decoder, m.Dev)
}

// Health is the health that a DIMM reports (SMART). Fields that it does not report are nil.
type Health struct {
	State                 string   `json:"health_state"` // ok, non-critical, critical, fatal
	TemperatureCelsius    *float64 `json:"temperature_celsius,omitempty"`
	SparesPercentage      *uint    `json:"spares_percentage,omitempty"`
	LifeUsedPercentage    *uint    `json:"life_used_percentage,omitempty"`
	AlarmTemperature      *bool    `json:"alarm_temperature,omitempty"`
	AlarmSpares           *bool    `json:"alarm_spares,omitempty"`
	ShutdownState         string   `json:"shutdown_state,omitempty"` // clean or dirty
	ShutdownCount         *uint    `json:"shutdown_count,omitempty"`
	DirtyShutdownCount    *int64   `json:"dirty_shutdown_count,omitempty"`
	ControllerTemperature *float64 `json:"controller_temperature_celsius,omitempty"`
}

// Mapping is the part of a region on one DIMM. Sizes are bytes.
type Mapping struct {
	DIMM     string `json:"dimm"`
	Offset   uint64 `json:"offset"`
	Length   uint64 `json:"length"`
	Position int    `json:"position"`
}

// Badblock is a damaged range, in sectors of 512 bytes.
type Badblock struct {
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"`
}

// Region is one region of a bus. Sizes are bytes.
type Region struct {
	Dev           string `json:"dev"`
	Bus           string `json:"bus"`
	Size          uint64 `json:"size"`
	AvailableSize uint64 `json:"available_size"`
	// MaxAvailableExtent is the largest free extent, raw.
	MaxAvailableExtent uint64 `json:"max_available_extent"`
	// Align is 0 if the kernel does not show it.
	Align             uint64 `json:"align,omitempty"`
	Type              string `json:"type"` // pmem or blk
	State             string `json:"state"`
	PersistenceDomain string `json:"persistence_domain"`
	NUMANode          *int   `json:"numa_node,omitempty"`
	TargetNode        *int   `json:"target_node,omitempty"`
	ISetID            uint64 `json:"iset_id,omitempty"`
	InterleaveWays    uint   `json:"interleave_ways"`
	// Granularity is that of the interleaving of a CXL region in bytes; 0 if it is not interleaved,
	// or the kernel does not show it.
	Granularity   uint64     `json:"interleave_granularity,omitempty"`
	ReadOnly      bool       `json:"read_only"`
	Mappings      []Mapping  `json:"mappings"`
	BadblockCount uint64     `json:"badblock_count"`
	Badblocks     []Badblock `json:"badblocks,omitempty"`
	// Labels reports whether labels describe the namespaces, so that the region can be divided.
	Labels bool `json:"labels"`
	// HiddenSize is what labels of other interleave sets take of a CXL region, in bytes: it was
	// created with other devices than before, or in another order, and the kernel does not show
	// their namespaces. It is only set together with namespaces.
	HiddenSize uint64 `json:"hidden_size,omitempty"`
	// LabelsFull: the label area of one of its DIMMs has no slot for another namespace. The kernel
	// keeps one slot free, which it requires to change a label.
	LabelsFull bool `json:"-"`
}

// Enabled reports whether the region's driver is bound.
func (r Region) Enabled() bool { return r.State == StateEnabled }

// The states of a DIMM, region or namespace.
const (
	StateEnabled  = "enabled"
	StateDisabled = "disabled"
)

// Namespace is one namespace of a region. Sizes are bytes.
type Namespace struct {
	Dev    string `json:"dev"`
	Region string `json:"region"`
	Mode   Mode   `json:"mode"`
	Map    Map    `json:"map,omitempty"`
	// Size is the size of its block or character device; 0 if it is idle.
	Size uint64 `json:"size"`
	// RawSize is the size that it takes of the region.
	RawSize uint64 `json:"raw_size"`
	UUID    string `json:"uuid,omitempty"`
	// InfoUUID is the UUID in the info block of an fsdax namespace.
	InfoUUID string `json:"-"`
	// Granularity is that of its region, and RecordedGranularity what the host recorded for that
	// region, 0 for nothing.
	Granularity         uint64 `json:"interleave_granularity,omitempty"`
	RecordedGranularity uint64 `json:"-"`
	Name                string `json:"name,omitempty"` // the alt name, free text
	SectorSize          uint   `json:"sector_size,omitempty"`
	Align               uint64 `json:"align,omitempty"`
	Blockdev            string `json:"blockdev,omitempty"`
	Chardev             string `json:"chardev,omitempty"`
	State               string `json:"state"`
	NUMANode            *int   `json:"numa_node,omitempty"`
	TargetNode          *int   `json:"target_node,omitempty"`
	// Labels is false for a namespace described by the firmware.
	Labels        bool       `json:"labels"`
	BadblockCount uint64     `json:"badblock_count"`
	Badblocks     []Badblock `json:"badblocks,omitempty"`
}

// Enabled reports whether the namespace has a block or character device.
func (n Namespace) Enabled() bool { return n.State == StateEnabled }

// System is a snapshot of the PMEM of a host.
type System struct {
	// NoDriver says that the kernel's NVDIMM driver is not loaded.
	NoDriver   bool
	Buses      []Bus
	DIMMs      []DIMM
	Memdevs    []Memdev
	Regions    []Region
	Namespaces []Namespace
}

// BusOf returns the bus of a region.
func (s System) BusOf(region string) Bus {
	r, _ := s.Region(region)
	for _, b := range s.Buses {
		if b.Dev == r.Bus {
			return b
		}
	}
	return Bus{}
}

// MapSync reports whether files in a region can be mapped with MAP_SYNC. With virtio-pmem they
// cannot: only the hypervisor can write the data to its medium, when fsync asks for it
// (ND_REGION_ASYNC in drivers/nvdimm/virtio_pmem.c).
func (s System) MapSync(region string) bool { return s.BusOf(region).Provider != ProviderVirtio }

// Hidden returns the HiddenSize of a region. If any of its namespaces is shown, its interleave set is
// the right one.
func (s System) Hidden(r Region) uint64 {
	if s.BusOf(r.Dev).Provider != ProviderCXL || !r.Labels || !r.Enabled() || len(s.InRegion(r.Dev)) > 0 {
		return 0
	}
	return r.Size - min(r.AvailableSize, r.Size)
}

// Region finds a region by its device name.
func (s System) Region(dev string) (Region, bool) {
	for _, r := range s.Regions {
		if r.Dev == dev {
			return r, true
		}
	}
	return Region{}, false
}

// Namespace finds a namespace by its device name or its UUID.
func (s System) Namespace(key string) (Namespace, bool) {
	for _, n := range s.Namespaces {
		if key != "" && (n.Dev == key || n.UUID == key) {
			return n, true
		}
	}
	return Namespace{}, false
}

// InRegion lists the namespaces of a region.
func (s System) InRegion(dev string) []Namespace {
	var in []Namespace
	for _, n := range s.Namespaces {
		if n.Region == dev {
			in = append(in, n)
		}
	}
	return in
}

// NamespaceSpec describes a namespace to create.
type NamespaceSpec struct {
	Region  string
	Mode    Mode
	Map     Map    // fsdax and devdax
	RawSize uint64 // bytes; a multiple of the region's SizeAlign
	Align   uint64 // of fsdax and devdax, bytes
	Sector  uint   // sector mode: its sector size; otherwise 0
	Name    string // the alt name, at most 63 bytes
	UUID    string // "" generates one
	// InfoUUID is the UUID in the info block of an fsdax namespace; "" generates one.
	InfoUUID string
	// Raw enables an fsdax namespace without an info block, so that all of its bytes can be
	// written, including the info block.
	Raw bool
}

// MaxAltName is the maximum length of an alt name in bytes (NSLABEL_NAME_LEN minus the terminating
// NUL, kernel drivers/nvdimm/label.h).
const MaxAltName = 63
