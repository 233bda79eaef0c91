//go:build guest

package integration

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"
)

var le = binary.LittleEndian

// image is bytes by their place on a device.
type image map[int64][]byte

// lvmCRC is LVM's own (lib/misc/crc.c): the CRC of zlib with another start, not inverted
// at the end.
func lvmCRC(data []byte) uint32 {
	const start = uint32(0xf597a6cf)
	return ^crc32.Update(^start, crc32.IEEETable, data)
}

// lvmDevice is a physical volume with a volume group, as LVM writes it: format_text/layout.h,
// label/label.h. The sizes are in bytes.
type lvmDevice struct {
	name, uuid, pvUUID string
	seqno              int
	tag                string
	size               uint64
	padding            int // bytes of metadata to add
	metadataArea       uint64
}

const lvmLVUUID = "HostiL-LLLL-LLLL-LLLL-LLLL-LLLL-LLLLLL"

func (d lvmDevice) image() image {
	var tags []string
	for n := 0; n*100 < d.padding; n++ {
		tags = append(tags, fmt.Sprintf(`"%0100d"`, n))
	}
	tags = append([]string{`"` + d.tag + `"`}, tags...)
	text := fmt.Sprintf(`%s {
id = "%s"
seqno = %d
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
tags = [%s]
extent_size = 4096
max_lv = 0
max_pv = 0
metadata_copies = 0

physical_volumes {
pv0 {
id = "%s"
device = "/dev/sda"
status = ["ALLOCATABLE"]
flags = []
dev_size = %d
pe_start = 4096
pe_count = %d
}
}

logical_volumes {
stolen {
id = "%s"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
creation_time = 1
creation_host = "x"
segment_count = 1
segment1 {
start_extent = 0
extent_count = 1
type = "striped"
stripe_count = 1
stripes = [
"pv0", 0
]
}
}
}
}
contents = "Text Format Volume Group"
version = 1
description = ""
creation_host = "x"
creation_time = 1
`, d.name, d.uuid, d.seqno, strings.Join(tags, ", "), d.pvUUID, d.size>>9, (d.size-2<<20)>>21, lvmLVUUID) + "\x00"

	label := make([]byte, 512)
	copy(label, "LABELONE")
	le.PutUint64(label[8:], 1)
	le.PutUint32(label[20:], 32)
	copy(label[24:], "LVM2 001")
	copy(label[32:], strings.ReplaceAll(d.pvUUID, "-", ""))
	at := 64
	for _, n := range []uint64{d.size, 2 << 20, 0, 0, 0, 4096, d.metadataArea, 0, 0} {
		le.PutUint64(label[at:], n)
		at += 8
	}
	le.PutUint32(label[at:], 2)   // version of the extension
	le.PutUint32(label[at+4:], 1) // in use
	le.PutUint32(label[16:], lvmCRC(label[20:]))

	area := make([]byte, 512)
	copy(area[4:], " LVM2 x[5A%r0N*>")
	le.PutUint32(area[20:], 1)
	le.PutUint64(area[24:], 4096)
	le.PutUint64(area[32:], d.metadataArea)
	le.PutUint64(area[40:], 512)
	le.PutUint64(area[48:], uint64(len(text)))
	le.PutUint32(area[56:], lvmCRC([]byte(text)))
	le.PutUint32(area, lvmCRC(area[4:]))
	return image{512: label, 4096: area, 4096 + 512: []byte(text)}
}

