package mount

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOwnFilesystem: the types recognized without blkid agree with blkid, and unclear cases are
// left to it.
func TestOwnFilesystem(t *testing.T) {
	ctx := context.Background()
	make := func(size int64) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "device")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		require.NoError(t, os.Truncate(file, size))
		return file
	}
	put := func(file string, at int64, bytes string) {
		t.Helper()
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte(bytes), at)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	ext4, xfs := make(16<<20), make(MinXFS)
	require.NoError(t, Format(ctx, Space{Device: ext4, Size: 16 << 20}, Ext4))
	require.NoError(t, Format(ctx, Space{Device: xfs, Size: MinXFS}, XFS))
	ext2 := make(16 << 20)
	require.NoError(t, exec.Command("mke2fs", "-q", "-F", "-t", "ext2", ext2).Run())
	both := make(16 << 20)
	require.NoError(t, Format(ctx, Space{Device: both, Size: 16 << 20}, Ext4))
	put(both, 512, "LABELONE") // where LVM has its own
	for what, c := range map[string]struct{ file, want string }{
		"ext4": {ext4, Ext4}, "XFS": {xfs, XFS}, "ext2": {ext2, ""}, "ext4 with something before it": {both, ""}, "nothing": {make(4096), ""},
	} {
		got, err := ownFilesystem(c.file)
		require.NoError(t, err, what)
		assert.Equal(t, c.want, got, what)
		if c.want != "" {
			out, err := exec.Command("blkid", "-p", "-o", "value", "-s", "TYPE", c.file).Output()
			require.NoError(t, err, what)
			assert.Equal(t, c.want+"\n", string(out), what)
		}
	}
}
