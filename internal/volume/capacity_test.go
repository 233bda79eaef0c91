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
		})
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
