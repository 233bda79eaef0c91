package volume

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// refused requires an error of a kind on a subject, with part of its reason and of the next step.
func refused(t *testing.T, err error, kind errs.Kind, subject, reason, next, what string) {
	t.Helper()
	var e *errs.Error
	if !assert.True(t, errors.As(err, &e), "%s: %v", what, err) {
		return
	}
	assert.Equal(t, kind, e.Kind, what)
	assert.Equal(t, subject, e.Subject, what)
	assert.Contains(t, e.Reason, reason, what)
	assert.Contains(t, e.Next, next, what)
}

// emptyRegions are regions of 1 GiB with nothing in them.
func emptyRegions(n int) View {
	v := threeRegions(make([]uint64, n)...)
	v.PMEM.Buses = []pmem.Bus{{Dev: "ndbus0"}}
	v.PMEM.Namespaces, v.LVM = nil, lvm.State{}
	for i := range v.PMEM.Regions {
		r := &v.PMEM.Regions[i]
		dimm := "nmem" + string(rune('0'+i))
		r.AvailableSize, r.MaxAvailableExtent, r.Mappings = r.Size, r.Size, []pmem.Mapping{{DIMM: dimm}}
		v.PMEM.DIMMs = append(v.PMEM.DIMMs, pmem.DIMM{Dev: dimm, LabelSize: 128 << 10})
	}
	return v
}

// take has a namespace take so much of the first region.
func (v *View) take(n pmem.Namespace) {
	r := &v.PMEM.Regions[0]
	n.Dev, n.Region, n.State = "namespace0.0", r.Dev, pmem.StateEnabled
	v.PMEM.Namespaces = append(v.PMEM.Namespaces, n)
	r.AvailableSize -= n.RawSize
	r.MaxAvailableExtent = r.AvailableSize
}

func TestPlanVGInit(t *testing.T) {
	const align = 16 * pmem.MiB
	for what, c := range map[string]struct {
		spec VGInitSpec
		view func(*View)
		want []VGInitStep
	}{
		"all of it":          {VGInitSpec{}, nil, []VGInitStep{{Region: "region0", VG: "pmemvgregion0", Add: pmem.GiB}, {Region: "region1", VG: "pmemvgregion1", Add: pmem.GiB}}},
		"a share":            {VGInitSpec{Percent: 50, Regions: []string{"region1"}}, nil, []VGInitStep{{Region: "region1", VG: "pmemvgregion1", Add: pmem.GiB / 2}}},
		"a region twice":     {VGInitSpec{Percent: 50, Regions: []string{"region1", "region1"}}, nil, []VGInitStep{{Region: "region1", VG: "pmemvgregion1", Add: pmem.GiB / 2}}},
		"rounded down":       {VGInitSpec{Percent: 33, Regions: []string{"region1"}}, nil, []VGInitStep{{Region: "region1", VG: "pmemvgregion1", Add: pmem.GiB * 33 / 100 / align * align}}},
		"one group":          {VGInitSpec{Span: true}, nil, []VGInitStep{{Region: "region0", VG: "pmemvg", Add: pmem.GiB}, {Region: "region1", VG: "pmemvg", Add: pmem.GiB}}},
		"a name":             {VGInitSpec{VG: "data", Regions: []string{"region0"}}, nil, []VGInitStep{{Region: "region0", VG: "data", Add: pmem.GiB}}},
		"not those disabled": {VGInitSpec{}, func(v *View) { v.PMEM.Regions[0].State = pmem.StateDisabled }, []VGInitStep{{Region: "region1", VG: "pmemvgregion1", Add: pmem.GiB}}},
		"not those full":     {VGInitSpec{}, func(v *View) { v.take(pmem.Namespace{RawSize: pmem.GiB}) }, []VGInitStep{{Region: "region1", VG: "pmemvgregion1", Add: pmem.GiB}}},
	} {
		v := emptyRegions(2)
		if c.view != nil {
			c.view(&v)
		}
		steps, damage, err := v.planVGInit(c.spec)
		require.NoError(t, err, what)
		require.NoError(t, damage, what)
		assert.Equal(t, c.want, steps, what)
		for _, s := range steps {
			assert.True(t, s.Changes(), what)
		}
	}
}

// has0 gives region0 so much of a share that is marked for a group, and the group a device of it.
func (v *View) has0(mark, name string, raw uint64, vg lvm.VG) {
	v.take(pmem.Namespace{Name: mark + name, Mode: pmem.ModeFSDAX, Blockdev: "pmem0", RawSize: raw})
	if vg.Name != "" {
		vg.PVs = []lvm.PV{{Name: "/dev/pmem0"}}
		v.LVM.VGs = append(v.LVM.VGs, vg)
	}
}

