package cli

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func TestVGInitFlags(t *testing.T) {
	testFlags(t, newVGInitCommand, []flagTest[vgInitOptions]{
		{args: "", want: vgInitOptions{spec: volume.VGInitSpec{Regions: []string{}}, output: outputTable}},
		{args: "--percent 50 --dry-run region0 -o json", want: vgInitOptions{
			spec: volume.VGInitSpec{Regions: []string{"region0"}, Percent: 50}, dryRun: true, output: outputJSON}},
		{args: "--size 512Gi", want: vgInitOptions{spec: volume.VGInitSpec{Regions: []string{}, Size: 512 * pmem.GiB}, output: outputTable}},
		{args: "--span", want: vgInitOptions{spec: volume.VGInitSpec{Regions: []string{}, Span: true}, output: outputTable}},
		{args: "--span --name mine region0 region1", want: vgInitOptions{
			spec: volume.VGInitSpec{Regions: []string{"region0", "region1"}, Span: true, VG: "mine"}, output: outputTable}},
		{args: "--name mine", err: "init: wrong usage: --name requires --span"},
		{args: "--span --name=", err: `volume name "": is empty`},
		{args: "--size 0", err: "init: wrong usage: the size must be greater than 0"},
		{args: "--percent 0", err: "init: wrong usage: 0 percent is out of range"},
		{args: "--percent half", err: `invalid argument "half" for "--percent" flag`},
	})
}

func TestVGExtendFlags(t *testing.T) {
	newCommand := func(a *app, runF runFunc[vgInitOptions]) *cobra.Command {
		a.service = newFakeVGs()
		return newVGExtendCommand(a, runF)
	}
	testFlags(t, newCommand, []flagTest[vgInitOptions]{
		{args: "pmemvg --percent 75", want: vgInitOptions{spec: volume.VGInitSpec{VG: "pmemvg", Regions: []string{"region0", "region1"}, Percent: 75}, output: outputTable}},
		{args: "pmemvg region1 --size 512Gi --dry-run", want: vgInitOptions{
			spec: volume.VGInitSpec{VG: "pmemvg", Regions: []string{"region1"}, Size: 512 * pmem.GiB}, dryRun: true, output: outputTable}},
		{args: "--percent 75", err: "requires at least 1 arg(s)"},
		{args: "pmemvg", err: "extend: wrong usage: specify the new share: --percent or --size"},
		{args: "pmemvg --size 0", err: "the size must be greater than 0"},
		{args: "pmemvg --percent 0", err: "0 percent is out of range"},
	})
}

func TestVGRemoveAndRepairFlags(t *testing.T) {
	testFlags(t, newVGRemoveCommand, []flagTest[vgRemoveOptions]{
		{args: "pmemvg", want: vgRemoveOptions{vg: "pmemvg"}},
		{args: "pmemvg --force", want: vgRemoveOptions{vg: "pmemvg", force: true}},
		{args: "", err: "accepts 1 arg(s), received 0"},
	})
	testFlags(t, newVGRepairCommand, []flagTest[vgRepairOptions]{
		{args: "pmemvg", want: vgRepairOptions{vg: "pmemvg"}},
		{args: "pmemvg --force", want: vgRepairOptions{vg: "pmemvg", force: true}},
		{args: "a b", err: "accepts 1 arg(s), received 2"},
	})
}

// fakeVGs is a service with volume groups that records the calls.
type fakeVGs struct {
	fakeLook
	planned, done *volume.VGInitSpec
	steps         []volume.VGInitStep
	initErr       error

	removed []bool // by force
	lost    error

	parts []volume.VGPart
	plan  volume.RepairPlan
	kept  []string
	err   error
}

func newFakeVGs() *fakeVGs {
	return &fakeVGs{fakeLook: fakeLook{look: func(context.Context) (volume.View, error) { return volume.View{}, nil }}}
}

func (f *fakeVGs) PlanVGInit(_ context.Context, spec volume.VGInitSpec) ([]volume.VGInitStep, error) {
	f.planned = &spec
	return f.steps, f.initErr
}

func (f *fakeVGs) InitVGs(_ context.Context, spec volume.VGInitSpec) ([]volume.VGInitStep, error) {
	f.done = &spec
	return f.steps, f.initErr
}

func (f *fakeVGs) VGRegions(context.Context, string) ([]string, error) {
	return []string{"region0", "region1"}, f.err
}

func (f *fakeVGs) RemoveVG(_ context.Context, _ string, force bool) error {
	f.removed = append(f.removed, force)
	if force {
		return nil
	}
	return f.err
}

func (f *fakeVGs) Lost(volume.View, string) error { return f.lost }

func (f *fakeVGs) CheckVGs(_ context.Context, name string) ([]volume.VGPart, error) {
	if name != "" && name != "pmemvg" {
		return nil, errs.New(errs.NotFound, "volume group "+name, "does not exist", "")
	}
	return f.parts, f.err
}

func (f *fakeVGs) PlanRepair(context.Context, string) (volume.RepairPlan, error) {
	return f.plan, f.err
}

