package model_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// namespaceOf returns the namespace of a volume.
func namespaceOf(t *testing.T, s *volume.Service, name string) string {
	t.Helper()
	v, err := s.Look(ctx)
	require.NoError(t, err)
	for _, vol := range v.Volumes() {
		if vol.Name != name {
			continue
		}
		for _, n := range v.PMEM.Namespaces {
			if n.Dev == vol.Namespace || vol.Type == volume.TypeLVM && n.Region == vol.Regions[0] && n.Name == "pmemctl="+vol.VG {
				return n.Dev
			}
		}
	}
	t.Fatalf("volume %s is not on a namespace", name)
	return ""
}

// TestGone: a volume whose device disappeared is shown as damaged, and can be unmounted; when the
// device is back, it can be used again only after that.
func TestGone(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
		path := filepath.Join(t.TempDir(), "db")
		require.NoError(t, volumetest.Mounted("db", path)(h, s))
		namespace := namespaceOf(t, s, "db")
		require.NoError(t, h.Unbind(namespace))
		vol, err := s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Damaged, vol.State)
		assert.Contains(t, vol.Health, "its device was removed")
		require.Error(t, volumetest.Second(s.Delete(ctx, "db", true)))
		require.NoError(t, h.Bind(namespace))
		vol, err = s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Damaged, vol.State, "what is mounted is not what came back")
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		require.ErrorContains(t, volumetest.Mounted("db", elsewhere)(h, s), "from before its device was removed")
		require.NoError(t, volumetest.Mounted("db", path)(h, s), "what is left there is taken off")
		vol, err = s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Ready, vol.State)
		require.NoError(t, volumetest.Second(s.Unmount(ctx, "db", path)))
		require.NoError(t, volumetest.Erased("db")(h, s))
	})
}

// TestUnpublishGoneDevice: kubelet's calls succeed for a volume whose device disappeared.
func TestUnpublishGoneDevice(t *testing.T) {
	for _, fs := range []string{mount.Ext4, mount.None} {
		forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
			root, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			s.TargetRoot = root
			c := volumetest.Spec("db", kind, 64*pmem.MiB)
			c.FS = fs
			require.NoError(t, volumetest.Create(c)(h, s))
			publish := volume.PublishSpec{Name: "db", Target: filepath.Join(root, "target")}
			if fs != mount.None {
				publish.From = filepath.Join(root, "staging")
				require.NoError(t, volumetest.Second(s.Stage(ctx, volume.MountSpec{Name: "db", Path: publish.From})))
			}
			require.NoError(t, s.Publish(ctx, publish))
			require.NoError(t, h.Unbind(namespaceOf(t, s, "db")))
			stats, err := s.Stats(ctx, "db", publish.Target)
			require.NoError(t, err)
			assert.Contains(t, stats.Abnormal, "its device was removed")
			for range 2 {
				require.NoError(t, s.Unpublish(ctx, "db", publish.Target))
				require.NoError(t, s.Unstage(ctx, "db", filepath.Join(root, "staging")))
			}
		})
	}
}

// TestLostInfoBlock: a direct volume whose info block is lost is damaged, and not taken for raw.
func TestLostInfoBlock(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, volumetest.Create(volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB))(h, s))
	require.NoError(t, h.LoseInfoBlock(namespaceOf(t, s, "db")))
	require.NoError(t, h.Reboot())
	s = h.Service()
	vol, err := s.Show(ctx, "db")
	require.NoError(t, err)
	assert.Equal(t, volume.Damaged, vol.State)
	volumetest.IsKind(t, errs.Unsupported, volumetest.Mounted("db", filepath.Join(t.TempDir(), "x"))(h, s), "its info block is lost")
	volumetest.IsKind(t, errs.Unsupported, volumetest.Create(volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB))(h, s), "is damaged")
	v, err := s.Look(ctx)
	require.NoError(t, err)
	require.Len(t, s.Damage(v), 1)
	assert.Equal(t, "db", s.Damage(v)[0].Volume)
}

