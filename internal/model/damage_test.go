package model_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
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
		require.NoError(t, create(spec("db", kind, 64*pmem.MiB))(s))
		path := filepath.Join(t.TempDir(), "db")
		require.NoError(t, mounted("db", path)(s))
		namespace := namespaceOf(t, s, "db")
		require.NoError(t, h.Unbind(namespace))
		vol, err := s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Damaged, vol.State)
		assert.Contains(t, vol.Health, "its device is gone")
		require.Error(t, second(s.Delete(ctx, "db", true)))
		require.NoError(t, h.Bind(namespace))
		vol, err = s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Damaged, vol.State, "what is mounted is not what came back")
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		require.ErrorContains(t, mounted("db", elsewhere)(s), "from before its device went")
		require.NoError(t, mounted("db", path)(s), "what is left there is taken off")
		vol, err = s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Ready, vol.State)
		require.NoError(t, second(s.Unmount(ctx, "db", path)))
		require.NoError(t, erased("db")(s))
	})
}

// TestGoneIsUnpublished: kubelet's calls succeed for a volume whose device went.
func TestGoneIsUnpublished(t *testing.T) {
	for _, fs := range []string{mount.Ext4, mount.None} {
		forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
			root, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			s.TargetRoot = root
			c := spec("db", kind, 64*pmem.MiB)
			c.FS = fs
			require.NoError(t, create(c)(s))
			publish := volume.PublishSpec{Name: "db", Target: filepath.Join(root, "target")}
			if fs != mount.None {
				publish.From = filepath.Join(root, "staging")
				require.NoError(t, second(s.Stage(ctx, volume.MountSpec{Name: "db", Path: publish.From})))
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
	require.NoError(t, create(spec("db", volume.TypeDirect, 64*pmem.MiB))(s))
	require.NoError(t, h.LoseInfoBlock(namespaceOf(t, s, "db")))
	require.NoError(t, h.Reboot())
	s = h.Service()
	vol, err := s.Show(ctx, "db")
	require.NoError(t, err)
	assert.Equal(t, volume.Damaged, vol.State)
	isKind(t, errs.Unsupported, mounted("db", filepath.Join(t.TempDir(), "x"))(s), "its info block is lost")
	isKind(t, errs.Unsupported, create(spec("db", volume.TypeDirect, 64*pmem.MiB))(s), "is damaged")
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
	require.NoError(t, initVGs(50)(s))
	c := spec("db", volume.TypeLVM, 64*pmem.MiB)
	c.Region = "region0"
	require.NoError(t, create(c)(s))
	namespace := namespaceOf(t, s, "db")
	require.NoError(t, h.LoseInfoBlock(namespace))
	require.NoError(t, h.Reboot())
	s = h.Service()
	isKind(t, errs.NotFound, second(s.Get(ctx, "db")), "does not exist")
	isKind(t, errs.Unsupported, s.Absent(ctx, "db"), "may be in")
	v, err := s.Look(ctx)
	require.NoError(t, err)
	require.Len(t, s.Damage(v), 1)
	assert.Equal(t, "pmemvgregion0", s.Damage(v)[0].VG)
	_, err = s.InitVGs(ctx, volume.VGInitSpec{Percent: 50})
	isKind(t, errs.Damaged, err, "pmemvgregion0")
	assert.Contains(t, errs.NextStep(s.RemoveVG(ctx, "pmemvgregion0", false)), "--force")
}

// TestRegionGoesAndComes: a region that is disabled hides its volumes, and nothing of them is lost.
func TestRegionGoesAndComes(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	c := spec("db", volume.TypeDirect, 64*pmem.MiB)
	c.Region = "region0"
	require.NoError(t, create(c)(s))
	require.NoError(t, s.RememberRegions(ctx))
	require.ErrorContains(t, s.DisableRegion(ctx, "region9"), "does not exist")
	require.NoError(t, s.DisableRegion(ctx, "region0"))
	isKind(t, errs.Unsupported, s.Absent(ctx, "web"), "region region0, which is disabled")
	c.Name = "web"
	isKind(t, errs.Unsupported, create(c)(s), "is disabled")
	require.NoError(t, s.EnableRegion(ctx, "region0"))
	require.NoError(t, create(c)(s))
	regions, err := s.Regions(ctx)
	require.NoError(t, err)
	assert.Len(t, regions, 2)
}

// TestBadMedium: known errors are healed before a volume is given out, and what does not heal is
// not given out; a deleted volume with such holds up no other, and is given up on request.
func TestBadMedium(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		c := spec("db", kind, 64*pmem.MiB)
		c.Region = "region0"
		require.NoError(t, create(c)(s))
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		require.NoError(t, h.SetBad(vol.Device, 8*pmem.MiB, 8*pmem.MiB+512, false))
		shown, err := s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Contains(t, shown.Health, "media errors")
		require.NoError(t, erased("db")(s))
		require.NoError(t, create(c)(s))
		shown, err = s.Show(ctx, "db")
		require.NoError(t, err)
		assert.Empty(t, shown.Health, "erasing healed it")

		require.NoError(t, h.SetBad(shown.Device, 8*pmem.MiB, 8*pmem.MiB+512, true))
		isKind(t, errs.Damaged, erased("db")(s), "cannot be erased")
		other := c
		other.Name = "web"
		require.NoError(t, create(other)(s))
		require.NoError(t, erased("web")(s))
		require.ErrorContains(t, second(s.Show(ctx, "db")), "does not exist")
		deleted, err := s.Deleted(ctx)
		require.NoError(t, err)
		require.Len(t, deleted, 1)
		assert.Contains(t, deleted[0].Erasing.Failed, "the medium takes no write")
		v, err := s.Look(ctx)
		require.NoError(t, err)
		assert.Len(t, s.Damage(v), 1)
		require.NoError(t, s.GiveUp(ctx, deleted[0].UUID))
		isKind(t, errs.Damaged, create(c)(s), "a write does not heal")
		assert.Empty(t, mustList(t, s), "and it is not given out")
	})
}

