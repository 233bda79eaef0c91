package model_test

import (
	"context"
	"path/filepath"
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

// namespaceOf is the namespace that a volume lies on.
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
	t.Fatalf("volume %s is on no namespace", name)
	return ""
}

// TestGone: a volume whose device went is shown as damaged, and can be unmounted; one that comes
// back is used again only when it was.
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
		assert.Contains(t, vol.Health, "its device is gone")
		require.Error(t, volumetest.Second(s.Delete(ctx, "db", true)))
		require.NoError(t, h.Bind(namespace))
		vol, err = s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Damaged, vol.State, "what is mounted is not what came back")
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		require.ErrorContains(t, volumetest.Mounted("db", elsewhere)(h, s), "from before its device went")
		require.NoError(t, volumetest.Mounted("db", path)(h, s), "what is left there is taken off")
		vol, err = s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Ready, vol.State)
		require.NoError(t, volumetest.Second(s.Unmount(ctx, "db", path)))
		require.NoError(t, volumetest.Erased("db")(h, s))
	})
}

// TestGoneIsUnpublished: kubelet's calls succeed for a volume whose device went.
func TestGoneIsUnpublished(t *testing.T) {
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
			assert.Contains(t, stats.Abnormal, "its device is gone")
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

// TestLostMember: volumes of a group that has a device missing are out of sight, and neither absent
// nor replaced.
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

// TestRegionGoesAndComes: a region that is disabled hides its volumes, and nothing of them is lost.
func TestRegionGoesAndComes(t *testing.T) {
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

// TestBadMedium: known errors are healed before a volume is given out, and what does not heal is
// not given out; a deleted volume with such holds up no other, and is given up on request.
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
		assert.Contains(t, deleted[0].Erasing.Failed, "the medium takes no write")
		v, err := s.Look(ctx)
		require.NoError(t, err)
		assert.Len(t, s.Damage(v), 1)
		require.NoError(t, s.GiveUp(ctx, deleted[0].UUID))
		volumetest.IsKind(t, errs.Damaged, volumetest.Create(c)(h, s), "a write does not heal")
		assert.Empty(t, volumetest.List(t, s), "and it is not given out")
	})
}

// TestNoRoomForMark: a volume for whose mark the labels have no room is erased before the call
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

// TestOpenDevice: a volume that a process has open as it is, is not deleted.
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

// TestInitLabels: what is in use is not destroyed.
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

// TestMeddledMember: a device that something else writes to is not given to LVM.
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

// TestForeignVolume: a logical volume without pmemctl's tag is nobody's volume, also in a group of
// pmemctl's, and is not touched.
func TestForeignVolume(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	h.AddForeign("pmemvgregion0", "theirs")
	path := filepath.Join(t.TempDir(), "x")
	assert.False(t, s.Up("theirs"))
	volumetest.IsKind(t, errs.NotFound, volumetest.Mounted("theirs", path)(h, s), "does not exist")
	volumetest.IsKind(t, errs.NotFound, volumetest.Erased("theirs")(h, s), "does not exist")
	volumetest.IsKind(t, errs.NotFound, volumetest.Second(s.Clone(ctx, "theirs", volume.Spec{Name: "mine"})), "does not exist")
	volumetest.IsKind(t, errs.NotFound, volumetest.Second(s.Unmount(ctx, "theirs", "")), "does not exist")
	assert.Empty(t, volumetest.List(t, s))
	require.Error(t, s.RemoveVG(ctx, "pmemvgregion0", false))
	assert.NotEmpty(t, volumetest.Second(s.Get(ctx, "theirs")))
}

// TestSuspended: a logical volume that a killed lvm left suspended goes on, before it is used or
// deleted, and when it is looked for.
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

// TestWithoutDAX: a volume that did not get the DAX that was asked for is not left mounted.
func TestWithoutDAX(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
		h.RefuseDAX()
		path := filepath.Join(t.TempDir(), "db")
		volumetest.IsKind(t, errs.Unsupported, volumetest.Mounted("db", path)(h, s), "without DAX, and is unmounted again")
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		assert.Empty(t, s.MountedAt(vol))
		require.NoError(t, volumetest.Second(s.Mount(ctx, volume.MountSpec{Name: "db", Path: path, NoDAX: true})))
		volumetest.IsKind(t, errs.Conflict, volumetest.Mounted("db", path)(h, s), "already, without DAX")
	})
}

// TestLostRegion: a region that had volumes and is not there is no region without volumes, until
// it is forgotten.
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
		volumetest.IsKind(t, errs.NotFound, s.ForgetRegion(ctx, "0000000000000009"), "not")
		require.NoError(t, s.ForgetRegion(ctx, "0000000000000001"))
		volumetest.IsKind(t, errs.NotFound, s.ForgetRegion(ctx, "0000000000000002"), "is not one that is remembered and not there")
	})
}

// TestWaitsForSpace: a create of a server waits some time for what it erases itself meanwhile.
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
		volumetest.IsKind(t, errs.NoSpace, volumetest.Create(waits)(h, s), "still to be erased")
		assert.True(t, s.SpaceWanted())
		waits.SpaceWait = time.Minute
		go func() {
			time.Sleep(50 * time.Millisecond)
			_, _ = s.EraseAll(ctx, volume.EraseRate{}, true)
		}()
		require.NoError(t, volumetest.Create(waits)(h, s))
	})
}