// TestLostMember: volumes of a group that is missing a device are neither absent nor replaced.
func TestLostMember(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	c := volumetest.Spec("db", volume.TypeLVM, 64*pmem.MiB)
	c.Region = "region0"
	require.NoError(t, volumetest.Create(c)(h, s))
	namespace := namespaceOf(t, s, "db")
	require.NoError(t, h.LoseInfoBlock(namespace))
	require.NoError(t, h.Reboot())
	s = h.Service()
	volumetest.IsKind(t, errs.NotFound, volumetest.Second(s.Get(ctx, "db")), "does not exist")
	volumetest.IsKind(t, errs.Unsupported, s.Absent(ctx, "db"), "may be in")
	v, err := s.Look(ctx)
	require.NoError(t, err)
	require.Len(t, s.Damage(v), 1)
	assert.Equal(t, "pmemvgregion0", s.Damage(v)[0].VG)
	_, err = s.InitVGs(ctx, volume.VGInitSpec{Percent: 50})
	volumetest.IsKind(t, errs.Damaged, err, "pmemvgregion0")
	assert.Contains(t, errs.NextStep(s.RemoveVG(ctx, "pmemvgregion0", false)), "--force")
}

// TestScrambled: in a region that was created again with another interleave granularity nothing is
// used or changed, although all metadata is readable; with the right one everything is back.
func TestScrambled(t *testing.T) {
	h := newHost(t)
	h.SetGranularity(0, 1024)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	mounted := func(name string) error {
		return volumetest.Mounted(name, filepath.Join(t.TempDir(), name))(h, s)
	}
	specs := []volume.Spec{
		volumetest.Spec("db", volume.TypeLVM, 64*pmem.MiB), volumetest.Spec("fast", volume.TypeDirect, 64*pmem.MiB), volumetest.Spec("raw", volume.TypeDirect, 64*pmem.MiB),
	}
	specs[2].FS = mount.None
	for i := range specs {
		specs[i].Region = "region0"
		require.NoError(t, volumetest.Create(specs[i])(h, s))
	}
	before, err := s.Look(ctx)
	require.NoError(t, err)

	// The host's LVM may have activated the volumes before pmemctl looks.
	require.NoError(t, mounted("db"))
	require.NoError(t, mounted("fast"))
	for _, name := range []string{"db", "fast"} {
		_, err := s.Unmount(ctx, name, "")
		require.NoError(t, err)
	}
	h.SetGranularity(0, 512)
	volumetest.IsKind(t, errs.NotFound, mounted("db"), "does not exist")
	volumetest.IsKind(t, errs.Unsupported, mounted("fast"), "is scrambled")

	for _, granularity := range []uint64{256, 2048, 0} {
		h.SetGranularity(0, granularity)
		require.NoError(t, h.Reboot())
		s = h.Service()
		v, err := s.Look(ctx)
		require.NoError(t, err)
		damage := s.Damage(v)
		require.Len(t, damage, 3)
		for _, d := range damage {
			assert.Contains(t, d.Reason, fmt.Sprintf("the interleave granularity of region0 was 1024 bytes when it was created, and is %d now", granularity))
			assert.Contains(t, d.Next, "cxl create-region -g 1024")
		}
		for _, vol := range v.Volumes() {
			assert.Equal(t, volume.Damaged, vol.State, vol.Name)
			assert.Empty(t, vol.Device, vol.Name)
		}
		assert.Len(t, v.Volumes(), 2)
		volumetest.IsKind(t, errs.NotFound, mounted("db"), "does not exist")
		volumetest.IsKind(t, errs.Unsupported, s.Absent(ctx, "db"), "may be in")
		volumetest.IsKind(t, errs.Unsupported, mounted("fast"), "is scrambled")
		for _, c := range specs[1:] {
			volumetest.IsKind(t, errs.Unsupported, volumetest.Create(c)(h, s), "is damaged")
		}
		_, err = s.InitVGs(ctx, volume.VGInitSpec{Percent: 50})
		volumetest.IsKind(t, errs.Damaged, err, "region region0: its namespace namespace0.0 is scrambled")
		volumetest.IsKind(t, errs.Damaged, volumetest.Create(specs[0])(h, s), "scrambled")
		volumetest.IsKind(t, errs.Unsupported, volumetest.Second(s.Clone(ctx, "fast", volumetest.Spec("copy", volume.TypeDirect, 0))), "is scrambled")
		volumetest.IsKind(t, errs.NotFound, volumetest.Second(s.Expand(ctx, "db", 128*pmem.MiB, 0)), "does not exist")
		room, err := s.CapacityFor(ctx, volume.Spec{Type: volume.TypeDirect, Region: "region0"})
		require.NoError(t, err)
		assert.Zero(t, room.Free, "no capacity is offered")
		for _, kind := range []volume.Type{volume.TypeDirect, volume.TypeLVM} { // it would be scrambled later
			spec := volumetest.Spec("new", kind, 64*pmem.MiB)
			spec.Region = "region0"
			require.ErrorContains(t, volumetest.Create(spec)(h, s), "scrambled", "%s %d", kind, granularity)
		}
		_, err = s.PlanRepair(ctx, "pmemvgregion0")
		require.ErrorContains(t, err, "scrambled")
		volumetest.IsKind(t, errs.Damaged, s.RemoveVG(ctx, "pmemvgregion0", false), "cannot be read")
	}

	h.SetGranularity(0, 1024)
	require.NoError(t, h.Reboot())
	s = h.Service()
	v, err := s.Look(ctx)
	require.NoError(t, err)
	assert.Empty(t, s.Damage(v))
	assert.Equal(t, len(before.Volumes()), len(v.Volumes()))
	require.NoError(t, mounted("db"))
	require.NoError(t, mounted("fast"))
}

