package model_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// TestDecommission: all that pmemctl has in the regions is removed, and nothing else; a second call
// has nothing to do, and the regions can be used again.
func TestDecommission(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	theirs, err := s.CreateNamespace(ctx, volume.NamespaceRequest{Region: "region1", Mode: pmem.ModeFSDAX, RawSize: 64 * pmem.MiB, Name: "theirs"})
	require.NoError(t, err)
	require.NoError(t, h.WriteDevice("/dev/"+theirs.Blockdev, pmem.MiB, volumetest.Secret))
	records := func() []os.DirEntry {
		entries, err := os.ReadDir(filepath.Join(s.StateDir, "regions"))
		require.NoError(t, err)
		return entries
	}
	require.Len(t, records(), 2)

	want, steps := volumetest.State(t, s), h.Steps()
	plan, err := s.PlanDecommission(ctx)
	require.NoError(t, err)
	assert.Equal(t, []volume.RegionReturn{
		{Region: "region0", Size: 2 * pmem.GiB, VGs: []string{"pmemvgregion0"}, Namespaces: []string{"namespace0.0"}, Returned: pmem.GiB, Free: 2 * pmem.GiB, Kept: []string{}},
		{Region: "region1", Size: 2 * pmem.GiB, VGs: []string{"pmemvgregion1"}, Namespaces: []string{"namespace1.0"}, Returned: pmem.GiB, Free: 2*pmem.GiB - 64*pmem.MiB, Kept: []string{theirs.Dev}},
	}, plan)
	assert.Equal(t, want, volumetest.State(t, s))
	assert.Equal(t, steps, h.Steps())
	one, err := s.PlanDecommission(ctx, "region1")
	require.NoError(t, err)
	assert.Equal(t, plan[1:], one)

	done, err := s.Decommission(ctx, plan)
	require.NoError(t, err)
	assert.Equal(t, plan, done, "what was planned is what it is")
	v, err := s.Look(ctx)
	require.NoError(t, err)
	require.Len(t, v.PMEM.Namespaces, 1)
	assert.Equal(t, theirs, v.PMEM.Namespaces[0])
	assert.Empty(t, v.LVM.VGs)
	assert.Equal(t, uint64(2*pmem.GiB), v.PMEM.Regions[0].AvailableSize)
	data, err := h.ReadDevice("/dev/"+theirs.Blockdev, pmem.MiB, uint64(len(volumetest.Secret)))
	require.NoError(t, err)
	assert.Equal(t, volumetest.Secret, data)
	assert.Empty(t, records(), "nothing is lost with these regions")

	steps = h.Steps()
	plan, err = s.PlanDecommission(ctx)
	require.NoError(t, err)
	assert.Empty(t, plan)
	require.NoError(t, decommission()(h, s))
	plan, err = s.PlanDecommission(ctx, "region1", "region0")
	require.NoError(t, err)
	require.Len(t, plan, 2)
	done, err = s.Decommission(ctx, plan)
	require.NoError(t, err)
	assert.Equal(t, plan, done)
	assert.Equal(t, steps, h.Steps())
	require.NoError(t, initVGs(50)(h, s))
}

// TestDecommissionWithoutGroups: direct volumes have to be deleted and erased; then nothing is left
// to be done.
func TestDecommissionWithoutGroups(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, volumetest.Create(volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB))(h, s))
	require.NoError(t, volumetest.Fill("db")(h, s))
	volumetest.IsKind(t, errs.InUse, decommission()(h, s), "volume db: still exists in region region0")
	require.NoError(t, decommission("region1")(h, s), "which has nothing")
	require.NoError(t, volumetest.Second(s.Delete(ctx, "db", true)))
	volumetest.IsKind(t, errs.InUse, decommission("region0")(h, s), "not yet erased")
	require.NoError(t, volumetest.Second(s.EraseAll(ctx, volume.EraseRate{}, true)))
	steps := h.Steps()
	require.NoError(t, decommission()(h, s))
	require.NoError(t, decommission("region0")(h, s))
	assert.Equal(t, steps, h.Steps())
	assert.False(t, h.FreeHolds(volumetest.Secret))
}

