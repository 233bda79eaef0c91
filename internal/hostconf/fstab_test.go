package hostconf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// persisting returns a host with a mount helper and an fstab.
func persisting(t *testing.T, fstab string) (h Host, file string) {
	t.Helper()
	h.Root = t.TempDir()
	for _, dir := range []string{"etc", "sbin"} {
		require.NoError(t, os.Mkdir(filepath.Join(h.Root, dir), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(h.Root, "sbin", MountHelper), nil, 0o755))
	file = filepath.Join(h.Root, "etc/fstab")
	require.NoError(t, os.WriteFile(file, []byte(fstab), 0o640))
	return h, file
}

func content(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(data)
}

// TestPersist: one line is added and removed, and nothing else changes.
func TestPersist(t *testing.T) {
	const before = "# a comment\nUUID=1 / ext4 defaults 0 1\n/dev/sda2  none\tswap sw 0 0\nshort line"
	h, file := persisting(t, before)
	db := FstabEntry{Volume: "db", Path: "/mnt/a b\\c", Options: []string{"ro", "noatime"}}
	require.NoError(t, h.MayPersist(db))
	assert.Equal(t, before, content(t, file))
	added, err := h.Persist(db)
	require.NoError(t, err)
	assert.True(t, added)
	const line = "pmemctl:db /mnt/a\\040b\\134c pmemctl nofail,ro,noatime 0 0\n"
	assert.Equal(t, before+"\n"+line, content(t, file))
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), info.Mode().Perm())
	added, err = h.Persist(db)
	require.NoError(t, err)
	assert.False(t, added)
	assert.Equal(t, before+"\n"+line, content(t, file))
	assert.Equal(t, []string{db.Path}, h.Persisted("db"))
	assert.Empty(t, h.Persisted("other"))

	_, err = h.Persist(FstabEntry{Volume: "db", Path: "/mnt/2"})
	require.NoError(t, err)
	paths, err := h.Unpersist("db", "/mnt/2")
	require.NoError(t, err)
	assert.Equal(t, []string{"/mnt/2"}, paths)
	paths, err = h.Unpersist("other", "")
	require.NoError(t, err)
	assert.Empty(t, paths)
	paths, err = h.Unpersist("db", "")
	require.NoError(t, err)
	assert.Equal(t, []string{db.Path}, paths)
	assert.Equal(t, before+"\n", content(t, file))
	require.NoError(t, os.Remove(file))
	_, err = h.Persist(db)
	require.NoError(t, err)
	assert.Equal(t, line, content(t, file))
}

func TestPersistRefusals(t *testing.T) {
	db := FstabEntry{Volume: "db", Path: "/mnt/db"}
	for fstab, reason := range map[string]string{
		"/dev/sda1 /mnt/db ext4 defaults 0 0\n":      "already has a line for /mnt/db: /dev/sda1 /mnt/db ext4 defaults 0 0",
		"pmemctl:web /mnt/db pmemctl nofail 0 0\n":   "already has a line",
		"pmemctl:db /mnt/db pmemctl nofail,ro 0 0\n": "already has a line",
	} {
		h, file := persisting(t, fstab)
		for _, err := range []error{h.MayPersist(db), func() error { _, err := h.Persist(db); return err }()} {
			assert.ErrorContains(t, err, reason)
			assert.True(t, errs.Is(err, errs.Conflict))
		}
		assert.Equal(t, fstab, content(t, file))
	}
	h, file := persisting(t, "")
	require.NoError(t, os.Rename(file, file+".real"))
	require.NoError(t, os.Symlink("fstab.real", file))
	assert.ErrorContains(t, h.MayPersist(db), "is a symbolic link")
	_, err := h.Unpersist("db", "")
	assert.True(t, errs.Is(err, errs.Unsupported))
	h, _ = persisting(t, "")
	require.NoError(t, os.Remove(filepath.Join(h.Root, "sbin", MountHelper)))
	err = h.MayPersist(db)
	assert.True(t, errs.Is(err, errs.NotFound))
	assert.Contains(t, errs.NextStep(err), "ln -s ")
}