func (f *fakeVGs) RepairVG(context.Context, volume.RepairPlan) ([]string, error) {
	return f.kept, f.initErr
}

func TestVGInit(t *testing.T) {
	f := newFakeVGs()
	f.steps = []volume.VGInitStep{
		{Region: "region0", VG: "pmemvgregion0", Has: pmem.GiB, Add: pmem.GiB},
		{Region: "region1", VG: "pmemvgregion1", Has: pmem.GiB},
		{Region: "region2", Reason: "is read-only"},
	}
	const table = `REGION    VG              HAD     ADDED   NOTE
region0   pmemvgregion0   1 GiB   1 GiB   -
region1   pmemvgregion1   1 GiB   0 B     unchanged
region2                   0 B     0 B     is read-only
`
	sh := newShell(f)
	sh.ok(t, "vg init --percent 50 --dry-run")
	assert.Equal(t, table, sh.stdout.String())
	assert.Nil(t, f.done)
	sh.ok(t, "vg init --percent 50")
	assert.Equal(t, table, sh.stdout.String())
	assert.Equal(t, f.planned, f.done)

	sh.ok(t, "vg extend pmemvg --percent 75")
	assert.Equal(t, volume.VGInitSpec{VG: "pmemvg", Percent: 75, Regions: []string{"region0", "region1"}}, *f.done)
	sh.ok(t, "vg extend pmemvg region2 --percent 75")
	assert.Equal(t, []string{"region2"}, f.done.Regions)
	f.err, f.done = errs.New(errs.NotFound, "volume group pmemvg", "does not exist", ""), nil
	assert.Equal(t, exitNotFound, sh.run("vg extend pmemvg region2 --percent 75"))
	assert.Nil(t, f.done)
	assert.Equal(t, exitNotFound, sh.run("vg extend pmemvg --percent 0"), "the first thing that is wrong")

	f.initErr = errs.New(errs.Damaged, "volume group pmemvgregion2", "is damaged", "")
	assert.Equal(t, exitDamaged, sh.run("vg init"))
	assert.Equal(t, table, sh.stdout.String(), "the other groups are shown")
	f.initErr = errs.New(errs.NoSpace, "region0", "is full", "")
	assert.Equal(t, exitNoSpace, sh.run("vg init"))
	assert.Empty(t, sh.stdout.String())
}

func TestVGListWithDamage(t *testing.T) {
	f := newFakeVGs()
	f.damage = []volume.Damage{{VG: "pmemvg", Reason: "its namespace is gone", Next: "bring it back"}, {Volume: "db", Reason: "its device was removed"}}
	sh := newShell(f)
	assert.Equal(t, exitDamaged, sh.run("vg list"))
	assert.Equal(t, "VG   SIZE   FREE   VOLUMES   REGIONS   STATE   OWNER\n", sh.stdout.String())
	assert.Equal(t, "pmemctl: volume group pmemvg: its namespace is gone\n  next: bring it back\npmemctl: volume db: its device was removed\n", sh.stderr.String())
	assert.Equal(t, exitNotFound, sh.run("vg show pmemvg"))
	f.look = func(context.Context) (volume.View, error) {
		return volume.View{LVM: lvm.State{VGs: []lvm.VG{{Name: "pmemvg"}, {Name: "other"}}}}, nil
	}
	assert.Equal(t, exitDamaged, sh.run("vg show pmemvg"))
	sh.ok(t, "vg show other")
	f.look = func(context.Context) (volume.View, error) { return volume.View{}, errors.New("cannot look") }
	assert.Equal(t, exitInternal, sh.run("vg list"))
}

func TestVGRemove(t *testing.T) {
	damaged := errs.New(errs.Damaged, "volume group pmemvg", "cannot be read", "vgck")
	lost := errs.New(errs.Damaged, "volume group pmemvg", "3 volumes would be lost", "")
	for name, c := range map[string]struct {
		flags     string
		answers   []string
		err, lost error
		code      int
		removed   []bool
		stderr    string
	}{
		"empty":              {removed: []bool{false}},
		"empty, on terminal": {answers: []string{""}, removed: []bool{false}, stderr: "volume group pmemvg removed\n"},
		"missing":            {answers: []string{"yes"}, err: errs.New(errs.NotFound, "", "does not exist", ""), code: exitNotFound, removed: []bool{false}, stderr: "pmemctl: does not exist\n"},
		"damaged":            {err: damaged, lost: lost, code: exitDamaged, removed: []bool{false}, stderr: "pmemctl: volume group pmemvg: cannot be read\n  next: vgck\n"},
		"damaged, no":        {answers: []string{"no"}, err: damaged, lost: lost, code: exitAborted, removed: []bool{false}, stderr: "volume group pmemvg: 3 volumes would be lost. Remove it anyway? Type yes to continue: pmemctl: nothing was changed\n"},
		"damaged, yes":       {answers: []string{"yes"}, err: damaged, lost: lost, removed: []bool{false, true}, stderr: "volume group pmemvg: 3 volumes would be lost. Remove it anyway? Type yes to continue: volume group pmemvg removed\n"},
		"not only damaged":   {answers: []string{"yes"}, err: damaged, code: exitDamaged, removed: []bool{false}, stderr: "pmemctl: volume group pmemvg: cannot be read\n  next: vgck\n"},
		"force":              {flags: "--force", err: damaged, lost: lost, removed: []bool{true}},
	} {
		f := newFakeVGs()
		f.err, f.lost = c.err, c.lost
		sh := newShell(f, c.answers...)
		assert.Equal(t, c.code, sh.run("vg rm pmemvg "+c.flags), name)
		assert.Equal(t, c.removed, f.removed, name)
		assert.Equal(t, c.stderr, sh.stderr.String(), name)
	}
}

