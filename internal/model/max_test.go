package model_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

func largest(name string, kind volume.Type) volume.Spec {
	return volume.Spec{Name: name, Type: kind, Max: true, FS: mount.Ext4}
}

// freeIn is the free space of the first region or group of a type, in raw bytes.
func freeIn(t *testing.T, s *volume.Service, kind volume.Type) uint64 {
	t.Helper()
	v, err := s.Look(ctx)
	require.NoError(t, err)
	if kind == volume.TypeDirect {
		return v.PMEM.Regions[0].AvailableSize
	}
	return v.VGs()[0].Free
}

// TestLargestDirect: the largest direct volume takes a region up to its alignment, also if the
// region is interleaved, of an odd size, or in pieces.
func TestLargestDirect(t *testing.T) {
	for what, c := range map[string]struct {
		size   uint64
		ways   uint
		before []uint64 // sizes of volumes, of which the even ones are deleted again
		raw    uint64
		rest   uint64
	}{
		"aligned":           {pmem.GiB, 1, nil, pmem.GiB, 0},
		"odd end":           {pmem.GiB + 20*pmem.MiB, 1, nil, pmem.GiB + 16*pmem.MiB, 4 * pmem.MiB},
		"two ways":          {pmem.GiB, 2, nil, pmem.GiB, 0},
		"three ways":        {pmem.GiB, 3, nil, 1008 * pmem.MiB, 16 * pmem.MiB}, // multiples of 48 MiB
		"twelve ways":       {pmem.GiB, 12, nil, 1008 * pmem.MiB, 16 * pmem.MiB},
		"in pieces":         {pmem.GiB, 1, []uint64{300 * pmem.MiB, 14 * pmem.MiB}, 688 * pmem.MiB, 320 * pmem.MiB},
		"three ways, piece": {pmem.GiB, 3, []uint64{300 * pmem.MiB, 14 * pmem.MiB}, 624 * pmem.MiB, 352 * pmem.MiB},
	} {
		t.Run(what, func(t *testing.T) {
			h := model.New(t.TempDir(), c.size)
			h.SetWays(0, c.ways)
			s := h.Service()
			for i, size := range c.before {
				require.NoError(t, volumetest.Create(volumetest.Spec(fmt.Sprintf("v%d", i), volume.TypeDirect, size))(h, s))
			}
			for i := range c.before {
				if i%2 == 0 {
					require.NoError(t, volumetest.Erased(fmt.Sprintf("v%d", i))(h, s))
				}
			}
			vol, created, err := s.Create(ctx, largest("big", volume.TypeDirect))
			require.NoError(t, err)
			assert.True(t, created)
			assert.Equal(t, c.raw, vol.RawSize)
			assert.Equal(t, pmem.Usable(c.raw, pmem.MapDev, pmem.DefaultAlign), vol.Size)
			assert.Equal(t, c.rest, freeIn(t, s, volume.TypeDirect))
			require.NoError(t, h.Reboot())
			s = h.Service()
			after, err := s.Get(ctx, "big")
			require.NoError(t, err)
			assert.Equal(t, vol.Size, after.Size)
			require.NoError(t, volumetest.Mounted("big", filepath.Join(t.TempDir(), "big"))(h, s))
			if len(c.before) == 0 {
				volumetest.IsKind(t, errs.NoSpace, volumetest.Create(volumetest.Spec("x", volume.TypeDirect, 1))(h, s), "does not fit")
			}
		})
	}
}

// TestLargestLVM: linear, striped, in one region, within a limit, and with a file system that needs
// more than there is.
func TestLargestLVM(t *testing.T) {
	h := model.New(t.TempDir(), 2*pmem.GiB, pmem.GiB)
	s := h.Service()
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, volume.VGInitSpec{Span: true})))
	v, err := s.Look(ctx)
	require.NoError(t, err)
	free := map[string]uint64{}
	for _, pv := range v.LVM.VGs[0].PVs {
		free[pv.Name] = pv.Free
	}
	one, two := free["/dev/pmem0"], free["/dev/pmem1"]
	require.Greater(t, one, two)
	for what, c := range map[string]struct {
		change func(*volume.Spec)
		size   uint64
	}{
		"linear":              {func(*volume.Spec) {}, one + two},
		"striped":             {func(c *volume.Spec) { c.Stripe = true }, 2 * two},
		"in a region":         {func(c *volume.Spec) { c.Region = "region1" }, two},
		"in some regions":     {func(c *volume.Spec) { c.Within = []string{"region1"} }, two},
		"in a group":          {func(c *volume.Spec) { c.VG = "pmemvg" }, one + two},
		"limited":             {func(c *volume.Spec) { c.Limit = 101*pmem.MiB - 1 }, 100 * pmem.MiB},
		"striped and limited": {func(c *volume.Spec) { c.Stripe, c.Limit = true, 102*pmem.MiB }, 100 * pmem.MiB},
		"limited by no more":  {func(c *volume.Spec) { c.Limit = 10 * pmem.GiB }, one + two},
	} {
		spec := largest("big", volume.TypeLVM)
		c.change(&spec)
		vol, _, err := s.Create(ctx, spec)
		require.NoError(t, err, what)
		assert.Equal(t, c.size, vol.Size, what)
		again, created, err := s.Create(ctx, spec)
		require.NoError(t, err, what)
		assert.False(t, created, what)
		assert.Equal(t, vol.UUID, again.UUID, what)
		require.NoError(t, volumetest.Erased("big")(h, s), what)
	}

	require.NoError(t, volumetest.Create(volumetest.Spec("most", volume.TypeLVM, one+two-100*pmem.MiB))(h, s))
	want, steps := volumetest.State(t, s), h.Steps()
	for reason, change := range map[string]func(*volume.Spec){
		"300 MiB does not fit; the largest possible lvm volume is 100 MiB": func(c *volume.Spec) { c.FS = mount.XFS },
		"XFS needs at least 300 MiB":                                       func(c *volume.Spec) { c.FS, c.Limit = mount.XFS, 200*pmem.MiB },
		"above the limit of 1 MiB":                                         func(c *volume.Spec) { c.Limit = pmem.MiB },
		"4 MiB does not fit":                                               func(c *volume.Spec) { c.Stripe = true },
		"does not exist":                                                   func(c *volume.Spec) { c.VG = "other" },
		"exists with type":                                                 func(c *volume.Spec) { c.Name, c.Type = "most", volume.TypeDirect },
	} {
		spec := largest("big", volume.TypeLVM)
		change(&spec)
		require.ErrorContains(t, volumetest.Create(spec)(h, s), reason)
		require.ErrorContains(t, volumetest.Second(s.Plan(ctx, spec)), reason)
	}
	assert.Equal(t, want, volumetest.State(t, s))
	assert.Equal(t, steps, h.Steps())
}

