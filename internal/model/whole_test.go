package model_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// withoutLabels makes region0 one without labels.
func withoutLabels(h volumetest.Host, _ *volume.Service) error {
	h.(*model.Host).RemoveLabels(0)
	return nil
}

// initWhole gives region0 whole to a volume group, whatever it contains, as the command does. It
// follows the next step if the namespace is disabled.
func initWhole(h volumetest.Host, s *volume.Service) error {
	spec := volume.VGInitSpec{Regions: []string{"region0"}, Whole: true, MayErase: map[string]string{}}
	steps, err := s.PlanVGInit(ctx, spec)
	if err != nil && strings.Contains(errs.NextStep(err), "ndctl enable-namespace") {
		if err := h.(*model.Host).Bind("namespace0.0"); err != nil {
			return err
		}
		steps, err = s.PlanVGInit(ctx, spec)
	}
	if err != nil && !errs.Is(err, errs.Damaged) && !errs.Is(err, errs.Conflict) {
		return err
	}
	for _, step := range steps {
		spec.MayErase[step.Region] = step.Erases
	}
	return volumetest.Second(s.InitVGs(ctx, spec))
}

// whole returns a host whose region0 has no labels, and belongs to a volume group.
func whole(t *testing.T) (*model.Host, *volume.Service) {
	t.Helper()
	h := newHost(t)
	s := h.Service()
	h.RemoveLabels(0)
	require.NoError(t, initWhole(h, s))
	return h, s
}

func TestWholeLife(t *testing.T) {
	h, s := whole(t)
	v, err := s.Look(ctx)
	require.NoError(t, err)
	n := v.PMEM.InRegion("region0")[0]
	assert.Equal(t, "pmemctl=pmemvgregion0", n.Name)
	assert.Regexp(t, "^706d656d-6374-8201-80", n.UUID)
	require.Len(t, v.OwnVGs(), 1)
	assert.Equal(t, "pmemvgregion0", v.OwnVGs()[0].Name)

	spec := volumetest.Spec("a", volume.TypeLVM, 64*pmem.MiB)
	for _, do := range []volumetest.Action{volumetest.Create(spec), volumetest.Expand("a", 128*pmem.MiB), volumetest.Fill("a"), clone(volume.Spec{Name: "b"})} {
		require.NoError(t, do(h, s))
	}
	require.NoError(t, h.Reboot())
	s = h.Service()
	keeps(t, h, s, operation{keeps: []string{"a", "b"}}, "after a reboot")

	for _, spec := range []volume.VGInitSpec{{}, {Regions: []string{"region0"}}, {Regions: []string{"region0"}, Whole: true}} {
		steps, err := s.InitVGs(ctx, spec)
		require.NoError(t, err)
		assert.Equal(t, "region0", steps[0].Region)
		assert.False(t, steps[0].Changes(), "again, it changes nothing")
	}
	direct := volumetest.Spec("d", volume.TypeDirect, 16*pmem.MiB)
	direct.Region = "region0"
	_, _, err = s.Create(ctx, direct)
	assert.True(t, errs.Is(err, errs.Unsupported))
	assert.ErrorContains(t, err, "belongs to volume group pmemvgregion0")
	assert.ErrorContains(t, s.DestroyNamespace(ctx, n.UUID), "belongs to volume group pmemvgregion0")
	plan, err := s.PlanInitLabels()
	require.NoError(t, err)
	assert.Empty(t, plan.Regions, "all regions without labels are not those in use")

	assert.ErrorContains(t, s.RemoveVG(ctx, "pmemvgregion0", false), "has logical volumes")
	require.NoError(t, volumetest.Erased("a")(h, s))
	require.NoError(t, volumetest.Erased("b")(h, s))
	require.NoError(t, s.RemoveVG(ctx, "pmemvgregion0", false))
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	require.NoError(t, err)
	assert.Equal(t, []pmem.Mode{pmem.ModeRaw}, []pmem.Mode{sys.InRegion("region0")[0].Mode})
	assert.NoError(t, s.Absent(ctx, "a"), "the record of the region is gone")
}