func TestVGCheck(t *testing.T) {
	f := newFakeVGs()
	f.parts = []volume.VGPart{
		{VG: "pmemvg", Device: "/dev/pmem0", Part: "label", State: volume.PartOK, Offset: 512, Size: 512, Namespace: "namespace0.0", PVUUID: "p", VGUUID: "v"},
		{VG: "pmemvg", Device: "/dev/pmem0", Part: "copy 1", State: volume.PartOK, Change: 4, Offset: 4096, Size: 1 << 20, Namespace: "namespace0.0", PVUUID: "p", VGUUID: "v"},
	}
	sh := newShell(f)
	sh.ok(t, "vg check pmemvg")
	assert.Equal(t, `VG       DEVICE       PART     STATE   CHANGE   REASON
pmemvg   /dev/pmem0   label    ok      -        -
pmemvg   /dev/pmem0   copy 1   ok      4        -
`, sh.stdout.String())
	sh.ok(t, "vg check -o wide")
	assert.Contains(t, sh.stdout.String(), "pmemvg   /dev/pmem0   copy 1   ok      4        4096     1 MiB   namespace0.0   p         v         -        -\n")
	assert.Equal(t, exitNotFound, sh.run("vg check other"))

	f.parts[1].State, f.parts[1].Reason, f.parts[1].Next = volume.PartDamaged, "its checksum is wrong", "pmemctl vg repair pmemvg"
	assert.Equal(t, exitDamaged, sh.run("vg check -o json"))
	assert.Contains(t, sh.stdout.String(), `"reason": "its checksum is wrong"`)
	assert.Equal(t, "pmemctl: volume group pmemvg: is damaged: copy 1 on /dev/pmem0: its checksum is wrong\n  next: pmemctl vg repair pmemvg\n", sh.stderr.String())
	assert.Equal(t, "device -", partName(volume.VGPart{Part: "device"}))
	assert.Equal(t, "device /dev/pmem0", partName(volume.VGPart{Part: "device", Device: "/dev/pmem0"}))
}

func TestVGRepair(t *testing.T) {
	f := newFakeVGs()
	sh := newShell(f)
	sh.ok(t, "vg repair pmemvg")
	assert.Equal(t, "volume group pmemvg: its labels and metadata are not damaged\n", sh.stderr.String())

	f.plan = volume.RepairPlan{Source: "the archive", Change: 7, Time: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Volumes: []string{"db", "web"},
		Writes: []string{"the label on /dev/pmem0"}, Doubt: "the group was changed later"}
	f.kept = []string{"/var/lib/pmemctl/lvm/pmem0"}
	const plan = `volume group pmemvg will be restored from the archive
  change 7 of 2026-11-01 12:00:00 UTC, with 2 volumes: db, web
  to be written: the label on /dev/pmem0
  the group was changed later
`
	assert.Equal(t, exitAborted, sh.run("vg repair pmemvg"))
	assert.Equal(t, plan+"pmemctl: The damaged parts will be overwritten, and later changes of the group will be lost. "+
		"Cannot prompt: standard input or standard error is not a terminal\n  next: confirm with --force\n", sh.stderr.String())
	sh.ok(t, "vg repair pmemvg --force")
	assert.Equal(t, plan+"  overwritten data: /var/lib/pmemctl/lvm/pmem0\nvolume group pmemvg restored\n", sh.stderr.String())
	f.plan.Doubt, f.initErr = "", errs.New(errs.InUse, "/dev/pmem0", "is in use", "")
	assert.Equal(t, exitInUse, sh.run("vg repair pmemvg --force"))
	assert.Contains(t, sh.stderr.String(), "  overwritten data: /var/lib/pmemctl/lvm/pmem0\npmemctl: /dev/pmem0: is in use\n")
	f.err = errs.New(errs.NotFound, "volume group pmemvg", "does not exist", "")
	assert.Equal(t, exitNotFound, sh.run("vg repair pmemvg"))
}

func TestColon(t *testing.T) {
	names := []string{}
	for i := range 22 {
		names = append(names, string(rune('a'+i)))
	}
	assert.Empty(t, colon(nil))
	assert.Equal(t, ": a", colon(names[:1]))
	assert.Equal(t, ": a, b, c", colon(names[:3]))
	assert.Equal(t, ": a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t and 2 more", colon(names))
}
