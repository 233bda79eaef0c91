package volume

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

const (
	gib      = uint64(1 << 30)
	dataFrom = uint64(2 << 20)
	dataTo   = gib - 2<<20 // there is a second copy behind it
)

func groupOf(seqno uint64, pvs ...lvm.GroupPV) lvm.Group {
	return lvm.Group{Name: "vg", UUID: "VG", Seqno: seqno, ExtentSize: ExtentSize, PVs: pvs}
}

func pvOf(uuid string, dataEnd uint64) lvm.GroupPV {
	return lvm.GroupPV{UUID: uuid, DeviceSize: gib, DataStart: dataFrom, DataEnd: dataEnd}
}

func textOf(g lvm.Group) []byte { return []byte(g.UUID + string(rune('0'+g.Seqno))) }

func copyOf(offset uint64, g lvm.Group) lvm.Copy {
	return lvm.Copy{Offset: offset, Size: 1 << 20, Text: textOf(g), Group: g}
}

var (
	lost  = lvm.Copy{Offset: 4096, Damage: "its header is damaged"}
	there = func(pv string) lvm.Label { return lvm.Label{PV: pv, DeviceSize: gib, DataStart: dataFrom} }
)

func memberOf(device, uuid string, label lvm.Label, copies ...lvm.Copy) *member {
	m := &member{Namespace: pmem.Namespace{Dev: device, Blockdev: device, UUID: uuid, State: pmem.StateEnabled, Mode: pmem.ModeFSDAX}, disk: lvm.Disk{Size: gib, Label: label, Copies: copies}}
	if !label.Known() {
		m.disk.LabelDamage = "is gone"
	}
	return m
}

func archivedOf(g lvm.Group, devices map[string]string) *lvm.Archived {
	return &lvm.Archived{File: "FILE", Text: textOf(g), Group: g, Devices: devices}
}

func TestDecide(t *testing.T) {
	one := pvOf("A", dataTo)
	v7, v8 := groupOf(7, one), groupOf(8, one)
	other := v8
	other.UUID = "OTHER"
	guess := copyOf(dataTo, v8)
	guess.Guessed = true
	full := groupOf(7, pvOf("A", gib)) // of one copy: its data goes to the end
	forged := guess
	forged.Group = groupOf(9, pvOf("A", dataTo))
	forged.Text = textOf(forged.Group)
	for what, c := range map[string]struct {
		members  []*member
		archived *lvm.Archived
		seqno    uint64
		where    string
		guessed  bool
	}{
		"the newest copy":                        {[]*member{memberOf("p0", "n0", there("A"), copyOf(4096, v7), copyOf(dataTo, v8))}, nil, 8, "copy 2 on /dev/p0", false},
		"the archive when nothing else is left":  {[]*member{memberOf("p0", "n0", lvm.Label{}, lost)}, archivedOf(v7, map[string]string{"A": "n0"}), 7, "the archive, FILE", false},
		"a later change in the archive":          {[]*member{memberOf("p0", "n0", there("A"), lost, copyOf(dataTo, v7))}, archivedOf(v8, nil), 8, "the archive, FILE", false},
		"not when the copies are whole":          {[]*member{memberOf("p0", "n0", there("A"), copyOf(4096, v7), copyOf(dataTo, v7))}, archivedOf(v8, nil), 7, "copy 1 on /dev/p0", false},
		"a copy rather than the same archived":   {[]*member{memberOf("p0", "n0", there("A"), lost, copyOf(dataTo, v8))}, archivedOf(v8, nil), 8, "copy 2 on /dev/p0", false},
		"a copy that no label names":             {[]*member{memberOf("p0", "n0", lvm.Label{}, lost, guess)}, nil, 8, "copy 2 on /dev/p0", true},
		"and that the archive has the place for": {[]*member{memberOf("p0", "n0", lvm.Label{}, lost, guess)}, archivedOf(v7, map[string]string{"A": "n0"}), 8, "copy 2 on /dev/p0", false},
		"not what lies in a tenant's data":       {[]*member{memberOf("p0", "n0", lvm.Label{}, lost, forged)}, archivedOf(full, map[string]string{"A": "n0"}), 7, "the archive, FILE", false},
		"nor with the first copy there":          {[]*member{memberOf("p0", "n0", lvm.Label{}, copyOf(4096, full), forged)}, nil, 7, "copy 1 on /dev/p0", false},
	} {
		g := groupOnDisk{name: "vg", members: c.members}
		g.decide(c.archived)
		if !assert.NotNil(t, g.source, what) {
			continue
		}
		assert.Equal(t, c.seqno, g.source.group.Seqno, what)
		assert.Equal(t, c.where, g.source.where, what)
		assert.Equal(t, c.guessed, g.source.guessed, what)
		assert.Equal(t, "A", c.members[0].pv.UUID, what)
		assert.NoError(t, g.repairable(), what)
	}
	for what, c := range map[string]struct {
		members []*member
		reason  string
		kind    errs.Kind
	}{
		"two groups":       {[]*member{memberOf("p0", "n0", there("A"), copyOf(4096, v7), copyOf(dataTo, other))}, "its copies belong to two groups, VG and OTHER", errs.Conflict},
		"nothing left":     {[]*member{memberOf("p0", "n0", lvm.Label{}, lost)}, "nothing is left to restore it from", errs.Unsupported},
		"a device missing": {[]*member{memberOf("p0", "n0", there("A"), copyOf(4096, groupOf(7, one, pvOf("B", dataTo))))}, "is missing a device: physical volume B", errs.Unsupported},
		"which is which": {[]*member{
			memberOf("p0", "n0", there("A"), copyOf(4096, groupOf(7, one, pvOf("B", dataTo), pvOf("C", dataTo)))),
			memberOf("p1", "n1", lvm.Label{}, lost), memberOf("p2", "n2", lvm.Label{}, lost),
		}, "cannot determine which of its 2 physical volumes /dev/p1 is", errs.Unsupported},
	} {
		g := groupOnDisk{name: "vg", members: c.members}
		g.decide(nil)
		err := g.repairable()
		assert.ErrorContains(t, err, c.reason, what)
		assert.True(t, errs.Is(err, c.kind), what)
		assert.NotEmpty(t, errs.NextStep(err), what)
	}
}