// TestWholeAsks gives no region with content away unless its loss was accepted.
func TestWholeAsks(t *testing.T) {
	spec := volume.VGInitSpec{Regions: []string{"region0"}, Whole: true}
	for name, c := range map[string]struct {
		prepare  func(*testing.T, *model.Host, *volume.Service)
		content  string
		accepted map[string]string
		kind     errs.Kind
		err      string
	}{
		"nobody was asked":          {content: volume.NothingFound, kind: errs.Conflict, err: "contains nothing"},
		"something else was":        {prepare: write, content: "data that is not recognized", accepted: map[string]string{"region0": "ext4"}, kind: errs.Aborted, err: "and nothing was done"},
		"more was":                  {content: volume.NothingFound, accepted: map[string]string{"region0": "ext4"}},
		"another region's was":      {content: volume.NothingFound, accepted: map[string]string{"region1": volume.NothingFound}, kind: errs.Conflict, err: "would be lost"},
		"data that came since then": {prepare: write, content: "data that is not recognized", accepted: map[string]string{"region0": volume.NothingFound}, kind: errs.Aborted, err: "and nothing was done"},
		"data":                      {prepare: write, content: "data that is not recognized", accepted: map[string]string{"region0": "data that is not recognized"}},
		"nothing":                   {content: volume.NothingFound, accepted: map[string]string{"region0": volume.NothingFound}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			s := h.Service()
			h.RemoveLabels(0)
			zero(t, h, s)
			if c.prepare != nil {
				c.prepare(t, h, s)
			}
			steps, err := s.PlanVGInit(ctx, spec)
			require.NoError(t, err)
			assert.Equal(t, c.content, steps[0].Erases)
			spec := spec
			spec.MayErase = c.accepted
			h.DieAt(0)
			_, err = s.InitVGs(ctx, spec)
			if c.err == "" {
				assert.NoError(t, err)
				return
			}
			assert.True(t, errs.Is(err, c.kind), "%v", err)
			assert.ErrorContains(t, err, c.err)
			assert.Empty(t, h.Steps(), "nothing was changed")
		})
	}
}

func zero(t *testing.T, h *model.Host, _ *volume.Service) {
	t.Helper()
	require.NoError(t, h.WriteDevice("/dev/pmem0", 0, make([]byte, 4*pmem.MiB)))
	require.NoError(t, h.WriteDevice("/dev/pmem0", 2*pmem.GiB-4*pmem.MiB, make([]byte, 4*pmem.MiB)))
}

func write(t *testing.T, h *model.Host, _ *volume.Service) {
	t.Helper()
	require.NoError(t, h.WriteDevice("/dev/pmem0", 4096, []byte("something")))
}

// TestWholeRefuses: what does not fit changes nothing.
func TestWholeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spec volume.VGInitSpec
		err  string
	}{
		"no region is named":  {volume.VGInitSpec{Whole: true}, "--whole requires the names of the regions"},
		"it has labels":       {volume.VGInitSpec{Regions: []string{"region1"}, Whole: true}, "has labels and can be divided"},
		"a part of it":        {volume.VGInitSpec{Regions: []string{"region0"}, Whole: true, Percent: 50}, "cannot be divided"},
		"a size of it":        {volume.VGInitSpec{Regions: []string{"region0"}, Whole: true, Size: pmem.GiB}, "cannot be divided"},
		"not whole":           {volume.VGInitSpec{Regions: []string{"region0"}}, "cannot have labels"},
		"there is no such":    {volume.VGInitSpec{Regions: []string{"region7"}, Whole: true}, "does not exist"},
		"a region is missing": {volume.VGInitSpec{Regions: []string{"region0", "region7"}, Whole: true}, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			s := h.Service()
			h.RemoveLabels(0)
			h.DieAt(0)
			_, err := s.InitVGs(ctx, c.spec)
			assert.ErrorContains(t, err, c.err)
			assert.Empty(t, h.Steps())
		})
	}
	t.Run("in use", func(t *testing.T) {
		h := newHost(t)
		s := h.Service()
		h.RemoveLabels(0)
		h.SetUsers("/dev/pmem0", 4711)
		_, err := s.PlanVGInit(ctx, volume.VGInitSpec{Regions: []string{"region0"}, Whole: true})
		assert.True(t, errs.Is(err, errs.InUse), "%v", err)
	})
}