// TestPlanVGInitMore: what a group has already.
func TestPlanVGInitMore(t *testing.T) {
	own := lvm.VG{Name: "pmemvgregion0", UUID: "OWN", Tags: []string{tag}}
	const half = pmem.GiB / 2
	for what, c := range map[string]struct {
		spec   VGInitSpec
		raw    uint64
		add    uint64
		reason string
	}{
		"more":             {VGInitSpec{Percent: 75}, half, pmem.GiB / 4, ""},
		"as much":          {VGInitSpec{Percent: 50}, half, 0, ""},
		"it never shrinks": {VGInitSpec{Percent: 25}, half, 0, "never shrinks"},
		"nor to nothing":   {VGInitSpec{Percent: 1}, half, 0, "never shrinks"},
		"a crumb":          {VGInitSpec{Percent: 100}, pmem.GiB - 32*pmem.MiB, 32 * pmem.MiB, ""},
		"no crumb":         {VGInitSpec{Percent: 100}, pmem.GiB - 8*pmem.MiB, 0, ""},
		// What a group with one copy of the metadata has, as earlier versions made it, is enough.
		"a size, of a former version": {VGInitSpec{Size: 238 * pmem.MiB}, 256 * pmem.MiB, 0, ""},
		"a size":                      {VGInitSpec{Size: 512 * pmem.MiB}, 256 * pmem.MiB, 272 * pmem.MiB, ""},
	} {
		v := emptyRegions(1)
		v.has0(markMember, own.Name, c.raw, own)
		steps, damage, err := v.planVGInit(c.spec)
		require.NoError(t, errors.Join(err, damage), what)
		require.Len(t, steps, 1, what)
		assert.Equal(t, c.raw, steps[0].Has, what)
		assert.Equal(t, c.add, steps[0].Add, what)
		assert.Equal(t, c.add > 0, steps[0].Changes(), what)
		assert.Equal(t, lvm.VGRef{Name: own.Name, UUID: "OWN"}, steps[0].group, what)
		if c.reason == "" {
			assert.Empty(t, steps[0].Reason, what)
		} else {
			assert.Contains(t, steps[0].Reason, c.reason, what)
		}
	}

	// Whatever else is in the region, the group is told why it gets no more.
	v := emptyRegions(1)
	v.has0(markMember, own.Name, half, own)
	v.take(pmem.Namespace{RawSize: half})
	steps, _, err := v.planVGInit(VGInitSpec{})
	require.NoError(t, err)
	assert.Contains(t, steps[0].Reason, "no room for more")

	// A region whose number changed keeps its group, and another region gets another name.
	v = emptyRegions(2)
	v.has0(markMember, "pmemvgregion1", half, lvm.VG{Name: "pmemvgregion1", UUID: "OWN", Tags: []string{tag}})
	steps, _, err = v.planVGInit(VGInitSpec{})
	require.NoError(t, err)
	assert.Equal(t, []string{"pmemvgregion1", "pmemvgregion1-2"}, []string{steps[0].VG, steps[1].VG})
	assert.Equal(t, []string{"OWN", ""}, []string{steps[0].group.UUID, steps[1].group.UUID})
}

