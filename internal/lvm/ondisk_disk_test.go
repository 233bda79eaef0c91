package lvm

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sparse is a device of which only both ends are stored.
type sparse struct {
	head, tail []byte
	size       int64
}

func (s sparse) part(offset, length int64) []byte {
	if at := offset - secondAt; at >= 0 && at < int64(len(s.tail)) {
		return s.tail[at:][:min(length, int64(len(s.tail))-at)]
	}
	if offset < int64(len(s.head)) {
		return s.head[offset:][:min(length, int64(len(s.head))-offset)]
	}
	return nil
}

func (s sparse) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > s.size {
		return 0, io.EOF
	}
	clear(p)
	copy(p, s.part(offset, int64(len(p))))
	return len(p), nil
}

func (s sparse) clone() sparse {
	return sparse{bytes.Clone(s.head), bytes.Clone(s.tail), s.size}
}

func (s sparse) apply(t *testing.T, writes []Write) {
	for _, w := range writes {
		require.Equal(t, len(w.Data), copy(s.part(int64(w.Offset), int64(len(w.Data))), w.Data), "%s is inside of the ends", w.What)
	}
}

const deviceSize, secondAt = 4 << 30, 4<<30 - secondCopy

// inUse exceeds the non-zero part of an end.
const inUse = 16 << 10

// lvmDevice is a device written by LVM 2.03.16: vgcreate --dataalignment 2m --pvmetadatacopies 2
// -s 2m --addtag pmemctl, and two logical volumes of 64 MiB.
func lvmDevice(t testing.TB) sparse {
	f, err := os.Open("testdata/device-head.gz")
	require.NoError(t, err)
	defer f.Close()
	unzip, err := gzip.NewReader(f)
	require.NoError(t, err)
	head, err := io.ReadAll(unzip)
	require.NoError(t, err)
	s := sparse{make([]byte, 2<<20), make([]byte, secondCopy), deviceSize}
	copy(s.head, head)
	// The second copy differs only in its place and size.
	copy(s.tail, head[labelSpace:])
	binary.LittleEndian.PutUint64(s.tail[24:], secondAt)
	binary.LittleEndian.PutUint64(s.tail[32:], secondCopy)
	binary.LittleEndian.PutUint32(s.tail, crc(s.tail[4:areaHeader]))
	require.Equal(t, uint32(0x46f5b58c), binary.LittleEndian.Uint32(s.tail), "the checksum that LVM wrote there")
	return s
}

func TestReadDisk(t *testing.T) {
	s := lvmDevice(t)
	d := ReadDisk(s, deviceSize)
	assert.Empty(t, d.LabelDamage)
	assert.Equal(t, Label{PV: "5FBIIs-tlqE-FVTq-OCKQ-mwfI-WI0b-3r1Rq8", DeviceSize: deviceSize, DataStart: 2 << 20,
		areas: []extent{{4096, 2093056}, {secondAt, secondCopy}}}, d.Label)
	require.Equal(t, s.head[512:1024], d.Label.sector(), "as LVM writes it, byte for byte")
	require.Len(t, d.Copies, 2)
	for _, c := range d.Copies {
		assert.Empty(t, c.Damage)
		assert.Equal(t, "vgtest", c.Group.Name)
		assert.Equal(t, "GZsqjU-10zr-P3SA-B3wR-smon-Na2k-kJB1g2", c.Group.UUID)
		assert.EqualValues(t, 3, c.Group.Seqno)
		assert.EqualValues(t, 1795738017, c.Group.Time.Unix())
		assert.Equal(t, []GroupPV{{UUID: d.Label.PV, DeviceSize: deviceSize, DataStart: 2 << 20, DataEnd: secondAt, key: "pv0"}}, c.Group.PVs)
		require.Len(t, c.Group.LVs, 2)
		two := c.Group.LVs[1]
		assert.Equal(t, "two", two.Name)
		assert.Equal(t, "LVM-GZsqjU10zrP3SAB3wRsmonNa2kkJB1g2JfCEsNwMd5gE4JVPJVeb5JXgEKBJxv3a", c.Group.MapperUUID(two))
		table, ok := c.Group.Table(two, map[string]string{d.Label.PV: "259:0"})
		assert.True(t, ok)
		assert.Equal(t, "0 131072 linear 259:0 135168", table)
	}
	writes, err := d.Repair(d.Copies[0].Text, d.Copies[0].Group, d.Copies[0].Group.PVs[0])
	require.NoError(t, err)
	assert.Empty(t, writes, "nothing is wrong")
}

