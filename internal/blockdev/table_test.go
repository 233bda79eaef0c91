package blockdev

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// table is what the kernel writes for targets of these types, lengths in sectors and
// parameters.
func table(targets ...[3]any) []byte {
	var data []byte
	for i, t := range targets {
		spec := make([]byte, 40)
		binary.NativeEndian.PutUint64(spec[8:], uint64(t[1].(int)))
		copy(spec[24:], t[0].(string))
		spec = append(spec, t[2].(string)+"\x00"...)
		spec = append(spec, make([]byte, align8(len(data)+len(spec))-len(data)-len(spec))...)
		if i < len(targets)-1 {
			binary.NativeEndian.PutUint32(spec[20:], uint32(len(data)+len(spec)))
		}
		data = append(data, spec...)
	}
	return data
}

func TestParseTable(t *testing.T) {
	data := table([3]any{"linear", 4096, "259:0 8192"}, [3]any{"error", 8, ""}, [3]any{"striped", 8192, "2 4096 259:1 4096 259:2 12288"})
	got, err := parseTable(data, 3)
	require.NoError(t, err)
	assert.Equal(t, []Extent{{Number{259, 0}, 8192, 4096}, {Number{259, 1}, 4096, 4096}, {Number{259, 2}, 12288, 4096}}, got)
	got, err = parseTable(nil, 0)
	assert.NoError(t, err)
	assert.Empty(t, got)
	for _, n := range []int{10, 40, 45, 60} {
		_, err := parseTable(data[:n], 3)
		assert.Error(t, err, "cut after %d bytes", n)
	}
	_, err = parseTable(table([3]any{"linear", 8, "pmem0 0"}), 1)
	assert.Error(t, err)
}

func FuzzParseTable(f *testing.F) {
	f.Add(table([3]any{"linear", 4096, "259:0 8192"}), 1)
	f.Fuzz(func(_ *testing.T, data []byte, targets int) { _, _ = parseTable(data, targets%64) })
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
