package volume

import (
	"testing"

	"github.com/stretchr/testify/assert"

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
		"two groups":       {[]*member{memberOf("p0", "n0", there("A"), copyOf(4096, v7), copyOf(dataTo, other))}, "its copies are of two groups, VG and OTHER", errs.Conflict},
		"nothing left":     {[]*member{memberOf("p0", "n0", lvm.Label{}, lost)}, "nothing is left to restore it from", errs.Unsupported},
		"a device missing": {[]*member{memberOf("p0", "n0", there("A"), copyOf(4096, groupOf(7, one, pvOf("B", dataTo))))}, "has a device missing: physical volume B", errs.Unsupported},
		"which is which": {[]*member{
			memberOf("p0", "n0", there("A"), copyOf(4096, groupOf(7, one, pvOf("B", dataTo), pvOf("C", dataTo)))),
			memberOf("p1", "n1", lvm.Label{}, lost), memberOf("p2", "n2", lvm.Label{}, lost),
		}, "it cannot be told which of its 2 physical volumes /dev/p1 is", errs.Unsupported},
	} {
		g := groupOnDisk{name: "vg", members: c.members}
		g.decide(nil)
		err := g.repairable()
		assert.ErrorContains(t, err, c.reason, what)
		assert.True(t, errs.Is(err, c.kind), what)
		assert.NotEmpty(t, errs.NextStep(err), what)
	}
}

// TestAssign: with the labels of two devices gone the archive tells them apart.
func TestAssign(t *testing.T) {
	g7 := groupOf(7, pvOf("A", dataTo), pvOf("B", dataTo), pvOf("C", dataTo))
	devices := map[string]string{"A": "n0", "B": "n1", "C": "n2"}
	g := groupOnDisk{name: "vg", members: []*member{
		memberOf("p0", "n2", lvm.Label{}, lost), memberOf("p1", "n0", there("A"), copyOf(4096, g7)), memberOf("p2", "n1", lvm.Label{}, lost),
	}}
	g.decide(archivedOf(g7, devices))
	assert.NoError(t, g.repairable())
	assert.Equal(t, []string{"C", "A", "B"}, []string{g.members[0].pv.UUID, g.members[1].pv.UUID, g.members[2].pv.UUID})
	assert.True(t, g.isOf(*archivedOf(g7, devices)))
	assert.False(t, g.isOf(*archivedOf(g7, map[string]string{"A": "of a former group"})))
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

	// A device that was about to be added is nothing to repair.
	g = groupOnDisk{name: "vg", members: []*member{memberOf("p0", "n0", there("A"), copyOf(4096, groupOf(7, pvOf("A", dataTo)))), memberOf("p1", "n1", lvm.Label{}, lost)}}
	g.decide(nil)
	assert.NoError(t, g.repairable())
	assert.Equal(t, PartUnused, g.parts()[2].State)
}
