package volume

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// threeRegions is a volume group on three regions, with the given free space on each.
func threeRegions(free ...uint64) View {
	var v View
	vg := lvm.VG{Name: "pmemvg", Tags: []string{tag}, ExtentSize: ExtentSize}
	for i, n := range free {
		region, dev := "region"+string(rune('0'+i)), "pmem"+string(rune('0'+i))
		v.PMEM.Regions = append(v.PMEM.Regions, pmem.Region{Dev: region, Type: "pmem", State: pmem.StateEnabled, Labels: true, Align: 16 << 20, InterleaveWays: 1, Size: 1 << 30})
		v.PMEM.Namespaces = append(v.PMEM.Namespaces, pmem.Namespace{Dev: "namespace" + string(rune('0'+i)) + ".0", Region: region, Name: markMember + "pmemvg", Blockdev: dev, Mode: pmem.ModeFSDAX, State: pmem.StateEnabled})
		vg.PVs = append(vg.PVs, lvm.PV{Name: "/dev/" + dev, Free: n})
		vg.Free += n
	}
	v.LVM.VGs = []lvm.VG{vg}
	return v
}

func TestCapacityFor(t *testing.T) {
	const mib = 1 << 20
	for what, c := range map[string]struct {
		free    []uint64
		spec    Spec
		largest uint64
	}{
		"linear":                  {[]uint64{100 * mib, 60 * mib, 10 * mib}, Spec{}, 170 * mib},
		"in one region":           {[]uint64{100 * mib, 60 * mib, 10 * mib}, Spec{Region: "region1"}, 60 * mib},
		"striped over two of it":  {[]uint64{100 * mib, 60 * mib, 10 * mib}, Spec{Stripe: true}, 120 * mib},
		"striped over all":        {[]uint64{100 * mib, 60 * mib, 50 * mib}, Spec{Stripe: true}, 150 * mib},
		"one region cannot":       {[]uint64{100 * mib}, Spec{Stripe: true}, 0},
		"full":                    {[]uint64{0, 0}, Spec{}, 0},
		"no such group":           {[]uint64{100 * mib}, Spec{VG: "other"}, 0},
		"too little for XFS":      {[]uint64{100 * mib}, Spec{FS: mount.XFS}, 0},
		"direct, nothing is free": {[]uint64{100 * mib}, Spec{Type: TypeDirect}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			v := threeRegions(c.free...)
			spec := c.spec
			if spec.Type == "" {
				spec.Type = TypeLVM
			}
			got := v.capacityFor(spec)
			assert.Equal(t, c.largest, got.Largest)
			if c.largest == 0 {
				return
			}
			// Exactly this size is possible, and not a byte more.
			spec.Name, spec.Size = "a", got.Largest
			plan, err := v.plan(spec)
			require.NoError(t, err)
			assert.Equal(t, got.Largest, plan.Usable)
			spec.Size++
			_, err = v.plan(spec)
			assert.Error(t, err)
			spec.Max, spec.Size = true, 0
			assert.Equal(t, got.Largest, v.sized(spec).Size)
		})
	}
}

