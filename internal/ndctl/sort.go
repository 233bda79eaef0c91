package ndctl

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// sortSystem sorts devices by their numbers; libndctl returns them in directory order.
func sortSystem(s *pmem.System) {
	slices.SortFunc(s.Buses, func(a, b pmem.Bus) int { return compareDevs(a.Dev, b.Dev) })
	slices.SortFunc(s.DIMMs, func(a, b pmem.DIMM) int { return compareDevs(a.Dev, b.Dev) })
	slices.SortFunc(s.Regions, func(a, b pmem.Region) int { return compareDevs(a.Dev, b.Dev) })
	slices.SortFunc(s.Namespaces, func(a, b pmem.Namespace) int { return compareDevs(a.Dev, b.Dev) })
	for _, r := range s.Regions {
		slices.SortFunc(r.Mappings, func(a, b pmem.Mapping) int {
			return cmp.Or(cmp.Compare(a.Position, b.Position), compareDevs(a.DIMM, b.DIMM))
		})
	}
}

// compareDevs compares device names numerically: region2 is before region10.
func compareDevs(a, b string) int {
	for a != "" && b != "" {
		na, restA := cutNumber(a)
		nb, restB := cutNumber(b)
		if restA != a && restB != b {
			if c := cmp.Compare(na, nb); c != 0 {
				return c
			}
			a, b = restA, restB
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// cutNumber splits leading digits off; the rest is s if there are none.
func cutNumber(s string) (uint64, string) {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, _ := strconv.ParseUint(s[:end], 10, 64)
	return n, s[end:]
}