// TestAssign: without the labels of two devices, the archive distinguishes them.
func TestAssign(t *testing.T) {
	g7 := groupOf(7, pvOf("A", dataTo), pvOf("B", dataTo), pvOf("C", dataTo))
	devices := map[string]string{"A": "n0", "B": "n1", "C": "n2"}
	g := groupOnDisk{name: "vg", members: []*member{
		memberOf("p0", "n2", lvm.Label{}, lost), memberOf("p1", "n0", there("A"), copyOf(4096, g7)), memberOf("p2", "n1", lvm.Label{}, lost),
	}}
	g.decide(archivedOf(g7, devices))
	assert.NoError(t, g.repairable())
	assert.Equal(t, []string{"C", "A", "B"}, []string{g.members[0].pv.UUID, g.members[1].pv.UUID, g.members[2].pv.UUID})
	assert.True(t, isOn(*archivedOf(g7, devices), g.members[0]))
	assert.False(t, isOn(*archivedOf(g7, map[string]string{"A": "of a former group"}), g.members[0]))
}

// TestSplitByUUID: devices of two groups of the same name, for example from another host.
func TestSplitByUUID(t *testing.T) {
	mine, theirs := groupOf(7, pvOf("A", dataTo), pvOf("B", dataTo)), groupOf(3, pvOf("X", dataTo))
	theirs.UUID = "THEIRS"
	own := func() *member { return memberOf("p0", "n0", there("A"), copyOf(4096, mine), copyOf(dataTo, mine)) }
	whole := func() *member { return memberOf("p9", "n9", there("X"), copyOf(4096, theirs), copyOf(dataTo, theirs)) }
	blank := func(device, uuid string) *member { return memberOf(device, uuid, lvm.Label{}, lost) }
	headless := func(device string, g lvm.Group) *member {
		guess := copyOf(dataTo, g)
		guess.Guessed = true
		return memberOf(device, "n"+device, lvm.Label{}, lost, guess)
	}
	oneCopy := groupOf(7, pvOf("A", dataTo), pvOf("B", gib)) // where B has data to the end
	for what, c := range map[string]struct {
		members  []*member
		archived []*lvm.Archived
		groups   map[string]string // devices by UUID of the group; "" for one of which nothing is left
	}{
		"one group":                        {[]*member{own(), blank("p1", "n1")}, nil, map[string]string{"VG": "p0 p1"}},
		"nothing left":                     {[]*member{blank("p0", "n0"), blank("p1", "n1")}, nil, map[string]string{"": "p0 p1"}},
		"two groups":                       {[]*member{own(), memberOf("p1", "n1", there("B"), lost), whole()}, nil, map[string]string{"VG": "p0 p1", "THEIRS": "p9"}},
		"by the archive":                   {[]*member{own(), blank("p1", "n1"), whole()}, []*lvm.Archived{archivedOf(mine, map[string]string{"A": "n0", "B": "n1"})}, map[string]string{"VG": "p0 p1", "THEIRS": "p9"}},
		"one has nothing but the archive":  {[]*member{own(), blank("p9", "n9")}, []*lvm.Archived{archivedOf(theirs, map[string]string{"X": "n9"}), archivedOf(mine, map[string]string{"A": "n0"})}, map[string]string{"VG": "p0", "THEIRS": "p9"}},
		"by a copy that no label names":    {[]*member{own(), memberOf("p1", "n1", there("B"), lost), headless("p9", theirs)}, nil, map[string]string{"VG": "p0 p1", "THEIRS": "p9"}},
		"of the group that is there":       {[]*member{own(), headless("p1", mine), whole()}, nil, map[string]string{"VG": "p0 p1", "THEIRS": "p9"}},
		"not by a tenant's data":           {[]*member{memberOf("p0", "n0", there("A"), copyOf(4096, oneCopy)), headless("p1", theirs)}, nil, map[string]string{"VG": "p0 p1"}},
		"a device of either is of neither": {[]*member{own(), blank("p1", "n1"), whole()}, nil, map[string]string{"VG": "p0", "THEIRS": "p9", "": "p1"}},
	} {
		groups := splitByUUID("vg", c.members, func(fits func(lvm.Archived) bool) *lvm.Archived {
			for _, a := range c.archived {
				if fits(*a) {
					return a
				}
			}
			return nil
		})
		got := map[string]string{}
		for _, g := range groups {
			var devices []string
			for _, m := range g.members {
				devices = append(devices, m.Blockdev)
			}
			got[g.uuid()] = strings.Join(devices, " ")
		}
		assert.Equal(t, c.groups, got, what)
	}
}

