package volumetest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// forKinds runs a test for each type of volume, on a host with a volume group in each region.
func (su suite) forKinds(t *testing.T, test func(t *testing.T, h Host, s *volume.Service, kind volume.Type)) {
	t.Helper()
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			h := su.new(t)
			s := h.Service()
			require.NoError(t, InitVGs(smallVGs)(h, s))
			defer unmountAll(t, s) // before the directories of its mount points are removed
			test(t, h, s, kind)
		})
	}
}

func (su suite) life(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		before, err := s.Capacity(ctx)
		require.NoError(t, err)
		vol, created, err := s.Create(ctx, Spec("db", kind, 100*pmem.MiB))
		require.NoError(t, err)
		assert.True(t, created)
		assert.Equal(t, uint64(100*pmem.MiB), vol.Size)
		again, created, err := s.Create(ctx, Spec("db", kind, 100*pmem.MiB))
		require.NoError(t, err)
		assert.False(t, created)
		assert.Equal(t, vol.UUID, again.UUID)

		path := filepath.Join(t.TempDir(), "db")
		for range 2 { // already mounted: nothing is done
			_, err = s.Mount(ctx, volume.MountSpec{Name: "db", Path: path})
			require.NoError(t, err)
		}
		assert.Len(t, s.MountedAt(vol), 1)
		IsKind(t, errs.Conflict, Second(s.Mount(ctx, volume.MountSpec{Name: "db", Path: path, ReadOnly: true})), "not with the requested access")
		_, err = s.Delete(ctx, "db", true)
		IsKind(t, errs.InUse, err, "is mounted on "+path)
		IsKind(t, errs.InUse, Second(s.Clone(ctx, "db", volume.Spec{Name: "copy"})), "would not be consistent")

		require.NoError(t, h.WriteDevice(vol.Device, SecretAt(vol), Secret))
		s = reboot(t, h, s)
		vol, err = s.Get(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, volume.Ready, vol.State)
		_, err = s.Mount(ctx, volume.MountSpec{Name: "db", Path: path})
		require.NoError(t, err)
		vol, err = s.Get(ctx, "db")
		require.NoError(t, err)
		data, err := h.ReadDevice(vol.Device, SecretAt(vol), uint64(len(Secret)))
		require.NoError(t, err)
		assert.Equal(t, Secret, data)
		paths, err := s.Unmount(ctx, "db", path)
		require.NoError(t, err)
		assert.Equal(t, []string{path}, paths)
		IsKind(t, errs.NotFound, Second(s.Unmount(ctx, "db", path)), "is not mounted on")

		deleted, err := s.Delete(ctx, "db", true)
		require.NoError(t, err)
		require.Len(t, deleted, 1)
		_, created, err = s.Create(ctx, Spec("db", kind, 100*pmem.MiB)) // its name is free at once
		require.NoError(t, err)
		assert.True(t, created)
		require.NoError(t, Erased("db")(h, s))
		_, err = s.EraseAll(ctx, volume.EraseRate{}, true)
		require.NoError(t, err)
		assert.False(t, h.FreeHolds(Secret))
		after, err := s.Capacity(ctx)
		require.NoError(t, err)
		assert.Equal(t, before, after)
	})
}

// conflicts: a volume that exists with other properties is left unchanged.
func (su suite) conflicts(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		has := Spec("db", kind, 400*pmem.MiB)
		has.Region = "region0"
		require.NoError(t, Create(has)(h, s))
		want := State(t, s)
		other := map[volume.Type]volume.Type{volume.TypeLVM: volume.TypeDirect, volume.TypeDirect: volume.TypeLVM}[kind]
		for reason, change := range map[string]func(*volume.Spec){
			"exists with type":              func(c *volume.Spec) { c.Type = other },
			"exists with size":              func(c *volume.Spec) { c.Size = 402 * pmem.MiB },
			"but 300 MiB was requested":     func(c *volume.Spec) { c.Size = 300 * pmem.MiB },
			"exists with file system":       func(c *volume.Spec) { c.FS = mount.XFS },
			"exists with region":            func(c *volume.Spec) { c.Region = "region1" },
			"exists with regions":           func(c *volume.Spec) { c.Region, c.Within = "", []string{"region1"} },
			"was created for a file system": func(c *volume.Spec) { c.FS = mount.None },
			"at most 100 MiB":               func(c *volume.Spec) { c.Size, c.Limit, c.OrLarger = pmem.MiB, 100*pmem.MiB, true },
		} {
			c := has
			change(&c)
			IsKind(t, errs.Conflict, Create(c)(h, s), reason)
			_, err := s.Plan(ctx, c)
			IsKind(t, errs.Conflict, err, reason)
		}
		larger := has
		larger.Size, larger.OrLarger = pmem.MiB, true
		require.NoError(t, Create(larger)(h, s))
		plan, err := s.Plan(ctx, has)
		require.NoError(t, err)
		assert.True(t, plan.Exists)
		assert.Equal(t, want, State(t, s))
	})
}