// patterns are the wrong bits of a byte: one, several, all.
func patterns(at int) []byte {
	if at%16 != 0 {
		return []byte{1 << (at % 8)}
	}
	return []byte{0x01, 0x80, 0x5a, 0xff}
}

// TestEveryByte damages each byte of the label and of both headers, and restores it.
func TestEveryByte(t *testing.T) {
	whole := lvmDevice(t)
	good := ReadDisk(whole, deviceSize)
	text, group := good.Copies[0].Text, good.Copies[0].Group
	s := whole.clone()
	for _, part := range []struct {
		name     string
		data     []byte
		exactly  bool // the very bytes come back
		position func(Disk) string
	}{
		{"label", s.head[:labelSpace], true, func(d Disk) string { return d.LabelDamage }},
		{"first header", s.head[labelSpace : labelSpace+areaHeader], true, func(d Disk) string { return d.Copies[0].Damage }},
		{"second header", s.tail[:areaHeader], true, func(d Disk) string { return d.Copies[1].Damage }},
		{"first text", s.head[labelSpace+3072 : labelSpace+3072+len(text)], false, func(d Disk) string { return d.Copies[0].Damage }},
		{"second text", s.tail[3072 : 3072+len(text)], false, func(d Disk) string { return d.Copies[1].Damage }},
	} {
		for i := range part.data {
			for _, x := range patterns(i) {
				part.data[i] ^= x
				d := ReadDisk(s, deviceSize)
				require.NotEmpty(t, part.position(d), "%s, byte %d ^ %#x: seen", part.name, i, x)
				require.Equal(t, good.Label, d.Label, "%s, byte %d ^ %#x: what the label was is known", part.name, i, x)
				require.Len(t, d.Copies, 2)
				require.True(t, bytes.Equal(d.Copies[0].Text, text) || bytes.Equal(d.Copies[1].Text, text), "%s, byte %d ^ %#x: a copy to restore from", part.name, i, x)
				writes, err := d.Repair(text, group, group.PVs[0])
				require.NoError(t, err)
				s.apply(t, writes)
				if part.exactly {
					require.True(t, bytes.Equal(whole.head[:inUse], s.head[:inUse]) && bytes.Equal(whole.tail[:inUse], s.tail[:inUse]), "%s, byte %d ^ %#x: as it was", part.name, i, x)
				} else {
					d = ReadDisk(s, deviceSize)
					require.Empty(t, d.LabelDamage+d.Copies[0].Damage+d.Copies[1].Damage)
					require.Equal(t, text, d.Copies[0].Text)
					require.Equal(t, text, d.Copies[1].Text)
					copy(s.head, whole.head[:inUse])
					copy(s.tail, whole.tail[:inUse])
				}
			}
		}
	}
}

// TestOneCopyEveryByte covers groups of former versions, which have one copy and may have no
// archive: their headers are restored by their own checksums.
func TestOneCopyEveryByte(t *testing.T) {
	whole := oneCopy(lvmDevice(t))
	good := ReadDisk(whole, deviceSize)
	require.Len(t, good.Copies, 1)
	s := whole.clone()
	for i := range s.head[:labelSpace+areaHeader] {
		for _, x := range patterns(i) {
			s.head[i] ^= x
			d := ReadDisk(s, deviceSize)
			require.NotEmpty(t, d.LabelDamage+d.Copies[0].Damage, "byte %d ^ %#x", i, x)
			require.Equal(t, good.Copies[0].Text, d.Copies[0].Text, "byte %d ^ %#x", i, x)
			writes, err := d.Repair(d.Copies[0].Text, d.Copies[0].Group, d.Copies[0].Group.PVs[0])
			require.NoError(t, err)
			s.apply(t, writes)
			require.True(t, bytes.Equal(whole.head[:inUse], s.head[:inUse]), "byte %d ^ %#x: as it was", i, x)
		}
	}
}

// oneCopy converts it to a device without a second copy, whose data extends to its end.
func oneCopy(s sparse) sparse {
	d := ReadDisk(s, deviceSize)
	label := d.Label
	label.areas = label.areas[:1]
	copy(s.head[512:], label.sector())
	text := bytes.Replace(d.Copies[0].Text, []byte("pe_count = 2046"), []byte("pe_count = 2047"), 1)
	copy(s.head[labelSpace+3072:], text)
	binary.LittleEndian.PutUint32(s.head[labelSpace+areaTexts+16:], crc(text))
	binary.LittleEndian.PutUint32(s.head[labelSpace:], crc(s.head[labelSpace+4:labelSpace+areaHeader]))
	clear(s.tail)
	return s
}