// TestNoRoomForMark: a volume for whose mark the labels have no room is erased before the call
// returns.
func TestNoRoomForMark(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, create(spec("db", volume.TypeDirect, 64*pmem.MiB))(s))
	require.NoError(t, fill(&h, "db")(s))
	h.SetSlots(0, 0)
	h.SetSlots(1, 0)
	deleted, err := s.Delete(ctx, "db", true)
	require.NoError(t, err)
	assert.Empty(t, deleted)
	assert.False(t, h.FreeHolds(secret))
	assert.Empty(t, mustList(t, s))
	isKind(t, errs.NoSpace, create(spec("db", volume.TypeDirect, 64*pmem.MiB))(s), "label area")
}

// TestMetadataFull is TestNoRoomForMark for a logical volume.
func TestMetadataFull(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(s))
	require.NoError(t, create(spec("db", volume.TypeLVM, 64*pmem.MiB))(s))
	require.NoError(t, fill(&h, "db")(s))
	h.FillMetadata()
	isKind(t, errs.NoSpace, create(spec("web", volume.TypeLVM, 64*pmem.MiB))(s), "exceeds maximum metadata size")
	deleted, err := s.Delete(ctx, "db", true)
	require.NoError(t, err)
	assert.Empty(t, deleted)
	assert.False(t, h.FreeHolds(secret))
	assert.Empty(t, mustList(t, s))
}

// TestOpenDevice: a volume that a process has open as it is, is not deleted.
func TestOpenDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("it is waited for who looks at a device for a moment")
	}
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, create(spec("db", kind, 64*pmem.MiB))(s))
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		h.SetUsers(vol.Device, 4711)
		isKind(t, errs.InUse, second(s.Delete(ctx, "db", true)), "is open in process 4711")
		h.SetUsers(vol.Device)
		require.NoError(t, erased("db")(s))
	})
}

// TestInitLabels: what pmemctl has in a region is named before it is destroyed, and what is in use
// is not.
func TestInitLabels(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, create(spec("db", volume.TypeDirect, 64*pmem.MiB))(s))
	plan, err := s.PlanInitLabels("region0", "region1")
	require.NoError(t, err)
	require.NoError(t, s.InitLabels(ctx, plan))
	assert.Empty(t, mustList(t, s))
	_, err = s.PlanInitLabels("region9")
	isKind(t, errs.NotFound, err, "does not exist")
}

// TestMeddledMember: a device that something else writes to is not given to LVM.
func TestMeddledMember(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	h.Meddle(func(step string, write func(string, uint64, []byte)) {
		if step == "before vgcreate" {
			t.Error("LVM was given a device that something else writes to")
		}
		write("/dev/pmem0", 4096, secret)
	})
	_, err := s.InitVGs(ctx, volume.VGInitSpec{Regions: []string{"region0"}, Percent: 50})
	isKind(t, errs.Conflict, err, "something else writes to it")
}

