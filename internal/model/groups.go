package model

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// metadata is the size of LVM's metadata at each end of a physical volume, in bytes.
const metadata = 2 * pmem.MiB

// group is a volume group.
type group struct {
	name, uuid string
	tags       []string
	extentSize uint64 // bytes
	pvs        []*pv
	lvs        []*lv
	seqno      uint64 // of the last change
	committed  string // the metadata of that change
}

// pv is a physical volume, on the data of a namespace.
type pv struct {
	on      *namespace
	uuid    string
	extents uint64
	// from is where in the region its first extent is.
	from  uint64
	size  uint64 // bytes of the device
	blank bool   // nothing is written to it yet
}

// run is a range of extents of a physical volume.
type run struct {
	on          *pv
	from, count uint64
}

type lv struct {
	group      *group
	name, uuid string
	tags       []string
	stripes    int
	stripe     uint64 // bytes on one device before the next is used
	runs       []run  // linear: one after the other; striped: one for each stripe
}

// parts returns the places of a logical volume's bytes on the media.
func (l *lv) parts() []part {
	var parts []part
	extent := l.group.extentSize
	if l.stripes < 2 {
		for _, r := range l.runs {
			parts = append(parts, part{r.on.on, r.on.on.number, r.on.from + r.from*extent, r.count * extent})
		}
		return parts
	}
	for first := 0; first < len(l.runs); first += l.stripes {
		for at := uint64(0); at < l.runs[first].count*extent; at += l.stripe {
			for _, r := range l.runs[first : first+l.stripes] {
				parts = append(parts, part{r.on.on, r.on.on.number, r.on.from + r.from*extent + at, l.stripe})
			}
		}
	}
	return parts
}

// table is what the device mapper is told of a logical volume.
func (l *lv) table() string {
	var lines []string
	start, stripes := uint64(0), max(l.stripes, 1)
	for runs := range slices.Chunk(l.runs, stripes) {
		line := fmt.Sprintf("%d %d linear", start, total(runs)*l.group.extentSize/512)
		if stripes > 1 {
			line = fmt.Sprintf("%d %d striped %d %d", start, total(runs)*l.group.extentSize/512, stripes, l.stripe/512)
		}
		for _, r := range runs {
			line += fmt.Sprintf(" %s %d", r.on.on.number, (metadata+r.from*l.group.extentSize)/512)
		}
		lines, start = append(lines, line), start+total(runs)*l.group.extentSize/512
	}
	return strings.Join(lines, "\n")
}

func (l *lv) size() (bytes uint64) {
	for _, r := range l.runs {
		bytes += r.count * l.group.extentSize
	}
	return bytes
}

func (l *lv) mapperUUID() string { return "LVM-" + strings.ReplaceAll(l.group.uuid+l.uuid, "-", "") }

// mapped is a device of the device mapper.
type mapped struct {
	blockdev.Mapped
	parts     []part
	table     string
	suspended bool
}

// newUUID returns a new UUID in LVM's format.
func newUUID() string {
	text := rand.Text() + rand.Text()
	var parts []string
	for _, n := range []int{6, 4, 4, 4, 4, 4, 6} {
		parts, text = append(parts, text[:n]), text[n:]
	}
	return strings.Join(parts, "-")
}

// groups is LVM on the host. It sees the devices of some namespaces.
type groups struct {
	*Host
	sees func(n pmem.Namespace) bool
}

// ofNobody reports whether a namespace is not pmemctl's.
func ofNobody(n pmem.Namespace) bool {
	_, own := volume.Owned(n.Name)
	return !own
}