// noSpace: the error names the largest size that fits, and a volume of that size can be created.
func (su suite) noSpace(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		c, err := s.CapacityFor(ctx, Spec("any", kind, 1))
		require.NoError(t, err)
		IsKind(t, errs.NoSpace, Create(Spec("db", kind, c.Largest+1))(h, s), pmem.FormatSize(c.Largest))
		require.NoError(t, Create(Spec("db", kind, c.Largest))(h, s))
		require.NoError(t, Create(Spec("other", kind, c.Largest))(h, s), "in the other region")
		require.NoError(t, Second(s.Delete(ctx, "db", true)))
		want := State(t, s)
		err = Create(Spec("web", kind, c.Largest))(h, s)
		IsKind(t, errs.NoSpace, err, "must be erased first")
		assert.Equal(t, want, State(t, s))
		waits := Spec("web", kind, c.Largest)
		waits.SpaceWait = volume.AsLongAsItTakes
		require.NoError(t, Create(waits)(h, s))
		assert.Empty(t, s.Unerased())
	})
}

// expandAndClone: an lvm volume grows; a direct one is copied to a larger one.
func (su suite) expandAndClone(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, Create(Spec("db", kind, 64*pmem.MiB))(h, s))
		path := filepath.Join(t.TempDir(), "db")
		require.NoError(t, Mounted("db", path)(h, s))
		if kind == volume.TypeDirect {
			IsKind(t, errs.FixedSize, Expand("db", 128*pmem.MiB)(h, s), "cannot grow in place")
		} else {
			require.NoError(t, Expand("db", 128*pmem.MiB)(h, s))
			vol, err := s.Show(ctx, "db")
			require.NoError(t, err)
			assert.Equal(t, uint64(128*pmem.MiB), vol.Size)
			assert.Empty(t, vol.Health, "its file system has grown")
			c, err := s.CapacityFor(ctx, Spec("any", kind, 1))
			require.NoError(t, err)
			IsKind(t, errs.NoSpace, Expand("db", 4*c.Largest)(h, s), "has room for")
			require.NoError(t, Create(Spec("all", kind, 64*pmem.MiB))(h, s))
			require.NoError(t, ExpandMax("all")(h, s))
			all, err := s.Get(ctx, "all")
			require.NoError(t, err)
			v, err := s.Look(ctx)
			require.NoError(t, err)
			vg, err := v.FindVG(all.VG)
			require.NoError(t, err)
			assert.Zero(t, vg.Free)
			require.NoError(t, Erased("all")(h, s))
		}
		require.NoError(t, Expand("db", 1)(h, s), "it has that")
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		IsKind(t, errs.OutOfRange, Second(s.Expand(ctx, "db", 1, vol.Size-1)), "exceeds the limit")
		if kind == volume.TypeLVM {
			IsKind(t, errs.OutOfRange, Second(s.Expand(ctx, "db", vol.Size+1, vol.Size+2)), "above the limit")
		}
		after, err := s.Get(ctx, "db")
		require.NoError(t, err)
		assert.Equal(t, vol.Size, after.Size)
		require.NoError(t, Second(s.Unmount(ctx, "db", "")))

		vol, err = s.Get(ctx, "db")
		require.NoError(t, err)
		require.NoError(t, h.WriteDevice(vol.Device, SecretAt(vol), Secret))
		for _, to := range Kinds {
			name := "copy-" + string(to)
			copied, err := s.Clone(ctx, "db", volume.Spec{Name: name, Type: to, Size: 2 * vol.Size})
			require.NoError(t, err)
			data, err := h.ReadDevice(copied.Device, SecretAt(vol), uint64(len(Secret)))
			require.NoError(t, err)
			assert.Equal(t, Secret, data)
			IsKind(t, errs.Conflict, Second(s.Clone(ctx, "db", volume.Spec{Name: name, Type: to, Size: 2 * vol.Size})), "already exists")
			require.NoError(t, Mounted(name, filepath.Join(t.TempDir(), name))(h, s))
			shown, err := s.Show(ctx, name)
			require.NoError(t, err)
			assert.Empty(t, shown.Health, "its file system has grown to the copy's size")
		}
		raw := Spec("raw", kind, 16*pmem.MiB)
		raw.FS = mount.None
		require.NoError(t, Create(raw)(h, s))
		larger, err := s.Clone(ctx, "raw", volume.Spec{Name: "larger", Size: 32 * pmem.MiB, FS: mount.None})
		require.NoError(t, err)
		for _, at := range []uint64{16 * pmem.MiB, 24 * pmem.MiB, 32*pmem.MiB - 4096} {
			data, err := h.ReadDevice(larger.Device, at, 4096)
			require.NoError(t, err)
			assert.Equal(t, make([]byte, 4096), data, "behind the copy, at %d", at)
		}
		for reason, c := range map[string]volume.Spec{
			"cannot be a clone of itself":                  {Name: "db"},
			"requires at least":                            {Name: "x", Size: pmem.MiB},
			"exceeds the limit":                            {Name: "x", Limit: pmem.MiB},
			"so it cannot be copied to a raw block volume": {Name: "x", FS: mount.None},
			"a copy with xfs was requested":                {Name: "x", FS: mount.XFS},
		} {
			require.ErrorContains(t, Second(s.Clone(ctx, "db", c)), reason)
		}
		IsKind(t, errs.NotFound, Second(s.Clone(ctx, "nothing", volume.Spec{Name: "x"})), "does not exist")
		assert.Equal(t, errs.NotFound, errs.KindOf(Second(s.Get(ctx, "x"))))
	})
}

