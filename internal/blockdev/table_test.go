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
	assert.Equal(t, []Extent{
		{Device: Number{259, 0}, Start: 8192, Length: 4096, Stripes: 1},
		{Device: Number{259, 1}, Start: 4096, Length: 4096, At: 4104, Stripes: 2, Chunk: 4096},
		{Device: Number{259, 2}, Start: 12288, Length: 4096, At: 4104, Stripes: 2, Stripe: 1, Chunk: 4096},
	}, got)
	got, err = extentsOf("")
	assert.NoError(t, err)
	assert.Empty(t, got)
	_, err = extentsOf("0 8 linear pmem0 0")
	assert.Error(t, err)
}

func TestBadRanges(t *testing.T) {
	const list = "100 8\n4000 1\n"
	sectors := func(pairs ...uint64) (want []BadRange) {
		for i := 0; i < len(pairs); i += 2 {
			want = append(want, BadRange{From: pairs[i] * 512, To: pairs[i+1] * 512})
		}
		return want
	}
	for what, c := range map[string]struct {
		extent Extent
		want   []BadRange
	}{
		"in front of it":    {Extent{Length: 100}, nil},
		"its last sector":   {Extent{Length: 101}, sectors(100, 101)},
		"its first":         {Extent{Start: 107, Length: 1}, sectors(0, 1)},
		"none":              {Extent{Start: 108, Length: 3892}, nil},
		"both, with an end": {Extent{Start: 4, Length: 1 << 40}, sectors(96, 104, 3996, 3997)},
		"in a mapped one":   {Extent{Start: 96, Length: 50, At: 1000}, sectors(1004, 1012)},
		// Chunks of 4 sectors, and the last of three stripes: its sectors 4 to 12 are its chunks 1
		// and 2, which are the chunks 5 and 8 of the device.
		"striped":          {Extent{Start: 96, Length: 50, At: 1000, Stripes: 3, Stripe: 2, Chunk: 4}, sectors(1020, 1024, 1032, 1036)},
		"a part of chunks": {Extent{Start: 98, Length: 50, At: 1000, Stripes: 3, Stripe: 0, Chunk: 4}, sectors(1002, 1004, 1012, 1016, 1024, 1026)},
	} {
		assert.Equal(t, c.want, c.extent.badIn(list), what)
	}
	assert.Empty(t, Extent{Length: 1 << 40}.badIn(""))
}