func TestPlanVGInitRefusals(t *testing.T) {
	own := lvm.VG{Name: "pmemvgregion0", UUID: "OWN", Tags: []string{tag}}
	for what, c := range map[string]struct {
		spec                  VGInitSpec
		view                  func(*View)
		kind                  errs.Kind
		subject, reason, next string
	}{
		"percent":            {VGInitSpec{Percent: 101}, nil, errs.Invalid, "", "101 percent", "--percent"},
		"negative":           {VGInitSpec{Percent: -1}, nil, errs.Invalid, "", "-1 percent", "--percent"},
		"both":               {VGInitSpec{Percent: 1, Size: 1}, nil, errs.Invalid, "", "--percent and --size", ""},
		"more than possible": {VGInitSpec{Size: maxSize + 1}, nil, errs.OutOfRange, "", "128 PiB", "region list"},
		"name":               {VGInitSpec{VG: "a b"}, nil, errs.Invalid, "", "", ""},
		"no such region":     {VGInitSpec{Regions: []string{"region9"}}, nil, errs.NotFound, "region region9", "does not exist", "region list"},
		"disabled":           {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { v.PMEM.Regions[0].State = pmem.StateDisabled }, errs.Unsupported, "region region0", "is disabled", "pmemctl region enable region0"},
		"none":               {VGInitSpec{}, func(v *View) { v.PMEM.Regions = nil }, errs.NotFound, "", "no persistent memory", "dimm list"},
		"no bus":             {VGInitSpec{}, func(v *View) { v.PMEM = pmem.System{} }, errs.NotFound, "", "no NVDIMM bus", "dmesg"},
		"no driver":          {VGInitSpec{}, func(v *View) { v.PMEM = pmem.System{NoDriver: true} }, errs.NotFound, "", "is not loaded", "modprobe nfit"},
		"none that can be used": {VGInitSpec{}, func(v *View) {
			v.PMEM.Regions[0].ReadOnly = true
			v.PMEM.Regions = v.PMEM.Regions[:1]
		}, errs.Unsupported, "region region0", "read-only", "region list"},
		"its namespace did not come up": {VGInitSpec{Regions: []string{"region0"}}, func(v *View) {
			v.take(pmem.Namespace{Name: markMember + "pmemvgregion0", Mode: pmem.ModeRaw, Blockdev: "pmem0", RawSize: pmem.GiB / 4})
		}, errs.Damaged, "volume group pmemvgregion0", "info block", "namespace show namespace0.0"},
		"its namespace has no device": {VGInitSpec{Regions: []string{"region0"}}, func(v *View) {
			v.take(pmem.Namespace{Name: markMember + "pmemvgregion0", Mode: pmem.ModeFSDAX, RawSize: pmem.GiB / 4})
		}, errs.Damaged, "volume group pmemvgregion0", "no block device", "dmesg"},
		"its metadata is gone":      {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { v.has0(markMember, own.Name, pmem.GiB/4, lvm.VG{}) }, errs.Damaged, "volume group pmemvgregion0", "/dev/pmem0 cannot be read", "pmemctl vg check pmemvgregion0"},
		"of a group in the other":   {VGInitSpec{Regions: []string{"region1"}, VG: own.Name}, func(v *View) { v.has0(markMember, own.Name, pmem.GiB/4, lvm.VG{}) }, errs.Damaged, "volume group pmemvgregion0", "/dev/pmem0 cannot be read", "pmemctl vg check pmemvgregion0"},
		"half added":                {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { v.has0(markJoining, own.Name, pmem.GiB/4, own) }, errs.Damaged, "region region0", "interrupted vg init", "pmemctl tree"},
		"in another group":          {VGInitSpec{Regions: []string{"region0"}, Span: true}, func(v *View) { v.has0(markMember, own.Name, pmem.GiB/4, own) }, errs.Conflict, "region region0", "already belongs to volume group pmemvgregion0", "pmemctl vg remove pmemvgregion0"},
		"a group that was renamed":  {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { v.has0(markMember, own.Name, pmem.GiB/4, lvm.VG{Name: "renamed", UUID: "OWN"}) }, errs.Conflict, "region region0", "renamed", "vgrename OWN pmemvgregion0"},
		"somebody else's":           {VGInitSpec{VG: "theirs", Regions: []string{"region0"}}, func(v *View) { v.Foreign.VGs = []lvm.VG{{Name: "theirs"}} }, errs.Conflict, "volume group theirs", "not created by pmemctl", "vgrename theirs"},
		"a device of it is missing": {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { vg := own; vg.PartialPVMissing = true; v.has0(markMember, own.Name, pmem.GiB/4, vg) }, errs.Unsupported, "volume group pmemvgregion0", "is missing a device", "region list"},
		"two of a name": {VGInitSpec{VG: own.Name, Regions: []string{"region1"}}, func(v *View) {
			v.has0(markMember, own.Name, pmem.GiB/4, own)
			v.take(pmem.Namespace{Name: markMember + own.Name, Mode: pmem.ModeFSDAX, Blockdev: "pmem0.1", RawSize: pmem.GiB / 4})
			v.LVM.VGs = append(v.LVM.VGs, lvm.VG{Name: own.Name, UUID: "TWO", Tags: []string{tag}, PVs: []lvm.PV{{Name: "/dev/pmem0.1"}}})
		}, errs.Conflict, "volume group pmemvgregion0", "OWN and TWO", "vgrename TWO"},
		"it does not fit":              {VGInitSpec{Size: 2 * pmem.GiB, Regions: []string{"region0"}}, nil, errs.NoSpace, "region region0", "2 GiB", "--size 1050673152 "},
		"less than a namespace":        {VGInitSpec{Percent: 1, Regions: []string{"region0"}}, nil, errs.OutOfRange, "region region0", "16 MiB", "larger --percent"},
		"taken by a foreign namespace": {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { v.take(pmem.Namespace{RawSize: pmem.GiB, Mode: pmem.ModeDevDAX}) }, errs.NoSpace, "region region0", "namespace0.0 (devdax, 1 GiB, not created by pmemctl)", "namespace destroy"},
		"taken by a volume":            {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { v.take(pmem.Namespace{RawSize: pmem.GiB, Mode: pmem.ModeFSDAX, Name: "pmemctl:db"}) }, errs.NoSpace, "region region0", "volume db", "delete volumes"},
		"taken by a deleted volume":    {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { v.take(pmem.Namespace{RawSize: pmem.GiB, Mode: pmem.ModeFSDAX, Name: "pmemctl+-db"}) }, errs.NoSpace, "region region0", "volume db", "pmemctl gc"},
		"too small": {VGInitSpec{Regions: []string{"region0"}}, func(v *View) {
			v.PMEM.Regions[0].Size, v.PMEM.Regions[0].Align = 8*pmem.MiB, 0
		}, errs.Unsupported, "region region0", "too small (8 MiB)", "region list"},
		"no room, and nobody knows why": {VGInitSpec{Regions: []string{"region0"}}, func(v *View) { v.PMEM.Regions[0].MaxAvailableExtent = 0 }, errs.NoSpace, "region region0", "no room", "region show region0"},
		"both are full": {VGInitSpec{}, func(v *View) {
			for i := range v.PMEM.Regions {
				v.PMEM.Regions[i].MaxAvailableExtent = 0
			}
		}, errs.NoSpace, "region region0", "no room", "region show region0"},
	} {
		v := emptyRegions(2)
		if c.view != nil {
			c.view(&v)
		}
		steps, damage, err := v.planVGInit(c.spec)
		assert.Empty(t, steps, what)
		assert.NoError(t, damage, what)
		if what == "name" {
			assert.True(t, errs.Is(err, errs.Invalid), what)
			continue
		}
		refused(t, err, c.kind, c.subject, c.reason, c.next, what)
	}

	// Of regions that nobody named a damaged one keeps no other from being used.
	v := emptyRegions(2)
	v.has0(markMember, own.Name, pmem.GiB/4, lvm.VG{})
	steps, damage, err := v.planVGInit(VGInitSpec{})
	require.NoError(t, err)
	assert.Equal(t, []VGInitStep{{Region: "region1", VG: "pmemvgregion1", Add: pmem.GiB}}, steps)
	refused(t, damage, errs.Damaged, "volume group pmemvgregion0", "cannot be read", "pmemctl vg check pmemvgregion0", "damage")
}