// TestDecommissionRefusals: whatever keeps regions from being given back is named with the command
// that removes it, and nothing is changed.
func TestDecommissionRefusals(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	create := func(d onDisk, spec volume.Spec) { require.NoError(d.t, volumetest.Create(spec)(d, d.s)) }
	direct := func(name string) volume.Spec {
		spec := volumetest.Spec(name, volume.TypeDirect, 64*pmem.MiB)
		spec.Region = "region0"
		return spec
	}
	// killed does something that is killed as soon as a logical volume or namespace is made.
	killed := func(d *onDisk, do volumetest.Action) {
		d.DieAt(2)
		require.Error(d.t, do(d, d.s))
		d.s = d.Service()
	}
	for what, c := range map[string]struct {
		empty   bool // without the volume a
		before  func(d *onDisk)
		regions string
		kind    errs.Kind
		reason  string
		next    string
		// planned: a plan that was made before is refused for the same reason.
		planned bool
	}{
		"an lvm volume":    {false, func(*onDisk) {}, "", errs.InUse, "volume a: still exists in volume group pmemvg", "pmemctl volume delete a", true},
		"a direct volume":  {true, func(d *onDisk) { create(*d, direct("b")) }, "", errs.InUse, "volume b: still exists in region region0", "pmemctl volume delete b", true},
		"in both regions":  {false, func(*onDisk) {}, "region0 region1", errs.InUse, "volume a: still exists", "pmemctl volume delete a", true},
		"several of them":  {false, func(d *onDisk) { create(*d, direct("b")) }, "", errs.InUse, "volume b: still exists in region region0", "pmemctl volume delete a", true},
		"a mounted volume": {false, func(d *onDisk) { require.NoError(d.t, volumetest.Mounted("a", filepath.Join(dir, "a"))(d, d.s)) }, "", errs.InUse, "volume a: is mounted on " + dir + "/a, and still exists", "pmemctl volume delete --unmount a", true},
		"a deleted lvm volume": {false, func(d *onDisk) { require.NoError(d.t, volumetest.Second(d.s.Delete(ctx, "a", true))) }, "", errs.InUse,
			"volume a: is deleted, but not yet erased, in volume group pmemvg", "pmemctl gc", true},
		"a deleted direct volume": {true, func(d *onDisk) {
			create(*d, direct("b"))
			require.NoError(d.t, volumetest.Second(d.s.Delete(ctx, "b", true)))
		}, "region0 region1", errs.InUse, "volume b: is deleted, but not yet erased, in region region0", "pmemctl gc", true},
		"an unfinished lvm volume": {true, func(d *onDisk) { killed(d, volumetest.Create(volumetest.Spec("b", volume.TypeLVM, 64*pmem.MiB))) }, "", errs.InUse,
			"volume b: still exists, unfinished, in ", "pmemctl volume delete b", true},
		"an unfinished direct volume": {true, func(d *onDisk) { killed(d, volumetest.Create(direct("b"))) }, "", errs.InUse, "volume b: still exists, unfinished, in ", "pmemctl volume delete b", true},
		"an unfinished expansion": {false, func(d *onDisk) { killed(d, volumetest.Expand("a", 128*pmem.MiB)) }, "", errs.InUse,
			"volume a: still exists, unfinished, in volume group pmemvg", "pmemctl volume delete a", true},
		"an unfinished copy": {false, func(d *onDisk) { killed(d, clone(volume.Spec{Name: "b", Type: volume.TypeDirect})) }, "", errs.InUse, "volume b: still exists, unfinished, in ", "pmemctl volume delete a", true},
		"a published raw volume": {true, func(d *onDisk) {
			spec := direct("b")
			spec.FS = mount.None
			create(*d, spec)
			require.NoError(d.t, d.s.Publish(ctx, volume.PublishSpec{Name: "b", Target: filepath.Join(dir, "raw")}))
		}, "", errs.InUse, "volume b: still exists", "pmemctl volume delete b", true},
		"a damaged direct volume": {true, func(d *onDisk) {
			create(*d, direct("b"))
			require.NoError(d.t, d.LoseInfoBlock(namespaceOf(d.t, d.s, "b")))
			require.NoError(d.t, d.Reboot())
		}, "", errs.InUse, "volume b: is damaged, and still exists in region region0", "pmemctl volume show b", true},
		"a foreign logical volume": {true, func(d *onDisk) { d.AddForeign("pmemvg", "theirs") }, "", errs.InUse,
			"volume group pmemvg: has the logical volume theirs, which pmemctl did not create", "lvremove pmemvg/theirs", true},
		"a region that is not named": {true, func(*onDisk) {}, "region0", errs.Conflict, "volume group pmemvg: is also in region1", "pmemctl decommission region0 region1", false},
		"an unknown region":          {true, func(*onDisk) {}, "region0 region9", errs.NotFound, "region region9: does not exist", "region list", false},
		"a disabled region, named": {true, func(d *onDisk) {
			require.NoError(d.t, d.Reboot())
			require.NoError(d.t, d.s.DisableRegion(ctx, "region1"))
		}, "region0 region1", errs.Unsupported, "region region1: is disabled", "pmemctl region enable region1", true},
		"a disabled region": {true, func(d *onDisk) {
			require.NoError(d.t, d.Reboot())
			require.NoError(d.t, d.s.DisableRegion(ctx, "region1"))
		}, "", errs.Damaged, "region region1: is disabled: the volumes that it had are not visible", "pmemctl region enable region1", false},
		"a missing region": {true, func(d *onDisk) { d.LoseRegion("region1") }, "", errs.Damaged, "region region1: is missing", "region forget 0000000000000002", false},
		"a group that misses a device": {true, func(d *onDisk) { d.LoseRegion("region1") }, "region0", errs.Unsupported,
			"volume group pmemvg: is missing a device", "region list", false},
		"an unreadable group": {false, func(d *onDisk) { d.clearAll() }, "", errs.Damaged, "volume group pmemvg: cannot be read, so every volume in it would be lost (a)", "pmemctl vg check pmemvg", true},
		"a renamed group":     {true, func(d *onDisk) { d.RenameVG("pmemvg", "theirs") }, "", errs.Conflict, "is in volume group theirs", "vgrename theirs pmemvg", true},
		"a stray":             {true, func(d *onDisk) { d.marked(128 * pmem.MiB) }, "", errs.Damaged, "is complete without devices that have its mark", "pmemctl vg check pmemvg", true},
		"a device that is held": {true, func(d *onDisk) { require.NoError(d.t, volumetest.Second(d.s.Devices.Hold(d.path("region1")))) }, "", errs.InUse,
			"namespace namespace1.0: is in use", "pmemctl tree", true},
	} {
		t.Run(what, func(t *testing.T) {
			d := newOnDisk(t)
			d.s.Note = nil
			if c.empty {
				require.NoError(t, volumetest.Erased("a")(d, d.s))
			}
			v, err := d.s.Look(ctx)
			require.NoError(t, err)
			healthy := []volume.RegionReturn{}
			for _, r := range v.PMEM.Regions {
				give := volume.RegionReturn{Region: r.Dev, VGs: []string{"pmemvg"}}
				for _, n := range v.PMEM.InRegion(r.Dev) {
					give.Namespaces = append(give.Namespaces, n.Dev)
				}
				healthy = append(healthy, give)
			}
			c.before(&d)
			require.NoError(t, d.s.ChangeHost(ctx, func() error { return nil })) // which archives that
			want, steps, media := volumetest.State(t, d.s), d.Steps(), d.media()
			check := func(err error) {
				t.Helper()
				require.ErrorContains(t, err, c.reason)
				assert.Equal(t, c.kind, errs.KindOf(err))
				assert.Contains(t, errs.NextStep(err), c.next)
				assert.Equal(t, want, volumetest.State(t, d.s))
				assert.Equal(t, steps, d.Steps())
				d.unchanged(media)
			}
			check(volumetest.Second(d.s.PlanDecommission(ctx, strings.Fields(c.regions)...)))
			if c.planned {
				check(volumetest.Second(d.s.Decommission(ctx, healthy)))
			}
		})
	}
}