// largest: the largest volume has all that is free, and leaves room for none of the smallest size;
// a second call leaves it as it is.
func (su suite) largest(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		largest := func(name string) volume.Spec { return volume.Spec{Name: name, Type: kind, Max: true, FS: mount.Ext4} }
		smallest := Spec("smallest", kind, 1)
		c, err := s.CapacityFor(ctx, smallest)
		require.NoError(t, err)
		plan, err := s.Plan(ctx, largest("a"))
		require.NoError(t, err)
		assert.Equal(t, c.Largest, plan.Usable)
		limited := largest("limited")
		limited.Limit = 100*pmem.MiB + 1
		vol, _, err := s.Create(ctx, limited)
		require.NoError(t, err)
		assert.Equal(t, uint64(100*pmem.MiB), vol.Size)
		require.NoError(t, Erased("limited")(h, s))

		for _, name := range []string{"a", "b"} { // one in each region
			vol, created, err := s.Create(ctx, largest(name))
			require.NoError(t, err)
			assert.True(t, created)
			assert.Equal(t, c.Largest, vol.Size)
		}
		IsKind(t, errs.NoSpace, Create(smallest)(h, s), "does not fit")
		IsKind(t, errs.NoSpace, Create(largest("c"))(h, s), "does not fit")
		want := State(t, s)
		again, created, err := s.Create(ctx, largest("a"))
		require.NoError(t, err)
		assert.False(t, created)
		assert.Equal(t, c.Largest, again.Size)
		plan, err = s.Plan(ctx, largest("a"))
		require.NoError(t, err)
		assert.True(t, plan.Exists)
		assert.Equal(t, c.Largest, plan.Asked)
		other := largest("a")
		other.FS = mount.XFS
		IsKind(t, errs.Conflict, Create(other)(h, s), "exists with file system")
		other = largest("a")
		other.Limit = pmem.MiB
		IsKind(t, errs.Conflict, Create(other)(h, s), "exists with size")
		if kind == volume.TypeDirect {
			IsKind(t, errs.FixedSize, ExpandMax("a")(h, s), "cannot grow in place")
		} else {
			require.NoError(t, ExpandMax("a")(h, s), "it has all there is")
		}
		assert.Equal(t, want, State(t, s))

		require.NoError(t, Second(s.Delete(ctx, "a", true)))
		want = State(t, s)
		IsKind(t, errs.NoSpace, Create(largest("c"))(h, s), "must be erased first")
		assert.Equal(t, want, State(t, s), "space is not free before it is erased")
		require.NoError(t, Second(s.EraseAll(ctx, volume.EraseRate{}, true)))
		vol, _, err = s.Create(ctx, largest("c"))
		require.NoError(t, err)
		assert.Equal(t, c.Largest, vol.Size)
	})
}

