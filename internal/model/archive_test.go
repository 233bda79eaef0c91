package model_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// newest is the last change of the group in the archive.
func (d onDisk) newest() lvm.Archived {
	d.t.Helper()
	a, err := lvm.Archive{Dir: d.s.ArchiveDir}.Newest("pmemvg", func(lvm.Archived) bool { return true })
	require.NoError(d.t, err)
	require.NotNil(d.t, a)
	return *a
}

// change changes the group's metadata.
func (d onDisk) change(name string) {
	d.t.Helper()
	require.NoError(d.t, volumetest.Create(volumetest.Spec(name, volume.TypeLVM, 16*pmem.MiB))(d, d.s))
}

// notes are what the service notes from here on.
func (d onDisk) notes() *[]error {
	var all []error
	d.s.Note = func(err error) { all = append(all, err) }
	return &all
}

// TestArchive: after each operation the archive has the metadata that is on the devices, and knows
// which namespace each physical volume is.
func TestArchive(t *testing.T) {
	d := newOnDisk(t)
	c := volumetest.Spec("b", volume.TypeLVM, 16*pmem.MiB)
	for _, do := range []struct {
		what    string
		do      volumetest.Action
		change  uint64
		volumes []string
	}{
		{"nothing", func(volumetest.Host, *volume.Service) error { return nil }, 4, []string{"a"}},
		{"create", volumetest.Create(c), 6, []string{"a", "b"}},
		{"expand", volumetest.Expand("b", 32*pmem.MiB), 9, []string{"a", "b"}},
		{"delete and erase", volumetest.Erased("b"), 11, []string{"a"}},
		{"vg init", volumetest.InitVGs(volume.VGInitSpec{Percent: 50, Span: true, Regions: []string{"region1"}}), 12, []string{"a"}},
	} {
		require.NoError(t, do.do(d, d.s), do.what)
		a := d.newest()
		devices := map[string]string{}
		sys, err := d.s.Look(ctx)
		require.NoError(t, err)
		for _, n := range sys.PMEM.Namespaces {
			disk := d.diskOf(n)
			devices[disk.Label.PV] = n.UUID
			for _, c := range disk.Copies {
				assert.Equal(t, a.Text, c.Text, do.what)
			}
		}
		assert.Equal(t, devices, a.Devices, do.what)
		assert.Equal(t, do.change, a.Group.Seqno, do.what)
		var names []string
		for _, lv := range a.Group.LVs {
			names = append(names, lv.Name)
		}
		assert.Equal(t, do.volumes, names, do.what)
	}
	require.NoError(t, volumetest.Erased("a")(d, d.s))
	require.NoError(t, d.s.RemoveVG(ctx, "pmemvg", false))
	assert.Equal(t, uint64(14), d.newest().Group.Seqno, "what was last known of a group that was removed is kept")
}

// TestArchiveAfterDamage: what the archive has is never replaced by something older or doubtful.
func TestArchiveAfterDamage(t *testing.T) {
	lockAndUnlock := func(d onDisk) { require.NoError(d.t, d.s.ChangeHost(ctx, func() error { return nil })) }
	for what, c := range map[string]struct {
		damage func(onDisk)
		change uint64 // of the newest in the archive
		files  int    // that are added
		note   string
	}{
		"nothing":                                {func(onDisk) {}, 4, 0, ""},
		"a label is gone, which changes nothing": {func(d onDisk) { d.write(d.path("region0"), 0, make([]byte, 4096)) }, 4, 0, ""},
		"an older copy beside a damaged one": {func(d onDisk) {
			old := map[string][]byte{}
			for _, region := range []string{"region0", "region1"} {
				old[region] = d.read(d.path(region), 0, end)
			}
			d.change("b")
			for region, head := range old {
				n := d.member(region)
				d.write(d.path(region), 0, head)
				d.write(d.path(region), n.Size/end*end-end, make([]byte, end))
			}
		}, 6, 2, ""},
		"one went back by hand to an older change": {func(d onDisk) { // vgcfgrestore does
			old := map[string][2][]byte{}
			second := func(n pmem.Namespace) uint64 { return n.Size/end*end - end }
			for _, region := range []string{"region0", "region1"} {
				n := d.member(region)
				old[region] = [2][]byte{d.read(d.path(region), 0, end), d.read(d.path(region), second(n), end)}
			}
			d.change("b")
			for region, both := range old {
				d.write(d.path(region), 0, both[0])
				d.write(d.path(region), second(d.member(region)), both[1])
			}
		}, 4, 3, ""},
		"copies of two groups on one device": {func(d onDisk) { d.putOther("region0") }, 4, 0, "belong to two groups"},
		"nothing is left on the devices":     {func(d onDisk) { d.clearAll() }, 4, 0, ""},
	} {
		t.Run(what, func(t *testing.T) {
			d := newOnDisk(t)
			before := len(d.archived())
			c.damage(d)
			notes := d.notes()
			for range 2 {
				lockAndUnlock(d)
			}
			assert.Equal(t, c.change, d.newest().Group.Seqno)
			assert.Len(t, d.archived(), before+c.files)
			if c.note == "" {
				assert.Empty(t, *notes)
			} else if assert.Len(t, *notes, 2, "it is said each time") {
				volumetest.IsKind(t, errs.Conflict, (*notes)[0], c.note)
			}
		})
	}
}

