// Package model is a model of a host with PMEM, for the tests of the volume service: the content
// of its media and the state of its kernel, as far as the service's guarantees depend on them. Any
// step can fail, and the process or the host can die before and after each step.
package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Host is a model of a host. Changes are steps: each can be made to fail, and to kill the process
// that executes it.
type Host struct {
	mu     sync.Mutex
	dir    string   // of what the service remembers
	hidden []string // paths of nodes that are not there

	regions []*region
	groups  []*group
	mapped  []*mapped
	mounts  []mounted
	held    map[blockdev.Number]int
	minor   uint32
	bad     []badRange
	users   map[string][]int // by path
	faults  map[blockdev.Number]mount.Fault

	metadataFull bool
	noDAX        bool
	grantsSync   bool
	smallFaults  bool
	lost         []*region // that are missing now

	steps  []string
	dieAt  int // the number of a step, from 1; 0 is none
	dead   bool
	failed error
	failAt int
	meddle func(step string)
	// failRead is that of FailReads.
	failRead func(read, lines string) error
	choosing sync.Mutex
}

// ErrDead is returned by each call of a dead process; such calls have no effect.
var ErrDead = errors.New("the process is dead")

// New creates a host with regions of the given sizes in bytes. It keeps files in a directory.
func New(dir string, sizes ...uint64) *Host {
	h := &Host{dir: dir, held: map[blockdev.Number]int{}}
	for i, size := range sizes {
		h.regions = append(h.regions, &region{dev: fmt.Sprintf("region%d", i), index: i, size: size, slots: 64, ways: 1})
	}
	return h
}

// Service returns a volume service on the host, as in a newly started process.
func (h *Host) Service() *volume.Service {
	h.mu.Lock()
	if h.dead { // discards what it wrote after its death
		if err := h.copyRun(h.atDeath(), h.run()); err != nil {
			panic(err)
		}
	}
	h.dead, h.dieAt, h.failAt, h.steps = false, 0, 0, nil
	h.held = map[blockdev.Number]int{} // who held something is gone
	h.mu.Unlock()
	return &volume.Service{
		NDCTL: volume.WithRecords(volume.WithUnlabelled(labels{h}, devices{h}, filepath.Join(h.dir, "lvm")), h.stateDir()), LVM: groups{h, volume.MayBeMember}, Foreign: groups{h, ofNobody}, Disks: groups{h, ofNobody}, All: groups{h, volume.MayBePV}, Devices: devices{h}, Mounts: mounts{h},
		Locks: hostlock.Locks{Dir: filepath.Join(h.dir, "locks")}, RunDir: h.run(), StateDir: h.stateDir(), ArchiveDir: filepath.Join(h.dir, "lvm"),
	}
}

// DieAt makes the process die at the step with a number, counted from 1.
func (h *Host) DieAt(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dieAt, h.steps = n, nil
}

// Died reports whether the process has died.
func (h *Host) Died() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

// Steps lists the steps since the last DieAt or start of a process.
func (h *Host) Steps() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.steps)
}

// FailAt makes the change with a number, counted from 1, fail with an error and have no effect.
func (h *Host) FailAt(n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failAt, h.failed, h.dieAt, h.steps = n, err, 0, nil
}

// step executes a change, before and after which the process may die. The host is locked.
func (h *Host) step(name string, do func() error) error {
	if h.passed("before " + name); h.dead {
		return ErrDead
	}
	var err error
	if h.failAt > 0 && (len(h.steps)+1)/2 == h.failAt {
		err = h.failed
	} else {
		err = do()
	}
	if h.passed("after " + name); h.dead {
		return ErrDead
	}
	return err
}

// Meddle calls a function at each step, which may change media through write, as something else on
// the host could.
func (h *Host) Meddle(do func(step string, write func(path string, offset uint64, data []byte))) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.meddle = func(step string) {
		do(step, func(path string, offset uint64, data []byte) {
			if n, err := h.identify(path); err == nil {
				h.write(n, offset, data)
			}
		})
	}
}

func (h *Host) passed(name string) {
	if h.dead {
		return
	}
	if h.meddle != nil {
		h.meddle(name)
	}
	h.steps = append(h.steps, name)
	if h.dead = h.dieAt == len(h.steps); h.dead {
		if err := h.copyRun(h.run(), h.atDeath()); err != nil {
			panic(err)
		}
	}
}

