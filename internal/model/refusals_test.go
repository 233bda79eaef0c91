package model_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// calls are the calls of the service that begin with a name, or look at the host.
func calls(path string) map[string]func(s *volume.Service, name string) error {
	spec := func(name string) volume.Spec { return volumetest.Spec(name, volume.TypeLVM, 16*pmem.MiB) }
	return map[string]func(s *volume.Service, name string) error{
		"create":  func(s *volume.Service, name string) error { return volumetest.Create(spec(name))(nil, s) },
		"plan":    func(s *volume.Service, name string) error { return volumetest.Second(s.Plan(ctx, spec(name))) },
		"get":     func(s *volume.Service, name string) error { return volumetest.Second(s.Get(ctx, name)) },
		"show":    func(s *volume.Service, name string) error { return volumetest.Second(s.Show(ctx, name)) },
		"expand":  func(s *volume.Service, name string) error { return volumetest.Expand(name, pmem.GiB)(nil, s) },
		"grow":    func(s *volume.Service, name string) error { return volumetest.ExpandMax(name)(nil, s) },
		"delete":  func(s *volume.Service, name string) error { return volumetest.Second(s.Delete(ctx, name, true)) },
		"mount":   func(s *volume.Service, name string) error { return volumetest.Mounted(name, path)(nil, s) },
		"unmount": func(s *volume.Service, name string) error { return volumetest.Second(s.Unmount(ctx, name, "")) },
		"publish": func(s *volume.Service, name string) error {
			return s.Publish(ctx, volume.PublishSpec{Name: name, Target: path})
		},
		"usable":    func(s *volume.Service, name string) error { return s.UsableAs(ctx, name, mount.Ext4) },
		"vg remove": func(s *volume.Service, name string) error { return s.RemoveVG(ctx, name, false) },
		"clone":     func(s *volume.Service, name string) error { return volumetest.Second(s.Clone(ctx, name, spec("copy"))) },
		"copy":      func(s *volume.Service, name string) error { return volumetest.Second(s.Clone(ctx, "db", spec(name))) },
	}
}

// TestOddNames: a name that no volume can have is refused at once, and nothing is changed.
func TestOddNames(t *testing.T) {
	forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
		require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 16*pmem.MiB))(h, s))
		want, steps := volumetest.State(t, s), h.Steps()
		for what, call := range calls(filepath.Join(t.TempDir(), "x")) {
			for _, name := range []string{"", "..", "a/b", "-x", "a b", "pmemctl+x", strings.Repeat("x", 200)} {
				err := call(s, name)
				assert.Equal(t, errs.Invalid, errs.KindOf(err), "%s %q: %v", what, name, err)
				assert.NotEmpty(t, errs.NextStep(err), "%s %q", what, name)
			}
		}
		assert.Equal(t, steps, h.Steps())
		assert.Equal(t, want, volumetest.State(t, s))
	})
}