// mdMember is a superblock of MD, version 1.2 (include/uapi/linux/raid/md_p.h), of a mirror
// that has all it needs.
func mdMember(sectors uint64) image {
	b := make([]byte, 512)
	le.PutUint32(b, 0xa92b4efc)
	le.PutUint32(b[4:], 1)
	copy(b[16:], "hostile-md-array")
	copy(b[32:], "any:hostile")
	le.PutUint32(b[72:], 1) // RAID 1
	le.PutUint64(b[80:], sectors-2048)
	le.PutUint32(b[92:], 1) // disks
	le.PutUint64(b[128:], 2048)
	le.PutUint64(b[136:], sectors-2048)
	le.PutUint64(b[144:], 8)
	copy(b[168:], "hostile-md-dev00")
	le.PutUint64(b[200:], 1<<40) // events: later than any
	le.PutUint32(b[220:], 1)     // places in dev_roles
	sum := uint64(0)
	for i := 0; i < 256+2; i += 4 {
		if i == 256 {
			sum += uint64(le.Uint16(b[i:]))
		} else if i != 216 {
			sum += uint64(le.Uint32(b[i:]))
		}
	}
	le.PutUint32(b[216:], uint32(sum)+uint32(sum>>32))
	return image{4096: b}
}

// gpt has one partition of 8 MiB, with a name and UUID that a host may look for.
func gpt(sectors uint64, name string) image {
	entries := make([]byte, 128*128)
	copy(entries, []byte{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4})
	copy(entries[16:], "hostile-part-uid")
	le.PutUint64(entries[32:], 2048)
	le.PutUint64(entries[40:], 2048+16383)
	for i, c := range utf16.Encode([]rune(name)) {
		le.PutUint16(entries[56+2*i:], c)
	}
	h := make([]byte, 512)
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 0x10000)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], sectors-1)
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], sectors-34)
	copy(h[56:], "hostile-disk-uid")
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	img := mbr(0xee, 1, uint32(sectors-1))
	img[512], img[1024] = h, entries
	return img
}

func mbr(kind byte, start, length uint32) image {
	b := make([]byte, 512)
	le.PutUint32(b[440:], 0x600dd15c)
	b[450] = kind
	le.PutUint32(b[454:], start)
	le.PutUint32(b[458:], length)
	b[510], b[511] = 0x55, 0xaa
	return image{0: b}
}

// bcacheDevice is a superblock of a backing device (drivers/md/bcache/bcache_ondisk.h).
func bcacheDevice() image {
	b := make([]byte, 4096)
	le.PutUint64(b[8:], 8)
	le.PutUint64(b[16:], 1)
	copy(b[24:], []byte{0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81})
	copy(b[40:], "hostile-bcache-0")
	copy(b[56:], "hostile-bcacheset")
	// CRC-64 of ECMA-182, the most significant bit first.
	sum := ^uint64(0)
	for _, c := range b[8:208] {
		sum ^= uint64(c) << 56
		for range 8 {
			if sum>>63 == 1 {
				sum = sum<<1 ^ 0x42f0e1eba9ea3693
			} else {
				sum <<= 1
			}
		}
	}
	le.PutUint64(b, ^sum)
	return image{4096: b}
}

func luks(uuid string) image {
	b := make([]byte, 1024)
	copy(b, "LUKS\xba\xbe\x00\x01")
	copy(b[8:], "aes")
	copy(b[40:], "xts-plain64")
	copy(b[72:], "sha256")
	copy(b[168:], uuid)
	return image{0: b}
}

// zfs has as many uberblocks as blkid asks for.
func zfs() image {
	img := image{}
	for n := range int64(8) {
		b := make([]byte, 40)
		le.PutUint64(b, 0x00bab10c)
		le.PutUint64(b[8:], 5000)
		img[128<<10+n<<10] = b
	}
	return img
}

func btrfs(uuid, label string, size uint64) image {
	b := make([]byte, 4096)
	copy(b[32:], uuid)
	le.PutUint64(b[48:], 64<<10)
	copy(b[64:], "_BHRfS_M")
	le.PutUint64(b[72:], 1<<40) // later than any
	le.PutUint64(b[112:], size)
	le.PutUint64(b[136:], 1)
	le.PutUint32(b[144:], 4096)
	le.PutUint32(b[148:], 16384)
	le.PutUint64(b[201:], 1)
	copy(b[299:], label)
	le.PutUint32(b, crc32.Checksum(b[32:], crc32.MakeTable(crc32.Castagnoli)))
	return image{64 << 10: b}
}