// putOther has the second copy of a device be of another group of the same name.
func (d onDisk) putOther(region string) {
	d.t.Helper()
	disk := d.disk(region)
	text := bytes.ReplaceAll(disk.Copies[0].Text, []byte(disk.Copies[0].Group.UUID), []byte("otherr-2222-2222-2222-2222-2222-222222"))
	pv, _ := disk.Copies[0].Group.PV(disk.Label.PV)
	writes, err := disk.Repair(text, disk.Copies[0].Group, pv)
	require.NoError(d.t, err)
	for _, w := range writes {
		if w.Offset > end {
			d.write(d.path(region), w.Offset, w.Data)
		}
	}
}

// TestArchiveIsNotGuessed: what only the end of a device without a label says is not kept, because
// a tenant could have written it.
func TestArchiveIsNotGuessed(t *testing.T) {
	for _, label := range []bool{false, true} {
		h := newHost(t)
		d := onDisk{h, t, h.Service()}
		require.NoError(t, volumetest.Second(d.s.InitVGs(ctx, volume.VGInitSpec{Regions: []string{"region0"}, Percent: 25, Span: true})))
		require.NoError(t, os.RemoveAll(d.s.ArchiveDir))
		if label { // then it says where the second copy is
			d.write(d.path("region0"), 4096, make([]byte, end-4096))
		} else {
			d.write(d.path("region0"), 0, make([]byte, end))
		}
		require.NoError(t, d.s.ChangeHost(ctx, func() error { return nil }))
		if label {
			assert.Len(t, d.archived(), 1)
			assert.Equal(t, uint64(1), d.newest().Group.Seqno)
		} else {
			assert.Empty(t, d.archived())
		}
	}
}

// TestArchiveCannotBeWritten: what was to be done is done, and it is noted. The same goes for one
// that cannot be read.
func TestArchiveCannotBeWritten(t *testing.T) {
	d := newOnDisk(t)
	require.NoError(t, os.RemoveAll(d.s.ArchiveDir))
	require.NoError(t, os.MkdirAll(d.s.ArchiveDir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(d.s.ArchiveDir, "pmemvg"), nil, 0o600))
	notes := d.notes()
	d.change("b")
	require.NotEmpty(t, *notes)
	assert.ErrorContains(t, (*notes)[0], "not archived in "+d.s.ArchiveDir)
	assert.ErrorContains(t, (*notes)[0], "volume group pmemvg")
	assert.Len(t, volumetest.List(t, d.s), 2)

	*notes = nil
	parts, err := d.s.CheckVGs(ctx, "pmemvg")
	require.NoError(t, err)
	assert.Len(t, parts, 6)
	assert.False(t, slices.ContainsFunc(parts, volume.VGPart.Damaged), "the archive is not needed for it")
	require.NotEmpty(t, *notes)
	assert.ErrorContains(t, (*notes)[0], "cannot be read")
	assert.Contains(t, errs.NextStep((*notes)[0]), d.s.ArchiveDir)
}

// TestArchiveOfNobody: a service without an archive keeps nothing, and finds nothing there.
func TestArchiveOfNobody(t *testing.T) {
	d := newOnDisk(t)
	had := d.archived()
	dir := d.s.ArchiveDir
	d.s.ArchiveDir = ""
	d.change("b")
	d.s.ArchiveDir = dir
	assert.Equal(t, had, d.archived())
	d.s.ArchiveDir = ""
	d.clearAll()
	parts, err := d.s.CheckVGs(ctx, "pmemvg")
	require.NoError(t, err)
	require.NotEmpty(t, parts)
	for _, p := range parts {
		assert.Equal(t, volume.PartDamaged, p.State)
		assert.Contains(t, p.Next, "nothing is left to restore it from")
		assert.Empty(t, p.VGUUID)
	}
}