// TestCannotLook: when the host cannot be read, each call says so, and changes nothing.
func TestCannotLook(t *testing.T) {
	more := map[string]func(s *volume.Service, name string) error{
		"absent":   func(s *volume.Service, name string) error { return s.Absent(ctx, name) },
		"list":     func(s *volume.Service, _ string) error { return volumetest.Second(s.List(ctx)) },
		"capacity": func(s *volume.Service, _ string) error { return volumetest.Second(s.Capacity(ctx)) },
		"capacity for": func(s *volume.Service, n string) error {
			return volumetest.Second(s.CapacityFor(ctx, volumetest.Spec(n, volume.TypeLVM, 1)))
		},
		"deleted": func(s *volume.Service, _ string) error { return volumetest.Second(s.Deleted(ctx)) },
		"erase all": func(s *volume.Service, _ string) error {
			return volumetest.Second(s.EraseAll(ctx, volume.EraseRate{}, true))
		},
		"give up": func(s *volume.Service, _ string) error { return s.GiveUp(ctx, "x") },
		"vg init": func(s *volume.Service, _ string) error { return volumetest.Second(s.InitVGs(ctx, volume.VGInitSpec{})) },
		"plan vg init": func(s *volume.Service, _ string) error {
			return volumetest.Second(s.PlanVGInit(ctx, volume.VGInitSpec{}))
		},
		"vg regions":        func(s *volume.Service, _ string) error { return volumetest.Second(s.VGRegions(ctx, "pmemvgregion0")) },
		"vg check":          func(s *volume.Service, _ string) error { return volumetest.Second(s.CheckVGs(ctx, "")) },
		"plan decommission": func(s *volume.Service, _ string) error { return volumetest.Second(s.PlanDecommission(ctx)) },
		"decommission": func(s *volume.Service, _ string) error {
			return volumetest.Second(s.Decommission(ctx, []volume.RegionReturn{{Region: "region0", Namespaces: []string{"namespace0.0"}}}))
		},
		"plan repair": func(s *volume.Service, _ string) error { return volumetest.Second(s.PlanRepair(ctx, "pmemvgregion0")) },
		"regions":     func(s *volume.Service, _ string) error { return volumetest.Second(s.Regions(ctx)) },
		"enable":      func(s *volume.Service, _ string) error { return s.EnableRegion(ctx, "region0") },
		"disable":     func(s *volume.Service, _ string) error { return s.DisableRegion(ctx, "region0") },
		"init-labels": func(s *volume.Service, _ string) error { return volumetest.Second(s.PlanInitLabels("region0")) },
		"remember":    func(s *volume.Service, _ string) error { return s.RememberRegions(ctx) },
		"forget":      func(s *volume.Service, _ string) error { return s.ForgetRegion(ctx, "0000000000000001", false) },
		"check host":  func(s *volume.Service, _ string) error { return s.CheckHost(ctx) },
		"new namespace": func(s *volume.Service, _ string) error {
			return createNamespace(volume.NamespaceRequest{Mode: pmem.ModeRaw})(nil, s)
		},
		"namespace": func(s *volume.Service, _ string) error { return volumetest.Second(s.GetNamespace("namespace0.0")) },
		"destroy":   func(s *volume.Service, _ string) error { return s.DestroyNamespace(ctx, "namespace0.0") },
		"stats":     func(s *volume.Service, n string) error { return volumetest.Second(s.Stats(ctx, n, "/nowhere")) },
		"delete as": func(s *volume.Service, n string) error { return s.DeleteAsCreated(ctx, n) },
	}
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(50)(h, s))
	require.NoError(t, volumetest.Create(volumetest.Spec("db", volume.TypeLVM, 16*pmem.MiB))(h, s))
	for what, call := range calls(filepath.Join(t.TempDir(), "x")) {
		more[what] = call
	}
	want, steps := volumetest.State(t, s), h.Steps()
	h.FailReads(func(read, _ string) error {
		if read == "snapshot" {
			return syscall.EIO
		}
		return nil
	})
	for what, call := range more {
		name := "unknown"
		if what == "vg remove" {
			name = "pmemvgregion0"
		}
		if what == "copy" { // that its source is up is known without looking
			name = "db2"
		}
		assert.ErrorIs(t, call(s, name), syscall.EIO, what)
	}
	h.FailReads(nil)
	assert.Equal(t, steps, h.Steps())
	assert.Equal(t, want, volumetest.State(t, s))
}

// ownDev is a container with a /dev of its own.
type ownDev struct{ volume.Mounts }

func (ownDev) At(string) (blockdev.Number, mount.Point, bool, error) {
	return blockdev.Number{}, mount.Point{Path: "/dev", FSType: "tmpfs"}, true, nil
}

// fakeLVM is a directory with a program lvm.
func fakeLVM(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lvm"), nil, 0o700))
	return dir
}