// TestScrambledUnrecorded: namespaces of earlier versions and adopted ones have no record of their own;
// what the host recorded of their region is used.
func TestScrambledUnrecorded(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s)) // as earlier versions did: nothing is recorded
	for name, kind := range map[string]volume.Type{"db": volume.TypeLVM, "fast": volume.TypeDirect} {
		spec := volumetest.Spec(name, kind, 64*pmem.MiB)
		spec.Region = "region0"
		require.NoError(t, volumetest.Create(spec)(h, s))
	}
	mounted := func(name string) error {
		return volumetest.Mounted(name, filepath.Join(t.TempDir(), name))(h, s)
	}
	boot := func(granularity uint64) []volume.Damage {
		h.SetGranularity(0, granularity)
		require.NoError(t, h.Reboot())
		s = h.Service()
		v, err := s.Look(ctx)
		require.NoError(t, err)
		return s.Damage(v)
	}
	assert.Empty(t, boot(1024))
	require.NoError(t, s.RememberRegions(ctx))
	damage := boot(2048)
	require.Len(t, damage, 2)
	for _, d := range damage {
		assert.Contains(t, d.Reason, "the interleave granularity of region0 was 1024 bytes when it was created, and is 2048 now")
	}
	require.NoError(t, s.RememberRegions(ctx), "and it stays recorded")
	volumetest.IsKind(t, errs.NotFound, mounted("db"), "does not exist")
	volumetest.IsKind(t, errs.Unsupported, s.Absent(ctx, "db"), "may be in")
	volumetest.IsKind(t, errs.Unsupported, mounted("fast"), "is scrambled")
	assert.Len(t, boot(2048), 2)
	assert.Empty(t, boot(1024))
	require.NoError(t, mounted("db"))
	require.NoError(t, mounted("fast"))
}

// TestScrambledRaw: nothing is created in an interleaved region in which a volume came up without its
// info block, either.
func TestScrambledRaw(t *testing.T) {
	h := newHost(t)
	h.SetGranularity(0, 1024)
	s := h.Service()
	spec := volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB)
	spec.Region = "region0"
	require.NoError(t, volumetest.Create(spec)(h, s))
	require.NoError(t, h.LoseInfoBlock(namespaceOf(t, s, "db")))
	h.SetGranularity(0, 8192)
	require.NoError(t, h.Reboot())
	s = h.Service()
	spec.Name = "new"
	require.ErrorContains(t, volumetest.Create(spec)(h, s), "was 1024 bytes when it was created, and is 8192 now", "the region's record is left")
	require.NoError(t, os.RemoveAll(filepath.Join(s.StateDir, "regions")))
	err := volumetest.Create(spec)(h, s)
	require.ErrorContains(t, err, "its info block is lost")
	assert.Contains(t, errs.NextStep(err), "if the interleave granularity of region0 is not what it was (now 8192 bytes)")
	_, err = s.InitVGs(ctx, volume.VGInitSpec{Percent: 50, Regions: []string{"region0"}})
	require.ErrorContains(t, err, "its info block is lost")
}

// TestScrambledSpan: a group of which one device is scrambled is not to be reduced to the others.
func TestScrambledSpan(t *testing.T) {
	h := newHost(t)
	h.SetGranularity(0, 1024)
	s := h.Service()
	_, err := s.InitVGs(ctx, volume.VGInitSpec{Percent: 50, Span: true, VG: "pool"})
	require.NoError(t, err)
	h.SetGranularity(0, 2048)
	require.NoError(t, h.Reboot())
	s = h.Service()
	v, err := s.Look(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, s.Damage(v))
	for _, d := range s.Damage(v) {
		assert.Contains(t, d.Reason, "is scrambled")
		assert.NotContains(t, d.Next, "vgreduce")
	}
	spec := volumetest.Spec("db", volume.TypeLVM, 64*pmem.MiB)
	spec.VG = "pool"
	err = volumetest.Create(spec)(h, s)
	require.ErrorContains(t, err, "is scrambled")
	assert.NotContains(t, errs.NextStep(err), "vgreduce")
}