// run is the directory of the service's records until the next boot; atDeath is a copy from the
// moment when the process died.
func (h *Host) run() string     { return filepath.Join(h.dir, "run") }
func (h *Host) atDeath() string { return filepath.Join(h.dir, "at-death") }

func (h *Host) copyRun(from, to string) error {
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(from, 0o700)); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// Reboot cuts the power and starts the host again: all state of the kernel is lost.
func (h *Host) Reboot() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mapped, h.mounts, h.held = nil, nil, map[blockdev.Number]int{}
	for _, r := range h.regions {
		for _, n := range r.namespaces {
			n.forceRaw = false
			h.takeDown(n)
			h.bringUp(n)
		}
	}
	return errors.Join(os.RemoveAll(h.run()), os.RemoveAll(h.atDeath()))
}

// newNumber returns an unused number.
func (h *Host) newNumber(major uint32) blockdev.Number {
	h.minor++
	return blockdev.Number{Major: major, Minor: h.minor}
}

// inUse reports whether a device is held, mounted, or below another one. A node that is bound to a
// file does not hold its device.
func (h *Host) inUse(n blockdev.Number) bool {
	return h.held[n] > 0 || slices.ContainsFunc(h.mounts, func(m mounted) bool { return m.number == n && !m.node }) || len(h.above(n)) > 0
}

// above returns the names of the mapped devices on the device of a namespace.
func (h *Host) above(n blockdev.Number) []string {
	var names []string
	for _, m := range h.mapped {
		if slices.ContainsFunc(m.parts, func(p part) bool { return p.number == n }) {
			names = append(names, "/dev/mapper/"+m.Name)
		}
	}
	return names
}

// badRange is a part of a region that cannot be read, until it is written or permanently.
type badRange struct {
	on       *region
	from, to uint64
	sticks   bool
}

// SetBad adds media errors to a range of a device; sticks makes them permanent.
func (h *Host) SetBad(path string, from, to uint64, sticks bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.identify(path)
	if err != nil {
		return err
	}
	for _, p := range h.partsOf(n) {
		h.bad = append(h.bad, badRange{p.on.region, p.from + from, p.from + to, sticks})
		return nil
	}
	return nil
}

// SetUsers sets the processes that have the device at a path open.
func (h *Host) SetUsers(path string, pids ...int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users = map[string][]int{path: pids}
}

// SetFault sets the fault that the kernel reports for the file system on a device; "" is none.
func (h *Host) SetFault(path string, fault mount.Fault) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.identify(path)
	h.faults = map[blockdev.Number]mount.Fault{n: fault}
	return err
}

// SetSlots sets the number of labels for which the DIMMs of a region have room.
func (h *Host) SetSlots(region, slots int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.regions[region].slots = slots
}

// RemoveLabels makes a region one without labels: its single namespace is raw, and has the content
// that was there.
func (h *Host) RemoveLabels(region int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.regions[region]
	r.unlabelled = true
	n := &namespace{region: r, size: r.size}
	r.namespaces = []*namespace{n}
	h.bringUp(n)
}

// SetWays sets the number of DIMMs among which a region is interleaved.
func (h *Host) SetWays(region int, ways uint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.regions[region].ways = ways
}

// stateDir is the directory of what is recorded across reboots.
func (h *Host) stateDir() string { return filepath.Join(h.dir, "state") }

// SetGranularity creates a CXL region again with another interleave granularity in bytes, with the
// worst outcome: all that is scrambled are tenants' bytes, and all metadata is still readable.
func (h *Host) SetGranularity(region int, granularity uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.regions[region].granularity = granularity
}

// Hide makes labels of other interleave sets take some bytes of a region, as if it was CXL memory
// that was created again with other devices.
func (h *Host) Hide(region int, bytes uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.regions[region].hidden = bytes
}

// FillMetadata makes LVM's metadata have no room for a change that adds to it.
func (h *Host) FillMetadata() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.metadataFull = true
}

// AddForeign creates an active foreign logical volume in a volume group.
func (h *Host) AddForeign(vg, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.groups {
		if g.name == vg {
			v := &lv{group: g, name: name, uuid: newUUID(), runs: []run{{g.pvs[0], g.pvs[0].extents - 8, 8}}}
			g.lvs = append(g.lvs, v)
			h.activate(v)
			if err := h.commit(g); err != nil {
				panic(err)
			}
		}
	}
}