// TestNoPlace: why a volume can be made nowhere.
func TestNoPlace(t *testing.T) {
	own := lvm.VG{Name: "pmemvg", UUID: "OWN", Tags: []string{tag}, ExtentSize: ExtentSize, Free: pmem.GiB / 8}
	lv, direct := Spec{Name: "db", Type: TypeLVM, Size: pmem.MiB}, Spec{Name: "db", Type: TypeDirect, Size: pmem.MiB}
	with := func(s Spec, change func(*Spec)) Spec { change(&s); return s }
	for what, c := range map[string]struct {
		spec                  Spec
		view                  func(*View)
		kind                  errs.Kind
		subject, reason, next string
	}{
		"no group":               {lv, nil, errs.NotFound, "", "no volume group", "pmemctl vg init --percent"},
		"no group in the region": {with(lv, func(s *Spec) { s.Region = "region1" }), nil, errs.NotFound, "region region1", "no volume group", "pmemctl vg init region1"},
		"no region":              {with(lv, func(s *Spec) { s.Region = "region9" }), nil, errs.NotFound, "region region9", "does not exist", "region list"},
		"no such group":          {with(lv, func(s *Spec) { s.VG = "other" }), nil, errs.NotFound, "volume group other", "does not exist", "vg list"},
		"somebody else's group":  {with(lv, func(s *Spec) { s.VG = "other" }), func(v *View) { v.Foreign.VGs = []lvm.VG{{Name: "other"}} }, errs.Conflict, "volume group other", "not created by pmemctl", "vg list"},
		"no PMEM, lvm":           {lv, func(v *View) { v.PMEM.Regions = nil }, errs.NotFound, "", "no persistent memory", "dimm list"},
		"no PMEM, direct":        {direct, func(v *View) { v.PMEM.Regions = nil }, errs.NotFound, "", "no persistent memory", "dimm list"},
		"not striped":            {with(lv, func(s *Spec) { s.Stripe = true }), func(v *View) { v.has0(markMember, "pmemvg", pmem.GiB/4, own) }, errs.Unsupported, "volume db", "cannot be striped", "--span"},
		"a device missing":       {lv, func(v *View) { vg := own; vg.PartialPVMissing = true; v.has0(markMember, "pmemvg", pmem.GiB/4, vg) }, errs.Unsupported, "volume group pmemvg", "is missing a device", "region list"},
		"promises too much": {lv, func(v *View) {
			v.has0(markMember, "pmemvg", pmem.GiB/4, own)
			v.LVM.VGs[0].PVs[0] = lvm.PV{Name: "/dev/pmem0", DeviceSize: 10, Size: 9, DataStart: 2}
		}, errs.Damaged, "volume group pmemvg", "claims 11 bytes of /dev/pmem0, which has only 10", "volume clone"},
		"unreadable":            {lv, func(v *View) { v.has0(markMember, "pmemvg", pmem.GiB/4, lvm.VG{}) }, errs.Damaged, "volume group pmemvg", "cannot be read", "pmemctl vg check pmemvg"},
		"unreadable, named":     {with(lv, func(s *Spec) { s.VG = "pmemvg" }), func(v *View) { v.has0(markMember, "pmemvg", pmem.GiB/4, lvm.VG{}) }, errs.Damaged, "volume group pmemvg", "cannot be read", "pmemctl vg check pmemvg"},
		"disabled":              {with(direct, func(s *Spec) { s.Region = "region0" }), func(v *View) { v.PMEM.Regions[0].State = pmem.StateDisabled }, errs.Unsupported, "region region0", "is disabled", "region enable region0"},
		"blk":                   {with(direct, func(s *Spec) { s.Region = "region0" }), func(v *View) { v.PMEM.Regions[0].Type = "blk" }, errs.Unsupported, "region region0", "blk", "region list"},
		"no labels":             {with(direct, func(s *Spec) { s.Region = "region0" }), func(v *View) { v.PMEM.Regions[0].Labels = false }, errs.Unsupported, "region region0", "has no labels", "region init-labels region0"},
		"no room for labels":    {with(direct, func(s *Spec) { s.Region = "region0" }), func(v *View) { v.PMEM.Regions[0].Labels, v.PMEM.DIMMs[0].LabelSize = false, 0 }, errs.Unsupported, "region region0", "cannot have labels", "vg init region0 --whole"},
		"no DIMM":               {with(direct, func(s *Spec) { s.Region = "region0" }), func(v *View) { v.PMEM.Regions[0].Labels, v.PMEM.Regions[0].Mappings = false, nil }, errs.Unsupported, "region region0", "cannot have labels", "vg init region0 --whole"},
		"none usable":           {direct, func(v *View) { v.PMEM.Regions[0].State = pmem.StateDisabled; v.PMEM.Regions[1].ReadOnly = true }, errs.Unsupported, "region region0", "is disabled", "region enable region0"},
		"not in the topology":   {with(direct, func(s *Spec) { s.Region, s.Within = "region0", []string{"region1"} }), nil, errs.NoSpace, "region region0", "topology", ""},
		"the topology has none": {with(direct, func(s *Spec) { s.Within = []string{"region7"} }), nil, errs.Unsupported, "", "no region", "region list"},
		"more than addressable": {with(direct, func(s *Spec) { s.Size = 1<<64 - 1 }), nil, errs.OutOfRange, "volume db", "too large", "pmemctl capacity"},
		"full":                  {with(direct, func(s *Spec) { s.Size = 2 * pmem.GiB }), nil, errs.NoSpace, "volume db", "2 GiB", "--size "},
		"full of deleted ones": {with(direct, func(s *Spec) { s.Size = 900 * pmem.MiB }), func(v *View) {
			v.PMEM.Regions = v.PMEM.Regions[:1]
			v.take(pmem.Namespace{Name: "pmemctl+-old", RawSize: pmem.GiB / 2, UUID: "u"})
		}, errs.NoSpace, "volume db", "900 MiB", "pmemctl gc"},
		"labels are full":          {direct, func(v *View) { v.PMEM.Regions = v.PMEM.Regions[:1]; v.PMEM.Regions[0].LabelsFull = true }, errs.NoSpace, "volume db", "region0", "delete volumes"},
		"above the limit":          {with(lv, func(s *Spec) { s.Limit, s.Size = 3*pmem.MiB, 3*pmem.MiB }), func(v *View) { v.has0(markMember, "pmemvg", pmem.GiB/4, own) }, errs.OutOfRange, "volume db", "4 MiB", "4194304 bytes, or request 2097152 bytes"},
		"no smaller than possible": {with(lv, func(s *Spec) { s.Limit = pmem.MiB }), func(v *View) { v.has0(markMember, "pmemvg", pmem.GiB/4, own) }, errs.OutOfRange, "volume db", "2 MiB", "2097152 bytes"},
	} {
		v := emptyRegions(2)
		if c.view != nil {
			c.view(&v)
		}
		plan, err := v.plan(c.spec)
		assert.Equal(t, Plan{}, plan, what)
		refused(t, err, c.kind, c.subject, c.reason, c.next, what)
	}
}