// TestScrambledJoining: what an interrupted vg init left in a region with another granularity is not
// destroyed: it may be in a group.
func TestScrambledJoining(t *testing.T) {
	h := newHost(t)
	h.SetGranularity(0, 1024)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	v, err := s.Look(ctx)
	require.NoError(t, err)
	member := v.PMEM.InRegion("region0")[0]
	_, err = s.NDCTL.RenameNamespace(member.UUID, "pmemctl*pmemvgregion0")
	require.NoError(t, err)
	require.NoError(t, h.LoseInfoBlock(member.Dev))
	h.SetGranularity(0, 8192)
	require.NoError(t, h.Reboot())
	s = h.Service()
	_, err = s.InitVGs(ctx, volume.VGInitSpec{Percent: 50})
	volumetest.IsKind(t, errs.Damaged, err, "was 1024 bytes when it was created, and is 8192 now")
	_ = s.RemoveAbandoned(ctx)
	v, err = s.Look(ctx)
	require.NoError(t, err)
	assert.Len(t, v.PMEM.InRegion("region0"), 1)
}

// TestSmallerCXLRegion: a CXL region that was created again with a smaller size does not show all that
// it had, so that no volume counts as deleted.
func TestSmallerCXLRegion(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	seen := filepath.Join(s.StateDir, "regions")
	require.NoError(t, os.MkdirAll(seen, 0o700))
	record := func(size uint64) {
		require.NoError(t, os.WriteFile(filepath.Join(seen, "0000000000000001"), fmt.Appendf(nil, `{"iset_id":1,"dev":"region0","size":%d,"dimms":["nmem0"],"cxl":true}`, size), 0o600))
	}
	record(2 * pmem.GiB)
	require.NoError(t, s.Absent(ctx, "db"))
	record(8 * pmem.GiB)
	volumetest.IsKind(t, errs.Unsupported, s.Absent(ctx, "db"), "region0, which is missing")
	v, err := s.Look(ctx)
	require.NoError(t, err)
	require.Len(t, s.Damage(v), 1)
	assert.Contains(t, s.Damage(v)[0].Next, "create it as it was: pmemctl region restore")
}

// TestHiddenSpace: a region in which another interleave set has volumes is not used, and no volume
// counts as deleted.
func TestHiddenSpace(t *testing.T) {
	h := newHost(t)
	h.Hide(0, 64*pmem.MiB)
	s := h.Service()
	v, err := s.Look(ctx)
	require.NoError(t, err)
	const reason = "has 64 MiB in namespaces that are not visible"
	require.Len(t, s.Damage(v), 1)
	require.ErrorContains(t, s.Damage(v)[0].Error(), "region region0: "+reason)
	volumetest.IsKind(t, errs.Unsupported, s.Absent(ctx, "db"), "region0, which "+reason)
	for _, kind := range []volume.Type{volume.TypeDirect, volume.TypeLVM} {
		spec := volumetest.Spec("db", kind, 64*pmem.MiB)
		spec.Region = "region0"
		require.Error(t, volumetest.Create(spec)(h, s))
	}
	_, err = s.InitVGs(ctx, volume.VGInitSpec{Percent: 50, Regions: []string{"region0"}})
	require.ErrorContains(t, err, reason)
	require.NoError(t, volumetest.Create(volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB))(h, s))
	db, err := s.Get(ctx, "db")
	require.NoError(t, err)
	assert.Equal(t, []string{"region1"}, db.Regions)
}

// TestRegionDisappears: a disabled region hides its volumes, and no data is lost.
func TestRegionDisappears(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	c := volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB)
	c.Region = "region0"
	require.NoError(t, volumetest.Create(c)(h, s))
	require.NoError(t, s.RememberRegions(ctx))
	require.ErrorContains(t, s.DisableRegion(ctx, "region9"), "does not exist")
	require.NoError(t, s.DisableRegion(ctx, "region0"))
	volumetest.IsKind(t, errs.Unsupported, s.Absent(ctx, "web"), "region region0, which is disabled")
	c.Name = "web"
	volumetest.IsKind(t, errs.Unsupported, volumetest.Create(c)(h, s), "is disabled")
	require.NoError(t, s.EnableRegion(ctx, "region0"))
	require.NoError(t, volumetest.Create(c)(h, s))
	regions, err := s.Regions(ctx)
	require.NoError(t, err)
	assert.Len(t, regions, 2)
}

