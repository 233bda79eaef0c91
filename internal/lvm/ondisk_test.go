package lvm

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// physicalVolume returns the beginning of a physical volume, with the text at an offset of its
// ring buffer.
func physicalVolume(text string, at uint64) []byte {
	const areaAt, areaSize = 4096, 8192
	image := make([]byte, areaAt+areaSize)
	put64 := func(at int, n uint64) { binary.LittleEndian.PutUint64(image[at:], n) }
	label := image[sectorSize:]
	copy(label, labelID)
	binary.LittleEndian.PutUint32(label[20:], 32)
	copy(label[24:], labelType)
	put64(sectorSize+32+40, 2<<20)     // where data begins
	put64(sectorSize+32+40+32, areaAt) // after the zeros that end that list
	put64(sectorSize+32+40+40, areaSize)

	header := image[areaAt : areaAt+areaHeader]
	copy(header[4:], areaID)
	header[20] = 1
	put64(areaAt+24, areaAt)
	put64(areaAt+32, areaSize)
	put64(areaAt+40, at)
	put64(areaAt+48, uint64(len(text)))
	binary.LittleEndian.PutUint32(header[56:], crc([]byte(text)))
	binary.LittleEndian.PutUint32(header, crc(header[4:]))
	n := copy(image[areaAt+at:], text)
	copy(image[areaAt+areaHeader:], text[n:])
	return image
}

func TestMayKnow(t *testing.T) {
	const text = "pmemvgregion0 {\nlogical_volumes {\ndb {\n"
	good := physicalVolume(text, 512)
	damaged := bytes.Clone(good)
	damaged[4096+512+3] ^= 1
	badHeader := bytes.Clone(good)
	badHeader[4096+45] ^= 1
	ignored := bytes.Clone(good)
	ignored[4096+60] = 1
	binary.LittleEndian.PutUint32(ignored[4096:], crc(ignored[4100:4096+areaHeader]))
	for what, c := range map[string]struct {
		image []byte
		name  string
		want  bool
	}{
		"a logical volume":           {good, "db", true},
		"another name":               {good, "web", false},
		"round the end of the ring":  {physicalVolume(text, 8192-20), "db", true},
		"another, round the end":     {physicalVolume(text, 8192-20), "web", false},
		"a text that was changed":    {damaged, "web", true},
		"a header that was changed":  {badHeader, "web", true},
		"an area that is not in use": {ignored, "web", true},
		"no physical volume":         {make([]byte, 4096), "web", false},
		"a tiny device":              {make([]byte, 100), "web", true},
		"nothing but a label":        {good[:1024+1024], "web", true},
	} {
		file := filepath.Join(t.TempDir(), "pv")
		require.NoError(t, os.WriteFile(file, c.image, 0o600))
		assert.Equal(t, c.want, MayKnow(file, c.name), what)
	}
	assert.True(t, MayKnow("/nosuch", "web"), "no device")
}

func FuzzReadMetadata(f *testing.F) {
	f.Add(physicalVolume("vg { db {", 512))
	f.Add(physicalVolume("vg { db {", 8190))
	f.Add([]byte(labelID))
	f.Fuzz(func(t *testing.T, image []byte) {
		text, err := readMetadata(bytes.NewReader(image))
		if err == nil && len(text) > 2*maxAreas*maxArea {
			t.Fatal("more text than fits")
		}
	})
}