// publish: the calls of a node service, each twice, for a file system and for a raw device.
func (su suite) publish(t *testing.T) {
	for _, fs := range []string{mount.Ext4, mount.None} {
		su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
			root, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			s.TargetRoot = root
			staging, target := filepath.Join(root, "staging"), filepath.Join(root, "target")
			c := Spec("db", kind, 64*pmem.MiB)
			c.FS = fs
			require.NoError(t, Create(c)(h, s))
			publish := volume.PublishSpec{Name: "db", Target: target}
			if fs != mount.None {
				publish.From = staging
				IsKind(t, errs.Unsupported, s.Publish(ctx, publish), "is not mounted on")
				for range 2 {
					require.NoError(t, Second(s.Stage(ctx, volume.MountSpec{Name: "db", Path: staging, FS: fs})))
				}
			}
			for range 2 {
				require.NoError(t, s.Publish(ctx, publish))
			}
			require.NoError(t, s.UsableAs(ctx, "db", fs))
			stats, err := s.Stats(ctx, "db", target)
			require.NoError(t, err)
			assert.LessOrEqual(t, stats.Total, uint64(64*pmem.MiB))
			assert.Greater(t, stats.Total, uint64(32*pmem.MiB))
			assert.Empty(t, stats.Abnormal)
			_, err = s.Delete(ctx, "db", true)
			IsKind(t, errs.InUse, err, "is ")
			alone := publish
			alone.Alone, alone.Target = true, filepath.Join(root, "second")
			IsKind(t, errs.InUse, s.Publish(ctx, alone), "exclusive access was requested")
			if fs == mount.None {
				readOnly := publish
				readOnly.ReadOnly, readOnly.Target = true, filepath.Join(root, "second")
				IsKind(t, errs.Unsupported, s.Publish(ctx, readOnly), "cannot be read-only")
				require.ErrorContains(t, Second(s.Stage(ctx, volume.MountSpec{Name: "db", Path: staging})), "is published")
			}
			outside := publish
			outside.Target = t.TempDir()
			IsKind(t, errs.Invalid, s.Publish(ctx, outside), "is not below")

			for range 2 {
				require.NoError(t, s.Unpublish(ctx, "db", target))
			}
			assert.NoFileExists(t, target)
			assert.NoDirExists(t, target)
			IsKind(t, errs.NotFound, Second(s.Stats(ctx, "db", target)), "is not published at")
			for range 2 {
				require.NoError(t, s.Unstage(ctx, "db", staging))
			}
			require.NoError(t, Erased("db")(h, s))
			require.NoError(t, s.Unpublish(ctx, "db", target), "of a volume that is gone")
		})
	}
}

// mountRefusals: a volume with unknown content is not formatted.
func (su suite) mountRefusals(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		raw := Spec("raw", kind, 64*pmem.MiB)
		raw.FS = mount.None
		require.NoError(t, Create(raw)(h, s))
		vol, err := s.Get(ctx, "raw")
		require.NoError(t, err)
		require.NoError(t, h.WriteDevice(vol.Device, 61*pmem.MiB, Secret))
		path := filepath.Join(t.TempDir(), "x")
		IsKind(t, errs.Conflict, Mounted("raw", path)(h, s), "has content that is not a file system")
		data, err := h.ReadDevice(vol.Device, 61*pmem.MiB, uint64(len(Secret)))
		require.NoError(t, err)
		assert.Equal(t, Secret, data)

		empty := raw
		empty.Name = "empty"
		require.NoError(t, Create(empty)(h, s))
		IsKind(t, errs.Unsupported, Second(s.Mount(ctx, volume.MountSpec{Name: "empty", Path: path, ReadOnly: true})), "has no file system")
		IsKind(t, errs.OutOfRange, Second(s.Mount(ctx, volume.MountSpec{Name: "empty", Path: path, FS: mount.XFS})), "too small for XFS")
		require.NoError(t, Mounted("empty", path)(h, s), "each byte of it is zero")
		IsKind(t, errs.Conflict, Second(s.Mount(ctx, volume.MountSpec{Name: "empty", Path: path, FS: mount.XFS})), "not xfs")
		require.NoError(t, Create(Spec("fs", kind, 64*pmem.MiB))(h, s))
		IsKind(t, errs.Conflict, Mounted("fs", path)(h, s), "has something else mounted on it")
		for _, o := range []string{"remount", "loop=x", "logdev=/dev/sda", "a,b", ""} {
			require.Error(t, Second(s.Mount(ctx, volume.MountSpec{Name: "fs", Path: path + "2", Options: []string{o}})), o)
		}
	})
}