// TestBadMedium: known media errors are cleared before a volume is created, and a volume with
// permanent ones is not created. A deleted volume with such errors does not block others, and can
// be given up.
func TestBadMedium(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		c := volumetest.Spec("db", kind, 64*pmem.MiB)
		c.Region = "region0"
		require.NoError(t, volumetest.Create(c)(h, s))
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		require.NoError(t, h.SetBad(vol.Device, 8*pmem.MiB, 8*pmem.MiB+512, false))
		shown, err := s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Contains(t, shown.Health, "media errors")
		require.NoError(t, volumetest.Erased("db")(h, s))
		require.NoError(t, volumetest.Create(c)(h, s))
		shown, err = s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Empty(t, shown.Health, "erasing healed it")

		require.NoError(t, h.SetBad(shown.Device, 8*pmem.MiB, 8*pmem.MiB+512, true))
		volumetest.IsKind(t, errs.Damaged, volumetest.Erased("db")(h, s), "cannot be erased")
		other := c
		other.Name = "web"
		require.NoError(t, volumetest.Create(other)(h, s))
		require.NoError(t, volumetest.Erased("web")(h, s))
		require.ErrorContains(t, volumetest.Second(s.Show(ctx, "db")), "does not exist")
		deleted, err := s.Deleted(ctx)
		require.NoError(t, err)
		require.Len(t, deleted, 1)
		assert.Contains(t, deleted[0].Erasing.Failed, "the medium cannot be written there")
		v, err := s.Look(ctx)
		require.NoError(t, err)
		assert.Len(t, s.Damage(v), 1)
		require.NoError(t, s.GiveUp(ctx, deleted[0].UUID))
		volumetest.IsKind(t, errs.Damaged, volumetest.Create(c)(h, s), "a write does not clear")
		assert.Empty(t, volumetest.List(t, s), "and it is not given out")
	})
}

// TestNoRoomForMark: if the labels have no room for the mark, a volume is erased before the call
// returns.
func TestNoRoomForMark(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, volumetest.Create(volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB))(h, s))
	require.NoError(t, volumetest.Fill("db")(h, s))
	h.SetSlots(0, 0)
	h.SetSlots(1, 0)
	deleted, err := s.Delete(ctx, "db", true)
	require.NoError(t, err)
	assert.Empty(t, deleted)
	assert.False(t, h.FreeHolds(volumetest.Secret))
	assert.Empty(t, volumetest.List(t, s))
	volumetest.IsKind(t, errs.NoSpace, volumetest.Create(volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB))(h, s), "label area")
}

// TestMetadataFull is TestNoRoomForMark for a logical volume.
func TestMetadataFull(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	require.NoError(t, volumetest.Create(volumetest.Spec("db", volume.TypeLVM, 64*pmem.MiB))(h, s))
	require.NoError(t, volumetest.Fill("db")(h, s))
	h.FillMetadata()
	volumetest.IsKind(t, errs.NoSpace, volumetest.Create(volumetest.Spec("web", volume.TypeLVM, 64*pmem.MiB))(h, s), "exceeds maximum metadata size")
	deleted, err := s.Delete(ctx, "db", true)
	require.NoError(t, err)
	assert.Empty(t, deleted)
	assert.False(t, h.FreeHolds(volumetest.Secret))
	assert.Empty(t, volumetest.List(t, s))
}

// TestOpenDevice: a volume whose device is open in a process is not deleted.
func TestOpenDevice(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		h.SetUsers(vol.Device, 4711)
		synctest.Test(t, func(t *testing.T) { // who looks at it for a moment is waited for
			volumetest.IsKind(t, errs.InUse, volumetest.Second(s.Delete(context.Background(), "db", true)), "is open in process 4711")
		})
		h.SetUsers(vol.Device)
		require.NoError(t, volumetest.Erased("db")(h, s))
	})
}