// TestForeignVolume: a logical volume without pmemctl's tag is nobody's volume, also in a group of
// pmemctl's, and is not touched.
func TestForeignVolume(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(s))
	h.AddForeign("pmemvgregion0", "theirs")
	path := filepath.Join(t.TempDir(), "x")
	assert.False(t, s.Up("theirs"))
	isKind(t, errs.NotFound, mounted("theirs", path)(s), "does not exist")
	isKind(t, errs.NotFound, erased("theirs")(s), "does not exist")
	isKind(t, errs.NotFound, second(s.Clone(ctx, "theirs", volume.Spec{Name: "mine"})), "does not exist")
	isKind(t, errs.NotFound, second(s.Unmount(ctx, "theirs", "")), "does not exist")
	assert.Empty(t, mustList(t, s))
	require.Error(t, s.RemoveVG(ctx, "pmemvgregion0", false))
	assert.NotEmpty(t, second(s.Get(ctx, "theirs")))
}

// TestSuspended: a logical volume that a killed lvm left suspended goes on, before it is used or
// deleted, and when it is looked for.
func TestSuspended(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(s))
	c := spec("db", volume.TypeLVM, 64*pmem.MiB)
	c.Region = "region0"
	require.NoError(t, create(c)(s))
	resumed, err := s.Resume(ctx)
	require.NoError(t, err)
	assert.Empty(t, resumed)
	h.Suspend("pmemvgregion0", "db")
	resumed, err = s.Resume(ctx)
	require.NoError(t, err)
	assert.Equal(t, []string{"db"}, resumed)
	h.Suspend("pmemvgregion0", "db")
	require.NoError(t, mounted("db", filepath.Join(t.TempDir(), "db"))(s))
	require.NoError(t, second(s.Unmount(ctx, "db", "")))
	h.Suspend("pmemvgregion0", "db")
	require.NoError(t, erased("db")(s))
}

// TestWithoutDAX: a volume that did not get the DAX that was asked for is not left mounted.
func TestWithoutDAX(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, create(spec("db", kind, 64*pmem.MiB))(s))
		h.RefuseDAX()
		path := filepath.Join(t.TempDir(), "db")
		isKind(t, errs.Unsupported, mounted("db", path)(s), "without DAX, and is unmounted again")
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		assert.Empty(t, s.MountedAt(vol))
		require.NoError(t, second(s.Mount(ctx, volume.MountSpec{Name: "db", Path: path, NoDAX: true})))
		isKind(t, errs.Conflict, mounted("db", path)(s), "already, without DAX")
	})
}

// TestLostRegion: a region that had volumes and is not there is no region without volumes, until
// it is forgotten.
func TestLostRegion(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		c := spec("db", kind, 64*pmem.MiB)
		c.Region = "region0"
		require.NoError(t, create(c)(s))
		require.NoError(t, s.RememberRegions(ctx))
		h.LoseRegion("region0")
		isKind(t, errs.Unsupported, s.Absent(ctx, "db"), "region region0")
		v, err := s.Look(ctx)
		require.NoError(t, err)
		damage := s.Damage(v)
		require.NotEmpty(t, damage)
		assert.Equal(t, "region0", damage[len(damage)-1].Region)
		h.FindRegion()
		require.NoError(t, second(s.Get(ctx, "db")))
		h.LoseRegion("region0")
		isKind(t, errs.NotFound, s.ForgetRegion(ctx, "0000000000000009"), "not")
		require.NoError(t, s.ForgetRegion(ctx, "0000000000000001"))
		isKind(t, errs.NotFound, s.ForgetRegion(ctx, "0000000000000002"), "is not one that is remembered and not there")
	})
}

// TestWaitsForSpace: a create of a server waits some time for what it erases itself meanwhile.
func TestWaitsForSpace(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		c, err := s.CapacityFor(ctx, spec("any", kind, 1))
		require.NoError(t, err)
		for _, name := range []string{"a", "b"} {
			require.NoError(t, create(spec(name, kind, c.Largest))(s))
		}
		require.NoError(t, second(s.Delete(ctx, "a", true)))
		waits := spec("c", kind, c.Largest)
		waits.SpaceWait = 100 * time.Millisecond
		isKind(t, errs.NoSpace, create(waits)(s), "still to be erased")
		assert.True(t, s.SpaceWanted())
		waits.SpaceWait = time.Minute
		go func() {
			time.Sleep(50 * time.Millisecond)
			_, _ = s.EraseAll(ctx, volume.EraseRate{}, true)
		}()
		require.NoError(t, create(waits)(s))
	})
}
