package volume

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

func TestMarks(t *testing.T) {
	for text, want := range map[string][2]string{
		"pmemctl:db":      {markVolume, "db"},
		"pmemctl+db":      {markMaking, "db"},
		"pmemctl+-db":     {markRemoving, "db"},
		"pmemctl+-db+1aZ": {markRemoving, "db"},
		"pmemctl:db+1aZ":  {"", "pmemctl:db+1aZ"},
		"pmemctl=pmemvg":  {markMember, "pmemvg"},
		"pmemctl*pmemvg":  {markJoining, "pmemvg"},
		"db":              {"", "db"},
		"pmemctl-test":    {"", "pmemctl-test"},
		"pmemctl:":        {"", "pmemctl:"},
		"pmemctl+-../etc": {"", "pmemctl+-../etc"},
		"pmemctl:a b":     {"", "pmemctl:a b"},
		"":                {"", ""},
	} {
		mark, name := parseMark(text)
		assert.Equal(t, want, [2]string{mark, name}, text)
	}
}

func TestEveryMarkAndNameFitIntoAnAltName(t *testing.T) {
	name := strings.Repeat("x", MaxName)
	assert.NoError(t, ValidateName(name))
	for _, mark := range []string{markVolume, markMaking, markRemoving, markMember, markJoining} {
		assert.LessOrEqual(t, len(mark+name), pmem.MaxAltName)
		got, rest := parseMark(mark + name)
		assert.Equal(t, [2]string{mark, name}, [2]string{got, rest})
	}
	assert.True(t, errs.Is(ValidateName(name+"x"), errs.Invalid))
}

func TestRoomForADirectVolume(t *testing.T) {
	region := func(dev string, free uint64) pmem.Region {
		return pmem.Region{Dev: dev, Type: "pmem", State: pmem.StateEnabled, Labels: true, Size: 4 * pmem.GiB, Align: 16 * pmem.MiB, InterleaveWays: 1, AvailableSize: free, MaxAvailableExtent: free}
	}
	v := View{PMEM: pmem.System{Regions: []pmem.Region{region("region0", 4*pmem.GiB), region("region1", pmem.GiB)}}}
	spec := Spec{Name: "a", Type: TypeDirect, Size: 512 * pmem.MiB, FS: "ext4"}

	plan, err := v.plan(spec)
	assert.NoError(t, err)
	assert.Equal(t, "region1", plan.Region, "the one with the least room that is enough")
	assert.GreaterOrEqual(t, plan.Usable, spec.Size)

	spec.Size = 1006 * pmem.MiB // exactly the largest of region1
	plan, err = v.plan(spec)
	assert.NoError(t, err)
	assert.Equal(t, "region1", plan.Region)
	assert.Zero(t, plan.FreeAfter)

	spec.Size++
	plan, err = v.plan(spec)
	assert.NoError(t, err)
	assert.Equal(t, "region0", plan.Region)

	spec.Limit = spec.Size
	_, err = v.plan(spec)
	assert.True(t, errs.Is(err, errs.OutOfRange), "%v", err)

	spec.Limit, spec.Size = 0, 5*pmem.GiB
	_, err = v.plan(spec)
	assert.True(t, errs.Is(err, errs.NoSpace), "%v", err)
	assert.Contains(t, errs.NextStep(err), "use --size")
}