// CreateForeignVG creates a volume group on devices, without a tag, and volumes in it by their sizes
// in bytes.
func (h *Host) CreateForeignVG(name string, volumes map[string]uint64, devices ...string) error {
	const extentSize = 4 * pmem.MiB // LVM's default
	l := groups{h, ofNobody}
	if err := l.CreateVG(context.Background(), name, "theirs", extentSize, 0, devices...); err != nil {
		return err
	}
	for _, lv := range slices.Sorted(maps.Keys(volumes)) {
		if err := l.CreateLV(context.Background(), lvm.NewLV{VG: lvm.VGRef{Name: name}, Name: lv, Size: volumes[lv]}); err != nil {
			return err
		}
	}
	return nil
}

// SetTable has the mapped device of a logical volume have another table.
func (h *Host) SetTable(vg, name, table string) {
	h.ofMapped(vg, name, func(m *mapped) { m.table = table })
}

// SetUUID has the mapped device of a logical volume be another's of the group.
func (h *Host) SetUUID(vg, name, uuid string) {
	h.ofMapped(vg, name, func(m *mapped) { m.UUID += uuid })
}

func (h *Host) ofMapped(vg, name string, do func(*mapped)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.mapped {
		if g, v, _, ok := lvm.ParseMapper(m.Name, m.UUID); ok && g == vg && v == name {
			do(m)
		}
	}
}

// RenameVG gives a volume group another name, as vgrename does.
func (h *Host) RenameVG(name, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.groups {
		if g.name == name {
			g.name, g.committed = to, ""
			if err := h.commit(g); err != nil {
				panic(err)
			}
			for _, l := range g.lvs {
				if m := h.device(l); m != nil {
					m.Name = mapperName(l)
				}
			}
		}
	}
}

// Suspend suspends a logical volume, as a killed lvm leaves it.
func (h *Host) Suspend(vg, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.mapped {
		if g, v, _, ok := lvm.ParseMapper(m.Name, m.UUID); ok && g == vg && v == name {
			m.suspended = true
		}
	}
}

// RefuseDAX makes the kernel mount file systems without DAX.
func (h *Host) RefuseDAX() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noDAX = true
}

// MakeVirtio makes some regions virtio-pmem, where the kernel refuses MAP_SYNC; without names, all
// of them. Mounts are refused it if there is one.
func (h *Host) MakeVirtio(regions ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.regions {
		r.virtio = len(regions) == 0 || slices.Contains(regions, r.dev)
	}
}

// GrantMapSync makes the kernel grant MAP_SYNC everywhere, as Linux 6.1 does by mistake.
func (h *Host) GrantMapSync() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.grantsSync = true
}

// SmallFaults makes files be mapped in pieces of 4 KiB.
func (h *Host) SmallFaults() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.smallFaults = true
}

// LoseRegion removes a region with all of its content; FindRegion restores it.
func (h *Host) LoseRegion(dev string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.regions = slices.DeleteFunc(h.regions, func(r *region) bool {
		if r.dev != dev {
			return false
		}
		for _, n := range r.namespaces {
			h.takeDown(n)
		}
		h.lost = append(h.lost, r)
		return true
	})
}

// FindRegion restores a region that LoseRegion removed.
func (h *Host) FindRegion() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.lost {
		for _, n := range r.namespaces {
			h.bringUp(n)
		}
		h.regions = append(h.regions, r)
	}
	h.lost = nil
	slices.SortFunc(h.regions, func(a, b *region) int { return a.index - b.index })
}

// Unbind removes the device of a namespace despite its users, as the loss of a DIMM does.
func (h *Host) Unbind(key string) error { return h.bind(key, h.takeDown) }

// Bind adds the device again, with another number.
func (h *Host) Bind(key string) error { return h.bind(key, h.bringUp) }

// BindRaw adds the device without its info block, as a killed ndctl or pmemctl leaves it.
func (h *Host) BindRaw(key string) error {
	return h.bind(key, func(n *namespace) {
		h.takeDown(n)
		n.forceRaw = true
		h.bringUp(n)
	})
}

func (h *Host) bind(key string, do func(*namespace)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.named(key)
	if err == nil {
		do(n)
	}
	return err
}

