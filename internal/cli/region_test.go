package cli

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func TestRegionFlags(t *testing.T) {
	testFlags(t, newRegionInitLabelsCommand, []flagTest[initLabelsOptions]{
		{args: "region0 region1", want: initLabelsOptions{regions: []string{"region0", "region1"}}},
		{args: "--all --force", want: initLabelsOptions{regions: []string{}, force: true}},
		{args: "", err: "init-labels: wrong usage: specify regions, or use --all"},
		{args: "region0 --all", err: "init-labels: wrong usage: specify regions, or use --all"},
	})
	testFlags(t, newRegionForgetCommand, []flagTest[regionForgetOptions]{
		{args: "7a3d9f0c51e28b46", want: regionForgetOptions{id: "7a3d9f0c51e28b46"}},
		{args: "7a3d9f0c51e28b46 --force", want: regionForgetOptions{id: "7a3d9f0c51e28b46", force: true}},
		{args: "", err: "accepts 1 arg(s), received 0"},
	})
}

// fakeRegions is a service with regions that records the calls.
type fakeRegions struct {
	service
	plan  volume.LabelsPlan
	err   error
	calls []string
}

func (f *fakeRegions) PlanInitLabels(names ...string) (volume.LabelsPlan, error) {
	return f.plan, f.err
}

func (f *fakeRegions) InitLabels(_ context.Context, plan volume.LabelsPlan) error {
	for _, r := range plan.Regions {
		f.calls = append(f.calls, "init "+r.Dev)
	}
	return nil
}

func (f *fakeRegions) EnableRegion(_ context.Context, dev string) error {
	f.calls = append(f.calls, "enable "+dev)
	return f.err
}

func (f *fakeRegions) DisableRegion(_ context.Context, dev string) error {
	f.calls = append(f.calls, "disable "+dev)
	return f.err
}

func (f *fakeRegions) ForgetRegion(_ context.Context, id string, _ bool) error {
	f.calls = append(f.calls, "forget "+id)
	return f.err
}

func TestInitLabels(t *testing.T) {
	plan := volume.LabelsPlan{
		Regions:    []pmem.Region{{Dev: "region0"}, {Dev: "region1"}},
		Namespaces: []pmem.Namespace{{Dev: "namespace0.0"}, {Dev: "namespace1.0", Name: "mine"}},
	}
	const question = "All data in region0, region1 will be lost, including the namespaces namespace0.0, namespace1.0 mine."
	for name, c := range map[string]struct {
		flags   string
		answers []string
		code    int
		done    bool
		stderr  string
	}{
		"no terminal": {code: exitAborted, stderr: "pmemctl: " + question + " Cannot prompt: standard input or standard error is not a terminal\n  next: confirm with --force\n"},
		"force":       {flags: "--force", done: true},
		"no":          {answers: []string{"no"}, code: exitAborted, stderr: question + " Type yes to continue: pmemctl: nothing was changed\n"},
		"yes":         {answers: []string{"yes"}, done: true, stderr: question + " Type yes to continue: region0 has labels and is empty\nregion1 has labels and is empty\n"},
	} {
		f := &fakeRegions{plan: plan}
		sh := newShell(f, c.answers...)
		assert.Equal(t, c.code, sh.run("region init-labels --all "+c.flags), name)
		assert.Equal(t, c.done, len(f.calls) > 0, name)
		assert.Equal(t, c.stderr, sh.stderr.String(), name)
	}
	f := &fakeRegions{err: errs.New(errs.NotFound, "region region9", "does not exist", "")}
	assert.Equal(t, exitNotFound, newShell(f).run("region init-labels region9 --force"))
	assert.Equal(t, "All data in region0 will be lost.", lossOf(volume.LabelsPlan{Regions: plan.Regions[:1]}))
}

