package volume

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// TestNearestSizes: a limit equal to the size is met by a possible size; otherwise the sizes in
// the next step are possible exactly.
func TestNearestSizes(t *testing.T) {
	const mib = 1 << 20
	v := threeRegions(512 * mib)
	v.PMEM.Regions[0].AvailableSize, v.PMEM.Regions[0].MaxAvailableExtent = 512*mib, 512*mib
	for _, kind := range []Type{TypeLVM, TypeDirect} {
		exact, refused := 0, 0
		for size := uint64(1 * mib); size < 200*mib; size += mib/2 + 4096 {
			for _, size := range []uint64{size, size / mib * mib} {
				plan, err := v.plan(Spec{Name: "a", Type: kind, Size: size, Limit: size})
				if err == nil {
					exact++
					assert.Equal(t, size, plan.Usable)
					continue
				}
				refused++
				require.True(t, errs.Is(err, errs.OutOfRange), "%v", err)
				sizes := regexp.MustCompile(`\d+ bytes`).FindAllString(errs.NextStep(err), -1)
				require.NotEmpty(t, sizes, errs.NextStep(err))
				for i, text := range sizes {
					n, err := strconv.ParseUint(text[:len(text)-len(" bytes")], 10, 64)
					require.NoError(t, err)
					assert.Equal(t, i == 1, n < size, "the larger one, and then the smaller")
					plan, err := v.plan(Spec{Name: "a", Type: kind, Size: n, Limit: n})
					require.NoError(t, err)
					assert.Equal(t, n, plan.Usable)
				}
			}
		}
		assert.NotZero(t, refused, kind)
		assert.Greater(t, exact, 50, kind)
	}
}