// TestPlanRepair has the plan for each damage: what is written where, from which source. The media
// are not changed.
func TestPlanRepair(t *testing.T) {
	for what, c := range map[string]struct {
		damage func(onDisk)
		source string
		change uint64
		writes []string // the first of them on pmem0
		doubt  string
	}{
		"nothing": {func(onDisk) {}, "copy 1 on", 4, nil, ""},
		"the label is gone": {
			func(d onDisk) { d.write(d.path("region0"), 0, make([]byte, 4096)) }, "copy 1 on", 4, []string{"the label on pmem0 (4096 bytes at 0)"}, "",
		},
		"a byte of a header": {
			func(d onDisk) { d.flip(d.path("region0"), 4096+30) }, "copy 1 on", 4, []string{"the header of copy 1 on pmem0 (512 bytes at 4096)"}, "",
		},
		"a header is gone": {
			func(d onDisk) { d.write(d.path("region0"), 4096, make([]byte, 512)) }, "copy 2 on", 4,
			[]string{"the text of copy 1 on pmem0 (4096 bytes at 8192)", "the header of copy 1 on pmem0 (4096 bytes at 4096)"}, "",
		},
		"one device is as it was before a change": {
			func(d onDisk) {
				n := d.member("region0")
				head, tail := d.read(d.path("region0"), 0, end), d.read(d.path("region0"), n.Size/end*end-end, end)
				d.change("b")
				d.write(d.path("region0"), 0, head)
				d.write(d.path("region0"), n.Size/end*end-end, tail)
			}, "copy 1 on", 6,
			[]string{
				"the text of copy 1 on pmem0 (4096 bytes at 8192)", "the header of copy 1 on pmem0 (4096 bytes at 4096)",
				"the text of copy 2 on pmem0 (4096 bytes at 524292096)", "the header of copy 2 on pmem0 (4096 bytes at 524288000)",
			}, "",
		},
		"everything on the devices is gone": {
			func(d onDisk) { d.clearAll() }, "the archive, ", 4,
			[]string{
				"the text of copy 1 on pmem0 (4096 bytes at 8192)", "the header of copy 1 on pmem0 (4096 bytes at 4096)",
				"the text of copy 2 on pmem0 (4096 bytes at 524292096)", "the header of copy 2 on pmem0 (4096 bytes at 524288000)", "the label on pmem0 (4096 bytes at 0)",
				"the text of copy 1 on pmem1 (4096 bytes at 8192)", "the header of copy 1 on pmem1 (4096 bytes at 4096)",
				"the text of copy 2 on pmem1 (4096 bytes at 524292096)", "the header of copy 2 on pmem1 (4096 bytes at 524288000)", "the label on pmem1 (4096 bytes at 0)",
			}, "",
		},
		"a later change left traces": {
			func(d onDisk) {
				uuid := d.disk("region0").Copies[0].Group.UUID
				d.write(d.path("region0"), 0, make([]byte, 4096))
				n := d.member("region0")
				d.write(d.path("region0"), n.Size/end*end-end+64*pmem.KiB, []byte("id = \""+uuid+"\"\nseqno = 9\n"))
				d.write(d.path("region1"), 64*pmem.KiB, []byte("id = \""+uuid+"\"\nseqno = 8\n"))
			}, "copy 1 on", 4, []string{"the label on pmem0 (4096 bytes at 0)"}, "traces of change 9",
		},
		"a trace in the data is a tenant's": {
			func(d onDisk) {
				uuid := d.disk("region0").Copies[0].Group.UUID
				d.write(d.path("region0"), 0, make([]byte, 4096))
				d.write(d.path("region0"), 128*pmem.MiB, []byte("id = \""+uuid+"\"\nseqno = 9\n"))
			}, "copy 1 on", 4, []string{"the label on pmem0 (4096 bytes at 0)"}, "",
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := newOnDisk(t)
			d.AddForeign("pmemvg", "theirs")
			require.NoError(t, d.s.ChangeHost(ctx, func() error { return nil }))
			c.damage(d)
			before := d.media()
			plan, err := d.s.PlanRepair(ctx, "pmemvg")
			require.NoError(t, err)
			var writes []string
			for _, w := range plan.Writes {
				what, where, _ := strings.Cut(w, " on ")
				writes = append(writes, what+" on "+filepath.Base(where))
			}
			assert.Equal(t, c.writes, writes)
			assert.Equal(t, "pmemvg", plan.VG)
			assert.Equal(t, c.change+1, plan.Change, "one more for theirs")
			assert.True(t, strings.HasPrefix(plan.Source, c.source), plan.Source)
			assert.EqualValues(t, 1700000000, plan.Time.Unix())
			assert.Contains(t, plan.Volumes, "a")
			assert.Contains(t, plan.Volumes, "theirs (not created by pmemctl)")
			if c.doubt == "" {
				assert.Empty(t, plan.Doubt)
			} else {
				assert.Contains(t, plan.Doubt, c.doubt)
			}
			d.unchanged(before)

			byUUID, err := d.s.PlanRepair(ctx, plan.UUID)
			assert.Equal(t, plan.Writes, byUUID.Writes)
			require.NoError(t, err)
			d.repaired(plan, before)
		})
	}
}

