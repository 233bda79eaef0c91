package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
	"strconv"
	"strings"
)

// Disk is LVM's data on a device: a label, and one or two copies of the metadata of its group.
type Disk struct {
	Size uint64 // of the device in bytes
	// LabelDamage says what is wrong with the label; "" if nothing is.
	LabelDamage string
	// Label is zero if the label cannot be read or reconstructed.
	Label  Label
	Copies []Copy
}

// Label is the header of a physical volume. Sizes and offsets are bytes.
type Label struct {
	PV         string // UUID
	DeviceSize uint64
	DataStart  uint64
	areas      []extent
}

// Known reports whether the label was read or reconstructed.
func (l Label) Known() bool { return l.PV != "" }

// Copy is one copy of the metadata of a group.
type Copy struct {
	Offset uint64
	Size   uint64 // of its area; 0 if unknown
	// Damage says what is wrong with it; "" if nothing is.
	Damage string
	// Guessed: no label names the place. It may be data that a tenant wrote to a logical volume.
	Guessed bool
	// Unused: LVM neither reads nor writes it.
	Unused bool
	// Text is the complete metadata with a valid checksum; nil if it cannot be read.
	Text  []byte
	Group Group

	header []byte // the correct header if one byte of it is wrong
}

const (
	labelSpace  = 4096 // before the first area: only the label
	labelSector = 1
	labelHeader = 32
	idLength    = 32
	// secondCopy is the size of the area at the end of a device, equal to the alignment of its
	// data.
	secondCopy = 2 << 20
)

// secondArea returns where vgcreate puts the second copy, see CreateVG.
func secondArea(size uint64) extent {
	at := size / secondCopy * secondCopy
	return extent{at - min(at, secondCopy), secondCopy}
}

// ReadDisk reads LVM's data from a device of size bytes.
func ReadDisk(device io.ReaderAt, size uint64) Disk {
	d := Disk{Size: size}
	d.Label, d.LabelDamage = readLabel(device)
	areas := d.Label.areas
	if !d.Label.Known() {
		areas = []extent{{offset: labelSpace}, secondArea(size)}
	}
	for i, area := range areas {
		c := readCopy(device, area, d.Copies)
		c.Guessed = !d.Label.Known() && i > 0
		d.Copies = append(d.Copies, c)
	}
	return d
}

// Holds reports whether the headers of all copies on a device show the text with that checksum. It
// reads little and parses no text.
func Holds(f io.ReaderAt, sum uint32) bool {
	label, damage := readLabel(f)
	header := make([]byte, areaHeader)
	for _, area := range label.areas {
		if _, err := f.ReadAt(header, int64(area.offset)); err != nil {
			return false
		}
		if _, texts, err := parseHeader(header, area.offset); err != nil || len(texts) == 0 || texts[0].sum != sum {
			return false
		}
	}
	return damage == "" && len(label.areas) > 0
}

func readLabel(device io.ReaderAt) (Label, string) {
	head := make([]byte, labelSpace)
	if _, err := device.ReadAt(head, 0); err != nil {
		return Label{}, "cannot be read: " + reason(err)
	}
	sector := bytes.Clone(head[sectorSize : 2*sectorSize])
	clear(head[sectorSize : 2*sectorSize])
	if l, ok := parseLabel(sector); ok {
		if at := firstNonZero(head); at >= 0 {
			return l, fmt.Sprintf("other data was written next to it, at byte %d of the device", at)
		}
		return l, ""
	}
	if at := firstNonZero(sector); at < 0 {
		return Label{}, "is gone: it reads as zeros"
	}
	if at, good, ok := correctLabel(sector); ok {
		l, _ := parseLabel(good)
		return l, fmt.Sprintf("byte %d of it is wrong", at)
	}
	return Label{}, "is not LVM's: it was overwritten"
}

// reason returns an error of the kernel without the operation and the path.
func reason(err error) string {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}

func firstNonZero(data []byte) int {
	return bytes.IndexFunc(data, func(r rune) bool { return r != 0 })
}

// parseLabel accepts a label only exactly as LVM writes it.
func parseLabel(sector []byte) (Label, bool) {
	if string(sector[:8]) != labelID || binary.LittleEndian.Uint64(sector[8:]) != labelSector ||
		crc(sector[20:]) != binary.LittleEndian.Uint32(sector[16:]) ||
		binary.LittleEndian.Uint32(sector[20:]) != labelHeader || string(sector[24:32]) != labelType {
		return Label{}, false
	}
	data, areas, err := pvLists(sector)
	if err != nil || len(data) != 1 {
		return Label{}, false
	}
	id := sector[labelHeader : labelHeader+idLength]
	for _, c := range id {
		if c <= ' ' || c > '~' {
			return Label{}, false
		}
	}
	for _, a := range areas {
		if a.offset > maxOffset || a.size > maxArea {
			return Label{}, false
		}
	}
	return Label{PV: formatUUID(string(id)), DeviceSize: binary.LittleEndian.Uint64(sector[labelHeader+idLength:]), DataStart: data[0].offset, areas: areas}, true
}