// TestSized: the size that Max stands for is possible, is at most the limit, and the next larger one
// is not.
func TestSized(t *testing.T) {
	const mib = 1 << 20
	for what, c := range map[string]struct {
		free []uint64
		spec Spec
		want uint64
		err  string
	}{
		"lvm":                          {[]uint64{100 * mib, 60 * mib}, Spec{Type: TypeLVM}, 160 * mib, ""},
		"lvm, limit":                   {[]uint64{100 * mib, 60 * mib}, Spec{Type: TypeLVM, Limit: 51 * mib}, 50 * mib, ""},
		"lvm, exact limit":             {[]uint64{100 * mib, 60 * mib}, Spec{Type: TypeLVM, Limit: 50 * mib}, 50 * mib, ""},
		"lvm, limit above":             {[]uint64{100 * mib, 60 * mib}, Spec{Type: TypeLVM, Limit: 170 * mib}, 160 * mib, ""},
		"lvm, limit too small":         {[]uint64{100 * mib}, Spec{Type: TypeLVM, Limit: mib}, 2 * mib, "above the limit of 1 MiB"},
		"lvm, full":                    {[]uint64{0}, Spec{Type: TypeLVM}, 2 * mib, "2 MiB does not fit; the largest possible lvm volume is 0 B"},
		"lvm, a minimum":               {[]uint64{100 * mib}, Spec{Type: TypeLVM, Size: 200 * mib}, 200 * mib, "200 MiB does not fit"},
		"striped":                      {[]uint64{100 * mib, 62 * mib, 10 * mib}, Spec{Type: TypeLVM, Stripe: true}, 124 * mib, ""},
		"striped, limit":               {[]uint64{100 * mib, 100 * mib, 90 * mib}, Spec{Type: TypeLVM, Stripe: true, Limit: 100 * mib}, 96 * mib, ""},
		"XFS, too little":              {[]uint64{100 * mib}, Spec{Type: TypeLVM, FS: mount.XFS}, 300 * mib, "300 MiB does not fit"},
		"XFS, striped, limit":          {[]uint64{200 * mib, 200 * mib, 200 * mib}, Spec{Type: TypeLVM, FS: mount.XFS, Stripe: true, Limit: 301 * mib}, 300 * mib, ""},
		"no group":                     {[]uint64{100 * mib}, Spec{Type: TypeLVM, VG: "other"}, 1, "does not exist"},
		"direct":                       {[]uint64{200 * mib, 500 * mib}, Spec{Type: TypeDirect}, pmem.Usable(496*mib, pmem.MapDev, pmem.DefaultAlign), ""},
		"direct, in a region":          {[]uint64{200 * mib, 500 * mib}, Spec{Type: TypeDirect, Region: "region0"}, pmem.Usable(192*mib, pmem.MapDev, pmem.DefaultAlign), ""},
		"direct, limit":                {[]uint64{200 * mib, 500 * mib}, Spec{Type: TypeDirect, Limit: 101 * mib}, 100 * mib, ""},
		"direct, limit too small":      {[]uint64{200 * mib}, Spec{Type: TypeDirect, Limit: mib}, 2 * mib, "above the limit of 1 MiB"},
		"direct, too little":           {[]uint64{15 * mib}, Spec{Type: TypeDirect}, 2 * mib, "2 MiB does not fit"},
		"direct, the rest of a region": {[]uint64{16 * mib}, Spec{Type: TypeDirect}, pmem.Usable(16*mib, pmem.MapDev, pmem.DefaultAlign), ""},
	} {
		v := threeRegions(c.free...)
		for i, free := range c.free {
			v.PMEM.Regions[i].AvailableSize, v.PMEM.Regions[i].MaxAvailableExtent = free, free
		}
		c.spec.Name, c.spec.Max = "a", true
		spec := v.sized(c.spec)
		assert.Equal(t, c.want, spec.Size, what)
		assert.False(t, spec.Max, what)
		plan, err := v.plan(spec)
		if c.err != "" {
			assert.ErrorContains(t, err, c.err, what)
			assert.NotEmpty(t, errs.NextStep(err), what)
			continue
		}
		require.NoError(t, err, what)
		assert.Equal(t, c.want, plan.Usable, what)
	}
}

// TestSizedInterleaved: the largest volume takes a region up to the alignment of its interleaving.
func TestSizedInterleaved(t *testing.T) {
	for ways := uint(1); ways <= 12; ways++ {
		v := threeRegions(0)
		r := &v.PMEM.Regions[0]
		r.InterleaveWays, r.AvailableSize, r.MaxAvailableExtent = ways, 1000<<20, 1000<<20
		align := r.SizeAlign(pmem.DefaultAlign)
		plan, err := v.plan(v.sized(Spec{Name: "a", Type: TypeDirect, Max: true}))
		require.NoError(t, err, ways)
		assert.Equal(t, pmem.RoundDown(1000<<20, align), plan.Raw, ways)
		assert.Equal(t, plan.Largest, plan.Usable, ways)
		assert.Less(t, plan.FreeAfter, align, ways)
	}
}