// TestInitLabels: data in use is not destroyed.
func TestInitLabels(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, volumetest.Create(volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB))(h, s))
	plan, err := s.PlanInitLabels("region0", "region1")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, volumetest.Mounted("db", path)(h, s))
	volumetest.IsKind(t, errs.InUse, s.InitLabels(ctx, plan), "nothing was changed")
	assert.Len(t, volumetest.List(t, s), 1)
	require.NoError(t, volumetest.Second(s.Unmount(ctx, "db", path)))
	require.NoError(t, volumetest.Create(volumetest.Spec("web", volume.TypeDirect, 64*pmem.MiB))(h, s))
	want := volumetest.State(t, s)
	volumetest.IsKind(t, errs.Aborted, s.InitLabels(ctx, plan), "changed")
	assert.Equal(t, want, volumetest.State(t, s), "what the plan does not name is not destroyed")
	require.NoError(t, volumetest.Erased("web")(h, s))
	require.NoError(t, s.InitLabels(ctx, plan))
	assert.Empty(t, volumetest.List(t, s))
	_, err = s.PlanInitLabels("region9")
	volumetest.IsKind(t, errs.NotFound, err, "does not exist")
}

// TestMeddledMember: a device to which something else writes is not given to LVM.
func TestMeddledMember(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	h.Meddle(func(step string, write func(string, uint64, []byte)) {
		if step == "before vgcreate" {
			t.Error("LVM was given a device that something else writes to")
		}
		write("/dev/pmem0", 4096, volumetest.Secret)
	})
	_, err := s.InitVGs(ctx, volume.VGInitSpec{Regions: []string{"region0"}, Percent: 50})
	volumetest.IsKind(t, errs.Conflict, err, "something else writes to it")
}

// TestForeignVolume: a logical volume without pmemctl's tag is not a volume, even in pmemctl's
// group, and is not changed.
func TestForeignVolume(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	h.AddForeign("pmemvgregion0", "theirs")
	path := filepath.Join(t.TempDir(), "x")
	assert.False(t, s.IsUp("theirs"))
	volumetest.IsKind(t, errs.NotFound, volumetest.Mounted("theirs", path)(h, s), "does not exist")
	volumetest.IsKind(t, errs.NotFound, volumetest.Erased("theirs")(h, s), "does not exist")
	volumetest.IsKind(t, errs.NotFound, volumetest.Second(s.Clone(ctx, "theirs", volume.Spec{Name: "mine"})), "does not exist")
	volumetest.IsKind(t, errs.NotFound, volumetest.Second(s.Unmount(ctx, "theirs", "")), "does not exist")
	assert.Empty(t, volumetest.List(t, s))
	require.Error(t, s.RemoveVG(ctx, "pmemvgregion0", false))
	assert.NotEmpty(t, volumetest.Second(s.Get(ctx, "theirs")))
}

// TestSuspended: a logical volume that a killed lvm left suspended is resumed before it is used or
// deleted, and by Resume.
func TestSuspended(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	c := volumetest.Spec("db", volume.TypeLVM, 64*pmem.MiB)
	c.Region = "region0"
	require.NoError(t, volumetest.Create(c)(h, s))
	resumed, err := s.Resume(ctx)
	require.NoError(t, err)
	assert.Empty(t, resumed)
	h.Suspend("pmemvgregion0", "db")
	resumed, err = s.Resume(ctx)
	require.NoError(t, err)
	assert.Equal(t, []string{"db"}, resumed)
	h.Suspend("pmemvgregion0", "db")
	require.NoError(t, volumetest.Mounted("db", filepath.Join(t.TempDir(), "db"))(h, s))
	require.NoError(t, volumetest.Second(s.Unmount(ctx, "db", "")))
	h.Suspend("pmemvgregion0", "db")
	require.NoError(t, volumetest.Erased("db")(h, s))
}

// TestWithoutDAX: a volume that was mounted without the requested DAX is unmounted again.
func TestWithoutDAX(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
		h.RefuseDAX()
		path := filepath.Join(t.TempDir(), "db")
		volumetest.IsKind(t, errs.Unsupported, volumetest.Mounted("db", path)(h, s), "without DAX, and has been unmounted again")
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		assert.Empty(t, s.MountedAt(vol))
		require.NoError(t, volumetest.Second(s.Mount(ctx, volume.MountSpec{Name: "db", Path: path, NoDAX: true})))
		volumetest.IsKind(t, errs.Conflict, volumetest.Mounted("db", path)(h, s), ", without DAX")
	})
}

