package volume

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

func TestPlanDecommission(t *testing.T) {
	const gib = pmem.GiB
	member := pmem.Namespace{Name: markMember + "pmemvg", RawSize: gib / 4, Mode: pmem.ModeFSDAX, Blockdev: "pmem0"}
	joining := pmem.Namespace{Name: markJoining + "pmemvg", RawSize: gib / 8, Mode: pmem.ModeFSDAX}
	odd := pmem.Namespace{Name: markVolume + "db", RawSize: gib / 8, Mode: pmem.ModeDevDAX} // foreign in spite of its name
	empty := RegionReturn{Region: "region0", Size: gib, VGs: []string{}, Namespaces: []string{}, Free: gib, Kept: []string{}}
	for what, c := range map[string]struct {
		has   []pmem.Namespace
		names []string
		want  []RegionReturn
	}{
		"nothing":          {nil, nil, []RegionReturn{}},
		"nothing, named":   {nil, []string{"region0"}, []RegionReturn{empty}},
		"named twice":      {nil, []string{"region0", "region0"}, []RegionReturn{empty}},
		"a member":         {[]pmem.Namespace{member}, nil, []RegionReturn{{Region: "region0", Size: gib, VGs: []string{"pmemvg"}, Namespaces: []string{"namespace0.0"}, Returned: gib / 4, Free: gib, Kept: []string{}}}},
		"one that joins":   {[]pmem.Namespace{joining}, nil, []RegionReturn{{Region: "region0", Size: gib, VGs: []string{"pmemvg"}, Namespaces: []string{"namespace0.0"}, Returned: gib / 8, Free: gib, Kept: []string{}}}},
		"foreign":          {[]pmem.Namespace{{Name: "theirs", RawSize: gib / 2}}, nil, []RegionReturn{}},
		"foreign, named":   {[]pmem.Namespace{{Name: "theirs", RawSize: gib / 2}}, []string{"region0"}, []RegionReturn{{Region: "region0", Size: gib, VGs: []string{}, Namespaces: []string{}, Free: gib / 2, Kept: []string{"namespace0.0"}}}},
		"devdax":           {[]pmem.Namespace{odd}, []string{"region0"}, []RegionReturn{{Region: "region0", Size: gib, VGs: []string{}, Namespaces: []string{}, Free: gib * 7 / 8, Kept: []string{"namespace0.0"}}}},
		"a direct volume":  {[]pmem.Namespace{{Name: markVolume + "db", RawSize: gib / 2, Mode: pmem.ModeFSDAX}}, nil, []RegionReturn{{Region: "region0", Size: gib, VGs: []string{}, Namespaces: []string{}, Free: gib / 2, Kept: []string{}}}},
		"two of one group": {[]pmem.Namespace{member, joining}, nil, []RegionReturn{{Region: "region0", Size: gib, VGs: []string{"pmemvg"}, Namespaces: []string{"namespace0.0", "namespace0.0"}, Returned: gib * 3 / 8, Free: gib, Kept: []string{}}}},
	} {
		v := emptyRegions(2)
		for _, n := range c.has {
			v.take(n)
		}
		plan, err := v.planDecommission(c.names)
		require.NoError(t, err, what)
		assert.Equal(t, c.want, plan, what)
	}
	v := emptyRegions(2)
	_, err := v.planDecommission([]string{"region0", "region7"})
	refused(t, err, errs.NotFound, "region region7", "does not exist", "region list", "unknown")
	v.PMEM.Regions[1].State = pmem.StateDisabled
	_, err = v.planDecommission([]string{"region1"})
	refused(t, err, errs.Unsupported, "region region1", "is disabled", "region enable region1", "disabled")
}

// TestWithin: less than planned may be removed, and nothing else.
func TestWithin(t *testing.T) {
	plan := []RegionReturn{
		{Region: "region0", VGs: []string{"a", "b"}, Namespaces: []string{"namespace0.0", "namespace0.1"}},
		{Region: "region1", VGs: []string{"c"}, Namespaces: []string{"namespace1.0"}},
	}
	for what, c := range map[string]struct {
		now  []RegionReturn
		want bool
	}{
		"the same":            {plan, true},
		"nothing":             {nil, true},
		"empty regions":       {[]RegionReturn{{Region: "region0"}, {Region: "region1"}}, true},
		"less":                {[]RegionReturn{{Region: "region0", VGs: []string{"b"}, Namespaces: []string{"namespace0.1"}}}, true},
		"another region":      {[]RegionReturn{{Region: "region2"}}, false},
		"another group":       {[]RegionReturn{{Region: "region1", VGs: []string{"a"}}}, false},
		"another namespace":   {[]RegionReturn{{Region: "region1", VGs: []string{"c"}, Namespaces: []string{"namespace1.1"}}}, false},
		"of the other region": {[]RegionReturn{{Region: "region1", Namespaces: []string{"namespace0.0"}}}, false},
	} {
		assert.Equal(t, c.want, within(c.now, plan), what)
	}
}

func TestRemains(t *testing.T) {
	lvm := Volume{Name: "db", Type: TypeLVM, VG: "pmemvg", State: Ready}
	direct := Volume{Name: "db", Type: TypeDirect, Regions: []string{"region0"}, State: Ready}
	in := func(vol Volume, state State) Volume { vol.State = state; return vol }
	for what, c := range map[string]struct {
		vol          Volume
		mounts       []mount.Point
		reason, next string
	}{
		"lvm":        {lvm, nil, "still exists in volume group pmemvg", "pmemctl volume delete db"},
		"direct":     {direct, nil, "still exists in region region0", "pmemctl volume delete db"},
		"mounted":    {lvm, []mount.Point{{Path: "/mnt/db"}}, "is mounted on /mnt/db, and still exists in volume group pmemvg", "pmemctl volume delete --unmount db"},
		"unfinished": {in(direct, Creating), nil, "still exists, unfinished, in region region0", "pmemctl volume delete db"},
		"deleted":    {in(lvm, Deleting), nil, "is deleted, but not yet erased, in volume group pmemvg", "pmemctl gc"},
		"damaged":    {in(direct, Damaged), nil, "is damaged, and still exists in region region0", "pmemctl volume show db"},
	} {
		refused(t, c.vol.remains(c.mounts), errs.InUse, "volume db", c.reason, c.next, what)
	}
}