// TestRoomToGrow: a volume stays in its regions as long as they have room; with stripes, always.
func TestRoomToGrow(t *testing.T) {
	const mib = 1 << 20
	v := threeRegions(100*mib, 60*mib, 10*mib)
	vg := v.LVM.VGs[0]
	linear, striped := Volume{Regions: []string{"region1"}}, Volume{Regions: []string{"region0", "region1"}, Stripes: 2}
	for what, c := range map[string]struct {
		vol     Volume
		by      uint64
		devices []string
		most    uint64
	}{
		"its region has it":   {linear, 60 * mib, []string{"/dev/pmem1"}, 60 * mib},
		"another region":      {linear, 62 * mib, nil, 170 * mib},
		"as much as possible": {linear, maxSize, nil, 170 * mib},
		"striped":             {striped, 8 * mib, []string{"/dev/pmem0", "/dev/pmem1"}, 120 * mib},
		"striped, as much":    {striped, maxSize, []string{"/dev/pmem0", "/dev/pmem1"}, 120 * mib},
	} {
		devices, most := v.roomToGrow(vg, c.vol, c.by)
		assert.Equal(t, c.devices, devices, what)
		assert.Equal(t, c.most, most, what)
	}
}

// TestFullMetadata: no capacity is reported if the metadata has no room.
func TestFullMetadata(t *testing.T) {
	full := func(v View, spec Spec, reason string) {
		t.Helper()
		got := v.capacityFor(spec)
		assert.Equal(t, Capacity{Type: spec.Type, Reason: reason}, got)
		spec.Name, spec.Size = "a", 1
		_, err := v.plan(spec)
		assert.True(t, errs.Is(err, errs.NoSpace), "%v", err)
		assert.ErrorContains(t, err, reason)
		assert.NotEmpty(t, errs.NextStep(err))
	}
	const labels = "the label area of its DIMMs has no room for another namespace"
	v := threeRegions(1<<30, 1<<30)
	v.PMEM.Regions[0].AvailableSize, v.PMEM.Regions[0].MaxAvailableExtent = 1<<29, 1<<29
	direct := Spec{Type: TypeDirect}
	assert.NotZero(t, v.capacityFor(direct).Largest)
	v.PMEM.Regions[0].LabelsFull = true
	full(v, Spec{Type: TypeDirect, Region: "region0"}, labels)
	assert.Equal(t, labels, v.Capacities()[0].Reason)
	assert.Zero(t, v.Capacities()[0].Largest)
	v.PMEM.Regions[1].AvailableSize, v.PMEM.Regions[1].MaxAvailableExtent = 1<<29, 1<<29
	got := v.capacityFor(direct)
	assert.NotZero(t, got.Largest, "the other region has room")
	assert.Empty(t, got.Reason)
	direct.Name, direct.Size = "a", 1
	plan, err := v.plan(direct)
	require.NoError(t, err)
	assert.Equal(t, "region1", plan.Region)

	const metadata = "its metadata area has no room for another volume"
	v.LVM.VGs[0].MetadataSize, v.LVM.VGs[0].MetadataFree = 2<<20, metadataReserve
	assert.NotZero(t, v.capacityFor(Spec{Type: TypeLVM}).Largest)
	v.LVM.VGs[0].MetadataFree--
	full(v, Spec{Type: TypeLVM}, metadata)
	full(v, Spec{Type: TypeLVM, Stripe: true}, metadata)
	all := v.Capacities()
	assert.Equal(t, metadata, all[len(all)-1].Reason)
	assert.Zero(t, all[len(all)-1].Largest)
}