// TestWholeOfOthers: a namespace whose UUID another program has changed is not pmemctl's.
func TestWholeOfOthers(t *testing.T) {
	h, s := whole(t)
	require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 16*pmem.MiB))(h, s))
	require.NoError(t, h.Reboot())
	s = h.Service()
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	require.NoError(t, err)
	require.NotEmpty(t, sys.Namespaces[0].Name)
	require.NoError(t, h.SetInfoUUID("namespace0.0", "0f3a3ae0-33bf-4c86-9e32-8a9b0a1b8e5d"))
	require.NoError(t, h.Reboot())
	s = h.Service()
	v, err := s.Look(ctx)
	require.NoError(t, err)
	assert.Empty(t, v.PMEM.InRegion("region0")[0].Name)
	assert.Empty(t, v.OwnVGs())
	assert.Error(t, s.Absent(ctx, "a"), "what was there is not taken for deleted")
	steps, err := s.PlanVGInit(ctx, volume.VGInitSpec{Regions: []string{"region0"}, Whole: true})
	if err == nil {
		assert.Contains(t, steps[0].Erases, "volume group pmemvgregion0 with 1 logical volumes")
	} else {
		assert.ErrorContains(t, err, "was not created by pmemctl")
	}
}

// TestWholeLosesItsContent: memory that a power failure has emptied is not taken for one whose
// volumes were deleted.
func TestWholeLosesItsContent(t *testing.T) {
	h, s := whole(t)
	require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 16*pmem.MiB))(h, s))
	require.NoError(t, h.LoseInfoBlock("namespace0.0"))
	require.NoError(t, h.Reboot())
	s = h.Service()
	_, err := s.Get(ctx, "a")
	assert.True(t, errs.Is(err, errs.NotFound), "%v", err)
	assert.ErrorContains(t, s.Absent(ctx, "a"), "which is missing")
	entries, err := os.ReadDir(filepath.Join(s.StateDir, "regions"))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.NoError(t, s.ForgetRegion(ctx, entries[0].Name(), false))
	assert.NoError(t, s.Absent(ctx, "a"))
}

// wholeNamedData is a host with the volume group data on region0.
func wholeNamedData(t *testing.T) (*model.Host, *volume.Service) {
	t.Helper()
	h := newHost(t)
	s := h.Service()
	h.RemoveLabels(0)
	zero(t, h, s)
	spec := volume.VGInitSpec{Regions: []string{"region0"}, Whole: true, Span: true, VG: "data", MayErase: map[string]string{"region0": volume.NothingFound}}
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, spec)))
	return h, s
}

// TestWholeUnknownName: without LVM's metadata and without the archive, the name of the group is
// not known, and the region is damaged and not free.
func TestWholeUnknownName(t *testing.T) {
	h, s := wholeNamedData(t)
	v, err := s.Look(ctx)
	require.NoError(t, err)
	assert.Equal(t, "pmemctl=data", v.PMEM.InRegion("region0")[0].Name)

	require.NoError(t, os.RemoveAll(s.ArchiveDir))
	v, err = s.Look(ctx)
	require.NoError(t, err)
	assert.Equal(t, "pmemctl=data", v.PMEM.InRegion("region0")[0].Name, "LVM knows it")

	require.NoError(t, os.RemoveAll(s.ArchiveDir))
	device := "/dev/" + v.PMEM.InRegion("region0")[0].Blockdev
	require.NoError(t, h.WriteDevice(device, 0, make([]byte, 4*pmem.MiB)))
	v, err = s.Look(ctx)
	require.NoError(t, err)
	assert.Regexp(t, "^pmemctl=unknown-[0-9a-f]{8}$", v.PMEM.InRegion("region0")[0].Name)
	require.Len(t, v.Damage(), 1)
	_, err = s.InitVGs(ctx, volume.VGInitSpec{Regions: []string{"region0"}, Whole: true})
	assert.True(t, errs.Is(err, errs.Damaged), "%v", err)
}

