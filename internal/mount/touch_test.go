package mount

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestMapFile: a file system in the page cache has neither MAP_SYNC nor faults of 2 MiB, and no
// file stays. DAX is tested in the guest.
func TestMapFile(t *testing.T) {
	dir := t.TempDir()
	m, err := MapFile(dir)
	require.NoError(t, err)
	assert.False(t, m.Sync)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = MapFile(dir + "/missing")
	assert.ErrorIs(t, err, unix.ENOENT)
}

func TestFeatureWithoutDAX(t *testing.T) {
	ext := make([]byte, 4096)
	binary.LittleEndian.PutUint16(ext[1024+56:], 0xef53)
	assert.Empty(t, featureWithoutDAX(Ext4, ext))
	binary.LittleEndian.PutUint32(ext[1024+96:], 0x8000)
	assert.Contains(t, featureWithoutDAX(Ext4, ext), "inline_data")
	assert.Empty(t, featureWithoutDAX(XFS, ext))
	xfs := make([]byte, 4096)
	copy(xfs, "XFSB")
	assert.Empty(t, featureWithoutDAX(XFS, xfs))
	binary.BigEndian.PutUint32(xfs[212:], 0x4)
	assert.Equal(t, !kernelAtLeast(6, 1), featureWithoutDAX(XFS, xfs) != "")
}
