package pmem

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/google/uuid"
)

// InfoBlockOffset is the offset of the info block in a namespace, in bytes. A BTT info block at 0
// takes precedence.
const InfoBlockOffset = 4 * KiB

// InfoBlockSize is the size of an info block in bytes.
const InfoBlockSize = 4 * KiB

// ErrNoInfoBlock is the error for a block that is not a valid info block.
var ErrNoInfoBlock = errors.New("there is no valid info block")

const uuidOffset, sumOffset = 16, InfoBlockSize - 8 // in struct nd_pfn_sb

// InfoUUID returns the UUID in the info block of an fsdax namespace.
func InfoUUID(block []byte) (id uuid.UUID, err error) {
	if len(block) != InfoBlockSize || string(bytes.TrimRight(block[:uuidOffset], "\x00")) != pfnSignature {
		return id, ErrNoInfoBlock
	}
	b := bytes.Clone(block)
	clear(b[sumOffset:])
	if fletcher64(b) != binary.LittleEndian.Uint64(block[sumOffset:]) {
		return id, ErrNoInfoBlock
	}
	copy(id[:], b[uuidOffset:])
	return id, nil
}

// WithUUID returns a copy of the info block of an fsdax namespace with another UUID.
func WithUUID(block []byte, id uuid.UUID) ([]byte, error) {
	if _, err := InfoUUID(block); err != nil {
		return nil, err
	}
	b := bytes.Clone(block)
	copy(b[uuidOffset:], id[:])
	clear(b[sumOffset:])
	binary.LittleEndian.PutUint64(b[sumOffset:], fletcher64(b))
	return b, nil
}

const (
	pfnSignature = "NVDIMM_PFN_INFO"
	pfnModePMEM  = 2 // the struct pages are on the namespace
)

// pfnInfoBlock is struct nd_pfn_sb (kernel drivers/nvdimm/pfn.h), version 1.4.
type pfnInfoBlock struct {
	Signature      [16]byte
	UUID           uuid.UUID
	ParentUUID     uuid.UUID
	Flags          uint32
	Major, Minor   uint16
	DataOffset     uint64
	Pages          uint64
	Mode           uint32
	StartPad       uint32
	EndTrunc       uint32
	Align          uint32
	PageSize       uint32
	PageStructSize uint16
	_              [3994]byte
	Checksum       uint64
}

// PFNInfoBlock returns the info block with which the kernel brings up a namespace of a raw size as
// fsdax with MapDev, identical to the kernel's own (nd_pfn_init, kernel
// drivers/nvdimm/pfn_devs.c). parent is the UUID of the namespace; id is a new one. The data
// begins at raw less Usable, and has size bytes, a multiple of align (nd_pfn_validate); the rest
// up to raw is not used.
func PFNInfoBlock(id, parent uuid.UUID, raw, size, align uint64) []byte {
	usable := Usable(raw, MapDev, align)
	block := pfnInfoBlock{
		UUID: id, ParentUUID: parent, Major: 1, Minor: 4,
		DataOffset: raw - usable, Pages: size / pageSize, Mode: pfnModePMEM, EndTrunc: uint32(usable - size),
		Align: uint32(align), PageSize: pageSize, PageStructSize: structPage,
	}
	copy(block.Signature[:], pfnSignature)
	block.Checksum = fletcher64(block.bytes())
	return block.bytes()
}

func (b pfnInfoBlock) bytes() []byte {
	var out bytes.Buffer
	_ = binary.Write(&out, binary.LittleEndian, b) // it cannot fail: a fixed size, into memory
	return out.Bytes()
}

// fletcher64 is nd_fletcher64 (kernel drivers/nvdimm/core.c).
func fletcher64(data []byte) uint64 {
	var low uint32
	var high uint64
	for ; len(data) >= 4; data = data[4:] {
		low += binary.LittleEndian.Uint32(data)
		high += uint64(low)
	}
	return high<<32 | uint64(low)
}