func TestNamespaceRequest(t *testing.T) {
	fsdax := NamespaceRequest{Mode: pmem.ModeFSDAX}
	with := func(change func(*NamespaceRequest)) NamespaceRequest { q := fsdax; change(&q); return q }
	for what, c := range map[string]struct {
		q    NamespaceRequest
		view func(*View)
		in   string
		raw  uint64
	}{
		"all that is free":       {fsdax, nil, "region0", pmem.GiB},
		"the region named":       {with(func(q *NamespaceRequest) { q.Region = "region1" }), nil, "region1", pmem.GiB},
		"a raw size":             {with(func(q *NamespaceRequest) { q.RawSize = 64 * pmem.MiB }), nil, "region0", 64 * pmem.MiB},
		"a size":                 {with(func(q *NamespaceRequest) { q.Size = 62 * pmem.MiB }), nil, "region0", 64 * pmem.MiB},
		"a size, map in memory":  {with(func(q *NamespaceRequest) { q.Size, q.Map = 62*pmem.MiB, pmem.MapMem }), nil, "region0", 64 * pmem.MiB},
		"raw":                    {with(func(q *NamespaceRequest) { q.Mode, q.Size = pmem.ModeRaw, 1 }), nil, "region0", 16 * pmem.MiB},
		"sector":                 {with(func(q *NamespaceRequest) { q.Mode, q.Size = pmem.ModeSector, 64*pmem.MiB }), nil, "region0", 80 * pmem.MiB},
		"one with room":          {with(func(q *NamespaceRequest) { q.RawSize = 512 * pmem.MiB }), func(v *View) { v.take(pmem.Namespace{RawSize: 768 * pmem.MiB}) }, "region1", 512 * pmem.MiB},
		"one with labels":        {fsdax, func(v *View) { v.PMEM.Regions[0].LabelsFull = true }, "region1", pmem.GiB},
		"all of one without any": {with(func(q *NamespaceRequest) { q.Region, q.Force = "region0", true }), func(v *View) { v.PMEM.Regions[0].Labels = false }, "region0", 0},
	} {
		v := emptyRegions(2)
		if c.view != nil {
			c.view(&v)
		}
		require.NoError(t, c.q.validate(), what)
		r, raw, err := v.placeNamespace(c.q)
		require.NoError(t, err, what)
		assert.Equal(t, c.in, r.Dev, what)
		assert.Equal(t, c.raw, raw, what)
	}
	for what, c := range map[string]struct {
		q                     NamespaceRequest
		view                  func(*View)
		kind                  errs.Kind
		subject, reason, next string
	}{
		"mode":                     {NamespaceRequest{Mode: "fast"}, nil, errs.Invalid, "namespace", `fast`, "fsdax"},
		"map":                      {with(func(q *NamespaceRequest) { q.Map = "disk" }), nil, errs.Invalid, "namespace", "disk", "dev or mem"},
		"align":                    {with(func(q *NamespaceRequest) { q.Align = 3 }), nil, errs.Invalid, "namespace", "alignment 3", "2Mi"},
		"sector size":              {with(func(q *NamespaceRequest) { q.SectorSize = 1000 }), nil, errs.Invalid, "namespace", "1000", "4096"},
		"both":                     {with(func(q *NamespaceRequest) { q.Size, q.RawSize = 1, 1 }), nil, errs.Invalid, "namespace", "--raw-size", ""},
		"long name":                {with(func(q *NamespaceRequest) { q.Name = strings.Repeat("x", 64) }), nil, errs.Invalid, "namespace", "64", "shorter"},
		"a mark of a volume":       {with(func(q *NamespaceRequest) { q.Name = "pmemctl:db" }), nil, errs.Invalid, "namespace", "volume db", "another name"},
		"a mark of a volume group": {with(func(q *NamespaceRequest) { q.Name = "pmemctl=vg" }), nil, errs.Invalid, "namespace", "volume group vg", "another name"},
		"uuid":                     {with(func(q *NamespaceRequest) { q.UUID = "no" }), nil, errs.Invalid, "namespace", "UUID", "--uuid"},
		"no multiple":              {with(func(q *NamespaceRequest) { q.RawSize = 17 * pmem.MiB }), nil, errs.Invalid, "region region0", "17825792", "--raw-size 16777216 or 33554432"},
		"more than any has":        {with(func(q *NamespaceRequest) { q.Size = maxSize + 1 }), nil, errs.OutOfRange, "namespace", "128 PiB", "pmemctl capacity"},
		"too large":                {with(func(q *NamespaceRequest) { q.RawSize = 2 * pmem.GiB }), nil, errs.NoSpace, "region region1", "2 GiB", "region list"},
		"no room":                  {fsdax, func(v *View) { v.PMEM.Regions[0].AvailableSize, v.PMEM.Regions[1].AvailableSize = 0, 0 }, errs.NoSpace, "region region1", "16 MiB", "region list"},
		"no label":                 {with(func(q *NamespaceRequest) { q.Region = "region0" }), func(v *View) { v.PMEM.Regions[0].LabelsFull = true }, errs.NoSpace, "region region0", "label", "namespace list"},
		"no region":                {with(func(q *NamespaceRequest) { q.Region = "region9" }), nil, errs.NotFound, "region region9", "does not exist", "region list"},
		"disabled":                 {with(func(q *NamespaceRequest) { q.Region = "region0" }), func(v *View) { v.PMEM.Regions[0].State = pmem.StateDisabled }, errs.Unsupported, "region region0", "is disabled", "region enable region0"},
		"not named":                {with(func(q *NamespaceRequest) { q.Force = true }), func(v *View) { v.PMEM.Regions = v.PMEM.Regions[:1]; v.PMEM.Regions[0].Labels = false }, errs.Unsupported, "region region0", "has no labels", "init-labels region0"},
		"with a size":              {with(func(q *NamespaceRequest) { q.Region, q.Force, q.Size = "region0", true, 1 }), func(v *View) { v.PMEM.Regions[0].Labels = false }, errs.Unsupported, "region region0", "has no labels", ""},
	} {
		v := emptyRegions(2)
		if c.view != nil {
			c.view(&v)
		}
		err := c.q.validate()
		if err == nil {
			_, _, err = v.placeNamespace(c.q)
		}
		refused(t, err, c.kind, c.subject, c.reason, c.next, what)
	}
}