// noErase: the data of such a volume is left on the medium, unless a reboot has discarded the
// record.
func (su suite) noErase(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		for _, rebooted := range []bool{false, true} {
			if _, can := h.(rebooter); rebooted && !can {
				continue
			}
			c := Spec("db", kind, 64*pmem.MiB)
			c.NoErase = true
			require.NoError(t, Create(c)(h, s))
			require.NoError(t, Fill("db")(h, s))
			if rebooted {
				s = reboot(t, h, s)
			}
			require.NoError(t, s.DeleteAsCreated(ctx, "db"))
			_, err := s.EraseAll(ctx, volume.EraseRate{}, true)
			require.NoError(t, err)
			assert.Equal(t, !rebooted, h.FreeHolds(Secret))
			assert.Empty(t, List(t, s))
		}
	})
}

// giveUp: the space of a deleted volume is freed without erasing it, by its UUID only.
func (su suite) giveUp(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, Create(Spec("db", kind, 64*pmem.MiB))(h, s))
		require.NoError(t, Fill("db")(h, s))
		vol, err := s.Get(ctx, "db")
		require.NoError(t, err)
		IsKind(t, errs.NotFound, s.GiveUp(ctx, vol.UUID), "does not exist")
		deleted, err := s.Delete(ctx, "db", true)
		require.NoError(t, err)
		_, err = s.Delete(ctx, "db", false)
		IsKind(t, errs.NotFound, err, "is already deleted")
		require.NoError(t, s.GiveUp(ctx, deleted[0].UUID))
		assert.True(t, h.FreeHolds(Secret))
		assert.Empty(t, List(t, s))
	})
}

// regionsAndGroups: a region or group with volumes is not removed.
func (su suite) regionsAndGroups(t *testing.T) {
	h := su.new(t)
	s := h.Service()
	require.NoError(t, s.CheckHost(ctx))
	steps, err := s.PlanVGInit(ctx, volume.VGInitSpec{Size: 512 * pmem.MiB})
	require.NoError(t, err)
	require.Len(t, steps, 2)
	require.NoError(t, InitVGs(smallVGs)(h, s))
	require.NoError(t, Create(Spec("db", volume.TypeLVM, 64*pmem.MiB))(h, s))
	require.NoError(t, Create(Spec("cache", volume.TypeDirect, 64*pmem.MiB))(h, s))
	vol, err := s.Get(ctx, "db")
	require.NoError(t, err)
	require.ErrorContains(t, s.RemoveVG(ctx, vol.VG, false), "volume")
	require.ErrorContains(t, s.RemoveVG(ctx, "nothing", false), "does not exist")
	names, err := s.VGRegions(ctx, vol.VG)
	require.NoError(t, err)
	assert.Equal(t, vol.Regions, names)
	v, err := s.LookAtEverything(ctx)
	require.NoError(t, err)
	assert.Len(t, v.VGs(), 2)
	assert.Empty(t, s.Damage(v))
	assert.Len(t, v.Examined(), 2)

	cache, err := s.Get(ctx, "cache")
	require.NoError(t, err)
	IsKind(t, errs.Conflict, s.DestroyNamespace(ctx, cache.Namespace), "belongs to volume cache")
	n, err := s.CreateNamespace(ctx, volume.NamespaceRequest{Mode: pmem.ModeFSDAX, Size: 64 * pmem.MiB, Name: "mine"})
	require.NoError(t, err)
	have, err := s.GetNamespace(n.UUID)
	require.NoError(t, err)
	assert.Equal(t, "mine", have.Name)
	require.NoError(t, s.DestroyNamespace(ctx, n.Dev))
	IsKind(t, errs.NotFound, Second(s.GetNamespace(n.UUID)), "does not exist")

	require.NoError(t, Erased("db")(h, s))
	require.NoError(t, Erased("cache")(h, s))
	require.NoError(t, s.RemoveVG(ctx, "pmemvgregion0", false))
	require.NoError(t, s.RemoveVG(ctx, "pmemvgregion1", false))
	sys, err := s.Look(ctx)
	require.NoError(t, err)
	assert.Empty(t, sys.PMEM.Namespaces)
}

