package model_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// data is the first and the last of what is between the ends of a device.
func (d onDisk) data(n pmem.Namespace) []byte {
	const part = 2 * pmem.MiB
	last := n.Size/end*end - end - part
	return slices.Concat(d.read("/dev/"+n.Blockdev, end, part), d.read("/dev/"+n.Blockdev, last, part))
}

// repaired does a plan: the group reads as planned, what was overwritten is kept, the data is what
// it was, and a second repair has nothing to do.
func (d onDisk) repaired(plan volume.RepairPlan, before map[string][]byte) {
	d.t.Helper()
	members := []pmem.Namespace{d.member("region0"), d.member("region1")}
	data := [][]byte{d.data(members[0]), d.data(members[1])}
	kept, err := d.s.RepairVG(ctx, plan)
	require.NoError(d.t, err)
	changed := map[string]bool{}
	for _, n := range members {
		now := d.media()[n.Dev]
		changed[n.Dev] = !bytes.Equal(before[n.Dev], now)
	}
	written := 0
	for _, done := range changed {
		if done {
			written++
		}
	}
	assert.Len(d.t, kept, 2*written, "both ends of each device that was written to")
	for _, file := range kept {
		assert.FileExists(d.t, file)
	}
	for i, n := range members {
		assert.True(d.t, bytes.Equal(data[i], d.data(n)), "the data on %s", n.Dev)
		disk := d.diskOf(n)
		assert.Empty(d.t, disk.LabelDamage)
		for _, c := range disk.Copies {
			assert.Empty(d.t, c.Damage)
			assert.Equal(d.t, plan.Change, c.Group.Seqno)
			assert.Equal(d.t, plan.UUID, c.Group.UUID)
		}
	}
	parts, err := d.s.CheckVGs(ctx, "pmemvg")
	require.NoError(d.t, err)
	assert.False(d.t, slices.ContainsFunc(parts, volume.VGPart.Damaged))
	again, err := d.s.PlanRepair(ctx, "pmemvg")
	require.NoError(d.t, err)
	assert.Empty(d.t, again.Writes)
	media := d.media()
	kept, err = d.s.RepairVG(ctx, again)
	require.NoError(d.t, err)
	assert.Empty(d.t, kept)
	d.unchanged(media)
	require.NoError(d.t, d.Reboot())
	require.NoError(d.t, volumetest.Mounted("a", filepath.Join(d.t.TempDir(), "a"))(d, d.s))
}

// TestKillRepair kills a repair at each step: the same repair again leads to the same bytes.
func TestKillRepair(t *testing.T) {
	prepare := func() (onDisk, volume.RepairPlan) {
		d := newOnDisk(t)
		require.NoError(t, volumetest.Fill("a")(d, d.s))
		d.clearAll()
		plan, err := d.s.PlanRepair(ctx, "pmemvg")
		require.NoError(t, err)
		return d, plan
	}
	d, plan := prepare()
	d.DieAt(0)
	require.NoError(t, volumetest.Second(d.s.RepairVG(ctx, plan)))
	steps := d.Steps()
	require.Len(t, steps, 2*len(plan.Writes))
	for n := range steps {
		for _, powerCut := range []bool{false, true} {
			d, plan := prepare()
			d.DieAt(n + 1)
			require.Error(t, volumetest.Second(d.s.RepairVG(ctx, plan)))
			require.True(t, d.Died())
			if powerCut {
				require.NoError(t, d.Reboot())
			}
			d.s = d.Service()
			plan, err := d.s.PlanRepair(ctx, "pmemvg")
			require.NoError(t, err, n)
			d.repaired(plan, d.media())
			vol, err := d.s.Get(ctx, "a")
			require.NoError(t, err)
			assert.Equal(t, volumetest.Secret, d.read(vol.Device, volumetest.SecretAt(vol), uint64(len(volumetest.Secret))))
		}
	}
}

// TestRepairRefusals: a repair that is not safe writes nothing.
func TestRepairRefusals(t *testing.T) {
	for what, c := range map[string]struct {
		meanwhile func(onDisk)
		kind      errs.Kind
		reason    string
		next      string
	}{
		"another change meanwhile": {func(d onDisk) {
			d.change("b")
			d.flip(d.path("region0"), 4096+30)
		}, errs.Conflict, "changed since", "vg repair pmemvg"},
		"no archive": {func(d onDisk) {
			require.NoError(d.t, os.RemoveAll(d.s.ArchiveDir))
			require.NoError(d.t, os.WriteFile(d.s.ArchiveDir, nil, 0o600))
			d.notes()
		}, errs.Unsupported, "cannot be saved", "mkdir -p"},
		"an older table is active":       {func(d onDisk) { d.SetTable("pmemvg", "a", "0 131072 linear 259:9 4096") }, errs.InUse, "is active with a table that differs", "dmsetup remove"},
		"a volume that it does not have": {func(d onDisk) { d.SetUUID("pmemvg", "a", "x") }, errs.InUse, "is active with a table that differs", "dmsetup remove"},
	} {
		t.Run(what, func(t *testing.T) {
			d := newOnDisk(t)
			d.s.Note = nil
			d.flip(d.path("region0"), 4096+30)
			plan, err := d.s.PlanRepair(ctx, "pmemvg")
			require.NoError(t, err)
			c.meanwhile(d)
			before := d.media()
			kept, err := d.s.RepairVG(ctx, plan)
			volumetest.IsKind(t, c.kind, err, c.reason)
			assert.Contains(t, errs.NextStep(err), c.next)
			assert.Empty(t, kept)
			for name, data := range d.media() {
				if had, ok := before[name]; ok {
					assert.True(t, bytes.Equal(had, data), name)
				}
			}
		})
	}

	// A device that somebody else holds is not written to.
	d := newOnDisk(t)
	require.NoError(t, d.Reboot())
	d.flip(d.path("region0"), 4096+30)
	plan, err := d.s.PlanRepair(ctx, "pmemvg")
	require.NoError(t, err)
	held, err := d.s.Devices.Hold(d.path("region0"))
	require.NoError(t, err)
	before := d.media()
	_, err = d.s.RepairVG(ctx, plan)
	volumetest.IsKind(t, errs.InUse, err, "not repaired yet")
	assert.Equal(t, before["namespace0.0"], d.media()["namespace0.0"])
	require.NoError(t, held.Close())
	require.NoError(t, volumetest.Second(d.s.RepairVG(ctx, plan)))
}

// TestRepairStriped: the table of a striped volume that is active is told from another one.
func TestRepairStriped(t *testing.T) {
	d := newOnDisk(t)
	striped := volumetest.Spec("s", volume.TypeLVM, 64*pmem.MiB)
	striped.Stripe = true
	require.NoError(t, volumetest.Create(striped)(d, d.s))
	require.NoError(t, volumetest.Expand("s", 128*pmem.MiB)(d, d.s))
	d.write(d.path("region0"), 0, make([]byte, 4096))
	plan, err := d.s.PlanRepair(ctx, "pmemvg")
	require.NoError(t, err)
	d.repaired(plan, d.media())
}