// TestNoRepair: a group is not repaired when it is not certain what it is to be, and nothing is
// changed then.
func TestNoRepair(t *testing.T) {
	for what, c := range map[string]struct {
		damage func(onDisk)
		kind   errs.Kind
		reason string
	}{
		"nothing left": {func(d onDisk) {
			d.clearAll()
			require.NoError(d.t, os.RemoveAll(d.s.ArchiveDir))
		}, errs.Unsupported, "nothing is left to restore it from"},
		"a namespace is disabled":         {func(d onDisk) { require.NoError(d.t, d.Unbind("namespace1.0")) }, errs.Unsupported, "namespace1.0 cannot be read: its namespace is disabled"},
		"a region is not there":           {func(d onDisk) { d.LoseRegion("region1") }, errs.Unsupported, "is missing a device: physical volume "},
		"copies of two groups":            {func(d onDisk) { d.putOther("region0") }, errs.Conflict, "its copies belong to two groups"},
		"the label is of another":         {func(d onDisk) { d.write(d.path("region0"), 0, d.otherLabel()) }, errs.Unsupported, "is missing a device: physical volume "},
		"two that nothing tells apart":    {func(d onDisk) { d.loseIdentity() }, errs.Unsupported, "which of its 2 physical volumes"},
		"the device has another size":     {func(d onDisk) { d.moveToLarger() }, errs.Unsupported, "cannot be restored"},
		"its data is where a copy was to": {func(d onDisk) { d.growData() }, errs.Unsupported, "cannot be restored"},
	} {
		t.Run(what, func(t *testing.T) {
			d := newOnDisk(t)
			c.damage(d)
			notes := d.notes()
			require.NoError(t, d.s.ChangeHost(ctx, func() error { return nil })) // which keeps what can be kept
			before := d.media()
			_, err := d.s.PlanRepair(ctx, "pmemvg")
			volumetest.IsKind(t, c.kind, err, c.reason)
			_, err = d.s.RepairVG(ctx, volume.RepairPlan{VG: "pmemvg", UUID: "pmemvg"})
			volumetest.IsKind(t, c.kind, err, c.reason)
			d.unchanged(before)
			for _, n := range *notes {
				assert.Equal(t, errs.Conflict, c.kind, "%v", n)
			}
		})
	}
	d := newOnDisk(t)
	for id, kind := range map[string]errs.Kind{
		"other": errs.NotFound, "otherr-2222-2222-2222-2222-2222-222222": errs.NotFound, "../etc": errs.Invalid, "": errs.Invalid,
	} {
		before := d.media()
		_, err := d.s.PlanRepair(ctx, id)
		assert.Equal(t, kind, errs.KindOf(err), "%q: %v", id, err)
		assert.NotEmpty(t, errs.NextStep(err), id)
		d.unchanged(before)
	}
}

// TestArchiveOfWhatIsKnown: which device a physical volume is, is kept only from a whole label.
func TestArchiveOfWhatIsKnown(t *testing.T) {
	d := newOnDisk(t)
	require.NoError(t, os.RemoveAll(d.s.ArchiveDir))
	d.write(d.path("region0"), 0, make([]byte, 4096))
	require.NoError(t, d.s.ChangeHost(ctx, func() error { return nil }))
	assert.Equal(t, map[string]string{d.disk("region1").Label.PV: d.member("region1").UUID}, d.newest().Devices)
}