// TestNoMapSync: where the kernel refuses MAP_SYNC, volumes and mounts say so, and nothing is
// created that requires it.
func TestNoMapSync(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		requires := volumetest.Spec("required", kind, 64*pmem.MiB)
		requires.MapSync = true
		vol, _, err := s.Create(ctx, requires)
		require.NoError(t, err)
		assert.False(t, vol.NoMapSync)
		h.MakeVirtio()
		volumetest.IsKind(t, errs.Conflict, volumetest.Second(s.Plan(ctx, requires)), "exists with regions region0 without MAP_SYNC")
		requires.Name = "other"
		volumetest.IsKind(t, errs.Unsupported, volumetest.Create(requires)(h, s), "requires MAP_SYNC, which the kernel refuses on region region0")
		free, err := s.CapacityFor(ctx, requires)
		require.NoError(t, err)
		assert.Zero(t, free.Free)
		requires.MapSync = false
		vol, _, err = s.Create(ctx, requires)
		require.NoError(t, err)
		assert.True(t, vol.NoMapSync)
		vol, err = s.Mount(ctx, volume.MountSpec{Name: "other", Path: filepath.Join(t.TempDir(), "other")})
		require.NoError(t, err)
		assert.True(t, vol.NoMapSync)
		all, err := s.List(ctx)
		require.NoError(t, err)
		for _, vol := range all {
			assert.True(t, vol.NoMapSync, vol.Name)
		}
		volumes, err := s.Unmount(ctx, "other", "")
		require.NoError(t, err)
		assert.Len(t, volumes, 1)
		vol, err = s.Mount(ctx, volume.MountSpec{Name: "other", Path: filepath.Join(t.TempDir(), "other"), NoDAX: true})
		require.NoError(t, err)
		assert.False(t, vol.NoMapSync, "not asked without DAX")
	})
}

// TestLostRegion: a missing region that had volumes does not count as one without, until it is
// forgotten.
func TestLostRegion(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		c := volumetest.Spec("db", kind, 64*pmem.MiB)
		c.Region = "region0"
		require.NoError(t, volumetest.Create(c)(h, s))
		require.NoError(t, s.RememberRegions(ctx))
		h.LoseRegion("region0")
		volumetest.IsKind(t, errs.Unsupported, s.Absent(ctx, "db"), "region region0")
		v, err := s.Look(ctx)
		require.NoError(t, err)
		damage := s.Damage(v)
		require.NotEmpty(t, damage)
		assert.Equal(t, "region0", damage[len(damage)-1].Region)
		h.FindRegion()
		require.NoError(t, volumetest.Second(s.Get(ctx, "db")))
		h.LoseRegion("region0")
		volumetest.IsKind(t, errs.NotFound, s.ForgetRegion(ctx, "0000000000000009", false), "not")
		require.NoError(t, s.ForgetRegion(ctx, "0000000000000001", false))
		volumetest.IsKind(t, errs.NotFound, s.ForgetRegion(ctx, "0000000000000002", false), "is not a recorded region that is missing")
	})
}

// TestWaitsForSpace: the create of a server waits for the space that it erases meanwhile.
func TestWaitsForSpace(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		c, err := s.CapacityFor(ctx, volumetest.Spec("any", kind, 1))
		require.NoError(t, err)
		for _, name := range []string{"a", "b"} {
			require.NoError(t, volumetest.Create(volumetest.Spec(name, kind, c.Largest))(h, s))
		}
		require.NoError(t, volumetest.Second(s.Delete(ctx, "a", true)))
		waits := volumetest.Spec("c", kind, c.Largest)
		waits.SpaceWait = 100 * time.Millisecond
		volumetest.IsKind(t, errs.NoSpace, volumetest.Create(waits)(h, s), "must be erased first")
		assert.True(t, s.SpaceWanted())
		waits.SpaceWait = time.Minute
		go func() {
			time.Sleep(50 * time.Millisecond)
			_, _ = s.EraseAll(ctx, volume.EraseRate{}, true)
		}()
		require.NoError(t, volumetest.Create(waits)(h, s))
	})
}

// failingMounts makes some calls fail.
type failingMounts struct {
	volume.Mounts
	useAt, probe error
}

func (f failingMounts) UseAt(path string) (mount.Use, bool, error) {
	if f.useAt != nil {
		return mount.Use{}, false, f.useAt
	}
	return f.Mounts.UseAt(path)
}

func (f failingMounts) Probe(ctx context.Context, device string) (mount.Content, error) {
	if f.probe != nil {
		return mount.Content{}, f.probe
	}
	return f.Mounts.Probe(ctx, device)
}

// TestUnmountCannotLook: an error of reading the mount table is not reported as another mount.
func TestUnmountCannotLook(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
		path := filepath.Join(t.TempDir(), "db")
		require.NoError(t, volumetest.Mounted("db", path)(h, s))
		require.NoError(t, h.Unbind(namespaceOf(t, s, "db")))
		whole := s.Mounts
		s.Mounts = failingMounts{Mounts: whole, useAt: syscall.EIO}
		_, err := s.Unmount(ctx, "db", "")
		require.ErrorContains(t, err, "volume db: could not be unmounted")
		assert.NotContains(t, err.Error(), "mounted over it")
		assert.Equal(t, "see what is mounted there: findmnt "+path, errs.NextStep(err))
		s.Mounts = whole
		require.NoError(t, volumetest.Second(s.Unmount(ctx, "db", "")))
	})
}

