package blockdev

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestGone uses a tree like /sys: 259:0 is pmem0, the underlying device of dm-0 (254:0); 259:2 is
// pmem1, which was added again with the number in the table of dm-1 (254:1); the table of dm-2
// (254:2) has pmem0 and 259:7, which does not exist.
func TestGone(t *testing.T) {
	sys := t.TempDir()
	for name, number := range map[string]string{"pmem0": "259:0", "pmem1": "259:2", "dm-0": "254:0", "dm-1": "254:1", "dm-2": "254:2", "dm-3": "254:3"} {
		require.NoError(t, os.MkdirAll(filepath.Join(sys, "devices", name, "holders"), 0o755))
		if name[0] == 'd' {
			require.NoError(t, os.Mkdir(filepath.Join(sys, "devices", name, "dm"), 0o755))
			require.NoError(t, os.MkdirAll(filepath.Join(sys, "devices", name, "slaves", "pmem0"), 0o755))
		}
		require.NoError(t, os.Symlink(filepath.Join("devices", name), filepath.Join(sys, number)))
	}
	for _, holder := range []string{"pmem0/holders/dm-0", "pmem0/holders/dm-2", "dm-1/holders/dm-3"} {
		require.NoError(t, os.Mkdir(filepath.Join(sys, "devices", holder), 0o755))
	}
	tables := map[uint32][]Number{0: {{259, 0}}, 1: {{259, 2}}, 2: {{259, 0}, {259, 7}}, 3: {{254, 1}}}
	below := func(n Number) ([]Number, error) { return tables[n.Minor], nil }
	for _, c := range []struct {
		n    Number
		gone bool
		what string
	}{
		{Number{0, 35}, false, "no block device at all"},
		{Number{259, 0}, false, "a device that is there"},
		{Number{259, 1}, true, "a device that is not there"},
		{Number{254, 0}, false, "a table on a device that is there"},
		{Number{254, 1}, true, "a table on a number that another device has now"},
		{Number{254, 2}, true, "a table on two devices, of which one is gone"},
		{Number{254, 3}, true, "a table on a mapped device whose own is gone"},
	} {
		assert.Equal(t, c.gone, gone(sys, c.n, below), c.what)
	}
	require.NoError(t, os.Remove(filepath.Join(sys, "devices", "dm-1", "slaves", "pmem0")))
	assert.False(t, gone(sys, Number{254, 1}, below), "a kernel that has no such links")
	cannotTell := func(Number) ([]Number, error) { return nil, errors.New("no permission") }
	assert.False(t, gone(sys, Number{254, 1}, cannotTell), "what cannot be told is not gone")
}

func TestRemoveNeedsUUID(t *testing.T) {
	assert.ErrorContains(t, Mapped{Name: "vg-db"}.Remove(), "has no UUID")
}