// TestCheckHost: why no volume can be made on a host.
func TestCheckHost(t *testing.T) {
	t.Setenv("PATH", fakeLVM(t))
	d := newOnDisk(t)
	require.NoError(t, d.s.CheckHost(ctx))
	d.write(d.path("region0"), 0, make([]byte, 4096))
	require.NoError(t, d.s.CheckHost(ctx), "one device of the group has its label")
	d.write(d.path("region1"), 0, make([]byte, 4096))
	err := d.s.CheckHost(ctx)
	volumetest.IsKind(t, errs.Damaged, err, "pmemvg on "+d.path("region0")+", pmemvg on "+d.path("region1"))
	assert.Contains(t, errs.NextStep(err), "pmemctl vg check")

	steps := d.Steps()
	s := *d.s
	s.Mounts = ownDev{s.Mounts}
	volumetest.IsKind(t, errs.Unsupported, s.CheckHost(ctx), "/dev")
	volumetest.IsKind(t, errs.Unsupported, volumetest.Create(volumetest.Spec("db", volume.TypeDirect, 16*pmem.MiB))(d, &s), "/dev")
	assert.Equal(t, steps, d.Steps(), "nothing is changed from there")

	t.Setenv("PATH", t.TempDir())
	h := model.New(t.TempDir())
	volumetest.IsKind(t, errs.NotFound, h.Service().CheckHost(ctx), "no persistent memory")
	volumetest.IsKind(t, errs.Unsupported, h.Service().Absent(ctx, "db"), "currently missing")
	volumetest.IsKind(t, errs.NotFound, volumetest.Second(h.Service().Capacity(ctx)), "no persistent memory")
}

// TestAbsent: a volume that is not found may be where the host cannot look; who asks is told where.
func TestAbsent(t *testing.T) {
	for what, c := range map[string]struct {
		damage func(onDisk)
		kind   errs.Kind // "" when it is absent
		reason string
		next   string
	}{
		"nothing":             {func(onDisk) {}, "", "", ""},
		"it is there":         {func(d onDisk) { d.change("db") }, errs.Internal, "logical volume pmemvg/db", "again"},
		"it is being deleted": {func(d onDisk) { d.change("db"); require.NoError(d.t, volumetest.Second(d.s.Delete(ctx, "db", true))) }, "", "", ""},
		"a region is disabled": {func(d onDisk) {
			require.NoError(d.t, d.Reboot())
			require.NoError(d.t, d.s.DisableRegion(ctx, "region1"))
		}, errs.Unsupported, "region region1", "pmemctl region enable region1"},
		"a member is disabled": {func(d onDisk) { require.NoError(d.t, d.Unbind("namespace1.0")) }, errs.Unsupported, "namespace1.0 is disabled", "enable-namespace namespace1.0"},
		"a member is unread":   {func(d onDisk) { d.write(d.path("region0"), 0, make([]byte, 4096)) }, errs.Unsupported, "volume group pmemvg", "vg check pmemvg"},
		"a region is lost":     {func(d onDisk) { d.LoseRegion("region1") }, errs.Unsupported, "region region1", "region forget 0000000000000002"},
		"a lost one is forgotten, and the group misses a device": {func(d onDisk) {
			d.LoseRegion("region1")
			require.NoError(d.t, d.s.ForgetRegion(ctx, "0000000000000002", false))
		}, errs.Unsupported, "volume group pmemvg", "vgreduce --removemissing"},
	} {
		t.Run(what, func(t *testing.T) {
			d := newOnDisk(t)
			c.damage(d)
			err := d.s.Absent(ctx, "db")
			if c.kind == "" {
				assert.NoError(t, err)
				return
			}
			volumetest.IsKind(t, c.kind, err, c.reason)
			assert.Contains(t, errs.NextStep(err), c.next)
		})
	}
}

