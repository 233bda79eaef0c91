package pmem

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Values from real machines and their documentation; the last is from a guest.
func TestUsableMatchesPublishedSizes(t *testing.T) {
	for _, c := range []struct {
		name       string
		raw        uint64
		m          Map
		align      uint64
		wantUsable uint64
	}{
		{"32 GiB", 32 * GiB, MapDev, 2 * MiB, 32254 * MiB},
		{"64 GiB", 64 * GiB, MapDev, 2 * MiB, 67643637760},
		{"126 GiB", 126 * GiB, MapDev, 2 * MiB, 133175443456},
		{"120 GiB, 1 GiB pages", 120 * GiB, MapDev, GiB, 118 * GiB},
		{"240 GiB, 1 GiB pages", 240 * GiB, MapDev, GiB, 236 * GiB},
		{"1506 GiB, 1 GiB pages", 1506 * GiB, MapDev, GiB, 1482 * GiB},
		{"960 MiB", 960 * MiB, MapDev, 2 * MiB, 944 * MiB},
		{"64 MiB in DRAM", 64 * MiB, MapMem, 2 * MiB, 62 * MiB},
		{"1 GiB", GiB, MapDev, 2 * MiB, 1006 * MiB},
		{"smaller than its overhead", MiB, MapDev, 2 * MiB, 0},
		{"nothing", 0, MapDev, 2 * MiB, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.wantUsable, Usable(c.raw, c.m, c.align))
		})
	}
}

func TestRawForIsTheSmallestThatFits(t *testing.T) {
	for _, sizeAlign := range []uint64{2 * MiB, 16 * MiB, 32 * MiB, 96 * MiB} {
		for _, m := range []Map{MapMem, MapDev} {
			for _, want := range []uint64{1, 4096, MiB, 14 * MiB, 64 * MiB, 1006 * MiB, GiB, GiB + 1, 10 * GiB, 768 * GiB, 1536*GiB - 4096} {
				raw, err := RawFor(want, m, DefaultAlign, sizeAlign)
				require.NoError(t, err)
				assert.Zero(t, raw%sizeAlign, "%d is no multiple of %d", raw, sizeAlign)
				assert.GreaterOrEqual(t, Usable(raw, m, DefaultAlign), want)
				if raw > sizeAlign && raw-sizeAlign >= MinNamespace {
					assert.Less(t, Usable(raw-sizeAlign, m, DefaultAlign), want, "%d is not the smallest for %d", raw, want)
				}
			}
		}
	}
}

func TestRawForTooLarge(t *testing.T) {
	for _, want := range []uint64{math.MaxUint64, 8 << 60, 1 << 62} {
		_, err := RawFor(want, MapDev, DefaultAlign, 16*MiB)
		assert.ErrorContains(t, err, "exceed the maximum size of a namespace")
	}
}

func TestSizeAlignIsForAllInterleavedDIMMs(t *testing.T) {
	for _, c := range []struct {
		ways  uint
		align uint64
		want  uint64
	}{
		{1, 16 * MiB, 16 * MiB},
		{2, 16 * MiB, 16 * MiB},
		{4, 4 * KiB, 8 * MiB},
		{6, 16 * MiB, 48 * MiB},
		{6, 0, 48 * MiB},
		{0, 0, 16 * MiB},
	} {
		assert.Equal(t, c.want, Region{InterleaveWays: c.ways, Align: c.align}.SizeAlign(DefaultAlign), "%+v", c)
	}
}

func TestRounding(t *testing.T) {
	assert.Equal(t, uint64(0), RoundUp(0, 4096))
	assert.Equal(t, uint64(4096), RoundUp(1, 4096))
	assert.Equal(t, uint64(4096), RoundUp(4096, 4096))
	assert.Equal(t, uint64(7), RoundUp(7, 0))
	assert.Equal(t, RoundDown(math.MaxUint64, 4096), RoundUp(math.MaxUint64, 4096), "no wrap to zero")
	assert.Equal(t, uint64(0), RoundDown(4095, 4096))
}

func TestMaxRaw(t *testing.T) {
	r := Region{State: StateEnabled, Labels: true, Size: 4 * GiB, AvailableSize: 3 * GiB, MaxAvailableExtent: 2*GiB + MiB, Align: 16 * MiB, InterleaveWays: 1}
	assert.Equal(t, uint64(2*GiB), r.MaxRaw(DefaultAlign))
	for name, change := range map[string]func(*Region){
		"label-less": func(r *Region) { r.Labels = false },
		"read-only":  func(r *Region) { r.ReadOnly = true },
		"disabled":   func(r *Region) { r.State = StateDisabled },
		"full":       func(r *Region) { r.MaxAvailableExtent = 15 * MiB },
	} {
		changed := r
		change(&changed)
		assert.Zero(t, changed.MaxRaw(DefaultAlign), name)
	}
}