func TestRepairDisk(t *testing.T) {
	whole := lvmDevice(t)
	good := ReadDisk(whole, deviceSize)
	text, group := good.Copies[0].Text, good.Copies[0].Group
	single := oneCopy(lvmDevice(t))
	for what, c := range map[string]struct {
		of     sparse
		damage func(sparse)
		copies int // that are left
	}{
		"the first 4 KiB are gone":    {whole, func(s sparse) { clear(s.head[:4096]) }, 2},
		"the head is gone":            {whole, func(s sparse) { clear(s.head) }, 1},
		"the first MiB is rubbish":    {whole, func(s sparse) { rubbish(s.head[:1<<20]) }, 1},
		"the tail is gone":            {whole, func(s sparse) { clear(s.tail) }, 1},
		"both ends are gone":          {whole, func(s sparse) { clear(s.head); clear(s.tail) }, 0},
		"both ends are rubbish":       {whole, func(s sparse) { rubbish(s.head); rubbish(s.tail) }, 0},
		"one copy, the head is gone":  {single, func(s sparse) { clear(s.head) }, 0},
		"one copy, the label is gone": {single, func(s sparse) { clear(s.head[:4096]) }, 1},
	} {
		s := c.of.clone()
		text, group := text, group
		if c.of.head[0x270] == single.head[0x270] && bytes.Equal(c.of.tail, single.tail) {
			text = ReadDisk(single, deviceSize).Copies[0].Text
			group = ReadDisk(single, deviceSize).Copies[0].Group
		}
		c.damage(s)
		d := ReadDisk(s, deviceSize)
		left := 0
		for _, c := range d.Copies {
			if bytes.Equal(c.Text, text) {
				left++
			}
		}
		assert.Equal(t, c.copies, left, what)
		writes, err := d.Repair(text, group, group.PVs[0])
		require.NoError(t, err, what)
		s.apply(t, writes)
		again := ReadDisk(s, deviceSize)
		assert.Empty(t, again.LabelDamage, what)
		want := ReadDisk(c.of, deviceSize)
		require.Equal(t, want.Label, again.Label, what)
		for i := range want.Copies {
			assert.Empty(t, again.Copies[i].Damage, what)
			assert.Equal(t, text, again.Copies[i].Text, what)
		}
		writes, err = again.Repair(text, group, group.PVs[0])
		require.NoError(t, err)
		assert.Empty(t, writes, what)
	}
}

func rubbish(data []byte) {
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
}

// TestRepairNeverTouchesData: metadata that would overlap the data is refused.
func TestRepairNeverTouchesData(t *testing.T) {
	s := lvmDevice(t)
	d := ReadDisk(s, deviceSize)
	text, group := d.Copies[0].Text, d.Copies[0].Group
	pv := group.PVs[0]

	longer := pv
	longer.DataEnd = deviceSize // its data goes where the second copy lies
	clear(s.head)
	_, err := d.Repair(text, group, longer)
	assert.ErrorContains(t, err, "is not free")

	writes, err := ReadDisk(s, deviceSize).Repair(text, group, longer)
	require.NoError(t, err)
	for _, w := range writes {
		assert.Less(t, w.Offset, pv.DataStart, "no second copy over data: %s", w.What)
	}

	other := pv
	other.DeviceSize -= 2 << 20
	_, err = d.Repair(text, group, other)
	assert.ErrorContains(t, err, "but the group's metadata says")

	other = pv
	other.UUID = "5FBIIs-tlqE-FVTq-OCKQ-mwfI-WI0b-3r1Rq9"
	_, err = d.Repair(text, group, other)
	assert.ErrorContains(t, err, "its label is for physical volume 5FBIIs-tlqE-FVTq-OCKQ-mwfI-WI0b-3r1Rq8")
}