func TestRegionSwitch(t *testing.T) {
	f := &fakeRegions{}
	sh := newShell(f, "yes")
	sh.ok(t, "region disable region0 region1")
	assert.Equal(t, "region0 disabled\nregion1 disabled\n", sh.stderr.String())
	sh.ok(t, "region enable region1")
	assert.Equal(t, "region1 enabled\n", sh.stderr.String())
	sh.ok(t, "region forget 1f")
	assert.Equal(t, "The volumes in region 1f will count as deleted. Type yes to continue: ", sh.stderr.String())
	assert.Equal(t, []string{"disable region0", "disable region1", "enable region1", "forget 1f"}, f.calls)
	f.err = errs.New(errs.InUse, "region region0", "is in use", "")
	assert.Equal(t, exitInUse, sh.run("region disable region0 region1"))
	assert.Len(t, f.calls, 5, "it stops at the first error")

	sh = newShell(f)
	assert.Equal(t, exitAborted, sh.run("region forget 1f"))
	assert.Len(t, f.calls, 5)
}

// fakePMEM is the PMEM of a host.
type fakePMEM pmem.System

func (f fakePMEM) Snapshot(ndctl.Select) (pmem.System, error) { return pmem.System(f), nil }

func TestRegionShow(t *testing.T) {
	node := 1
	sh := newShell(nil)
	sh.ndctl = fakePMEM{
		Buses: []pmem.Bus{{Dev: "ndbus0"}},
		DIMMs: []pmem.DIMM{{Dev: "nmem0", Health: &pmem.Health{State: "ok"}}, {Dev: "nmem1"}},
		Regions: []pmem.Region{{
			Dev: "region0", Bus: "ndbus0", Type: "pmem", State: "enabled", Size: 4*pmem.GiB + 4096, AvailableSize: pmem.GiB, MaxAvailableExtent: pmem.GiB,
			Align: 16 * pmem.MiB, InterleaveWays: 2, PersistenceDomain: "memory_controller", NUMANode: &node, ReadOnly: true,
			BadblockCount: 8, Badblocks: []pmem.Badblock{{Offset: 16, Length: 8}},
			Mappings: []pmem.Mapping{{DIMM: "nmem0", Length: 2 * pmem.GiB}, {DIMM: "nmem1", Position: 1, Length: 2 * pmem.GiB, Offset: 4096}},
		}},
	}
	sh.ok(t, "region show region0")
	assert.Equal(t, `Region:                      region0
Bus:                         ndbus0
Type:                        pmem
State:                       enabled,read-only,label-less,misaligned
Size:                        4 GiB (4294971392 bytes)
Free:                        1 GiB (1073741824 bytes)
Largest extent:              1 GiB (1073741824 bytes)
Align:                       16 MiB (16777216 bytes)
Interleave ways:             2
Namespaces are multiples of: 16 MiB (16777216 bytes)
Persistence domain:          memory_controller
NUMA node:                   1
Target node:                 -
Bad blocks:                  8 of 512 bytes
Misaligned:                  4 KiB (4096 bytes) at its end cannot be used
  bad: 8 blocks at block 16

Mappings:
DIMM    POSITION   LENGTH   OFFSET   HEALTH
nmem0   0          2 GiB    0x0      ok
nmem1   1          2 GiB    0x1000   -

Namespaces:
NAMESPACE   REGION   MODE   SIZE   RAW   DEVICE   STATE   OWNER
`, sh.stdout.String())
	sh.ok(t, "region list -o wide")
	assert.Contains(t, sh.stdout.String(), "memory_controller   1      nmem0,nmem1   8\n")
}

func TestNoPMEM(t *testing.T) {
	sh := newShell(nil)
	sh.ndctl = fakePMEM{}
	for _, line := range []string{"region list", "dimm list", "bus list"} {
		for _, o := range []string{"", " -o wide"} {
			assert.Equal(t, exitNotFound, sh.run(line+o), line)
			assert.Contains(t, sh.stderr.String(), "no persistent memory found", line)
			assert.Empty(t, sh.stdout.String(), line)
		}
	}
	sh.ok(t, "region list -o json")
	assert.Equal(t, "{\n  \"regions\": []\n}\n", sh.stdout.String())
	sh.ok(t, "dimm list -o yaml")
	assert.Equal(t, "dimms: []\n", sh.stdout.String())
	assert.Equal(t, exitNotFound, sh.run("region show region0"))
}