// TestWholeHidden: a namespace whose mark is not visible is neither changed nor taken for empty.
func TestWholeHidden(t *testing.T) {
	force := volume.NamespaceRequest{Region: "region0", Mode: pmem.ModeFSDAX, Force: true}
	destroy := func(s *volume.Service) error { return s.DestroyNamespace(ctx, "namespace0.0") }
	create := func(s *volume.Service) error { return volumetest.Second(s.CreateNamespace(ctx, force)) }
	labels := func(s *volume.Service) error { return volumetest.Second(s.PlanInitLabels("region0")) }
	again := func(s *volume.Service) error {
		return volumetest.Second(s.PlanVGInit(ctx, volume.VGInitSpec{Regions: []string{"region0"}, Whole: true}))
	}
	giveBack := func(s *volume.Service) error { return volumetest.Second(s.PlanDecommission(ctx, "region0")) }
	forget := func(s *volume.Service) error {
		recorded, err := os.ReadDir(filepath.Join(s.StateDir, "regions"))
		if err != nil || len(recorded) != 1 {
			return fmt.Errorf("%v %w", recorded, err)
		}
		return s.ForgetRegion(ctx, recorded[0].Name(), false)
	}
	for name, c := range map[string]struct {
		hide func(*model.Host) error
		do   func(*volume.Service) error
		err  string
	}{
		"visible, destroyed":       {func(*model.Host) error { return nil }, destroy, "belongs to volume group pmemvgregion0"},
		"visible, created":         {func(*model.Host) error { return nil }, create, "belongs to volume group pmemvgregion0"},
		"raw, destroyed":           {raw, destroy, "but is enabled without it"},
		"raw, created":             {raw, create, "but is enabled without it"},
		"raw, whole again":         {raw, again, "but is enabled without it"},
		"disabled, destroyed":      {down, destroy, "may belong to a volume group of pmemctl: region region0 is missing"},
		"disabled, created":        {down, create, "may belong to a volume group of pmemctl: region region0 is missing"},
		"disabled, again":          {down, again, "its namespace is disabled"},
		"labels":                   {func(*model.Host) error { return nil }, labels, "is not on a DIMM"},
		"raw, returned":            {raw, giveBack, "but is enabled without it"},
		"disabled, returned":       {down, giveBack, "may belong to a volume group of pmemctl: region region0 is missing"},
		"disabled, forgotten":      {down, forget, "is disabled, and may be that one"},
		"raw, forgotten":           {raw, forget, "but is enabled without it"},
		"no info block, again":     {lost, again, "may belong to a volume group of pmemctl: region region0 is missing"},
		"no info block, destroyed": {lost, destroy, "may belong to a volume group of pmemctl: region region0 is missing"},
		"no info block, created":   {lost, create, "may belong to a volume group of pmemctl: region region0 is missing"},
		"no info block, returned":  {lost, giveBack, "may belong to a volume group of pmemctl: region region0 is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			h, s := whole(t)
			require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 16*pmem.MiB))(h, s))
			require.NoError(t, volumetest.Fill("a")(h, s))
			require.NoError(t, h.Reboot())
			require.NoError(t, c.hide(h))
			s = h.Service()
			h.DieAt(0)
			assert.ErrorContains(t, c.do(s), c.err)
			assert.Empty(t, h.Steps())
		})
	}
}

func raw(h *model.Host) error { return h.BindRaw("namespace0.0") }

func down(h *model.Host) error { return h.Unbind("namespace0.0") }

func lost(h *model.Host) error {
	if err := h.LoseInfoBlock("namespace0.0"); err != nil {
		return err
	}
	return h.Reboot()
}

// TestWholeLeftRaw: vg init brings up a recorded namespace that a crash left raw, and no other.
func TestWholeLeftRaw(t *testing.T) {
	for name, recorded := range map[string]bool{"recorded": true, "a copy": false} {
		t.Run(name, func(t *testing.T) {
			h, s := whole(t)
			require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 16*pmem.MiB))(h, s))
			require.NoError(t, volumetest.Fill("a")(h, s))
			require.NoError(t, h.Reboot())
			require.NoError(t, raw(h))
			s = h.Service()
			if !recorded {
				require.NoError(t, os.RemoveAll(filepath.Join(s.StateDir, "regions")))
			}
			_, err := s.InitVGs(ctx, volume.VGInitSpec{})
			require.NoError(t, err)
			v, err := s.Look(ctx)
			require.NoError(t, err)
			if recorded {
				keeps(t, h, s, operation{keeps: []string{"a"}}, name)
				return
			}
			assert.Equal(t, pmem.ModeRaw, v.PMEM.InRegion("region0")[0].Mode)
		})
	}
}

