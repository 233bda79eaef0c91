package logwrites

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const sector = 512

// entry is a log's record, as the kernel writes it.
func entry(at, sectors, flags uint64, mark string, data []byte) []byte {
	head := make([]byte, sector)
	for i, v := range []uint64{at, sectors, flags, uint64(len(mark))} {
		binary.LittleEndian.PutUint64(head[8*i:], v)
	}
	copy(head[32:], mark)
	return append(head, data...)
}

func logOf(entries ...[]byte) []byte {
	super := make([]byte, sector)
	for i, v := range []uint64{magic, version, uint64(len(entries))} {
		binary.LittleEndian.PutUint64(super[8*i:], v)
	}
	binary.LittleEndian.PutUint32(super[24:], sector)
	return append(super, bytes.Join(entries, nil)...)
}

func content(b byte, sectors int) []byte { return bytes.Repeat([]byte{b}, sectors*sector) }

func TestReplay(t *testing.T) {
	log, err := Read(bytes.NewReader(logOf(
		entry(1, 2, 0, "", content('a', 2)),
		entry(0, 0, Flush, "", nil),
		entry(2, 1, FUA|Metadata, "", content('b', 1)),
		entry(0, 0, Mark, "made", nil),
		entry(1, 1, Discard, "", nil), // has no content in the log
		entry(3, 1, 0, "", content('c', 1)),
	)))
	require.NoError(t, err)
	assert.Equal(t, "made", log.Entries[3].Name)
	image := content('x', 5)
	var after []string
	for _, e := range log.Entries {
		require.NoError(t, log.Apply(e, image))
		state := ""
		for at := 0; at < len(image); at += sector {
			require.Equal(t, content(image[at], 1), image[at:at+sector])
			state += string(rune(max(image[at], '0')))
		}
		after = append(after, state)
	}
	assert.Equal(t, []string{"xaaxx", "xaaxx", "xabxx", "xabxx", "x0bxx", "x0bcx"}, after)
}

func TestReplayRefuses(t *testing.T) {
	for name, log := range map[string][]byte{
		"nothing":      nil,
		"another":      make([]byte, sector),
		"an end":       logOf(entry(1, 1, 0, "", content('a', 1)), nil),
		"a large mark": logOf(entry(0, 0, Mark, string(content('m', 1)), nil)),
	} {
		_, err := Read(bytes.NewReader(log))
		assert.Error(t, err, name)
	}
	log, err := Read(bytes.NewReader(logOf(entry(4, 2, 0, "", content('a', 2)))))
	require.NoError(t, err)
	assert.ErrorContains(t, log.Apply(log.Entries[0], content('.', 5)), "not within the device")
}