// TestLostVG: a group that cannot be read is not removed without force; who removes it is told
// what was in it. With force its own devices go, and nothing else.
func TestLostVG(t *testing.T) {
	d := newOnDisk(t)
	d.AddForeign("pmemvg", "theirs")
	require.NoError(t, d.s.ChangeHost(ctx, func() error { return nil })) // which keeps that
	require.NoError(t, d.Reboot())
	require.NoError(t, createNamespace(volume.NamespaceRequest{Region: "region0", Mode: pmem.ModeFSDAX, Size: 64 * pmem.MiB, Name: "mine"})(d, d.s))
	require.NoError(t, volumetest.Create(volumetest.Spec("direct", volume.TypeDirect, 64*pmem.MiB))(d, d.s))
	d.clearAll()
	v, err := d.s.Look(ctx)
	require.NoError(t, err)
	damage := d.s.Damage(v)
	require.Len(t, damage, 2)
	for i, region := range []string{"region0", "region1"} {
		assert.Equal(t, region, damage[i].Region)
		assert.Equal(t, d.path(region), damage[i].Device)
		assert.Equal(t, []string{"a", "theirs (not created by pmemctl)"}, damage[i].Volumes)
		assert.Contains(t, damage[i].Reason, "it had 2: a, theirs")
	}
	info, err := v.FindVG("pmemvg")
	require.NoError(t, err)
	assert.Equal(t, volume.VGInfo{Name: "pmemvg", Owner: volume.OwnerPmemctl, State: volume.Damaged, Regions: []string{"region0", "region1"}, Devices: []string{d.path("region0"), d.path("region1")}}, info)
	_, err = v.FindVG("other")
	volumetest.IsKind(t, errs.NotFound, err, "does not exist")

	before := d.media()
	err = d.s.RemoveVG(ctx, "pmemvg", false)
	volumetest.IsKind(t, errs.Damaged, err, "(a, theirs (not created by pmemctl))")
	assert.ErrorContains(t, err, "namespace0.0 (region0, 512 MiB), namespace1.0 (region1, 512 MiB)")
	assert.Contains(t, errs.NextStep(err), "pmemctl vg remove pmemvg --force")
	d.unchanged(before)

	require.NoError(t, d.s.RemoveVG(ctx, "pmemvg", true))
	v, err = d.s.Look(ctx)
	require.NoError(t, err)
	var names []string
	for _, n := range v.PMEM.Namespaces {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	assert.Equal(t, []string{"mine", "pmemctl:direct"}, names)
	volumetest.IsKind(t, errs.NotFound, d.s.RemoveVG(ctx, "pmemvg", true), "does not exist")
}

// TestRenamedVG: a group that somebody renamed is left alone, with its devices.
func TestRenamedVG(t *testing.T) {
	d := newOnDisk(t)
	require.NoError(t, volumetest.Erased("a")(d, d.s))
	d.RenameVG("pmemvg", "theirs")
	require.NoError(t, d.s.ChangeHost(ctx, func() error { return nil })) // which keeps that
	before := d.media()
	err := d.s.RemoveVG(ctx, "pmemvg", true)
	volumetest.IsKind(t, errs.Conflict, err, "volume group theirs")
	assert.Contains(t, errs.NextStep(err), "vgrename theirs pmemvg")
	d.unchanged(before)
	v, err := d.s.Look(ctx)
	require.NoError(t, err)
	info, err := v.FindVG("theirs")
	require.NoError(t, err)
	assert.Equal(t, []string{"region0", "region1"}, info.Regions)
}

// TestFaults: a file system that the kernel gave up is shown as damaged, and given to nobody.
func TestFaults(t *testing.T) {
	for fault, state := range map[mount.Fault]volume.State{mount.ShutDown: volume.Damaged, mount.MadeReadOnly: volume.Damaged, mount.Erred: volume.Ready} {
		forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
			root, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			s.TargetRoot = root
			require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
			publish := volume.PublishSpec{Name: "db", From: filepath.Join(root, "staging"), Target: filepath.Join(root, "target")}
			staged := volume.MountSpec{Name: "db", Path: publish.From}
			require.NoError(t, volumetest.Second(s.Stage(ctx, staged)))
			require.NoError(t, s.Publish(ctx, publish))
			vol, err := s.Get(ctx, "db")
			require.NoError(t, err)
			require.NoError(t, h.SetFault(vol.Device, fault))
			shown, err := s.Show(ctx, "db")
			require.NoError(t, err)
			assert.Equal(t, state, shown.State)
			assert.Contains(t, shown.Health, string(fault))
			stats, err := s.Stats(ctx, "db", publish.Target)
			require.NoError(t, err)
			assert.Contains(t, stats.Abnormal, string(fault))
			assert.Equal(t, fault == mount.ShutDown, stats.Total == 0, "it does not ask a file system that was shut down")
			second := publish
			second.Target = filepath.Join(root, "second")
			if fault == mount.Erred { // it is repaired at the next mount
				require.NoError(t, s.Publish(ctx, second))
				require.NoError(t, s.Unpublish(ctx, "db", second.Target))
				return
			}
			volumetest.IsKind(t, errs.Unsupported, s.Publish(ctx, second), string(fault))
			assert.NoDirExists(t, second.Target)
			volumetest.IsKind(t, errs.Unsupported, volumetest.Mounted("db", publish.From)(h, s), string(fault))
			require.NoError(t, s.Unpublish(ctx, "db", publish.Target))
			require.NoError(t, s.Unstage(ctx, "db", publish.From))
			require.NoError(t, h.SetFault(vol.Device, ""))
			require.NoError(t, volumetest.Second(s.Stage(ctx, staged)))
		})
	}
}