// TestWholeCopied: with a copy of its UUID, a namespace is not changed.
func TestWholeCopied(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	h.RemoveLabels(0)
	h.RemoveLabels(1)
	require.NoError(t, initWhole(h, s))
	spec := volume.VGInitSpec{Regions: []string{"region1"}, Whole: true, MayErase: map[string]string{"region1": "data that is not recognized"}}
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, spec)))
	v, err := s.Look(ctx)
	require.NoError(t, err)
	require.NoError(t, h.SetInfoUUID("namespace1.0", v.PMEM.InRegion("region0")[0].UUID))
	require.NoError(t, h.Reboot())
	s = h.Service()
	h.DieAt(0)
	for _, force := range []bool{false, true} {
		assert.ErrorContains(t, s.RemoveVG(ctx, "pmemvgregion0", force), "one is a copy")
		assert.Empty(t, h.Steps(), "force %v", force)
	}
}

// TestWholeBesideMissing: a missing region with labels is not one that is on no DIMM, and blocks
// nothing there.
func TestWholeBesideMissing(t *testing.T) {
	h := newHost(t)
	h.RemoveLabels(1)
	s := h.Service()
	require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeDirect, 16*pmem.MiB))(h, s))
	h.LoseRegion("region0")
	force := volume.NamespaceRequest{Region: "region1", Mode: pmem.ModeFSDAX, Force: true}
	require.NoError(t, volumetest.Second(s.CreateNamespace(ctx, force)))
	require.NoError(t, s.DestroyNamespace(ctx, "namespace1.0"))
	spec := volume.VGInitSpec{Regions: []string{"region1"}, Whole: true, MayErase: map[string]string{"region1": "data that is not recognized"}}
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, spec)))
	require.Error(t, s.Absent(ctx, "a"), "it is still in the missing region")
}

// TestWholeForgotten: a region that may only be disabled is forgotten with force alone.
func TestWholeForgotten(t *testing.T) {
	h, s := whole(t)
	recorded, err := os.ReadDir(filepath.Join(s.StateDir, "regions"))
	require.NoError(t, err)
	require.Len(t, recorded, 1)
	require.NoError(t, down(h))
	volumetest.IsKind(t, errs.Conflict, s.ForgetRegion(ctx, recorded[0].Name(), false), "is disabled, and may be that one")
	require.NoError(t, s.ForgetRegion(ctx, recorded[0].Name(), true))
	require.NoError(t, h.Bind("namespace0.0"))
	v, err := s.Look(ctx)
	require.NoError(t, err)
	assert.Empty(t, v.Damage())
}

// TestWholeRawCopy: a raw copy of a region that is there stays raw.
func TestWholeRawCopy(t *testing.T) {
	h, s := whole(t)
	h.RemoveLabels(1)
	whole1 := volume.VGInitSpec{Regions: []string{"region1"}, Whole: true, MayErase: map[string]string{"region1": "data that is not recognized"}}
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, whole1)))
	v, err := s.Look(ctx)
	require.NoError(t, err)
	id := v.PMEM.InRegion("region0")[0].UUID
	require.NoError(t, h.SetInfoUUID("namespace1.0", id))
	require.NoError(t, h.Reboot())
	require.NoError(t, h.BindRaw("namespace1.0"))
	s = h.Service()
	_, _ = s.InitVGs(ctx, volume.VGInitSpec{Regions: []string{"region0"}})
	v, err = s.Look(ctx)
	require.NoError(t, err)
	assert.Equal(t, pmem.ModeRaw, v.PMEM.InRegion("region1")[0].Mode)
}

