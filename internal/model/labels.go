package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// region is a region. Offsets and sizes are bytes.
type region struct {
	dev         string
	virtio      bool
	unlabelled  bool // with a single namespace, which has neither name nor UUID
	index       int
	size        uint64
	slots       int    // of its label area
	ways        uint   // of its interleaving
	granularity uint64 // of its interleaving in bytes, of CXL
	hidden      uint64 // bytes in labels of other interleave sets, of CXL
	disabled    bool
	namespaces  []*namespace
	content     content
	made        int // namespaces, ever
	// seed is the namespace that was created last, until it is enabled for the first time. Until
	// then, the kernel offers no other.
	seed *namespace
}

// namespace is a label, and the kernel's state for it.
type namespace struct {
	region     *region
	index      int
	from, size uint64
	uuid, name string

	number   blockdev.Number // while it is enabled
	forceRaw bool
	// From the info block, while the namespace is enabled and has one.
	info       string
	start, end uint64
}

func (n *namespace) dev() string { return fmt.Sprintf("namespace%d.%d", n.region.index, n.index) }
func (n *namespace) up() bool    { return n.number != blockdev.Number{} }

// shown returns the namespace as the service sees it.
func (h *Host) shown(n *namespace) pmem.Namespace {
	d := n.describe()
	if r := n.region.describe(); r.Granularity != 0 {
		d.RecordedGranularity = volume.RecordedGranularity(h.stateDir(), r.ISetID)
	}
	if name, marked := volume.MarkedName(n.info); n.region.unlabelled && marked {
		d.Name = name
	}
	return d
}

func (n *namespace) block() string {
	if n.index == 0 {
		return fmt.Sprintf("pmem%d", n.region.index)
	}
	return fmt.Sprintf("pmem%d.%d", n.region.index, n.index)
}

// data returns the offset of the device's data in the region.
func (n *namespace) data() (from, size uint64) {
	if n.info == "" {
		return n.from, n.size
	}
	return n.from + n.start, n.end - n.start
}

// bringUp enables a namespace by its info block (kernel nd_pfn_validate), or in raw mode. The host
// is locked.
func (h *Host) bringUp(n *namespace) {
	n.number, n.info = h.newNumber(259), ""
	if n.region.seed == n {
		n.region.seed = nil
	}
	block := n.region.content.read(n.from+pmem.InfoBlockOffset, 256)
	if n.forceRaw || string(block[:15]) != "NVDIMM_PFN_INFO" {
		return
	}
	parent := uuid.UUID(block[32:48])
	if parent.String() != n.uuid && (parent != uuid.Nil || n.uuid != "") {
		return
	}
	n.info = uuid.UUID(block[16:32]).String()
	n.start = binary.LittleEndian.Uint64(block[56:])
	n.end = n.size - uint64(binary.LittleEndian.Uint32(block[80:]))
}

func (h *Host) takeDown(n *namespace) { n.number, n.info = blockdev.Number{}, "" }

// describe returns the namespace as ndctl shows it.
func (n *namespace) describe() pmem.Namespace {
	d := pmem.Namespace{Dev: n.dev(), Region: n.region.dev, Mode: pmem.ModeFSDAX, Map: pmem.MapDev, RawSize: n.size, UUID: n.uuid, Name: n.name, State: pmem.StateDisabled, Labels: !n.region.unlabelled, Granularity: n.region.granularity}
	if n.up() {
		d.State, d.Blockdev, d.InfoUUID, d.Align = pmem.StateEnabled, n.block(), n.info, pmem.DefaultAlign
		_, d.Size = n.data()
		if n.info == "" {
			d.Mode, d.Map = pmem.ModeRaw, ""
		}
	}
	return d
}

// gaps returns the free ranges of a region.
func (r *region) gaps() []extent {
	var gaps []extent
	at := uint64(0)
	for _, n := range slices.SortedFunc(slices.Values(r.namespaces), func(a, b *namespace) int { return int(int64(a.from) - int64(b.from)) }) {
		if n.from > at {
			gaps = append(gaps, extent{from: at, to: n.from})
		}
		at = n.from + n.size
	}
	if at < r.size {
		gaps = append(gaps, extent{from: at, to: r.size})
	}
	return gaps
}

const virtioBus = "ndbus1"

func isVirtio(r *region) bool { return r.virtio }

func (r *region) describe() pmem.Region {
	d := pmem.Region{
		Dev: r.dev, Bus: "ndbus0", Size: r.size, Align: 16 * pmem.MiB, Type: "pmem", State: pmem.StateEnabled, InterleaveWays: r.ways, Granularity: r.granularity, Labels: !r.unlabelled, ISetID: uint64(r.index) + 1,
		Mappings: []pmem.Mapping{{DIMM: fmt.Sprintf("nmem%d", r.index), Length: r.size}}, LabelsFull: len(r.namespaces) >= r.slots,
	}
	if r.virtio {
		d.Bus = virtioBus
	}
	if r.disabled {
		d.State = pmem.StateDisabled
	}
	if r.unlabelled {
		d.ISetID, d.Mappings, d.LabelsFull = 0, nil, false
	}
	for _, g := range r.gaps() {
		d.AvailableSize += g.to - g.from
		d.MaxAvailableExtent = max(d.MaxAvailableExtent, g.to-g.from)
	}
	d.AvailableSize, d.HiddenSize = d.AvailableSize-r.hidden, r.hidden
	return d
}