// correctLabel corrects a label with a single wrong byte.
func correctLabel(sector []byte) (at int, good []byte, ok bool) {
	good = bytes.Clone(sector)
	// The checksum does not cover the bytes before it.
	copy(good, labelID)
	binary.LittleEndian.PutUint64(good[8:], labelSector)
	differ := 0
	for i := range good[:16] {
		if good[i] != sector[i] {
			at = i
			differ++
		}
	}
	if differ == 0 {
		at, ok = correct(good[16:20], good[20:])
		at += 16
	}
	_, parsed := parseLabel(good)
	return at, good, parsed && (ok || differ == 1)
}

// correct corrects a single wrong byte in data or in its checksum, and returns its offset in both
// together; false if no single byte, or more than one, would explain the error.
func correct(sum, data []byte) (at int, ok bool) {
	// The effect of a wrong byte on a CRC depends on its place and its wrong bits, not on the rest
	// of the data.
	wrong := crc(data) ^ binary.LittleEndian.Uint32(sum)
	found, by := 0, byte(0)
	if low := bits.TrailingZeros32(wrong) / 8; wrong != 0 && wrong>>(8*low) <= 0xff {
		at, by, found = low, byte(wrong>>(8*low)), 1
	}
	// Go backwards over the data: what would the difference be if the error were here?
	for i, here := len(data)-1, wrong; i >= 0; i-- {
		e := byTopByte[here>>24]
		effect := crc32.IEEETable[e]
		if effect == here && e != 0 {
			at, by = len(sum)+i, e
			found++
		}
		here = (here^effect)<<8 | uint32(e)
	}
	if found != 1 {
		return 0, false
	}
	if at < len(sum) {
		sum[at] ^= by
	} else {
		data[at-len(sum)] ^= by
	}
	return at, true
}

// byTopByte maps the top byte of an entry of the CRC table to its index.
var byTopByte = func() (entries [256]byte) {
	for e, effect := range crc32.IEEETable {
		entries[effect>>24] = byte(e)
	}
	return entries
}()

// readCopy reads a copy; parsed are other copies of the device, which usually have the same text.
func readCopy(device io.ReaderAt, area extent, parsed []Copy) Copy {
	c := Copy{Offset: area.offset, Size: area.size}
	header := make([]byte, areaHeader)
	if _, err := device.ReadAt(header, int64(area.offset)); err != nil {
		c.Damage = "its header cannot be read: " + reason(err)
		return c
	}
	size, texts, err := parseHeader(header, area.offset)
	if err == nil && area.size != 0 && size != area.size {
		err = errMetadata
	}
	if err != nil {
		c.Damage = "its header is damaged"
		if firstNonZero(header) < 0 {
			c.Damage = "its header is gone: it reads as zeros"
			return c
		}
		good := bytes.Clone(header)
		at, ok := correct(good[:4], good[4:])
		if !ok {
			return c
		}
		if size, texts, err = parseHeader(good, area.offset); err != nil || area.size != 0 && size != area.size {
			return c
		}
		c.Damage, c.header = fmt.Sprintf("byte %d of its header is wrong", at), good
	}
	c.Size = size
	switch {
	case len(texts) == 0 || texts[0].offset == 0:
		c.Damage = "is empty"
		return c
	case texts[0].flags&ignoredFlag != 0:
		c.Unused = true
		return c
	}
	text, err := readText(device, extent{area.offset, size}, texts[0])
	if err != nil {
		c.header = nil
		c.Damage = "its text is damaged"
		if err != errMetadata {
			c.Damage = "its text cannot be read: " + reason(err)
		}
		return c
	}
	for _, other := range parsed {
		if bytes.Equal(other.Text, text) {
			c.Text, c.Group = text, other.Group
			return c
		}
	}
	if c.Group, err = ParseGroup(text); err != nil {
		c.Damage, c.header = "its text cannot be parsed", nil
		return c
	}
	c.Text = text
	return c
}

// Sum returns the checksum of a text.
func Sum(text []byte) uint32 { return crc(text) }

// Write is data to write to a device.
type Write struct {
	What   string
	Offset uint64
	Data   []byte
}