// TestDamage lists each kind of damage, and nothing else.
func TestDamage(t *testing.T) {
	own := lvm.VG{Name: "pmemvg", UUID: "OWN", Tags: []string{tag}}
	assert.Empty(t, emptyRegions(2).Damage())
	for what, c := range map[string]struct {
		view            func(*View)
		subject, reason string
		next            string
	}{
		"a member is disabled": {func(v *View) {
			v.has0(markMember, "pmemvg", 1, lvm.VG{})
			v.PMEM.Namespaces[0].State = pmem.StateDisabled
		}, "volume group pmemvg", "namespace0.0 is disabled", "enable-namespace namespace0.0"},
		"a member is unread": {func(v *View) { v.has0(markMember, "pmemvg", 1, lvm.VG{}) }, "volume group pmemvg", "/dev/pmem0 cannot be read", "vg check pmemvg"},
		"a volume is raw":    {func(v *View) { v.take(pmem.Namespace{Name: "pmemctl:db", Mode: pmem.ModeRaw, Blockdev: "pmem0"}) }, "volume db", "info block is lost", "namespace show namespace0.0"},
		"a device missing":   {func(v *View) { vg := own; vg.PartialPVMissing = true; v.has0(markMember, "pmemvg", 1, vg) }, "volume group pmemvg", "is missing a device", "region list"},
		"lvm says so":        {func(v *View) { v.LVM.Problems = []string{"checksum error"} }, "volume group unknown", "checksum error", "pmemctl vg check"},
	} {
		v := emptyRegions(2)
		c.view(&v)
		all := v.Damage()
		require.Len(t, all, 1, what)
		refused(t, all[0].Error(), errs.Damaged, c.subject, c.reason, c.next, what)
	}
	refused(t, Damage{Region: "region3", Reason: "x", Next: "y"}.Error(), errs.Damaged, "region region3", "x", "y", "a region")
	assert.Equal(t, "a, b, c, d, e", someOf(strings.Split("abcde", "")))
	assert.Equal(t, "a, b, c, d, e, …", someOf(strings.Split("abcdef", "")))

	v := emptyRegions(1)
	v.has0(markMember, "pmemvg", 1, own)
	v.LVM.VGs[0].PVs[0] = lvm.PV{Name: "/dev/pmem0", DeviceSize: 11, Size: 9, DataStart: 2}
	assert.Empty(t, v.Damage(), "its data goes to the end of the device, and not further")
	v.take(pmem.Namespace{Name: markMember + "pmemvg", Mode: pmem.ModeFSDAX, Blockdev: "pmem9"})
	strays := v.strays(v.LVM.VGs[0])
	require.Len(t, strays, 1, "LVM took it out of the group")
	assert.Equal(t, "pmem9", strays[0].Blockdev)
	assert.NoError(t, v.whole(own.Ref()), "what has its mark is no part of it")
	v.LVM.VGs[0].PartialPVMissing = true
	assert.Empty(t, v.strays(v.LVM.VGs[0]), "it may be what is missing")
	v.LVM.VGs = nil
	refused(t, v.whole(own.Ref()), errs.Damaged, "volume group pmemvg", "/dev/pmem0 cannot be read", "vg check pmemvg", "unread")
}