// labels is libndctl on the host.
type labels struct{ *Host }

func (l labels) Warm() {}

func (l labels) Snapshot(ndctl.Select) (pmem.System, error) {
	if err := l.reading("snapshot"); err != nil {
		return pmem.System{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return pmem.System{}, ErrDead
	}
	sys := pmem.System{Buses: []pmem.Bus{{Dev: "ndbus0", Provider: "model"}}, DIMMs: []pmem.DIMM{}}
	if slices.ContainsFunc(l.regions, isVirtio) {
		sys.Buses = append(sys.Buses, pmem.Bus{Dev: virtioBus, Provider: pmem.ProviderVirtio})
	}
	for _, r := range l.regions {
		sys.DIMMs = append(sys.DIMMs, pmem.DIMM{Dev: fmt.Sprintf("nmem%d", r.index), Bus: "ndbus0", State: pmem.StateEnabled, LabelSize: 128 * pmem.KiB})
		sys.Regions = append(sys.Regions, r.describe())
		for _, n := range r.namespaces {
			sys.Namespaces = append(sys.Namespaces, n.describe())
		}
	}
	return sys, nil
}

func (l labels) EnabledFSDAX() []pmem.Namespace {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []pmem.Namespace
	for _, r := range l.regions {
		for _, n := range r.namespaces {
			if n.up() && n.info != "" && !l.dead {
				all = append(all, n.describe())
			}
		}
	}
	return all
}

func (l labels) Granularity(region string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.regions {
		if r.dev == region {
			return r.granularity
		}
	}
	return 0
}

func (l labels) CreateNamespace(spec pmem.NamespaceSpec) (pmem.Namespace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.regions, func(r *region) bool { return r.dev == spec.Region })
	if i < 0 {
		return pmem.Namespace{}, errs.New(errs.NotFound, spec.Region, "does not exist", "")
	}
	r := l.regions[i]
	if r.unlabelled {
		return l.reconfigure(r.namespaces[0], spec)
	}
	if r.seed != nil {
		return pmem.Namespace{}, &ndctl.Error{Op: "find an idle namespace", Dev: r.dev, Err: ndctl.ErrNoSeed}
	}
	n := &namespace{region: r, index: r.made, uuid: spec.UUID, name: spec.Name, size: spec.RawSize}
	if n.uuid == "" {
		n.uuid = uuid.NewString()
	}
	err := l.step("set_size", func() error {
		gaps := r.gaps()
		i := slices.IndexFunc(gaps, func(g extent) bool { return g.to-g.from >= spec.RawSize })
		if i < 0 || len(r.namespaces) >= r.slots {
			return errs.New(errs.NoSpace, spec.Region, "has no room", "")
		}
		n.from = gaps[i].from
		r.namespaces = append(r.namespaces, n)
		r.seed = n
		r.made++
		return nil
	})
	if err != nil {
		return pmem.Namespace{}, err
	}
	return l.setUp(n, spec)
}

// reconfigure changes the single namespace of a region without labels.
func (l labels) reconfigure(n *namespace, spec pmem.NamespaceSpec) (pmem.Namespace, error) {
	if spec.Name != "" || spec.UUID != "" {
		return pmem.Namespace{}, errs.New(errs.Invalid, spec.Region, "has no labels", "")
	}
	if err := l.down(n); err != nil {
		return pmem.Namespace{}, err
	}
	d, err := l.setUp(n, spec)
	if err != nil {
		err = errors.Join(err, l.enable(n))
	}
	return d, err
}

// setUp enables a new namespace, with an info block unless it is raw.
func (l labels) setUp(n *namespace, spec pmem.NamespaceSpec) (pmem.Namespace, error) {
	err := l.step("enable", func() error {
		n.forceRaw = spec.Raw
		if !spec.Raw {
			id, parent := uuid.New(), uuid.Nil
			if spec.InfoUUID != "" {
				id = uuid.MustParse(spec.InfoUUID)
			}
			if n.uuid != "" {
				parent = uuid.MustParse(n.uuid)
			}
			usable := pmem.Usable(n.size, pmem.MapDev, pmem.DefaultAlign)
			block := pmem.PFNInfoBlock(id, parent, n.size, usable, pmem.DefaultAlign)
			n.region.content.put(extent{from: n.from + pmem.InfoBlockOffset, to: n.from + pmem.InfoBlockOffset + uint64(len(block)), data: block})
		}
		l.bringUp(n)
		return nil
	})
	return n.describe(), err
}

