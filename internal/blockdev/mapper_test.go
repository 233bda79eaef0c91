package blockdev

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// nameList returns the kernel's list of devices 254:0, 254:1, … with these names and UUIDs; "" is
// no UUID.
func nameList(namesAndUUIDs ...string) []byte {
	var list []byte
	for i := 0; i < len(namesAndUUIDs); i += 2 {
		name, uuid := namesAndUUIDs[i], namesAndUUIDs[i+1]
		entry := binary.NativeEndian.AppendUint64(nil, unix.Mkdev(254, uint32(i/2)))
		entry = append(binary.NativeEndian.AppendUint32(entry, 0), name+"\x00"...)
		entry = append(entry, make([]byte, align8(len(entry))-len(entry)+4)...) // event number
		flags := uint32(unix.DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID)
		if uuid != "" {
			flags, uuid = unix.DM_NAME_LIST_FLAG_HAS_UUID, uuid+"\x00"
		}
		entry = append(binary.NativeEndian.AppendUint32(entry, flags), uuid...)
		entry = append(entry, make([]byte, align8(len(entry))-len(entry))...)
		if i+2 < len(namesAndUUIDs) {
			binary.NativeEndian.PutUint32(entry[8:], uint32(len(entry)))
		}
		list = append(list, entry...)
	}
	return list
}

func TestParseMapped(t *testing.T) {
	got, err := parseMapped(nameList("vg-db", "LVM-abc", "crypt", "", "a", "CRYPT-1"), true)
	require.NoError(t, err)
	assert.Equal(t, []Mapped{
		{Name: "vg-db", UUID: "LVM-abc", Number: Number{254, 0}},
		{Name: "crypt", Number: Number{254, 1}},
		{Name: "a", UUID: "CRYPT-1", Number: Number{254, 2}},
	}, got)

	got, err = parseMapped(make([]byte, 16), true)
	assert.NoError(t, err, "no device at all")
	assert.Empty(t, got)

	whole := nameList("vg-db", "LVM-abc", "other", "LVM-def")
	for _, n := range []int{8, 20, 30, 45, 60, 70} {
		_, err := parseMapped(whole[:n], true)
		assert.Error(t, err, "cut after %d bytes", n)
	}
}

func FuzzParseMapped(f *testing.F) {
	f.Add(nameList("vg-db", "LVM-abc", "crypt", ""), true)
	f.Add(nameList("vg-db", ""), false)
	f.Fuzz(func(_ *testing.T, data []byte, uuids bool) { _, _ = parseMapped(data, uuids) })
}