// fixedPMEM is a host that does not change.
type fixedPMEM struct {
	NDCTL
	sys pmem.System
	err error
}

func (f fixedPMEM) Snapshot(ndctl.Select) (pmem.System, error) { return f.sys, f.err }
func (f fixedPMEM) EnabledFSDAX() []pmem.Namespace             { return f.sys.Namespaces }
func (f fixedPMEM) Granularity(string) uint64                  { return 0 }

// TestDevicesForLVM: lvm sees the devices of groups, and foreign ones to show what is there; what
// a tenant has is in neither.
func TestDevicesForLVM(t *testing.T) {
	f := fixedPMEM{sys: pmem.System{Namespaces: []pmem.Namespace{
		{Name: "pmemctl=pmemvg", Blockdev: "pmem0", Mode: pmem.ModeFSDAX, State: pmem.StateEnabled},
		{Name: "pmemctl*pmemvg", Blockdev: "pmem1", Mode: pmem.ModeFSDAX, State: pmem.StateEnabled},
		{Name: "pmemctl:db", Blockdev: "pmem2", Mode: pmem.ModeFSDAX, State: pmem.StateEnabled},
		{Name: "pmemctl+-db", Blockdev: "pmem3", Mode: pmem.ModeFSDAX, State: pmem.StateEnabled},
		{Name: "theirs", Blockdev: "pmem4", Mode: pmem.ModeFSDAX, State: pmem.StateEnabled},
		{Name: "", Blockdev: "pmem5", Mode: pmem.ModeRaw, State: pmem.StateEnabled},
		{Name: "idle"},
	}}}
	members, err := MemberDevices(f)
	require.NoError(t, err)
	assert.Equal(t, []string{"pmem0", "pmem1"}, members)
	foreign, err := ForeignPMEM(f)
	require.NoError(t, err)
	assert.Equal(t, []string{"pmem4", "pmem5"}, foreign)
	f.err = errors.New("broken")
	for what, of := range map[string]func(NDCTL) ([]string, error){"foreign": ForeignPMEM, "other": OtherDisks} {
		names, err := of(f)
		assert.ErrorIs(t, err, f.err, what)
		assert.Empty(t, names, what)
	}
}

