package mount

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
)

// Usage returns statfs(2) of a path on the device, or os.ErrNotExist if the path is not on it:
// after an unmount, the path is on the host's file system.
func Usage(path string, device blockdev.Number) (fs unix.Statfs_t, err error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fs, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fs, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if (blockdev.Number{Major: unix.Major(st.Dev), Minor: unix.Minor(st.Dev)}) != device {
		return fs, os.ErrNotExist
	}
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fs, &os.PathError{Op: "fstatfs", Path: path, Err: err}
	}
	return fs, nil
}

// Extent returns the number of bytes of a device that its file system covers, from its superblock
// (kernel fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h).
func Extent(device, fs string) (uint64, error) {
	sb, err := readStart(device)
	if err != nil {
		return 0, err
	}
	switch {
	case fs == Ext4 && hasExt(sb):
		blocks := uint64(binary.LittleEndian.Uint32(sb[1024+4:])) | uint64(binary.LittleEndian.Uint32(sb[1024+0x150:]))<<32
		return blocks * (1024 << binary.LittleEndian.Uint32(sb[1024+24:])), nil
	case fs == XFS && hasXFS(sb):
		return binary.BigEndian.Uint64(sb[8:]) * uint64(binary.BigEndian.Uint32(sb[4:])), nil
	}
	return 0, fmt.Errorf("%s has no %s superblock", device, fs)
}

func readStart(device string) ([]byte, error) {
	f, err := os.Open(blockdev.Node(device))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sb := make([]byte, 4096)
	_, err = f.ReadAt(sb, 0)
	return sb, err
}

func hasExt(sb []byte) bool { return binary.LittleEndian.Uint16(sb[1024+56:]) == 0xef53 }
func hasXFS(sb []byte) bool { return string(sb[:4]) == "XFSB" }

// ownFilesystem returns the type of a file system that starts like one created by pmemctl; ""
// leaves it to blkid, which takes longer to start than a mount.
func ownFilesystem(device string) (string, error) {
	sb, err := readStart(device)
	if err != nil {
		return "", err
	}
	// Only ext4, not other kinds of ext: with extents, and without a journal on another device.
	const extents, journalDevice = 0x40, 0x8
	incompat := binary.LittleEndian.Uint32(sb[1024+96:])
	switch ext, xfs := hasExt(sb), hasXFS(sb); {
	case ext && incompat&extents != 0 && incompat&journalDevice == 0 && isZero(sb[:1024]) && isZero(sb[2048:]):
		return Ext4, nil
	case xfs && !ext && sb[510] == 0 && sb[511] == 0: // and no partition table
		return XFS, nil
	}
	return "", nil
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
