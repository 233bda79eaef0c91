package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

// MayKnow reports whether the device may be a physical volume whose group has one of some words in
// its metadata, such as a logical volume's name and " {", active or not. It reads the device
// itself, and takes a hundredth of the time of an lvm command. False is certain; true may also
// mean that a word occurs elsewhere in the metadata, or that it could not be read.
func MayKnow(device string, words ...string) bool {
	f, err := os.Open(device)
	if err != nil {
		return true
	}
	defer f.Close()
	texts, err := readMetadata(f)
	return err != nil || slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(texts, []byte(w)) })
}

// HasLabel reports whether a device has the label of a physical volume; false if it cannot be
// read.
func HasLabel(device string) bool {
	f, err := os.Open(device)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, labelSectors*sectorSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false
	}
	for ; len(head) > 0; head = head[sectorSize:] {
		if bytes.HasPrefix(head, []byte(labelID)) {
			return true
		}
	}
	return false
}

// Format of a physical volume (lib/format_text/layout.h and lib/label/label.h of LVM2). Numbers
// are little-endian, offsets are bytes.
const (
	sectorSize    = 512
	labelSectors  = 4 // the label is in one of the first
	labelID       = "LABELONE"
	labelType     = "LVM2 001"
	areaID        = " LVM2 x[5A%r0N*>"
	areaHeader    = 512
	maxArea       = 64 << 20 // exceeds any metadata
	initialCRC    = 0xf597a6cf
	ignoredFlag   = 1
	maxAreas      = 16
	pvHeaderAreas = 40 // before the list: UUID and size
	areaVersion   = 1
	areaTexts     = 40 // before the list of texts
	maxOffset     = 1 << 62
)

var errMetadata = errors.New("unreadable LVM metadata")

// readMetadata returns the metadata of a physical volume as text: all of its copies, including
// precommitted ones. It returns nothing if the device is not a physical volume.
func readMetadata(device io.ReaderAt) ([]byte, error) {
	head := make([]byte, labelSectors*sectorSize)
	if n, err := device.ReadAt(head, 0); err != nil && (err != io.EOF || n < len(head)) {
		return nil, err
	}
	var texts []byte
	for ; len(head) >= sectorSize; head = head[sectorSize:] {
		if !bytes.HasPrefix(head, []byte(labelID)) {
			continue
		}
		areas, err := metadataAreas(head[:sectorSize])
		if err != nil {
			return nil, err
		}
		for _, area := range areas {
			text, err := readArea(device, area)
			if err != nil {
				return nil, err
			}
			texts = append(texts, text...)
		}
	}
	return texts, nil
}

type extent struct{ offset, size uint64 }

// metadataAreas reads the second list of the PV header.
func metadataAreas(label []byte) ([]extent, error) {
	if string(label[24:32]) != labelType {
		return nil, errMetadata
	}
	_, areas, err := pvLists(label)
	return areas, err
}

// pvLists parses the two lists of the PV header, the data areas and the metadata areas. Each is
// terminated by zeros.
func pvLists(label []byte) (data, metadata []extent, err error) {
	at := uint64(binary.LittleEndian.Uint32(label[20:])) + pvHeaderAreas
	var lists [2][]extent
	for i := range lists {
		for {
			if at+16 > uint64(len(label)) || len(lists[i]) > maxAreas {
				return nil, nil, errMetadata
			}
			e := extent{binary.LittleEndian.Uint64(label[at:]), binary.LittleEndian.Uint64(label[at+8:])}
			at += 16
			if e == (extent{}) || e.offset == 0 {
				break
			}
			lists[i] = append(lists[i], e)
		}
	}
	return lists[0], lists[1], nil
}

// location is the place of a text in the ring buffer after the header of an area. Offsets are
// relative to the area.
type location struct {
	extent
	sum, flags uint32
}

// parseHeader parses the header of the area at an offset of the device: the size of the area, the
// current text, and a precommitted one.
func parseHeader(header []byte, offset uint64) (size uint64, texts []location, err error) {
	size = binary.LittleEndian.Uint64(header[32:])
	if string(header[4:20]) != areaID || crc(header[4:]) != binary.LittleEndian.Uint32(header) ||
		binary.LittleEndian.Uint32(header[20:]) != areaVersion ||
		binary.LittleEndian.Uint64(header[24:]) != offset || size < 2*areaHeader || size > maxArea {
		return 0, nil, errMetadata
	}
	for at := areaTexts; at+24 <= len(header); at += 24 {
		l := location{
			extent{binary.LittleEndian.Uint64(header[at:]), binary.LittleEndian.Uint64(header[at+8:])},
			binary.LittleEndian.Uint32(header[at+16:]), binary.LittleEndian.Uint32(header[at+20:]),
		}
		if l.offset == 0 && l.flags&ignoredFlag == 0 {
			break
		}
		if l.offset != 0 && (l.offset < areaHeader || l.offset >= size || l.size > size-areaHeader) {
			return 0, nil, errMetadata
		}
		texts = append(texts, l)
	}
	return size, texts, nil
}

// readText reads a text from the ring buffer, and verifies its checksum.
func readText(device io.ReaderAt, area extent, l location) ([]byte, error) {
	data := make([]byte, l.size)
	first := min(l.size, area.size-l.offset)
	if _, err := device.ReadAt(data[:first], int64(area.offset+l.offset)); err != nil {
		return nil, err
	}
	if _, err := device.ReadAt(data[first:], int64(area.offset)+areaHeader); err != nil && len(data[first:]) > 0 {
		return nil, err
	}
	if crc(data) != l.sum {
		return nil, errMetadata
	}
	return data, nil
}

// readArea returns the texts that the header of an area points to.
func readArea(device io.ReaderAt, area extent) ([]byte, error) {
	header := make([]byte, areaHeader)
	if area.offset > maxOffset {
		return nil, errMetadata
	}
	if _, err := device.ReadAt(header, int64(area.offset)); err != nil {
		return nil, err
	}
	size, locations, err := parseHeader(header, area.offset)
	if err != nil {
		return nil, err
	}
	var texts []byte
	for _, l := range locations {
		if l.flags&ignoredFlag != 0 {
			return nil, errMetadata
		}
		text, err := readText(device, extent{area.offset, size}, l)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text...)
	}
	return texts, nil
}

// crc is LVM's CRC-32, with another initial value than usual and not inverted at the end.
func crc(data []byte) uint32 { return ^crc32.Update(^uint32(initialCRC), crc32.IEEETable, data) }

// HasLabel is the function HasLabel, also for devices that the client does not scan.
func (c *Client) HasLabel(device string) bool { return HasLabel(device) }

// MayKnow is the function MayKnow, also for devices that the client does not scan.
func (c *Client) MayKnow(device string, words ...string) bool { return MayKnow(device, words...) }
