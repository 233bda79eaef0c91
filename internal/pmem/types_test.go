package pmem

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestHidden(t *testing.T) {
	region := Region{Dev: "region0", Bus: "ndbus0", Size: GiB, AvailableSize: GiB - 64*MiB, Labels: true, State: StateEnabled}
	for name, c := range map[string]struct {
		change func(s *System, r *Region)
		want   uint64
	}{
		"other labels": {func(*System, *Region) {}, 64 * MiB},
		"NVDIMM":       {func(s *System, _ *Region) { s.Buses[0].Provider = "ACPI.NFIT" }, 0},
		"disabled":     {func(_ *System, r *Region) { r.State = StateDisabled }, 0},
		"no labels":    {func(_ *System, r *Region) { r.Labels = false }, 0},
		"all free":     {func(_ *System, r *Region) { r.AvailableSize = r.Size }, 0},
		// The interleave set is the right one, and a label is left of a deletion.
		"a namespace": {func(s *System, _ *Region) { s.Namespaces = []Namespace{{Region: "region0", RawSize: 32 * MiB}} }, 0},
	} {
		s := System{Buses: []Bus{{Dev: "ndbus0", Provider: ProviderCXL}}}
		r := region
		c.change(&s, &r)
		s.Regions = []Region{r}
		assert.Equal(t, c.want, s.Hidden(r), name)
	}
}
