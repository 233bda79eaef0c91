package lvm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// change returns the metadata of a group after a number of changes.
func change(t *testing.T, seqno int) ([]byte, Group) {
	d := ReadDisk(lvmDevice(t), deviceSize)
	text := bytes.Replace(d.Copies[0].Text, []byte("seqno = 3"), fmt.Appendf(nil, "seqno = %d", seqno), 1)
	g, err := ParseGroup(text)
	require.NoError(t, err)
	require.EqualValues(t, seqno, g.Seqno)
	return text, g
}

var all = func(Archived) bool { return true }

func TestArchive(t *testing.T) {
	a := Archive{Dir: filepath.Join(t.TempDir(), "deep", "lvm")}
	none, err := a.Newest("vg", all)
	require.NoError(t, err)
	require.Nil(t, none)

	text, g := change(t, 7)
	pv := g.PVs[0].UUID
	file, err := a.Keep("vg", text, g, map[string]string{pv: "namespace A"})
	require.NoError(t, err)
	assert.Equal(t, []uint32{Sum(text)}, a.Last("vg"))
	again, err := a.Keep("vg", text, g, nil)
	require.NoError(t, err)
	assert.Equal(t, file, again, "it is there already")
	info, err := os.Stat(a.Dir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	// A later change, with the device known from the previous one.
	text8, g8 := change(t, 8)
	_, err = a.Keep("vg", text8, g8, nil)
	require.NoError(t, err)
	assert.Equal(t, []uint32{Sum(text8)}, a.Last("vg"))
	one, err := a.Newest("vg", all)
	require.NoError(t, err)
	assert.Equal(t, text8, one.Text)
	assert.Equal(t, map[string]string{pv: "namespace A"}, one.Devices)

	// An older change, restored by hand: the archive's order counts.
	_, err = a.Keep("vg", text, g, nil)
	require.NoError(t, err)
	one, err = a.Newest("vg", all)
	require.NoError(t, err)
	assert.EqualValues(t, 7, one.Group.Seqno)
	one, err = a.Newest("vg", func(o Archived) bool { return o.Group.Seqno == 8 })
	require.NoError(t, err)
	assert.EqualValues(t, 8, one.Group.Seqno)

	// A damaged file is skipped, wherever the wrong byte is.
	names, err := a.names("vg", archiveExt)
	require.NoError(t, err)
	newest := filepath.Join(a.Dir, "vg", names[0])
	whole, err := os.ReadFile(newest)
	require.NoError(t, err)
	for i := bytes.Index(whole, []byte(archiveSum)) + len(archiveSum); i < len(whole); i += 13 {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		require.NoError(t, os.WriteFile(newest, bad, 0o600))
		one, err = a.Newest("vg", all)
		require.NoError(t, err)
		require.EqualValues(t, 8, one.Group.Seqno, "byte %d", i)
	}
}

// TestArchiveOfNamesakes keeps the changes of two groups of the same name apart.
func TestArchiveOfNamesakes(t *testing.T) {
	a := Archive{Dir: t.TempDir()}
	text, g := change(t, 7)
	uuid := "other1-1111-1111-1111-1111-1111-111111"
	otherText := bytes.ReplaceAll(text, []byte(g.UUID), []byte(uuid))
	other, err := ParseGroup(otherText)
	require.NoError(t, err)
	require.Equal(t, uuid, other.UUID)
	pv := g.PVs[0].UUID
	_, err = a.Keep("vg", text, g, map[string]string{pv: "mine"})
	require.NoError(t, err)
	file, err := a.Keep("vg", otherText, other, map[string]string{pv: "theirs"})
	require.NoError(t, err)
	assert.ElementsMatch(t, []uint32{Sum(text), Sum(otherText)}, a.Last("vg"))
	again, err := a.Keep("vg", otherText, other, nil)
	require.NoError(t, err)
	assert.Equal(t, file, again)
	text8, g8 := change(t, 8)
	_, err = a.Keep("vg", text8, g8, nil)
	require.NoError(t, err)
	assert.ElementsMatch(t, []uint32{Sum(text8), Sum(otherText)}, a.Last("vg"))
	one, err := a.Newest("vg", func(o Archived) bool { return o.Group.UUID == g.UUID })
	require.NoError(t, err)
	assert.Equal(t, map[string]string{pv: "mine"}, one.Devices, "not taken from another of its name")

	// The changes of one group never displace the newest of the other.
	for i := range maxArchived + 5 {
		text, g := change(t, 10+i)
		_, err := a.Keep("vg", text, g, nil)
		require.NoError(t, err)
	}
	one, err = a.Newest("vg", func(o Archived) bool { return o.Group.UUID == uuid })
	require.NoError(t, err)
	require.NotNil(t, one)
	assert.Equal(t, otherText, one.Text)

	// A UUID is part of a file's name.
	_, err = ParseGroup(bytes.ReplaceAll(text, []byte(g.UUID), []byte("../../../../../../../../../../../etc/x")))
	assert.Error(t, err)
}

func TestArchiveIsBounded(t *testing.T) {
	a := Archive{Dir: t.TempDir()}
	for i := 1; i <= maxArchived+5; i++ {
		text, g := change(t, i)
		_, err := a.Keep("vg", text, g, nil)
		require.NoError(t, err)
	}
	for i := range maxOverwritten + 5 {
		_, err := a.KeepOverwritten("vg", "pmem0", uint64(i), []byte("x"))
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(a.Dir, "vg", ".new-1"), nil, 0o600), "what a killed write left")
	text, g := change(t, 200)
	_, err := a.Keep("vg", text, g, nil)
	require.NoError(t, err)
	entries, err := os.ReadDir(filepath.Join(a.Dir, "vg"))
	require.NoError(t, err)
	assert.Len(t, entries, maxArchived+maxOverwritten)
	one, err := a.Newest("vg", all)
	require.NoError(t, err)
	assert.EqualValues(t, 200, one.Group.Seqno)

	// Also by size; the newest one is kept, however large it is.
	big, err := os.Create(filepath.Join(a.Dir, "vg", archiveName(9999, 1, 1, one.Group.Time, g.UUID)))
	require.NoError(t, err)
	require.NoError(t, big.Truncate(2*maxArchivedBytes))
	require.NoError(t, big.Close())
	a.prune("vg", archiveExt, maxArchived)
	names, err := a.names("vg", archiveExt)
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Base(big.Name())}, names)
}

func TestArchiveNotWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	text, g := change(t, 7)
	_, err := Archive{Dir: file}.Keep("vg", text, g, nil)
	assert.Error(t, err)
}