func TestParseGroup(t *testing.T) {
	const text = `vg { # a group
id = "GZsqjU-10zr-P3SA-B3wR-smon-Na2k-kJB1g2"
seqno = 7
extent_size = 4096
physical_volumes {
pv0 {
id = "5FBIIs-tlqE-FVTq-OCKQ-mwfI-WI0b-3r1Rq8"
dev_size = 8388608
pe_start = 4096
pe_count = 2046
}
pv1 {
id = "aFBIIs-tlqE-FVTq-OCKQ-mwfI-WI0b-3r1Rq8"
dev_size = 8388608
pe_start = 4096
pe_count = 2046
}
}
logical_volumes {
db {
id = "JfCEsN-wMd5-gE4J-VPJV-eb5J-XgEK-BJxv3a"
tags = ["a\"b\\]", "c"]
segment1 {
start_extent = 0
extent_count = 4
type = "striped"
stripe_count = 2
stripe_size = 4096
stripes = [
"pv0", 1,
"pv1", 2
]
}
segment2 {
start_extent = 4
extent_count = 1
type = "striped"
stripe_count = 1
stripes = [ "pv1", 9 ]
}
}
odd {
id = "KfCEsN-wMd5-gE4J-VPJV-eb5J-XgEK-BJxv3a"
segment1 {
extent_count = 1
type = "thin-pool"
}
}
}
}
creation_time = 1795738017 # Fri Nov 27
` + "\x00"
	g, err := ParseGroup([]byte(text))
	require.NoError(t, err)
	assert.Equal(t, []string{`a"b\]`, "c"}, g.LVs[0].Tags)
	table, ok := g.Table(g.LVs[0], map[string]string{g.PVs[0].UUID: "259:0", g.PVs[1].UUID: "259:1"})
	assert.True(t, ok)
	assert.Equal(t, "0 16384 striped 2 4096 259:0 8192 259:1 12288\n16384 4096 linear 259:1 40960", table)
	_, ok = g.Table(g.LVs[1], nil)
	assert.False(t, ok, "of a kind that pmemctl does not make")
	for _, bad := range []string{"", "vg {", "vg {}", "}", "vg { id = \"x }", "vg { a = [ 1 ", "vg { = 3 }", text[:len(text)-200],
		strings.Replace(text, `id = "5FBIIs-tlqE-FVTq-OCKQ-mwfI-WI0b-3r1Rq8"`, "", 1), strings.Replace(text, "5FBIIs", "5FBII/", 1)} {
		_, err := ParseGroup([]byte(bad))
		assert.Error(t, err, "%q", bad)
	}
}

func FuzzReadDisk(f *testing.F) {
	s := lvmDevice(f)
	f.Add(s.head[:8192], s.tail[:8192])
	f.Add(s.head[:8192], []byte{})
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		d := ReadDisk(sparse{head, tail, deviceSize}, deviceSize)
		for _, c := range d.Copies {
			if c.Text == nil {
				continue
			}
			for _, pv := range c.Group.PVs {
				writes, err := d.Repair(c.Text, c.Group, pv)
				if err != nil {
					continue
				}
				for _, w := range writes {
					end := w.Offset + uint64(len(w.Data))
					if end > deviceSize || w.Offset < pv.DataEnd && end > pv.DataStart {
						t.Fatalf("%s: %d bytes at %d, and the data is from %d to %d", w.What, len(w.Data), w.Offset, pv.DataStart, pv.DataEnd)
					}
				}
			}
		}
	})
}

func TestHolds(t *testing.T) {
	s := lvmDevice(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "device"))
	require.NoError(t, err)
	defer file.Close()
	put := func(s sparse) {
		_, err := file.WriteAt(s.head[:inUse], 0)
		require.NoError(t, err)
		_, err = file.WriteAt(s.tail[:inUse], secondAt)
		require.NoError(t, err)
	}
	require.NoError(t, file.Truncate(deviceSize))
	put(s)
	sum := Sum(ReadDisk(s, deviceSize).Copies[0].Text)
	assert.True(t, Holds(file, sum))
	assert.False(t, Holds(file, sum+1), "another change")
	for what, damage := range map[string]func(sparse){
		"the label":         func(s sparse) { s.head[600] ^= 1 },
		"the first header":  func(s sparse) { s.head[4100] ^= 1 },
		"the second header": func(s sparse) { s.tail[4] ^= 1 },
		"all":               func(s sparse) { clear(s.head) },
	} {
		bad := s.clone()
		damage(bad)
		put(bad)
		assert.False(t, Holds(file, sum), what)
	}
	require.NoError(t, file.Truncate(0))
	assert.False(t, Holds(file, sum))
}

func TestLastTrace(t *testing.T) {
	s := lvmDevice(t)
	uuid := ReadDisk(s, deviceSize).Copies[0].Group.UUID
	assert.EqualValues(t, 3, LastTrace(s.head, uuid))
	clear(s.head[labelSpace+3072:]) // of the last one
	assert.EqualValues(t, 2, LastTrace(s.head, uuid))
	assert.Zero(t, LastTrace(s.head, "another"))
	assert.Zero(t, LastTrace([]byte("id = \"X\"\nseqno = "), "X"))
}