func (g *group) taken(p *pv) []run {
	var all []run
	for _, l := range g.lvs {
		for _, r := range l.runs {
			if r.on == p {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b run) int { return int(a.from) - int(b.from) })
	return all
}

// free returns the free ranges of a physical volume.
func (g *group) free(p *pv) []run {
	var all []run
	at := uint64(0)
	for _, r := range g.taken(p) {
		if r.from > at {
			all = append(all, run{p, at, r.from - at})
		}
		at = r.from + r.count
	}
	if at < p.extents {
		all = append(all, run{p, at, p.extents - at})
	}
	return all
}

func total(runs []run) (extents uint64) {
	for _, r := range runs {
		extents += r.count
	}
	return extents
}

// there reports whether LVM sees a physical volume: its namespace is up, in its list, and has the
// label.
func (h *Host) there(p *pv) bool {
	return p.on.up() && p.on.info != "" && slices.Contains(p.on.region.namespaces, p.on) && h.readable(p)
}

func (l groups) Report(context.Context) (lvm.State, error) {
	if err := l.reading("lvm report"); err != nil {
		return lvm.State{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return lvm.State{}, ErrDead
	}
	var s lvm.State
	for _, g := range l.groups {
		vg := lvm.VG{Name: g.name, UUID: g.uuid, ExtentSize: g.extentSize, Tags: slices.Clone(g.tags)}
		seen := false
		for _, p := range g.pvs {
			if !l.there(p) || !l.sees(l.shown(p.on)) {
				vg.PartialPVMissing = true
				continue
			}
			seen = true
			_, size := p.on.data()
			free := total(g.free(p)) * g.extentSize
			vg.PVs = append(vg.PVs, lvm.PV{Name: "/dev/" + p.on.block(), UUID: p.uuid, VG: g.name, DeviceSize: size, Size: p.extents * g.extentSize, Free: free, DataStart: metadata})
			vg.Size += p.extents * g.extentSize
			vg.Free += free
		}
		if !seen {
			continue
		}
		for _, v := range g.lvs {
			d := lvm.LV{Name: v.name, UUID: v.uuid, VG: g.name, VGUUID: g.uuid, Size: v.size(), Tags: slices.Clone(v.tags), Type: "linear", Stripes: max(v.stripes, 1), Active: l.isMapped(v.mapperUUID())}
			for _, r := range v.runs {
				d.Partial = d.Partial || !l.there(r.on)
				d.Ranges = append(d.Ranges, fmt.Sprintf("/dev/%s:%d-%d", r.on.on.block(), r.from, r.from+r.count-1))
			}
			if v.stripes > 1 {
				d.Type = "striped"
			}
			vg.LVs = append(vg.LVs, d)
		}
		s.VGs = append(s.VGs, vg)
	}
	return s, nil
}

func (h *Host) isMapped(uuid string) bool {
	return slices.ContainsFunc(h.mapped, func(m *mapped) bool { return m.UUID == uuid })
}

// HasLabel and MayKnow read the content of the device.
func (l groups) HasLabel(device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pvOf(device) != nil
}

func (l groups) MayKnow(device string, words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.pvOf(device)
	return g != nil && slices.ContainsFunc(g.lvs, func(v *lv) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(v.name+" {", w) })
	})
}

// pvOf returns the group that has a device; nil if none has.
func (h *Host) pvOf(device string) *group {
	for _, g := range h.groups {
		if slices.ContainsFunc(g.pvs, func(p *pv) bool { return h.there(p) && "/dev/"+p.on.block() == device }) {
			return g
		}
	}
	return nil
}

func (h *Host) group(ref lvm.VGRef) (*group, error) {
	for _, g := range h.groups {
		if g.uuid == ref.UUID || ref.UUID == "" && g.name == ref.Name {
			return g, nil
		}
	}
	return nil, errs.New(errs.NotFound, "volume group "+ref.Name, "not found", "")
}

// command is an LVM command that changes a group, in one step.
func (h *Host) command(name string, ref lvm.VGRef, do func(*group) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.step(name, func() error {
		g, err := h.group(ref)
		if err == nil {
			err = do(g)
		}
		if err == nil && slices.Contains(h.groups, g) {
			err = h.commit(g)
		}
		return err
	})
}

func (h *Host) add(g *group, devices []string) error {
	for _, device := range devices {
		n, err := h.identify(device)
		if err != nil {
			return err
		}
		for _, r := range h.regions {
			for _, ns := range r.namespaces {
				if ns.number != n {
					continue
				}
				from, size := ns.data()
				g.pvs = append(g.pvs, &pv{on: ns, uuid: newUUID(), from: from + metadata, extents: (size - 2*metadata) / g.extentSize, size: size, blank: true})
				r.content.put(extent{from: from, to: from + metadata})
			}
		}
	}
	return nil
}

