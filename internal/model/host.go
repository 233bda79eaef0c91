// Package model is a model of a host with PMEM, for the tests of the volume service: what is
// on its media and in its kernel as far as the service's promises speak of it, the failure of
// any step, and the death of the process or of the host before and after each of them.
package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Host is a host. What changes it are steps: all of them can be made to fail, and the process
// that does them to die.
type Host struct {
	mu  sync.Mutex
	dir string // of what the service remembers
	// nodes is the directory of PutNodes, hidden the files that are not in it.
	nodes  string
	hidden []string

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
	lost         []*region // that are not there now

	steps  []string
	dieAt  int // the number of a step, from 1; 0 is never
	dead   bool
	failed error
	failAt int
	meddle func(step string)
	// failRead is that of FailReads.
	failRead func(read, lines string) error
}

// ErrDead is the error of each call of a process that is dead by now: none has an effect.
var ErrDead = errors.New("the process is dead")

// New makes a host with some regions of so many bytes. It keeps files in a directory.
func New(dir string, sizes ...uint64) *Host {
	h := &Host{dir: dir, held: map[blockdev.Number]int{}}
	for i, size := range sizes {
		h.regions = append(h.regions, &region{dev: fmt.Sprintf("region%d", i), index: i, size: size, slots: 64})
	}
	return h
}

// Service is a volume service on the host, as a process has it that was started just now.
func (h *Host) Service() *volume.Service {
	h.mu.Lock()
	if h.dead { // what it wrote after that, it did not
		if err := h.copyRun(h.atDeath(), h.run()); err != nil {
			panic(err)
		}
	}
	h.dead, h.dieAt, h.failAt, h.steps = false, 0, 0, nil
	h.held = map[blockdev.Number]int{} // who held something is gone
	archive := ""
	if h.nodes != "" {
		archive = filepath.Join(h.dir, "lvm")
	}
	h.mu.Unlock()
	return &volume.Service{
		NDCTL: labels{h}, LVM: groups{h}, Foreign: nothing{}, Disks: nothing{}, Devices: devices{h}, Mounts: mounts{h},
		Locks: hostlock.Locks{Dir: filepath.Join(h.dir, "locks")}, RunDir: h.run(), StateDir: filepath.Join(h.dir, "state"), ArchiveDir: archive,
	}
}

// nothing is what LVM knows of devices that are not pmemctl's: there are none.
type nothing struct{}

func (nothing) Report(context.Context) (lvm.State, error) { return lvm.State{}, nil }

// DieAt has the process die at the step with a number, counted from 1.
func (h *Host) DieAt(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dieAt, h.steps = n, nil
}

// Died reports whether it did.
func (h *Host) Died() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

// Steps are those that were done since the last DieAt, or start of a process.
func (h *Host) Steps() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.steps)
}

// FailAt has the change with a number, counted from 1, fail with an error and do nothing.
func (h *Host) FailAt(n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failAt, h.failed, h.dieAt, h.steps = n, err, 0, nil
}

// step is one change, before and after which the process may die. The host is locked.
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

// Meddle has a function look at each step, and change media by write, as something else on the
// host may.
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

// run holds what the service remembers until the next boot, atDeath what of it was there when
// the process died.
func (h *Host) run() string     { return filepath.Join(h.dir, "run") }
func (h *Host) atDeath() string { return filepath.Join(h.dir, "at-death") }

func (h *Host) copyRun(from, to string) error {
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(from, 0o700)); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// Reboot is a power cut, and the start of the host: what is only in the kernel is gone.
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

// newNumber is one that no device has.
func (h *Host) newNumber(major uint32) blockdev.Number {
	h.minor++
	return blockdev.Number{Major: major, Minor: h.minor}
}

// inUse reports whether a device is held, mounted, or below another one. A node that is bound to a
// file does not hold its device.
func (h *Host) inUse(n blockdev.Number) bool {
	return h.held[n] > 0 || slices.ContainsFunc(h.mounts, func(m mounted) bool { return m.number == n && !m.node }) || len(h.above(n)) > 0
}

// above are the names of the mapped devices on a namespace's device.
func (h *Host) above(n blockdev.Number) []string {
	var names []string
	for _, m := range h.mapped {
		if slices.ContainsFunc(m.parts, func(p part) bool { return p.number == n }) {
			names = append(names, "/dev/mapper/"+m.Name)
		}
	}
	return names
}

// badRange is a part of a region that cannot be read; it heals when it is written, or never.
type badRange struct {
	on       *region
	from, to uint64
	sticks   bool
}

// SetBad has some bytes of a device be bad; sticks is for ever.
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

// SetUsers has processes have the device at a path open.
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

// SetSlots is how many labels the DIMMs of a region have room for.
func (h *Host) SetSlots(region, slots int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.regions[region].slots = slots
}

// FillMetadata has LVM's metadata have no room for a change that adds to it.
func (h *Host) FillMetadata() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.metadataFull = true
}

// AddForeign makes an active logical volume of somebody else's in a volume group.
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

// Suspend has the input and output of a logical volume wait, as an lvm that was killed leaves it.
func (h *Host) Suspend(vg, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.mapped {
		if g, v, _, ok := lvm.ParseMapper(m.Name, m.UUID); ok && g == vg && v == name {
			m.suspended = true
		}
	}
}

// RefuseDAX has the kernel mount file systems without DAX, whatever is asked for.
func (h *Host) RefuseDAX() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noDAX = true
}

// LoseRegion takes a region away as a whole, with all that is in it; FindRegion brings it back.
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

// FindRegion brings back what LoseRegion took away.
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

// Unbind takes the device of a namespace away from under its users, as the loss of a DIMM does.
func (h *Host) Unbind(key string) error { return h.bind(key, h.takeDown) }

// Bind brings it back, with another number.
func (h *Host) Bind(key string) error { return h.bind(key, h.bringUp) }

func (h *Host) bind(key string, do func(*namespace)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.named(key)
	if err == nil {
		do(n)
	}
	return err
}

// LoseInfoBlock clears the info block of a namespace, which a reboot shows.
func (h *Host) LoseInfoBlock(key string) error {
	return h.bind(key, func(n *namespace) {
		n.region.content.put(extent{from: n.from + pmem.InfoBlockOffset, to: n.from + 2*pmem.InfoBlockOffset})
	})
}

// part is a range of a device, on a namespace: so many bytes at from of its region.
type part struct {
	on         *namespace
	number     blockdev.Number // that on had when it was mapped
	from, size uint64
}

// partsOf are where on the media the bytes of a device are; nil for no such device.
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

// each calls do with each part of a range of a device, and the offset in the range.
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

// ReadDevice reads from a device as root does who opens its node.
func (h *Host) ReadDevice(path string, offset, count uint64) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.identify(path)
	if err != nil {
		return nil, err
	}
	return h.read(n, offset, count), nil
}

// WriteDevice writes to a device as a tenant does who has it.
func (h *Host) WriteDevice(path string, offset uint64, data []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.identify(path)
	if err == nil {
		h.write(n, offset, data)
	}
	return err
}

// FreeHolds reports whether some bytes are on a medium outside of every namespace and logical
// volume, where nobody erases them any more.
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

// mounted is a mount, or the node of a device that is bound to a file.
type mounted struct {
	number blockdev.Number
	point  mount.Point
	node   bool
}
