package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// TestHelperArgs: what --persist writes is what the helper reads.
func TestHelperArgs(t *testing.T) {
	for _, m := range []volume.MountSpec{
		{Name: "db", Path: "/mnt/db"},
		{Name: "db", Path: "/mnt/db", FS: mount.XFS, NoDAX: true, ReadOnly: true, Options: []string{"noexec", "noatime"}},
	} {
		e, err := fstabEntry(m)
		require.NoError(t, err)
		for _, args := range [][]string{
			{"pmemctl:" + e.Volume, e.Path, "-o", "rw,nofail,x-systemd.automount,comment=a," + strings.Join(e.Options, ",")},
			{"-sn", "-t", "pmemctl", "-o", strings.Join(e.Options, ","), e.Volume, e.Path, "-v"},
		} {
			got, fake, err := parseHelperArgs(args)
			require.NoError(t, err)
			assert.False(t, fake)
			want := m
			want.Formatted = true
			assert.Equal(t, want, got)
		}
	}
	_, fake, err := parseHelperArgs([]string{"db", "/mnt/db", "-fs"})
	require.NoError(t, err)
	assert.True(t, fake)
	m, _, err := parseHelperArgs([]string{"db", "/mnt/db", "-r"})
	require.NoError(t, err)
	assert.True(t, m.ReadOnly)
	for _, args := range []string{"", "db", "db /mnt /mnt", "db /mnt --bind", "db /mnt -X", "db /mnt -o", "db /mnt -o remount,ro"} {
		_, _, err := parseHelperArgs(strings.Fields(args))
		assert.Error(t, err, args)
		assert.NotEmpty(t, errs.NextStep(err), args)
	}
}

// comes is a service whose volume is there at the third look.
type comes struct {
	service
	err   error
	looks int
	got   volume.MountSpec
}

func (f *comes) Mount(_ context.Context, m volume.MountSpec) (volume.Volume, error) {
	f.got = m
	if f.looks++; f.looks < 3 {
		return volume.Volume{}, errs.New(errs.NotFound, "volume db", "does not exist", "")
	}
	return volume.Volume{}, f.err
}

// TestMountAtBoot: the helper waits for a volume, but not for anything else.
func TestMountAtBoot(t *testing.T) {
	wait, poll := bootWait, bootPoll
	defer func() { bootWait, bootPoll = wait, poll }()
	bootPoll = time.Millisecond
	f := &comes{}
	sh := newShell(f)
	assert.Equal(t, exitOK, sh.mountHelper(context.Background(), []string{"db", "/mnt/db"}))
	assert.Equal(t, 3, f.looks)
	assert.True(t, f.got.Formatted)
	f.looks, f.err = 0, errs.New(errs.InUse, "volume db", "is in use", "")
	assert.Equal(t, mountFailed, sh.mountHelper(context.Background(), []string{"db", "/mnt/db"}))
	assert.Equal(t, 3, f.looks)
	f.looks, bootWait = 0, 0
	assert.Equal(t, mountFailed, sh.mountHelper(context.Background(), []string{"db", "/mnt/db"}))
	assert.Equal(t, 1, f.looks)
	assert.Contains(t, sh.stderr.String(), "volume db: does not exist")
	assert.Equal(t, mountUsage, sh.mountHelper(context.Background(), []string{"db"}))
	assert.Equal(t, exitOK, sh.mountHelper(context.Background(), []string{"db", "/mnt/db", "-f"}))
	assert.Equal(t, 1, f.looks)
}

// TestVolumePersist: a line in /etc/fstab comes and goes with the mount.
func TestVolumePersist(t *testing.T) {
	sh := newModelShell(t)
	sh.etc.Root = t.TempDir()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for _, sub := range []string{"etc", "sbin"} {
		require.NoError(t, os.Mkdir(filepath.Join(sh.etc.Root, sub), 0o755))
	}
	fstab := func() string {
		data, _ := os.ReadFile(filepath.Join(sh.etc.Root, "etc/fstab"))
		return string(data)
	}
	sh.ok(t, "volume create db --type direct --size 16Mi")
	assert.Equal(t, exitNotFound, sh.run("volume mount db "+dir+"/db --persist"), "there is no helper")
	sh.ok(t, "volume show db -o json")
	assert.Contains(t, sh.stdout.String(), `"mounts": []`)
	require.NoError(t, os.WriteFile(filepath.Join(sh.etc.Root, "sbin", hostconf.MountHelper), nil, 0o755))
	sh.ok(t, "volume mount db "+dir+"/db --persist", "volume mount db "+dir+"/db --persist")
	line := "pmemctl:db " + dir + "/db pmemctl nofail 0 0\n"
	assert.Equal(t, line, fstab())
	sh.ok(t, "volume unmount db")
	assert.Contains(t, sh.stderr.String(), "is mounted on "+dir+"/db again at the next boot")
	assert.Equal(t, line, fstab())
	sh.ok(t, "volume mount db "+dir+"/db", "volume unmount db --persist")
	assert.Empty(t, fstab())

	// The line outlives the volume.
	sh.ok(t, "volume mount db "+dir+"/db --persist", "volume delete db --unmount --force")
	assert.Contains(t, sh.stderr.String(), "volume db: /etc/fstab mounts it at boot; to end that: pmemctl volume unmount db --persist")
	sh.ok(t, "volume unmount db --persist")
	assert.Empty(t, fstab())
	assert.Equal(t, exitNotFound, sh.run("volume unmount db --persist"))

	// At boot nothing is formatted.
	wait := bootWait
	defer func() { bootWait = wait }()
	bootWait = 0
	sh.ok(t, "volume create raw --type direct --size 16Mi --fs none")
	assert.Equal(t, mountFailed, sh.mountHelper(context.Background(), []string{"raw", dir + "/raw"}))
	assert.Contains(t, sh.stderr.String(), "has no file system any more, and is not formatted at boot")
}
