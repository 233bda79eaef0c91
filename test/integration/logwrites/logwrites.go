// Package logwrites reads what dm-log-writes of the kernel has recorded of a block device,
// and plays it again: drivers/md/dm-log-writes.c and
// Documentation/admin-guide/device-mapper/log-writes.rst. A write is in the log when it
// would survive a power cut, that is at the next flush, or when it had FUA itself; so the
// prefixes of a log are what a medium may hold after one.
package logwrites

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	magic   = 0x6a736677736872
	version = 1
)

// Flags of an entry.
const (
	Flush = 1 << iota
	FUA
	Discard
	Mark
	Metadata
)

// Entry is one record of a log.
type Entry struct {
	Offset, Length int64 // bytes of the device; a flush and a mark have none
	Flags          uint64
	Name           string // of a mark
	data           int64  // offset of the content in the log
}

// Log is a finished log: of a target that was removed.
type Log struct {
	Entries []Entry
	log     io.ReaderAt
}

// Read reads a log from its device.
func Read(log io.ReaderAt) (*Log, error) {
	var super [28]byte
	if _, err := log.ReadAt(super[:], 0); err != nil {
		return nil, err
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(super[8*i:]) }
	sector := int64(binary.LittleEndian.Uint32(super[24:]))
	if word(0) != magic || word(1) != version || sector < 512 {
		return nil, fmt.Errorf("no log of dm-log-writes: magic %#x, version %d, sectors of %d bytes", word(0), word(1), sector)
	}
	l := &Log{log: log}
	at := sector
	for range word(2) {
		head := make([]byte, sector)
		if _, err := log.ReadAt(head, at); err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(l.Entries), err)
		}
		field := func(i int) int64 { return int64(binary.LittleEndian.Uint64(head[8*i:])) }
		e := Entry{Offset: field(0) * sector, Length: field(1) * sector, Flags: uint64(field(2)), data: at + sector}
		at += sector
		if e.Flags&Mark != 0 {
			const headLength = 32
			length := field(3)
			if length < 0 || headLength+length > sector {
				return nil, fmt.Errorf("entry %d: a mark of %d bytes", len(l.Entries), length)
			}
			e.Name = strings.TrimRight(string(head[headLength:headLength+length]), "\x00")
		}
		if e.Flags&Discard == 0 {
			at += e.Length
		}
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

// Apply makes the change of an entry to a device, or to the image of one. What is
// discarded reads as zeros, as it may.
func (l *Log) Apply(e Entry, image []byte) error {
	if e.Length == 0 {
		return nil
	}
	if e.Offset < 0 || e.Length < 0 || e.Offset+e.Length > int64(len(image)) {
		return fmt.Errorf("%d bytes at %d are not within the device", e.Length, e.Offset)
	}
	part := image[e.Offset : e.Offset+e.Length]
	if e.Flags&Discard != 0 {
		clear(part)
		return nil
	}
	if _, err := l.log.ReadAt(part, e.data); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