// LoseInfoBlock zeroes the info block of a namespace, which has an effect at the next reboot.
func (h *Host) LoseInfoBlock(key string) error {
	return h.bind(key, func(n *namespace) {
		n.region.content.put(extent{from: n.from + pmem.InfoBlockOffset, to: n.from + 2*pmem.InfoBlockOffset})
	})
}

// SetInfoUUID replaces the UUID in the info block of a namespace, which has an effect at the next
// reboot.
func (h *Host) SetInfoUUID(key, id string) error {
	return h.bind(key, func(n *namespace) {
		from := n.from + pmem.InfoBlockOffset
		block, err := pmem.WithUUID(n.region.content.read(from, pmem.InfoBlockSize), uuid.MustParse(id))
		if err != nil {
			panic(err)
		}
		n.region.content.put(extent{from: from, to: from + pmem.InfoBlockSize, data: block})
	})
}

// part is a range of a device: size bytes on a namespace, at from in its region.
type part struct {
	on         *namespace
	number     blockdev.Number // the number that on had when it was mapped
	from, size uint64
}

// partsOf returns the places of a device's bytes on the media; nil if there is no such device.
func (h *Host) partsOf(n blockdev.Number) []part {
	for _, m := range h.mapped {
		if m.Number == n {
			return m.parts
		}
	}
	for _, r := range h.regions {
		for _, ns := range r.namespaces {
			if ns.up() && ns.number == n {
				from, size := ns.data()
				return []part{{ns, n, from, size}}
			}
		}
	}
	return nil
}

// each calls do for each part of a range of a device, with the offset in the range.
func (h *Host) each(n blockdev.Number, from, to uint64, do func(c *content, from, to, at uint64)) {
	begin := uint64(0)
	for _, p := range h.partsOf(n) {
		lo, hi := max(from, begin), min(to, begin+p.size)
		if lo < hi {
			do(&p.on.region.content, p.from+lo-begin, p.from+hi-begin, lo-from)
		}
		begin += p.size
	}
}

func (h *Host) sizeOf(n blockdev.Number) (size uint64) {
	for _, p := range h.partsOf(n) {
		size += p.size
	}
	return size
}

func (h *Host) read(n blockdev.Number, from, count uint64) []byte {
	data := make([]byte, 0, count)
	h.each(n, from, from+count, func(c *content, from, to, _ uint64) { data = append(data, c.read(from, to-from)...) })
	return data
}

func (h *Host) write(n blockdev.Number, offset uint64, bytes []byte) {
	h.each(n, offset, offset+uint64(len(bytes)), func(c *content, from, to, at uint64) {
		c.put(extent{from: from, to: to, data: slices.Clone(bytes[at : at+to-from])})
	})
}

// ReadDevice reads from a device as root, by opening its node.
func (h *Host) ReadDevice(path string, offset, count uint64) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.identify(path)
	if err != nil {
		return nil, err
	}
	return h.read(n, offset, count), nil
}

// WriteDevice writes to a device as its tenant does.
func (h *Host) WriteDevice(path string, offset uint64, data []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.identify(path)
	if err == nil {
		h.write(n, offset, data)
	}
	return err
}

// FreeHolds reports whether a medium contains the bytes outside of all namespaces and logical
// volumes, where nothing erases them any more.
func (h *Host) FreeHolds(data []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.regions {
		for _, e := range r.content {
			for at := 0; ; at++ {
				next := bytes.Index(e.data[at:], data)
				if next < 0 {
					break
				}
				if at += next; !h.isTaken(r, e.from+uint64(at)) {
					return true
				}
			}
		}
	}
	return false
}

func (h *Host) isTaken(r *region, at uint64) bool {
	for _, n := range r.namespaces {
		if at < n.from || at >= n.from+n.size {
			continue
		}
		for _, g := range h.groups {
			if i := slices.IndexFunc(g.pvs, func(p *pv) bool { return p.on == n }); i >= 0 {
				return slices.ContainsFunc(g.lvs, func(l *lv) bool {
					return slices.ContainsFunc(l.parts(), func(p part) bool { return p.on == n && at >= p.from && at < p.from+p.size })
				})
			}
		}
		return true
	}
	return false
}

// mounted is a mount, or a bind mount of a device node.
type mounted struct {
	number blockdev.Number
	point  mount.Point
	node   bool
}