// TestOneToRepair: of several groups of the same name, the damaged one is selected.
func TestOneToRepair(t *testing.T) {
	group := func(uuid string, seqno2 uint64) *groupOnDisk {
		newest, second := groupOf(7, pvOf("A", dataTo)), groupOf(seqno2, pvOf("A", dataTo))
		newest.UUID, second.UUID = uuid, uuid
		g := &groupOnDisk{name: "vg", members: []*member{memberOf("p0", "n0", there("A"), copyOf(4096, newest), copyOf(dataTo, second))}}
		g.decide(nil)
		return g
	}
	g, err := oneToRepair([]*groupOnDisk{group("ONE", 7), group("TWO", 6)})
	assert.NoError(t, err)
	assert.Equal(t, "TWO", g.uuid())
	g, err = oneToRepair([]*groupOnDisk{group("ONE", 7), group("TWO", 7)})
	assert.NoError(t, err, "nothing is damaged")
	assert.Equal(t, "ONE", g.uuid())
	_, err = oneToRepair([]*groupOnDisk{group("ONE", 6), group("TWO", 6)})
	assert.True(t, errs.Is(err, errs.Conflict))
	assert.Contains(t, errs.NextStep(err), "pmemctl vg repair ONE")
}

func TestParts(t *testing.T) {
	g7 := groupOf(7, pvOf("A", dataTo), pvOf("B", dataTo))
	down := memberOf("p1", "n1", lvm.Label{})
	down.State, down.Blockdev, down.broken = "disabled", "", "its namespace is disabled"
	g := groupOnDisk{name: "vg", members: []*member{memberOf("p0", "n0", there("A"), copyOf(4096, g7), copyOf(dataTo, groupOf(6, g7.PVs...))), down}}
	g.decide(nil)
	var states []PartState
	for _, p := range g.parts() {
		states = append(states, p.State)
		assert.Equal(t, p.State != PartOK, p.Damaged())
		assert.Equal(t, p.Damaged(), p.Next != "", p.Part)
	}
	assert.Equal(t, []PartState{PartOK, PartOK, PartDamaged, PartMissing, PartMissing}, states, "label, copy 1, an older copy 2, the namespace, and the physical volume")

	// If a part is damaged, the next step must not be to remove the group by force.
	g = groupOnDisk{name: "vg", members: []*member{memberOf("p0", "n0", lvm.Label{}, copyOf(4096, groupOf(7, pvOf("A", dataTo)))), memberOf("p1", "n1", there("X"), lost)}}
	g.decide(nil)
	for _, p := range g.parts() {
		assert.NotContains(t, p.Next, "vg remove", p.Part)
	}

	// A device that was about to be added need not be repaired.
	g = groupOnDisk{name: "vg", members: []*member{memberOf("p0", "n0", there("A"), copyOf(4096, groupOf(7, pvOf("A", dataTo)))), memberOf("p1", "n1", lvm.Label{}, lost)}}
	g.decide(nil)
	assert.NoError(t, g.repairable())
	assert.Equal(t, PartUnused, g.parts()[2].State)
}

