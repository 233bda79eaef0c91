package mount

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
)

// WhyNoDAX returns the reason why a mounted file system does not use DAX (kernel
// Documentation/filesystems/dax.rst); "" if none is known. device is its block device.
func WhyNoDAX(device string, n blockdev.Number, p Point) string {
	switch {
	case slices.Contains(p.Options, "dax=inode"):
		return "it is mounted with dax=inode, so each file decides"
	case slices.Contains(p.Options, "dax=never"):
		return "it is mounted with dax=never"
	case !blockdev.HasDAX(n):
		return "its device does not support DAX"
	}
	var fs unix.Statfs_t
	if unix.Statfs(p.Path, &fs) == nil && fs.Bsize != int64(os.Getpagesize()) {
		return fmt.Sprintf("its block size is %d, but DAX requires that of a page, %d", fs.Bsize, os.Getpagesize())
	}
	if sb, err := readStart(device); err == nil {
		if reason := featureWithoutDAX(p.FSType, sb); reason != "" {
			return reason
		}
	}
	if !HasDAXOption(p) && !slices.ContainsFunc(p.Options, func(o string) bool { return strings.HasPrefix(o, "dax=") }) {
		return "it is mounted without the option dax"
	}
	return ""
}

// featureWithoutDAX returns the feature in a superblock that excludes DAX (fs/ext4/super.c,
// fs/xfs/xfs_super.c).
func featureWithoutDAX(fs string, sb []byte) string {
	const inlineData, reflink = 0x8000, 0x4
	switch {
	case fs == Ext4 && hasExt(sb) && binary.LittleEndian.Uint32(sb[1024+96:])&inlineData != 0:
		return "it was created with the feature inline_data, which excludes DAX"
	case fs == XFS && hasXFS(sb) && binary.BigEndian.Uint32(sb[212:])&reflink != 0 && !kernelAtLeast(6, 1):
		return "it was created with reflink, which excludes DAX before Linux 6.1"
	}
	return ""
}