// TestLargestIsDecidedLast: of many that want all there is at the same time, one gets it.
func TestLargestIsDecidedLast(t *testing.T) {
	for _, kind := range volumetest.Kinds {
		h := model.New(t.TempDir(), pmem.GiB)
		s := h.Service()
		if kind == volume.TypeLVM {
			require.NoError(t, initVGs(100)(h, s))
		}
		var wait sync.WaitGroup
		failed := make([]error, 6)
		for i := range failed {
			wait.Go(func() { _, _, failed[i] = s.Create(ctx, largest(fmt.Sprintf("v%d", i), kind)) })
		}
		wait.Wait()
		made := 0
		for _, err := range failed {
			if err == nil {
				made++
				continue
			}
			volumetest.IsKind(t, errs.NoSpace, err, "does not fit")
		}
		assert.Equal(t, 1, made, kind)
		assert.Zero(t, freeIn(t, s, kind), kind)
	}
}

// TestExpandMax: a volume gets all the space of its group, from where it may be, also what an
// interrupted expansion left, and keeps its data.
func TestExpandMax(t *testing.T) {
	h := model.New(t.TempDir(), 2*pmem.GiB, pmem.GiB)
	s := h.Service()
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, volume.VGInitSpec{Span: true, Percent: 50})))
	require.NoError(t, volumetest.Second(s.InitVGs(ctx, volume.VGInitSpec{Span: true}))) // two devices in each region
	free := freeIn(t, s, volume.TypeLVM)
	grow := func(name string, want uint64) volume.Volume {
		t.Helper()
		vol, err := s.ExpandMax(ctx, name)
		require.NoError(t, err)
		assert.Equal(t, want, vol.Size)
		have, err := s.Get(ctx, name)
		require.NoError(t, err)
		assert.Equal(t, want, have.Size)
		steps := h.Steps()
		require.NoError(t, volumetest.ExpandMax(name)(h, s), "it has all there is")
		assert.Equal(t, steps, h.Steps())
		return have
	}

	require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 64*pmem.MiB))(h, s))
	require.NoError(t, volumetest.Fill("a")(h, s))
	a, err := s.Get(ctx, "a")
	require.NoError(t, err)
	at := volumetest.SecretAt(a)
	path := filepath.Join(t.TempDir(), "a")
	require.NoError(t, volumetest.Mounted("a", path)(h, s))
	h.DieAt(4) // with the additional space in a logical volume of its own
	require.Error(t, volumetest.ExpandMax("a")(h, s))
	s = h.Service()
	a = grow("a", free)
	assert.Len(t, a.Regions, 2)
	data, err := h.ReadDevice(a.Device, at, uint64(len(volumetest.Secret)))
	require.NoError(t, err)
	assert.Equal(t, volumetest.Secret, data)
	shown, err := s.Show(ctx, "a")
	require.NoError(t, err)
	assert.Empty(t, shown.Health, "its file system has grown")
	require.NoError(t, volumetest.Second(s.Unmount(ctx, "a", path)))
	require.NoError(t, volumetest.Erased("a")(h, s))

	// The space of a deleted volume is not free before it is erased.
	require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 64*pmem.MiB))(h, s))
	require.NoError(t, volumetest.Create(volumetest.Spec("b", volume.TypeLVM, 512*pmem.MiB))(h, s))
	require.NoError(t, volumetest.Second(s.Delete(ctx, "b", true)))
	grow("a", free-512*pmem.MiB)
	require.NoError(t, volumetest.Second(s.EraseAll(ctx, volume.EraseRate{}, true)))
	grow("a", free)
	require.NoError(t, volumetest.Erased("a")(h, s))

	// A striped volume uses what its stripes can use: of the pairs of devices, one after the other.
	striped := volumetest.Spec("s", volume.TypeLVM, 64*pmem.MiB)
	striped.Stripe = true
	require.NoError(t, volumetest.Create(striped)(h, s))
	vol, err := s.ExpandMax(ctx, "s")
	require.NoError(t, err)
	assert.Equal(t, 2, vol.Stripes)
	v, err := s.Look(ctx)
	require.NoError(t, err)
	with := 0
	for _, pv := range v.LVM.VGs[0].PVs {
		if pv.Free > 0 {
			with++
		}
	}
	assert.LessOrEqual(t, with, 1, "no two devices have room for a stripe")
	steps := h.Steps()
	require.NoError(t, volumetest.ExpandMax("s")(h, s))
	assert.Equal(t, steps, h.Steps())
	assert.Equal(t, errs.NotFound, errs.KindOf(volumetest.ExpandMax("nothing")(h, s)))
}