// TestWholeGrantedMapSync: what the kernel grants by mistake is not promised.
func TestWholeGrantedMapSync(t *testing.T) {
	h, s := whole(t)
	h.MakeVirtio()
	h.GrantMapSync()
	require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 16*pmem.MiB))(h, s))
	vol, err := s.Mount(ctx, volume.MountSpec{Name: "a", Path: filepath.Join(t.TempDir(), "a")})
	require.NoError(t, err)
	assert.True(t, vol.NoMapSync)
}

// TestWholeForeignCopies: of two namespaces with another program's UUID, the one that is named is
// destroyed.
func TestWholeForeignCopies(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	h.RemoveLabels(0)
	h.RemoveLabels(1)
	for _, region := range []string{"region0", "region1"} {
		require.NoError(t, volumetest.Second(s.CreateNamespace(ctx, volume.NamespaceRequest{Region: region, Mode: pmem.ModeFSDAX, Force: true})))
	}
	v, err := s.Look(ctx)
	require.NoError(t, err)
	require.NoError(t, h.SetInfoUUID("namespace1.0", v.PMEM.InRegion("region0")[0].InfoUUID))
	require.NoError(t, h.Reboot())
	s = h.Service()
	n, err := s.GetNamespace("namespace1.0")
	require.NoError(t, err)
	assert.Empty(t, n.UUID, "it names none of them")
	require.NoError(t, s.DestroyNamespace(ctx, "namespace1.0"))
	v, err = s.Look(ctx)
	require.NoError(t, err)
	assert.NotEmpty(t, v.PMEM.InRegion("region0")[0].InfoUUID, "the other one is as it was")
	assert.Empty(t, v.PMEM.InRegion("region1")[0].InfoUUID)
}

// TestWholeOneKind: memory without MAP_SYNC does not become a part of a group that has it, and
// where an older group has both, a volume does not grow into it.
func TestWholeOneKind(t *testing.T) {
	h := newHost(t)
	h.RemoveLabels(0)
	h.RemoveLabels(1)
	s := h.Service()
	whole := volume.VGInitSpec{Regions: []string{"region0", "region1"}, Whole: true, Span: true, VG: "both", MayErase: map[string]string{"region0": "data that is not recognized", "region1": "data that is not recognized"}}
	h.MakeVirtio("region1")
	h.DieAt(0)
	volumetest.IsKind(t, errs.Unsupported, volumetest.Second(s.InitVGs(ctx, whole)), "would be on memory of different kinds: region region0 (persistent) and region region1 (no map_sync")
	assert.Empty(t, h.Steps())

	h.MakeVirtio()
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, whole)))
	spec := volumetest.Spec("a", volume.TypeLVM, 16*pmem.MiB)
	spec.Region, spec.Within = "", []string{"region0"}
	require.NoError(t, volumetest.Create(spec)(h, s))
	h.MakeVirtio("region1")
	vol, err := s.Get(ctx, "a")
	require.NoError(t, err)
	volumetest.IsKind(t, errs.NoSpace, volumetest.Second(s.Expand(ctx, "a", 3*pmem.GiB, 0)), "has room for")
	vol, err = s.ExpandMax(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, []string{"region0"}, vol.Regions)
}

// TestWholeNameInArchive: the name of a group with a name of its own is found without LVM's
// metadata, and no second group of that name is created.
func TestWholeNameInArchive(t *testing.T) {
	h, s := wholeNamedData(t)
	require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 16*pmem.MiB))(h, s))
	entries, err := os.ReadDir(s.ArchiveDir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.Equal(t, "data", entries[0].Name())

	require.NoError(t, h.WriteDevice("/dev/pmem0", 0, make([]byte, pmem.MiB)))
	s = h.Service()
	v, err := s.Look(ctx)
	require.NoError(t, err)
	assert.Equal(t, "pmemctl=data", v.PMEM.InRegion("region0")[0].Name)
	second := volume.VGInitSpec{Regions: []string{"region1"}, Span: true, VG: "data"}
	for _, archived := range []bool{true, false} {
		if !archived {
			require.NoError(t, os.RemoveAll(s.ArchiveDir))
		}
		_, err = s.PlanVGInit(ctx, second)
		assert.True(t, errs.Is(err, errs.Damaged), "archived %v: %v", archived, err)
	}
}