// TestDecommissionListsAll: every volume is named, each with its next step.
func TestDecommissionListsAll(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	for _, name := range []string{"a", "b", "c"} {
		for _, kind := range volumetest.Kinds {
			require.NoError(t, volumetest.Create(volumetest.Spec(name+string(kind), kind, 16*pmem.MiB))(h, s))
		}
	}
	err := decommission()(h, s)
	for _, name := range []string{"alvm", "blvm", "clvm", "adirect", "bdirect", "cdirect"} {
		assert.ErrorContains(t, err, "volume "+name+": still exists in ")
	}
	list, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	require.Len(t, list.Unwrap(), 1)
	list, ok = list.Unwrap()[0].(interface{ Unwrap() []error })
	require.True(t, ok)
	require.Len(t, list.Unwrap(), 6)
	for _, err := range list.Unwrap() {
		assert.Contains(t, errs.NextStep(err), "pmemctl volume delete ")
	}
}

// TestDecommissionMeanwhile: nothing is removed that was not confirmed.
func TestDecommissionMeanwhile(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, volume.VGInitSpec{Percent: 50, Regions: []string{"region0"}})))
	plan, err := s.PlanDecommission(ctx, "region0", "region1")
	require.NoError(t, err)
	require.NoError(t, initVGs(50)(h, s))
	want, steps := volumetest.State(t, s), h.Steps()
	volumetest.IsKind(t, errs.Aborted, volumetest.Second(s.Decommission(ctx, plan)), "their content changed in the meantime")
	assert.Equal(t, want, volumetest.State(t, s))
	assert.Equal(t, steps, h.Steps())

	plan, err = s.PlanDecommission(ctx)
	require.NoError(t, err)
	require.NoError(t, volumetest.Create(volumetest.Spec("db", volume.TypeLVM, 16*pmem.MiB))(h, s))
	want, steps = volumetest.State(t, s), h.Steps()
	volumetest.IsKind(t, errs.InUse, volumetest.Second(s.Decommission(ctx, plan)), "volume db: still exists")
	assert.Equal(t, want, volumetest.State(t, s))
	assert.Equal(t, steps, h.Steps())

	require.NoError(t, volumetest.Erased("db")(h, s))
	require.NoError(t, removeVG(h, s))
	done, err := s.Decommission(ctx, plan)
	require.NoError(t, err, "less than planned is left")
	assert.Equal(t, uint64(2*pmem.GiB), done[0].Free)
	assert.Equal(t, uint64(2*pmem.GiB), done[1].Free)
}