// TestMayMiss: a namespace that does not come up is not removed while a group may need it.
func TestMayMiss(t *testing.T) {
	members := []pmem.Namespace{{Dev: "namespace0.0", Blockdev: "pmem0", Name: markMember + "vg"}, {Dev: "namespace0.1", Name: markJoining + "new"}}
	group := func(missing bool, device string) lvm.VG {
		return lvm.VG{Name: "vg", PartialPVMissing: missing, PVs: []lvm.PV{{Name: device}}}
	}
	for what, c := range map[string]struct {
		lvm  lvm.State
		want bool
	}{
		"complete":                          {lvm.State{VGs: []lvm.VG{group(false, "/dev/pmem0")}}, false},
		"a device missing":                  {lvm.State{VGs: []lvm.VG{group(true, "/dev/pmem0")}}, true},
		"not readable":                      {lvm.State{}, true},
		"another of its name misses one":    {lvm.State{VGs: []lvm.VG{group(false, "/dev/pmem0"), group(true, "/dev/pmem9")}}, true},
		"another of its name is unreadable": {lvm.State{VGs: []lvm.VG{group(false, "/dev/pmem9")}}, true},
	} {
		assert.Equal(t, c.want, View{PMEM: pmem.System{Namespaces: members}, LVM: c.lvm}.mayMiss("vg"), what)
	}
	assert.False(t, View{PMEM: pmem.System{Namespaces: members}}.mayMiss("new"), "a group that was never made")
}

// TestSettleAnotherSize: a namespace whose group has another size for it does not become its member.
func TestSettleAnotherSize(t *testing.T) {
	n := pmem.Namespace{Dev: "namespace0.0", Blockdev: "pmem0", UUID: "u", Size: 500 * pmem.MiB}
	view := func(size uint64) View {
		pv := lvm.PV{Name: "/dev/pmem0", DeviceSize: size, Size: 4 * pmem.MiB, Free: 4 * pmem.MiB}
		return View{LVM: lvm.State{VGs: []lvm.VG{{Name: "pmemvg", Tags: []string{tag}, PVs: []lvm.PV{pv}}}}}
	}
	renamed := &renames{}
	s := &Service{NDCTL: renamed}
	err := s.settle(view(n.Size-1), n, "pmemvg")
	assert.True(t, errs.Is(err, errs.Internal), "%v", err)
	assert.ErrorContains(t, err, "volume group pmemvg: records /dev/pmem0 with 524287999 bytes, but it has 524288000")
	assert.Contains(t, errs.NextStep(err), "vgreduce pmemvg /dev/pmem0")
	assert.Empty(t, renamed.names)
	require.NoError(t, s.settle(view(n.Size), n, "pmemvg"))
	assert.Equal(t, []string{"u pmemctl=pmemvg"}, renamed.names)
}

// renames is an NDCTL that only renames.
type renames struct {
	NDCTL
	names []string
}

func (r *renames) RenameNamespace(key, name string) (pmem.Namespace, error) {
	r.names = append(r.names, key+" "+name)
	return pmem.Namespace{}, nil
}

// TestReadMemberBroken: what cannot be read is broken, and its metadata is not taken for lost.
func TestReadMemberBroken(t *testing.T) {
	up := pmem.Namespace{Dev: "namespace0.0", Region: "region0", UUID: "7d4be2de-50d4-4d3a-93a2-b9f3c7a3bd0a", State: pmem.StateEnabled, Mode: pmem.ModeFSDAX, Blockdev: "pmem0"}
	for want, change := range map[string]func(n *pmem.Namespace){
		"is disabled":               func(n *pmem.Namespace) { n.State = pmem.StateDisabled },
		"its info block is lost":    func(n *pmem.Namespace) { n.Mode = pmem.ModeRaw },
		"has no block device":       func(n *pmem.Namespace) { n.Blockdev = "" },
		"namespace0.0 is scrambled": func(n *pmem.Namespace) { n.InfoUUID, n.Granularity = infoUUID(n.UUID, false, 1024), 512 },
	} {
		n := up
		change(&n)
		assert.Contains(t, (&Service{}).readMember(n).broken, want)
	}
}