func (l groups) CreateVG(_ context.Context, name, tag string, extentSize, _ uint64, devices ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.step("vgcreate", func() error {
		g := &group{name: name, uuid: newUUID(), tags: []string{tag}, extentSize: extentSize}
		if err := l.add(g, devices); err != nil {
			return err
		}
		l.groups = append(l.groups, g)
		return l.commit(g)
	})
}

func (l groups) ExtendVG(_ context.Context, ref lvm.VGRef, _ uint64, devices ...string) error {
	return l.command("vgextend", ref, func(g *group) error { return l.add(g, devices) })
}

func (l groups) RemoveVG(_ context.Context, ref lvm.VGRef, _ ...string) error {
	return l.command("vgremove", ref, func(g *group) error {
		if len(g.lvs) > 0 {
			return errs.New(errs.InUse, "lvm vgremove", "has logical volumes", "")
		}
		l.Host.groups = slices.DeleteFunc(l.Host.groups, func(o *group) bool { return o == g })
		return nil
	})
}

func (l groups) CreateLV(_ context.Context, spec lvm.NewLV) error {
	return l.command("lvcreate", spec.VG, func(g *group) error {
		if err := l.noRoom("lvcreate"); err != nil {
			return err
		}
		if slices.ContainsFunc(g.lvs, func(v *lv) bool { return v.name == spec.Name }) {
			return errs.New(errs.Conflict, "lvm lvcreate", spec.Name+" already exists", "")
		}
		v := &lv{group: g, name: spec.Name, uuid: newUUID(), tags: slices.Clone(spec.Tags), stripes: spec.Stripes, stripe: spec.StripeSize}
		need := spec.Size / g.extentSize
		each := need
		if v.stripes > 1 {
			each = need / uint64(v.stripes)
		}
		for _, p := range g.pvs {
			if len(spec.Devices) > 0 && !slices.Contains(spec.Devices, "/dev/"+p.on.block()) || !l.there(p) {
				continue
			}
			left := min(each, need)
			for _, r := range g.free(p) {
				r.count = min(r.count, left)
				if v.stripes > 1 && r.count < each {
					continue
				}
				if r.count > 0 {
					v.runs = append(v.runs, r)
				}
				left -= r.count
				need -= r.count
			}
		}
		if need > 0 {
			return errs.New(errs.NoSpace, "lvm lvcreate", "insufficient free space", "")
		}
		g.lvs = append(g.lvs, v)
		l.activate(v)
		return nil
	})
}

// on finds a logical volume by its name.
func (g *group) on(name string) (*lv, error) {
	i := slices.IndexFunc(g.lvs, func(v *lv) bool { return v.name == name })
	if i < 0 {
		return nil, errs.New(errs.NotFound, "lvm", "Failed to find logical volume "+g.name+"/"+name, "")
	}
	return g.lvs[i], nil
}

func (h *Host) activate(v *lv) {
	if !h.isMapped(v.mapperUUID()) {
		h.mapped = append(h.mapped, &mapped{Mapped: blockdev.Mapped{Name: mapperName(v), UUID: v.mapperUUID(), Number: h.newNumber(253)}, parts: v.parts(), table: v.table()})
	}
}

func mapperName(v *lv) string {
	return strings.TrimPrefix(lvm.MapperPath(v.group.name, v.name), "/dev/mapper/")
}

// device returns the mapped device of a logical volume; nil if it has none.
func (h *Host) device(v *lv) *mapped {
	i := slices.IndexFunc(h.mapped, func(m *mapped) bool { return m.UUID == v.mapperUUID() })
	if i < 0 {
		return nil
	}
	return h.mapped[i]
}

func (l groups) ofLV(command string, ref lvm.VGRef, name string, do func(*lv) error) error {
	return l.command(command, ref, func(g *group) error {
		v, err := g.on(name)
		if err == nil {
			err = do(v)
		}
		return err
	})
}

// noRoom returns LVM's error if its metadata has no room for a change. The host is locked.
func (h *Host) noRoom(command string) error {
	if !h.metadataFull {
		return nil
	}
	return errs.Wrap(errs.NoSpace, "lvm "+command, "exceeds maximum metadata size", "delete volumes", lvm.ErrMetadataFull)
}