// TestPlanInitLabels: what shares a DIMM with a region goes with it.
func TestPlanInitLabels(t *testing.T) {
	v := emptyRegions(4)
	for i := range v.PMEM.Regions {
		v.PMEM.Regions[i].Labels = i != 0
	}
	v.PMEM.Regions[1].Mappings = append(v.PMEM.Regions[1].Mappings, pmem.Mapping{DIMM: "nmem0"})
	v.PMEM.Regions[2].Mappings = append(v.PMEM.Regions[2].Mappings, pmem.Mapping{DIMM: "nmem1"})
	v.take(pmem.Namespace{Name: "theirs"})
	s := &Service{NDCTL: fixedPMEM{sys: v.PMEM}}
	devs := func(p LabelsPlan) string {
		var all []string
		for _, r := range p.Regions {
			all = append(all, r.Dev)
		}
		for _, n := range p.Namespaces {
			all = append(all, n.Dev)
		}
		return strings.Join(all, " ")
	}
	for asked, want := range map[string]string{"": "region0 region1 region2 namespace0.0", "region0": "region0 region1 region2 namespace0.0", "region2": "region0 region1 region2 namespace0.0", "region3": "region3"} {
		plan, err := s.PlanInitLabels(strings.Fields(asked)...)
		require.NoError(t, err, asked)
		assert.Equal(t, want, devs(plan), asked)
		again, err := s.PlanInitLabels(strings.Fields(asked)...)
		require.NoError(t, err)
		assert.True(t, plan.same(again))
		again.Regions = again.Regions[1:]
		assert.False(t, plan.same(again))
		again, err = s.PlanInitLabels(strings.Fields(asked)...)
		require.NoError(t, err)
		if again.Namespaces = slices.Clone(again.Namespaces); len(again.Namespaces) > 0 {
			again.Namespaces[0].UUID = "another"
			assert.False(t, plan.same(again), "another one of the same name")
		}
	}
	for what, c := range map[string]struct {
		change                func(*pmem.System)
		kind                  errs.Kind
		subject, reason, next string
	}{
		"none":       {func(s *pmem.System) { s.Regions = nil }, errs.NotFound, "", "no persistent memory", "dimm list"},
		"no DIMM":    {func(s *pmem.System) { s.Regions[0].Mappings = nil }, errs.Unsupported, "region region0", "is not on a DIMM", "vg init region0 --whole"},
		"no room":    {func(s *pmem.System) { s.DIMMs[0].LabelSize = 0 }, errs.Unsupported, "region region0", "room for labels", "vg init region0 --whole"},
		"read-only":  {func(s *pmem.System) { s.Regions[0].ReadOnly = true }, errs.Unsupported, "region region0", "read-only", "region list"},
		"no region0": {func(s *pmem.System) { s.Regions = s.Regions[1:] }, errs.NotFound, "region region0", "does not exist", "region list"},
	} {
		sys := emptyRegions(2).PMEM
		c.change(&sys)
		plan, err := (&Service{NDCTL: fixedPMEM{sys: sys}}).PlanInitLabels("region0")
		assert.Empty(t, plan.Regions, what)
		refused(t, err, c.kind, c.subject, c.reason, c.next, what)
	}
}