// decommission: regions are given back when their volumes are gone and erased, and not before.
func (su suite) decommission(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		theirs, err := s.CreateNamespace(ctx, volume.NamespaceRequest{Region: "region1", Mode: pmem.ModeFSDAX, Size: 64 * pmem.MiB, Name: "theirs"})
		require.NoError(t, err)
		plan, err := s.PlanDecommission(ctx)
		require.NoError(t, err)
		require.Len(t, plan, 2)
		c := Spec("db", kind, 64*pmem.MiB)
		c.Region = "region0"
		require.NoError(t, Create(c)(h, s))
		require.NoError(t, Fill("db")(h, s))
		want := State(t, s)
		for _, refused := range []func() error{
			func() error { return Second(s.PlanDecommission(ctx)) },
			func() error { return Second(s.Decommission(ctx, plan)) },
		} {
			IsKind(t, errs.InUse, refused(), "volume db: still exists in ")
		}
		assert.Equal(t, want, State(t, s))
		require.NoError(t, Second(s.Delete(ctx, "db", true)))
		IsKind(t, errs.InUse, Second(s.Decommission(ctx, plan)), "not yet erased")
		require.NoError(t, Second(s.EraseAll(ctx, volume.EraseRate{}, true)))

		done, err := s.Decommission(ctx, plan)
		require.NoError(t, err)
		assert.Equal(t, plan, done)
		v, err := s.Look(ctx)
		require.NoError(t, err)
		require.Len(t, v.PMEM.Namespaces, 1)
		assert.Equal(t, theirs.UUID, v.PMEM.Namespaces[0].UUID)
		assert.Empty(t, v.VGs())
		assert.False(t, h.FreeHolds(Secret))
		plan, err = s.PlanDecommission(ctx)
		require.NoError(t, err)
		assert.Empty(t, plan)
		require.NoError(t, s.DestroyNamespace(ctx, theirs.UUID))
	})
}

// spanAndStripes: a group across both regions, and a volume on both at once.
func (su suite) spanAndStripes(t *testing.T) {
	h := su.new(t)
	s := h.Service()
	require.NoError(t, Second(s.InitVGs(ctx, volume.VGInitSpec{Percent: 50, Span: true})))
	striped := Spec("db", volume.TypeLVM, 64*pmem.MiB)
	striped.Stripe = true
	vol, _, err := s.Create(ctx, striped)
	require.NoError(t, err)
	assert.Equal(t, 2, vol.Stripes)
	require.NoError(t, Expand("db", 128*pmem.MiB)(h, s))
	vol, err = s.Get(ctx, "db")
	require.NoError(t, err)
	assert.Len(t, vol.Regions, 2)
	c, err := s.CapacityFor(ctx, Spec("large", volume.TypeLVM, 1))
	require.NoError(t, err)
	large := Spec("large", volume.TypeLVM, c.Largest-32*pmem.MiB)
	vol, _, err = s.Create(ctx, large)
	require.NoError(t, err, "more than one region has")
	assert.Len(t, vol.Regions, 2)
	require.NoError(t, Erased("db")(h, s))
	require.NoError(t, Erased("large")(h, s))
	require.NoError(t, s.RemoveVG(ctx, "pmemvg", false))
}

// unmountAll unmounts from everywhere, the topmost mount first.
func (su suite) unmountAll(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, Create(Spec("db", kind, 64*pmem.MiB))(h, s))
		one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
		require.NoError(t, Mounted("db", one)(h, s))
		require.NoError(t, Mounted("db", two)(h, s))
		paths, err := s.Unmount(ctx, "db", "")
		require.NoError(t, err)
		assert.Equal(t, []string{two, one}, paths)
		paths, err = s.Unmount(ctx, "db", "")
		require.NoError(t, err)
		assert.Empty(t, paths)
		_, err = os.Stat(one)
		assert.NoError(t, err, "the directory stays")
	})
}