// TestUnreadableSuperblock: the next step has the commands to save the volume, with the place of
// the bad blocks.
func TestUnreadableSuperblock(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		require.NoError(t, h.SetBad(vol.Device, 4096, 4096+1024, false))
		s.Mounts = failingMounts{Mounts: s.Mounts, probe: syscall.EIO}
		err = volumetest.Mounted("db", filepath.Join(t.TempDir(), "db"))(h, s)
		volumetest.IsKind(t, errs.Unsupported, err, "its content could not be read")
		assert.Contains(t, errs.NextStep(err), "dd if="+vol.Device+" of=FILE")
		assert.Contains(t, errs.NextStep(err), "dd if=/dev/zero of="+vol.Device+" bs=512 oflag=direct seek=8 count=2")
	})
}

// TestHiddenVolume: the error for a volume that is not found names the problem of the group it may
// be in.
func TestHiddenVolume(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	require.NoError(t, h.Unbind("namespace0.0"))
	volumetest.IsKind(t, errs.Unsupported, s.Absent(ctx, "db"), "was not found, but may be in volume group pmemvgregion0, whose namespace namespace0.0 is disabled")
}

// TestSeed: a namespace that a killed pmemctl created and never enabled does not prevent others; one
// of another program is left alone.
func TestSeed(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	spec := func(name string) volume.Spec {
		spec := volumetest.Spec(name, volume.TypeDirect, 64*pmem.MiB)
		spec.Region = "region0"
		return spec
	}
	h.DieAt(2)
	require.ErrorIs(t, volumetest.Create(spec("killed"))(h, s), model.ErrDead)
	require.Equal(t, []string{"before set_size", "after set_size"}, h.Steps())
	s = h.Service()
	require.NoError(t, volumetest.Create(spec("b"))(h, s))
	require.NoError(t, volumetest.Create(spec("killed"))(h, s))

	h.DieAt(2)
	_, err := s.NDCTL.CreateNamespace(pmem.NamespaceSpec{Region: "region0", Mode: pmem.ModeFSDAX, RawSize: 64 * pmem.MiB, Name: "theirs"})
	require.ErrorIs(t, err, model.ErrDead)
	s = h.Service()
	before, err := s.Look(ctx)
	require.NoError(t, err)
	volumetest.IsKind(t, errs.Busy, volumetest.Create(spec("c"))(h, s), "its last namespace has not been enabled")
	after, err := s.Look(ctx)
	require.NoError(t, err)
	assert.Equal(t, before.PMEM.Namespaces, after.PMEM.Namespaces)
}

// TestVanished: an error for a device that has vanished at any step does not say that there is no
// place for a new volume, for which a pod would be moved to another node, nor that a volume is
// deleted.
func TestVanished(t *testing.T) {
	gone := errs.Sentinel(errs.NotFound, "no such device")
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		create := func() error { return volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s) }
		remove := func() error { return volumetest.Second(s.Delete(ctx, "db", true)) }
		for _, do := range []func() error{create, remove} {
			failed := 0
			for n := 1; ; n++ {
				h.FailAt(n, gone)
				err := do()
				h.FailAt(0, nil)
				if err == nil {
					break
				}
				failed++
				require.ErrorIs(t, err, gone)
				assert.False(t, errs.Is(err, errs.NotFound), "%d: %v", n, err)
			}
			assert.Positive(t, failed)
		}
	})
}

// TestDeleteVanished: an error for a device that has vanished does not say that the volume is
// deleted, which DeleteVolume would answer with OK.
func TestDeleteVanished(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		gone := errs.Sentinel(errs.NotFound, "no such device")
		for _, erase := range []bool{true, false} {
			require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
			h.FailAt(1, gone)
			err := volumetest.Second(s.Delete(ctx, "db", erase))
			require.ErrorIs(t, err, gone)
			assert.True(t, errs.Is(err, errs.Busy), "%v", err)
			assert.ErrorContains(t, err, "changed while it was being created or deleted")
			vol, err := s.Get(ctx, "db")
			require.NoError(t, err)
			assert.Equal(t, volume.Ready, vol.State)
			require.NoError(t, volumetest.Second(s.Delete(ctx, "db", false)))
		}
	})
}