// named finds a namespace by its device or its UUID.
func (h *Host) named(key string) (*namespace, error) {
	for _, r := range h.regions {
		for _, n := range r.namespaces {
			if key != "" && (n.uuid == key || n.dev() == key) {
				return n, nil
			}
		}
	}
	return nil, errs.New(errs.NotFound, "namespace "+key, "does not exist", "")
}

// down is the step that disables a namespace that is not in use.
func (h *Host) down(n *namespace) error {
	return h.step("disable", func() error {
		if n.up() && h.inUse(n.number) {
			return errs.New(errs.InUse, "namespace "+n.dev(), "is in use", "")
		}
		h.takeDown(n)
		return nil
	})
}

func (h *Host) change(key string, do func(*namespace) error) (pmem.Namespace, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		return pmem.Namespace{}, ErrDead
	}
	n, err := h.named(key)
	if err == nil {
		err = do(n)
	}
	if err != nil {
		return pmem.Namespace{}, err
	}
	return n.describe(), nil
}

func (h *Host) setName(n *namespace, name string) error {
	if n.region.unlabelled {
		return errs.New(errs.Unsupported, n.dev(), "has no name", "")
	}
	return h.step("set_alt_name", func() error {
		if len(n.region.namespaces) > n.region.slots {
			return ndctl.ErrNoSlot
		}
		n.name = name
		return nil
	})
}

func (h *Host) enable(n *namespace) error {
	return h.step("enable", func() error {
		if !n.up() {
			h.bringUp(n)
		}
		return nil
	})
}

func (l labels) RenameNamespace(key, name string) (pmem.Namespace, error) {
	return l.change(key, func(n *namespace) error {
		was := n.up()
		if err := l.down(n); err != nil {
			return err
		}
		n.forceRaw = false
		if err := l.setName(n, name); err != nil || !was {
			return err
		}
		return l.enable(n)
	})
}

func (l labels) RenameDisabled(key, name string) error {
	_, err := l.change(key, func(n *namespace) error {
		if err := l.down(n); err != nil {
			return err
		}
		return l.setName(n, name)
	})
	return err
}

func (l labels) EnableNamespace(key string) (pmem.Namespace, error) {
	return l.change(key, func(n *namespace) error {
		n.forceRaw = false
		return l.enable(n)
	})
}

func (l labels) DestroyNamespace(key string) error {
	_, err := l.change(key, func(n *namespace) error {
		if err := l.down(n); err != nil {
			return err
		}
		if n.region.unlabelled {
			return l.enable(n)
		}
		return l.step("delete", func() error {
			n.region.namespaces = slices.DeleteFunc(n.region.namespaces, func(o *namespace) bool { return o == n })
			if n.region.seed == n {
				n.region.seed = nil
			}
			return nil
		})
	})
	return err
}

func (l labels) EnableRaw(key string) (string, error) {
	d, err := l.change(key, func(n *namespace) error {
		if err := l.down(n); err != nil {
			return err
		}
		n.forceRaw = true
		return l.enable(n)
	})
	return d.Blockdev, err
}

func (l labels) AdvanceSeed(region string, owned func(string) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.regions {
		if r.dev != region || r.seed == nil {
			continue
		}
		if !owned(r.seed.name) {
			return &ndctl.Error{Op: "enable", Dev: r.seed.dev(), Err: ndctl.ErrNoSeed}
		}
		n := r.seed
		n.forceRaw = true
		if err := l.enable(n); err != nil {
			return err
		}
		if err := l.down(n); err != nil {
			return err
		}
		n.forceRaw = false
	}
	return nil
}

func (l labels) DisableRaw(key string) error {
	_, err := l.change(key, func(n *namespace) error {
		if err := l.down(n); err != nil {
			return err
		}
		n.forceRaw = false
		return nil
	})
	return err
}

func (l labels) InitLabels(names ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.step("init_labels", func() error {
		for _, r := range l.regions {
			for _, n := range r.namespaces {
				if slices.Contains(names, r.dev) && n.up() && l.inUse(n.number) {
					return errs.New(errs.InUse, r.dev, "is in use", "")
				}
			}
		}
		for _, r := range l.regions {
			if slices.Contains(names, r.dev) {
				r.namespaces = nil
			}
		}
		return nil
	})
}

func (l labels) EnableRegion(dev string) error { return l.setRegion(dev, false) }

func (l labels) DisableRegion(dev string) error { return l.setRegion(dev, true) }

func (h *Host) setRegion(dev string, disabled bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.step("region", func() error {
		for _, r := range h.regions {
			if r.dev != dev {
				continue
			}
			if disabled && slices.ContainsFunc(r.namespaces, func(n *namespace) bool { return n.up() && h.inUse(n.number) }) {
				return errs.New(errs.InUse, dev, "is in use", "")
			}
			r.disabled = disabled
		}
		return nil
	})
}