// TestRegionInUse: a region with something mounted is not disabled.
func TestRegionInUse(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	c := volumetest.Spec("db", volume.TypeDirect, 64*pmem.MiB)
	c.Region = "region0"
	require.NoError(t, volumetest.Create(c)(h, s))
	require.NoError(t, volumetest.Mounted("db", filepath.Join(t.TempDir(), "db"))(h, s))
	want := volumetest.State(t, s)
	err := s.DisableRegion(ctx, "region0")
	volumetest.IsKind(t, errs.InUse, err, "region region0")
	assert.Contains(t, errs.NextStep(err), "unmount it")
	assert.Equal(t, want, volumetest.State(t, s))
	require.NoError(t, volumetest.Second(s.Unmount(ctx, "db", "")))
	require.NoError(t, s.DisableRegion(ctx, "region0"))
	regions, err := s.Regions(ctx)
	require.NoError(t, err)
	assert.False(t, regions[0].Enabled())
	assert.True(t, regions[1].Enabled())
}

// TestStray: a device that has the mark of a group that is complete without it is destroyed with
// force only, and the group and its volumes stay.
func TestStray(t *testing.T) {
	d := newOnDisk(t)
	stray := d.marked(128 * pmem.MiB)
	before := d.media()
	v, err := d.s.Look(ctx)
	require.NoError(t, err)
	damage := d.s.Damage(v)
	require.Len(t, damage, 1)
	assert.Equal(t, stray.Dev, damage[0].Namespace)
	assert.Contains(t, damage[0].Reason, "is complete without /dev/"+stray.Blockdev)
	assert.Empty(t, damage[0].Volumes, "nothing of the group is out of sight")
	err = d.s.RemoveVG(ctx, "pmemvg", false)
	volumetest.IsKind(t, errs.Damaged, err, "the group would remain")
	assert.ErrorContains(t, err, stray.Dev+" (region0, ")
	assert.NotContains(t, err.Error(), "(a)", "its volumes are not lost")
	d.unchanged(before)

	require.NoError(t, d.s.RemoveVG(ctx, "pmemvg", true))
	volumetest.IsKind(t, errs.NotFound, volumetest.Second(d.s.GetNamespace(stray.UUID)), "does not exist")
	delete(before, stray.Dev)
	d.unchanged(before)
	assert.Len(t, volumetest.List(t, d.s), 1)
	volumetest.IsKind(t, errs.InUse, d.s.RemoveVG(ctx, "pmemvg", true), "logical volumes")
}