// Repair returns the writes, in order, that make the device the physical volume of the group with
// the text as its metadata. A copy that already has the text is not written; the label is last, so
// that LVM sees the device only when it is complete. The text must be saved elsewhere, because the
// one on the device may be overwritten.
func (d Disk) Repair(text []byte, g Group, pv GroupPV) ([]Write, error) {
	want := Label{PV: pv.UUID, DeviceSize: pv.DeviceSize, DataStart: pv.DataStart, areas: d.Label.areas}
	if d.Size < pv.DataEnd || d.Size != pv.DeviceSize {
		return nil, fmt.Errorf("it has %d bytes, but the group's metadata says %d", d.Size, pv.DeviceSize)
	}
	if d.Label.Known() && (d.Label.PV != want.PV || d.Label.DataStart != want.DataStart) {
		return nil, fmt.Errorf("its label is for physical volume %s with data at byte %d, not for %s with data at byte %d", d.Label.PV, d.Label.DataStart, want.PV, want.DataStart)
	}
	if !d.Label.Known() {
		want.areas = []extent{{labelSpace, pv.DataStart - min(pv.DataStart, labelSpace)}}
		if first := d.copyAt(labelSpace); first.Size != 0 {
			want.areas[0].size = first.Size
		}
		if second := secondArea(d.Size); second.offset >= pv.DataEnd {
			want.areas = append(want.areas, second)
		}
	}
	var writes []Write
	for i, area := range want.areas {
		inFront := area.offset >= labelSpace && area.offset+area.size <= pv.DataStart
		behind := area.offset >= pv.DataEnd && area.offset+area.size <= d.Size
		if area.offset > d.Size || area.size < 2*labelSpace || area.size > maxArea || !inFront && !behind {
			return nil, fmt.Errorf("the space for its metadata, %d bytes at byte %d, is not free", area.size, area.offset)
		}
		c := d.copyAt(area.offset)
		name := fmt.Sprintf("copy %d", i+1)
		switch {
		case c.Unused, c.Damage == "" && bytes.Equal(c.Text, text):
		case c.header != nil && bytes.Equal(c.Text, text):
			writes = append(writes, Write{"the header of " + name, area.offset, c.header})
		case uint64(len(text)) > area.size-labelSpace:
			return nil, fmt.Errorf("its metadata does not fit into %d bytes", area.size)
		default:
			// In whole pages, because the kernel clears media errors only then.
			page := make([]byte, labelSpace)
			copy(page, newHeader(area, text))
			padded := append(bytes.Clone(text), make([]byte, -len(text)&(labelSpace-1))...)
			writes = append(writes,
				Write{"the text of " + name, area.offset + labelSpace, padded[:min(uint64(len(padded)), area.size-labelSpace)]},
				Write{"the header of " + name, area.offset, page})
		}
	}
	if d.LabelDamage != "" {
		head := make([]byte, labelSpace)
		copy(head[labelSector*sectorSize:], want.sector())
		writes = append(writes, Write{"the label", 0, head})
	}
	return writes, nil
}

func (d Disk) copyAt(offset uint64) Copy {
	for _, c := range d.Copies {
		if c.Offset == offset {
			return c
		}
	}
	return Copy{Damage: "is unknown"}
}

// newHeader returns the header of an area whose text is one page after its beginning.
func newHeader(area extent, text []byte) []byte {
	h := make([]byte, areaHeader)
	copy(h[4:], areaID)
	binary.LittleEndian.PutUint32(h[20:], areaVersion)
	binary.LittleEndian.PutUint64(h[24:], area.offset)
	binary.LittleEndian.PutUint64(h[32:], area.size)
	binary.LittleEndian.PutUint64(h[areaTexts:], labelSpace)
	binary.LittleEndian.PutUint64(h[areaTexts+8:], uint64(len(text)))
	binary.LittleEndian.PutUint32(h[areaTexts+16:], crc(text))
	binary.LittleEndian.PutUint32(h, crc(h[4:]))
	return h
}

// sector returns the label of a physical volume in a group, as LVM writes it.
func (l Label) sector() []byte {
	s := make([]byte, sectorSize)
	copy(s, labelID)
	binary.LittleEndian.PutUint64(s[8:], labelSector)
	binary.LittleEndian.PutUint32(s[20:], labelHeader)
	copy(s[24:], labelType)
	at := labelHeader
	at += copy(s[at:], rawUUID(l.PV))
	put := func(n uint64) {
		binary.LittleEndian.PutUint64(s[at:], n)
		at += 8
	}
	put(l.DeviceSize)
	put(l.DataStart)
	put(0) // to the end
	put(0)
	put(0)
	for _, a := range l.areas {
		put(a.offset)
		put(a.size)
	}
	put(0)
	put(0)
	const version, used = 2, 1 // of the extension, which has no list
	put(version | used<<32)
	binary.LittleEndian.PutUint32(s[16:], crc(s[20:]))
	return s
}

func rawUUID(uuid string) string { return strings.ReplaceAll(uuid, "-", "") }

// validUUID reports whether a text is an LVM UUID, because it becomes part of a file name.
func validUUID(uuid string) bool {
	for _, c := range rawUUID(uuid) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return false
		}
	}
	return len(rawUUID(uuid)) == idLength
}

// LastTrace returns the number of the latest change of a group of which text is found in a part of
// a device, complete or not; 0 if there is none.
func LastTrace(part []byte, group string) (last uint64) {
	mark := []byte("id = \"" + group + "\"\nseqno = ")
	for {
		_, behind, found := bytes.Cut(part, mark)
		if !found {
			return last
		}
		digits, _, _ := bytes.Cut(behind[:min(len(behind), 20)], []byte("\n"))
		if n, err := strconv.ParseUint(string(digits), 10, 64); err == nil {
			last = max(last, n)
		}
		part = behind
	}
}

// Ends returns the ranges of the device that Repair may write to: before and after the data.
func (d Disk) Ends(pv GroupPV) [][2]uint64 {
	ends := [][2]uint64{{0, min(pv.DataStart, d.Size)}}
	if pv.DataEnd < d.Size {
		ends = append(ends, [2]uint64{pv.DataEnd, d.Size})
	}
	return ends
}
