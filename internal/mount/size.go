package mount

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Size is the bytes of the file system at a path for files, as df shows them.
func Size(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return st.Blocks * uint64(st.Bsize), nil
}

// Extent is the bytes of a device that the file system on it covers, from its
// superblock (kernel fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h).
func Extent(device, fs string) (uint64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sb := make([]byte, 4096)
	if _, err := f.ReadAt(sb, 0); err != nil {
		return 0, err
	}
	switch {
	case fs == Ext4 && binary.LittleEndian.Uint16(sb[1024+56:]) == 0xef53:
		blocks := uint64(binary.LittleEndian.Uint32(sb[1024+4:])) | uint64(binary.LittleEndian.Uint32(sb[1024+0x150:]))<<32
		return blocks * (1024 << binary.LittleEndian.Uint32(sb[1024+24:])), nil
	case fs == XFS && string(sb[:4]) == "XFSB":
		return binary.BigEndian.Uint64(sb[8:]) * uint64(binary.BigEndian.Uint32(sb[4:])), nil
	}
	return 0, fmt.Errorf("%s has no superblock of %s", device, fs)
}
