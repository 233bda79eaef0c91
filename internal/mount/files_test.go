package mount

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// image creates a sparse file, which the programs take for a device.
func image(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	return path
}

func typeOf(t *testing.T, path string) string {
	t.Helper()
	content, err := Probe(context.Background(), path)
	require.NoError(t, err)
	return content.Type
}

// TestFormat creates file systems as on volumes, and checks their type and extent.
func TestFormat(t *testing.T) {
	ctx := context.Background()
	for fs, size := range map[string]int64{Ext4: 64 << 20, XFS: 320 << 20} {
		t.Run(fs, func(t *testing.T) {
			path := image(t, size)
			assert.Empty(t, typeOf(t, path), "nothing is on it")
			require.NoError(t, Format(ctx, Space{Device: path, Size: uint64(size)}, fs))
			assert.Equal(t, fs, typeOf(t, path))
			covered, err := Extent(path, fs)
			require.NoError(t, err)
			assert.Equal(t, uint64(size), covered)
			require.NoError(t, Check(ctx, path))
			assert.False(t, HasErrors(path))

			before, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, Separate(ctx, path))
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.NotEqual(t, before, after, "it has a UUID of its own now")
			assert.Equal(t, fs, typeOf(t, path))
			other := map[string]string{Ext4: XFS, XFS: Ext4}[fs]
			_, err = Extent(path, other)
			assert.ErrorContains(t, err, "has no "+other+" superblock")
		})
	}
}

// TestFormatAtOffset: a file system after an info block leaves the bytes before it unchanged.
func TestFormatAtOffset(t *testing.T) {
	const offset, size = 4 << 20, 64 << 20
	path := image(t, offset+size)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("INFO"), 4096)
	require.NoError(t, err)
	require.NoError(t, Format(context.Background(), Space{Device: path, Offset: offset, Size: size}, Ext4))
	head := make([]byte, 4)
	_, err = f.ReadAt(head, 4096)
	require.NoError(t, err)
	assert.Equal(t, "INFO", string(head))
	info, err := f.Stat()
	require.NoError(t, err)
	assert.EqualValues(t, offset+size, info.Size())
	part := image(t, size)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(part, data[offset:], 0o600))
	assert.Equal(t, Ext4, typeOf(t, part))
}

// TestFormatOptions: the user's options are added, and the error for an invalid one has mkfs's
// message.
func TestFormatOptions(t *testing.T) {
	ctx := context.Background()
	path := image(t, 64<<20)
	require.NoError(t, Format(ctx, Space{Device: path, Size: 64 << 20}, Ext4, "-i", "65536", "-E", "packed_meta_blocks=1"))
	assert.Equal(t, Ext4, typeOf(t, path))
	err := Format(ctx, Space{Device: path, Size: 64 << 20}, Ext4, "-O", "no-such-feature")
	assert.ErrorContains(t, err, "cannot be formatted as ext4")
	assert.ErrorContains(t, err, "no-such-feature")
	assert.True(t, errs.Is(Format(ctx, Space{Device: path}, "btrfs"), errs.Invalid))
}

// TestProbeOther: other content has a type too.
func TestProbeOther(t *testing.T) {
	path := image(t, 64<<20)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	table := make([]byte, 512)
	copy(table[446:], []byte{0, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0, 0})
	copy(table[510:], []byte{0x55, 0xaa})
	_, err = f.WriteAt(table, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	assert.Equal(t, "dos partition table", typeOf(t, path))
	_, err = Probe(context.Background(), path+"-not-there")
	assert.Error(t, err)
}

// TestTable reads this machine's mount table.
func TestTable(t *testing.T) {
	n, p, mounted, err := At("/proc")
	require.NoError(t, err)
	require.True(t, mounted)
	assert.Equal(t, "proc", p.FSType)
	points, err := Points(n)
	require.NoError(t, err)
	assert.NotEmpty(t, points)
	_, _, mounted, err = At(t.TempDir())
	require.NoError(t, err)
	assert.False(t, mounted)
	_, used, err := UseAt("/proc")
	require.NoError(t, err)
	assert.False(t, used, "it is no block device's")
	_, err = Uses()
	require.NoError(t, err)
	nodes, err := BoundNodes(n)
	require.NoError(t, err)
	assert.Empty(t, nodes)
}

func TestRealPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "link")))
	for path, want := range map[string]string{"link/new": "new", "link": "", "new": "new", "no/such": "no/such"} {
		real, err := RealPath(filepath.Join(dir, path))
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(dir, want), real, path)
	}
}

// TestUsage: usage is returned only for a path on the device.
func TestUsage(t *testing.T) {
	n, p, mounted, err := At("/proc")
	require.NoError(t, err)
	require.True(t, mounted)
	_, err = Usage(p.Path, n)
	require.NoError(t, err)
	n.Minor++
	_, err = Usage(p.Path, n)
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = Usage("/no/such/path", n)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestHasDAXOption(t *testing.T) {
	for option, want := range map[string]bool{"dax": true, "dax=always": true, "dax=never": false, "rw": false} {
		assert.Equal(t, want, HasDAXOption(Point{Options: []string{"rw", option}}), option)
	}
}

// TestNotMounted: unmounting or growing fails if nothing is mounted, and mounting if there is no
// device.
func TestNotMounted(t *testing.T) {
	dir, path := t.TempDir(), image(t, 64<<20)
	require.Error(t, Mount(path, dir, Ext4, []string{"defaults", "x-systemd.automount", "noatime"}))
	assert.Error(t, Unmount(path, dir))
	assert.Error(t, UnmountPath(dir))
	assert.Error(t, Grow(context.Background(), path, Point{Path: dir, FSType: Ext4}))
	if err := Detach(dir, dir); os.Geteuid() == 0 {
		assert.NoError(t, err, "nothing is mounted there any more")
	} else {
		assert.ErrorIs(t, err, os.ErrPermission)
	}
	assert.Error(t, Bind(filepath.Join(dir, "no"), dir, true, []string{"noexec"}))
}

func TestDAXAndFaults(t *testing.T) {
	dir := t.TempDir()
	p := Point{Path: dir, Options: []string{"rw", "dax"}, Own: []string{"rw"}, Super: []string{"rw"}}
	_, _, err := DAX(dir, p)
	require.NoError(t, err)
	_, _, err = DAX(filepath.Join(dir, "no"), p)
	assert.Error(t, err)
	n, _, _, err := At("/proc")
	require.NoError(t, err)
	assert.Empty(t, FaultOf(n, p, []Point{p}))
	for option, want := range map[string]Fault{"shutdown": ShutDown, "emergency_ro": MadeReadOnly, "ro": MadeReadOnly} {
		bad := p
		bad.Super = []string{option}
		assert.Equal(t, want, FaultOf(n, bad, []Point{bad}), option)
	}
	assert.False(t, isShutDown(dir))
	assert.False(t, refusesFiles([]Point{p}))
}

func TestPropagates(t *testing.T) {
	_, err := Propagates(t.TempDir())
	assert.NoError(t, err)
	_, err = Propagates("/no/such/directory")
	assert.Error(t, err)
}
