package blockdev

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func target(start, length uint64, next uint32, kind, parameters string, size int) []byte {
	spec := make([]byte, size)
	binary.NativeEndian.PutUint64(spec, start)
	binary.NativeEndian.PutUint64(spec[8:], length)
	binary.NativeEndian.PutUint32(spec[20:], next)
	copy(spec[24:40], kind)
	copy(spec[40:], parameters)
	return spec
}

func TestParseTable(t *testing.T) {
	two := append(target(0, 100, 64, "linear", "259:0 4096", 64), target(100, 50, 144, "striped", "2 4096 259:0 0 259:1 8", 80)...)
	table, err := parseTable(two, 2)
	require.NoError(t, err)
	assert.Equal(t, "0 100 linear 259:0 4096\n100 50 striped 2 4096 259:0 0 259:1 8", table)
	none, err := parseTable(nil, 0)
	require.NoError(t, err)
	assert.Empty(t, none)
	for what, c := range map[string]struct {
		data    []byte
		targets int
	}{
		"more targets than there are": {two, 3},
		"cut short":                   {two[:90], 2},
		"a loop":                      {target(0, 1, 0, "linear", "", 64), 2},
		"no end of the parameters":    {target(0, 100, 64, "linear", "259:0 4096", 50), 1},
	} {
		_, err := parseTable(c.data, c.targets)
		assert.Error(t, err, what)
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add(target(0, 100, 64, "linear", "259:0 4096", 64), 1)
	f.Fuzz(func(_ *testing.T, data []byte, targets int) { _, _ = parseTable(data, targets%1000) })
}

func TestExtents(t *testing.T) {
	got, err := extentsOf("0 4096 linear 259:0 8192\n4096 8 error\n4104 8192 striped 2 4096 259:1 4096 259:2 12288")
	require.NoError(t, err)
	assert.Equal(t, []Extent{{Number{259, 0}, 8192, 4096}, {Number{259, 1}, 4096, 4096}, {Number{259, 2}, 12288, 4096}}, got)
	got, err = extentsOf("")
	assert.NoError(t, err)
	assert.Empty(t, got)
	_, err = extentsOf("0 8 linear pmem0 0")
	assert.Error(t, err)
}

func TestHasBadblocks(t *testing.T) {
	const list = "100 8\n4000 1\n"
	for _, c := range []struct {
		start, length uint64
		bad           bool
	}{{0, 100, false}, {0, 101, true}, {107, 1, true}, {108, 3892, false}, {4000, 1, true}, {4001, 1 << 40, false}} {
		assert.Equal(t, c.bad, hasBadblocks(list, c.start, c.length), "%v", c)
	}
	assert.False(t, hasBadblocks("", 0, 1<<40))
}