func (l groups) RenameLV(_ context.Context, ref lvm.VGRef, name, to string) error {
	return l.ofLV("lvrename", ref, name, func(v *lv) error {
		if err := l.noRoom("lvrename"); err != nil {
			return err
		}
		if _, err := v.group.on(to); err == nil {
			return errs.New(errs.Conflict, "lvm lvrename", to+" already exists", "")
		}
		v.name = to
		if m := l.device(v); m != nil {
			m.Name = mapperName(v)
		}
		return nil
	})
}

func (l groups) UnmarkLV(_ context.Context, ref lvm.VGRef, name, tag string) error {
	return l.ofLV("lvchange", ref, name, func(v *lv) error {
		v.tags = slices.DeleteFunc(v.tags, func(t string) bool { return t == tag })
		return nil
	})
}

func (l groups) RemoveLV(_ context.Context, ref lvm.VGRef, name, uuid string) error {
	return l.ofLV("lvremove", ref, name, func(v *lv) error {
		if uuid != "" && v.uuid != uuid {
			return nil
		}
		if m := l.device(v); m != nil && l.inUse(m.Number) {
			return errs.New(errs.InUse, "lvm lvremove", "contains a filesystem in use", "")
		}
		l.mapped = slices.DeleteFunc(l.mapped, func(m *mapped) bool { return m.UUID == v.mapperUUID() })
		v.group.lvs = slices.DeleteFunc(v.group.lvs, func(o *lv) bool { return o == v })
		return nil
	})
}

func (l groups) ExtendLV(_ context.Context, ref lvm.VGRef, name string, _ uint64, _ int, ranges []string) error {
	return l.ofLV("lvextend", ref, name, func(v *lv) error {
		for _, text := range ranges {
			device := lvm.DeviceOfRange(text)
			first, last, _ := strings.Cut(text[len(device)+1:], "-")
			from, err := strconv.ParseUint(first, 10, 64)
			if err != nil {
				return err
			}
			to, err := strconv.ParseUint(last, 10, 64)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(v.group.pvs, func(p *pv) bool { return "/dev/"+p.on.block() == device })
			if i < 0 {
				return errs.New(errs.NotFound, "lvm lvextend", device+" not found", "")
			}
			r := run{v.group.pvs[i], from, to - from + 1}
			for _, taken := range v.group.taken(r.on) {
				if taken.from < r.from+r.count && r.from < taken.from+taken.count {
					return errs.New(errs.NoSpace, "lvm lvextend", "Insufficient free space", "")
				}
			}
			v.runs = append(v.runs, r)
		}
		if m := l.device(v); m != nil {
			m.parts, m.table = v.parts(), v.table()
		}
		return nil
	})
}

func (l groups) Activate(_ context.Context, ref lvm.VGRef, name string) error {
	return l.ofLV("lvchange -ay", ref, name, func(v *lv) error {
		l.activate(v)
		return nil
	})
}

func (l groups) Deactivate(_ context.Context, ref lvm.VGRef, name string) error {
	return l.ofLV("lvchange -an", ref, name, func(v *lv) error {
		m := l.device(v)
		if m != nil && l.inUse(m.Number) {
			return errs.New(errs.InUse, "lvm lvchange", "Logical volume "+ref.Name+"/"+name+" in use", "")
		}
		l.mapped = slices.DeleteFunc(l.mapped, func(have *mapped) bool { return have == m })
		return nil
	})
}

func (l groups) Refresh(_ context.Context, ref lvm.VGRef, name string) error {
	return l.ofLV("lvchange --refresh", ref, name, func(v *lv) error {
		if m := l.device(v); m != nil {
			m.suspended = false
		}
		return nil
	})
}

func (l groups) AddTag(_ context.Context, ref lvm.VGRef, tag string) error {
	return l.command("vgchange", ref, func(g *group) error {
		g.tags = append(g.tags, tag)
		return nil
	})
}

func (l groups) AddLVTags(_ context.Context, ref lvm.VGRef, name string, tags ...string) error {
	return l.ofLV("lvchange", ref, name, func(v *lv) error {
		v.tags = append(v.tags, tags...)
		return nil
	})
}

func (l groups) MakeNodes(context.Context, lvm.VGRef) error { return nil }
