package cli

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func TestDecommissionFlags(t *testing.T) {
	testFlags(t, newDecommissionCommand, []flagTest[decommissionOptions]{
		{args: "", want: decommissionOptions{regions: []string{}, output: outputTable}},
		{args: "region0 region1 --dry-run -o json", want: decommissionOptions{regions: []string{"region0", "region1"}, dryRun: true, output: outputJSON}},
		{args: "--force", want: decommissionOptions{regions: []string{}, force: true, output: outputTable}},
		{args: "--labels", err: "unknown flag: --labels"},
	})
}

// fakeReturns is a service with regions to give back that records the calls.
type fakeReturns struct {
	service
	plan          []volume.RegionReturn
	planErr, err  error
	planned, done int
	regions       []string
}

func (f *fakeReturns) PlanDecommission(_ context.Context, regions ...string) ([]volume.RegionReturn, error) {
	f.planned++
	f.regions = regions
	return f.plan, f.planErr
}

func (f *fakeReturns) Decommission(_ context.Context, plan []volume.RegionReturn) ([]volume.RegionReturn, error) {
	f.done++
	return plan, f.err
}

func TestDecommission(t *testing.T) {
	f := &fakeReturns{plan: []volume.RegionReturn{
		{Region: "region0", Size: 4 * pmem.GiB, VGs: []string{"pmemvgregion0"}, Namespaces: []string{"namespace0.0", "namespace0.1"}, Returned: 2 * pmem.GiB, Free: 4 * pmem.GiB, Kept: []string{}},
		{Region: "region1", Size: 4 * pmem.GiB, VGs: []string{"pmemvgregion1"}, Namespaces: []string{"namespace1.0"}, Returned: 2 * pmem.GiB, Free: 3 * pmem.GiB, Kept: []string{"namespace1.1"}},
		{Region: "region2", Size: 4 * pmem.GiB, VGs: []string{}, Namespaces: []string{}, Free: 4 * pmem.GiB, Kept: []string{}},
	}}
	const table = `REGION    REMOVED         RETURNED   SIZE    FREE    LEFT ALONE
region0   pmemvgregion0   2 GiB      4 GiB   4 GiB   -
region1   pmemvgregion1   2 GiB      4 GiB   3 GiB   namespace1.1
region2   -               0 B        4 GiB   4 GiB   -
`
	const question = "These volume groups have no volumes and will be removed: pmemvgregion0 in region0; pmemvgregion1 in region1."
	sh := newShell(f)
	sh.ok(t, "decommission --dry-run region0 region1 region2")
	assert.Equal(t, table, sh.stdout.String())
	assert.Equal(t, []string{"region0", "region1", "region2"}, f.regions)
	assert.Equal(t, exitAborted, sh.run("decommission"))
	assert.Contains(t, sh.stderr.String(), question+" Cannot prompt")
	assert.Zero(t, f.done)
	sh.ok(t, "decommission --force")
	assert.Equal(t, table, sh.stdout.String())
	assert.Empty(t, f.regions)
	assert.Equal(t, 1, f.done)
	sh.ok(t, "decommission --force -o wide")
	assert.Contains(t, sh.stdout.String(), "LEFT ALONE     NAMESPACES\n")
	assert.Contains(t, sh.stdout.String(), "-              namespace0.0,namespace0.1\n")
	sh.ok(t, "decommission --dry-run -o json")
	assert.Contains(t, sh.stdout.String(), `"raw_returned": 2147483648`)
	sh.ok(t, "decommission --dry-run -o yaml")
	assert.Contains(t, sh.stdout.String(), "regions:\n- left_alone: []\n  namespaces:\n  - namespace0.0\n")
	assert.Equal(t, 2, f.done)

	sh = newShell(f, "no")
	assert.Equal(t, exitAborted, sh.run("decommission"))
	assert.Equal(t, question+" Type yes to continue: pmemctl: nothing was changed\n", sh.stderr.String())
	sh = newShell(f, "yes")
	sh.ok(t, "decommission")
	assert.Equal(t, 3, f.done)

	f.err = errs.New(errs.InUse, "namespace namespace0.0", "is in use", "")
	assert.Equal(t, exitInUse, newShell(f).run("decommission --force"))
	f.planErr, f.done = errors.Join(errs.New(errs.InUse, "volume a", "still exists", "pmemctl volume delete a"), errs.New(errs.InUse, "volume b", "still exists", "pmemctl volume delete b")), 0
	for _, flag := range []string{"--force", "--dry-run"} {
		sh = newShell(f)
		assert.Equal(t, exitInUse, sh.run("decommission "+flag))
		assert.Equal(t, "pmemctl: volume a: still exists\n  next: pmemctl volume delete a\npmemctl: volume b: still exists\n  next: pmemctl volume delete b\n", sh.stderr.String())
		assert.Empty(t, sh.stdout.String())
	}
	assert.Zero(t, f.done)
}

func TestDecommissionNothing(t *testing.T) {
	f := &fakeReturns{plan: []volume.RegionReturn{}}
	sh := newShell(f)
	sh.ok(t, "decommission")
	assert.Equal(t, "nothing to do: nothing of pmemctl's is in any region\n", sh.stderr.String())
	assert.Empty(t, sh.stdout.String())
	sh.ok(t, "decommission -o json")
	assert.JSONEq(t, `{"regions": []}`, sh.stdout.String())
	f.plan = []volume.RegionReturn{{Region: "region0", Size: 4 * pmem.GiB, Free: 3 * pmem.GiB, Kept: []string{"namespace0.0"}}}
	sh.ok(t, "decommission region0 --dry-run")
	assert.Equal(t, "nothing to do: nothing of pmemctl's is in region0\n", sh.stderr.String())
	assert.Equal(t, "REGION    REMOVED   RETURNED   SIZE    FREE    LEFT ALONE\nregion0   -         0 B        4 GiB   3 GiB   namespace0.0\n", sh.stdout.String())
	assert.Zero(t, f.done)
}
