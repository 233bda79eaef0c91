package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
)

// MayKnow tells whether the device may be a physical volume whose group has a logical
// volume of that name, active or not. It reads what is on the device, and takes a
// hundredth of the time of an lvm command. False is certain; true may also be that
// the name occurs elsewhere in the metadata, or that it could not be read.
func MayKnow(device, name string) bool {
	f, err := os.Open(device)
	if err != nil {
		return true
	}
	defer f.Close()
	texts, err := readMetadata(f)
	return err != nil || bytes.Contains(texts, []byte(name+" {"))
}

// HasLabel tells whether a device has the label of a physical volume; also false when it
// cannot be read.
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

// The format of a physical volume (lib/format_text/layout.h and lib/label/label.h of
// LVM2). Numbers are little-endian, offsets are bytes.
const (
	sectorSize    = 512
	labelSectors  = 4 // the label is in one of the first
	labelID       = "LABELONE"
	labelType     = "LVM2 001"
	areaID        = " LVM2 x[5A%r0N*>"
	areaHeader    = 512
	maxArea       = 64 << 20 // more than any metadata
	initialCRC    = 0xf597a6cf
	ignoredFlag   = 1
	maxAreas      = 16
	pvHeaderAreas = 40 // in front of the list: UUID and size
)

var errMetadata = errors.New("metadata of LVM that cannot be read")

// readMetadata returns the metadata on a physical volume as text, all of its copies
// one after the other; nothing of what is no physical volume.
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

// metadataAreas reads the second list of the PV header, which is behind that of the
// areas for data. Each ends with zeros.
func metadataAreas(label []byte) ([]extent, error) {
	at := uint64(binary.LittleEndian.Uint32(label[20:])) + pvHeaderAreas
	if string(label[24:32]) != labelType {
		return nil, errMetadata
	}
	var lists [2][]extent
	for i := range lists {
		for {
			if at+16 > uint64(len(label)) || len(lists[i]) > maxAreas {
				return nil, errMetadata
			}
			e := extent{binary.LittleEndian.Uint64(label[at:]), binary.LittleEndian.Uint64(label[at+8:])}
			at += 16
			if e == (extent{}) || e.offset == 0 {
				break
			}
			lists[i] = append(lists[i], e)
		}
	}
	return lists[1], nil
}

// readArea returns the texts that the header of an area points to: the one that holds,
// and one that is about to. They lie in a ring behind the header.
func readArea(device io.ReaderAt, area extent) ([]byte, error) {
	header := make([]byte, areaHeader)
	if area.offset > 1<<62 {
		return nil, errMetadata
	}
	if _, err := device.ReadAt(header, int64(area.offset)); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint64(header[32:])
	if string(header[4:20]) != areaID || crc(header[4:]) != binary.LittleEndian.Uint32(header) ||
		binary.LittleEndian.Uint64(header[24:]) != area.offset || size < 2*areaHeader || size > maxArea {
		return nil, errMetadata
	}
	var texts []byte
	for at := 40; at+24 <= len(header); at += 24 {
		text := extent{binary.LittleEndian.Uint64(header[at:]), binary.LittleEndian.Uint64(header[at+8:])}
		sum, flags := binary.LittleEndian.Uint32(header[at+16:]), binary.LittleEndian.Uint32(header[at+20:])
		if flags&ignoredFlag != 0 {
			return nil, errMetadata
		}
		if text.offset == 0 {
			break
		}
		if text.offset < areaHeader || text.offset >= size || text.size > size-areaHeader {
			return nil, errMetadata
		}
		data := make([]byte, text.size)
		first := min(text.size, size-text.offset)
		if _, err := device.ReadAt(data[:first], int64(area.offset+text.offset)); err != nil {
			return nil, err
		}
		if _, err := device.ReadAt(data[first:], int64(area.offset)+areaHeader); err != nil && len(data[first:]) > 0 {
			return nil, err
		}
		if crc(data) != sum {
			return nil, errMetadata
		}
		texts = append(texts, data...)
	}
	return texts, nil
}

// crc is LVM's, which starts with another value than is usual and is not inverted at
// the end.
func crc(data []byte) uint32 { return ^crc32.Update(^uint32(initialCRC), crc32.IEEETable, data) }
