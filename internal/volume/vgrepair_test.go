package volume

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

const (
	repairPV = "5FBIIs-tlqE-FVTq-OCKQ-mwfI-WI0b-3r1Rq8"
	repairVG = "GZsqjU-10zr-P3SA-B3wR-smon-Na2k-kJB1g2"
	ownLV    = "JfCEsN-wMd5-gE4J-VPJV-eb5J-XgEK-BJxv3a"
	theirLV  = "KfCEsN-wMd5-gE4J-VPJV-eb5J-XgEK-BJxv3a"
)

// repairText is the metadata of a group with one device of 64 MiB, volume db, and a logical volume
// of somebody else's.
const repairText = `vg {
id = "` + repairVG + `"
seqno = 7
extent_size = 4096
physical_volumes {
pv0 {
id = "` + repairPV + `"
dev_size = 131072
pe_start = 4096
pe_count = 30
}
}
logical_volumes {
db {
id = "` + ownLV + `"
tags = ["pmemctl"]
segment1 {
extent_count = 4
type = "striped"
stripes = ["pv0", 0]
}
}
theirs {
id = "` + theirLV + `"
segment1 {
extent_count = 1
type = "striped"
stripes = ["pv0", 9]
}
}
}
}
creation_time = 1795738017
` + "\x00"

// reported is what LVM sees.
type reported struct {
	LVM
	state lvm.State
	err   error
}

func (r reported) Report(context.Context) (lvm.State, error) { return r.state, r.err }

// fileDevices are files in place of devices, by path; what else is asked is a nil pointer.
type fileDevices struct {
	Devices
	files map[string]string
}

type openFile struct {
	*os.File
	size uint64
}

func (f openFile) Size() uint64 { return f.size }

func (d fileDevices) Open(path string) (Opened, error) {
	f, err := os.Open(d.files[path])
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	return openFile{f, uint64(info.Size())}, err
}

func (fileDevices) Identify(string) (blockdev.Number, error) { return blockdev.Number{Major: 259}, nil }
func (fileDevices) Mapped() ([]blockdev.Mapped, error)       { return nil, nil }

// newRepairable is a service whose one group is on a file, and the path of that.
func newRepairable(t *testing.T) (*Service, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pmem0")
	g, err := lvm.ParseGroup([]byte(repairText))
	require.NoError(t, err)
	writes, err := lvm.Disk{Size: 64 * pmem.MiB, LabelDamage: "is not there yet"}.Repair([]byte(repairText), g, g.PVs[0])
	require.NoError(t, err)
	f, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(64*pmem.MiB))
	for _, w := range writes {
		_, err := f.WriteAt(w.Data, int64(w.Offset))
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	n := pmem.Namespace{Dev: "namespace0.0", Region: "region0", UUID: "n0", Name: markMember + "vg", Blockdev: "pmem0", Mode: pmem.ModeFSDAX, State: pmem.StateEnabled}
	return &Service{NDCTL: fixedPMEM{sys: pmem.System{Namespaces: []pmem.Namespace{n}}}, Devices: fileDevices{files: map[string]string{"/dev/pmem0": file}}, ArchiveDir: filepath.Join(t.TempDir(), "lvm")}, file
}

// TestVerifyRepair: a repair succeeds only when the devices read as what was written, and LVM sees
// the group with all of pmemctl's volumes.
func TestVerifyRepair(t *testing.T) {
	whole := lvm.VG{Name: "vg", UUID: repairVG, LVs: []lvm.LV{{Name: "db", UUID: ownLV}}}
	missing, without := whole, whole
	missing.PartialPVMissing, without.LVs = true, []lvm.LV{{Name: "theirs", UUID: theirLV}}
	other := whole
	other.UUID = "OTHER"
	broken := errors.New("lvm is broken")
	for what, c := range map[string]struct {
		lvm    reported
		sum    uint32 // is other than planned by so much
		reason string // "" is none
	}{
		"as planned":             {reported{state: lvm.State{VGs: []lvm.VG{other, whole}}}, 0, ""},
		"LVM sees none":          {reported{state: lvm.State{VGs: []lvm.VG{other}}}, 0, "does not see it"},
		"LVM misses a device":    {reported{state: lvm.State{VGs: []lvm.VG{missing}}}, 0, "missing"},
		"LVM misses a volume":    {reported{state: lvm.State{VGs: []lvm.VG{without}}}, 0, "does not see all"},
		"it reads as other text": {reported{state: lvm.State{VGs: []lvm.VG{whole}}}, 1, "does not read back as"},
		"LVM fails":              {reported{err: broken}, 0, "lvm is broken"},
	} {
		s, _ := newRepairable(t)
		s.LVM = c.lvm
		plan, err := s.planRepair("vg")
		require.NoError(t, err, what)
		plan.sum += c.sum
		err = s.verifyRepair(context.Background(), plan)
		switch {
		case c.reason == "":
			assert.NoError(t, err, what)
		case c.lvm.err != nil:
			assert.ErrorIs(t, err, c.lvm.err, what)
		default:
			refused(t, err, errs.Internal, "volume group vg", c.reason, s.ArchiveDir, what)
		}
	}

	// A device that still has something wrong is not repaired, whatever LVM says.
	s, file := newRepairable(t)
	s.LVM = reported{state: lvm.State{VGs: []lvm.VG{whole}}}
	plan, err := s.planRepair("vg")
	require.NoError(t, err)
	overwrite(t, file, 4096, make([]byte, 512))
	assert.Error(t, s.verifyRepair(context.Background(), plan))
}

func overwrite(t *testing.T, file string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(data, at)
	require.NoError(t, errors.Join(err, f.Close()))
}

// TestReadWhatCan: what is about to be overwritten is kept byte for byte; what cannot be read is
// zeros.
func TestReadWhatCan(t *testing.T) {
	s, file := newRepairable(t)
	devices := s.Devices
	overwrite(t, file, 64*pmem.MiB-4096, bytes.Repeat([]byte("data"), 1024))
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	unzip := func(packed []byte) []byte {
		r, err := gzip.NewReader(bytes.NewReader(packed))
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		return data
	}
	for _, part := range [][2]uint64{{0, 2 * pmem.MiB}, {0, 10_000}, {62 * pmem.MiB, 64 * pmem.MiB}, {4096, 4096}} {
		packed, err := readWhatCan(devices, "/dev/pmem0", part[0], part[1])
		require.NoError(t, err)
		assert.True(t, bytes.Equal(whole[part[0]:part[1]], unzip(packed)), part)
	}
	packed, err := readWhatCan(devices, "/dev/pmem0", 64*pmem.MiB-4096, 64*pmem.MiB+4096) // behind its end
	require.NoError(t, err)
	assert.True(t, bytes.Equal(append(bytes.Clone(whole[64*pmem.MiB-4096:]), make([]byte, 4096)...), unzip(packed)))
	_, err = readWhatCan(devices, "/dev/pmem9", 0, 1)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// TestKeepBefore: nothing is overwritten that could not be kept.
func TestKeepBefore(t *testing.T) {
	s, file := newRepairable(t)
	overwrite(t, file, 4096, make([]byte, 512))
	plan, err := s.planRepair("vg")
	require.NoError(t, err)
	require.Len(t, plan.Writes, 2)
	dir := s.ArchiveDir
	s.ArchiveDir = ""
	_, err = s.keepBefore(plan)
	require.Error(t, err, "there is no archive")

	s.ArchiveDir = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(s.ArchiveDir, nil, 0o600))
	kept, err := s.keepBefore(plan)
	require.Error(t, err, "it is no directory")
	assert.Empty(t, kept)

	s.ArchiveDir = dir
	require.NoError(t, os.Remove(file))
	_, err = s.keepBefore(plan)
	require.ErrorIs(t, err, os.ErrNotExist, "the device cannot be read")
	a, err := s.archive().Newest("vg", func(lvm.Archived) bool { return true })
	require.NoError(t, err)
	require.NotNil(t, a, "the metadata to restore is kept first")
	assert.Equal(t, repairText, string(a.Text))
	assert.Equal(t, map[string]string{repairPV: "n0"}, a.Devices)

	// Both ends are kept as they were, of the devices that are written to.
	s, file = newRepairable(t)
	overwrite(t, file, 4096, []byte("before the repair"))
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	plan, err = s.planRepair("vg")
	require.NoError(t, err)
	kept, err = s.keepBefore(plan)
	require.NoError(t, err)
	require.Len(t, kept, 2)
	for i, end := range [][2]uint64{{0, 2 * pmem.MiB}, {62 * pmem.MiB, 64 * pmem.MiB}} {
		packed, err := os.ReadFile(kept[i])
		require.NoError(t, err)
		r, err := gzip.NewReader(bytes.NewReader(packed))
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(whole[end[0]:end[1]], data), i)
	}

	// With nothing to write only the metadata is kept.
	s, _ = newRepairable(t)
	plan, err = s.planRepair("vg")
	require.NoError(t, err)
	kept, err = s.keepBefore(plan)
	require.NoError(t, err)
	assert.Empty(t, kept)
	entries, err := os.ReadDir(filepath.Join(s.ArchiveDir, "vg"))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// TestTwoGroupsOfOneName: each is found by its UUID; by the name the damaged one.
func TestTwoGroupsOfOneName(t *testing.T) {
	s, one := newRepairable(t)
	other, two := newRepairable(t)
	data, err := os.ReadFile(two)
	require.NoError(t, err)
	const otherVG, otherPV = "AAAAAA-10zr-P3SA-B3wR-smon-Na2k-kJB1g2", "AAAAAA-tlqE-FVTq-OCKQ-mwfI-WI0b-3r1Rq8"
	text := []byte(strings.NewReplacer(repairVG, otherVG, repairPV, otherPV).Replace(repairText))
	g, err := lvm.ParseGroup(text)
	require.NoError(t, err)
	writes, err := lvm.Disk{Size: uint64(len(data)), LabelDamage: "is another's"}.Repair(text, g, g.PVs[0])
	require.NoError(t, err)
	for _, w := range writes {
		overwrite(t, two, int64(w.Offset), w.Data)
	}
	n := other.NDCTL.EnabledFSDAX()[0]
	n.Dev, n.UUID, n.Blockdev = "namespace1.0", "n1", "pmem1"
	s.Devices.(fileDevices).files["/dev/pmem1"] = two
	s.NDCTL = fixedPMEM{sys: pmem.System{Namespaces: append(s.NDCTL.EnabledFSDAX(), n)}}

	for _, uuid := range []string{repairVG, otherVG} {
		plan, err := s.planRepair(uuid)
		require.NoError(t, err)
		assert.Equal(t, uuid, plan.UUID)
		assert.Empty(t, plan.Writes)
	}
	overwrite(t, two, 4096, make([]byte, 512))
	plan, _ := s.planRepair("vg")
	assert.Equal(t, otherVG, plan.UUID, "the damaged one")
	assert.Len(t, plan.Writes, 2)
	overwrite(t, one, 4096, make([]byte, 512))
	_, err = s.planRepair("vg")
	refused(t, err, errs.Conflict, "volume group vg", "2 damaged groups of that name", "vg repair ", "both are damaged")
	assert.ErrorContains(t, err, repairVG)
	assert.ErrorContains(t, err, otherVG)

	// Without namespaces there is nothing to go by.
	s.NDCTL = fixedPMEM{err: errors.New("broken")}
	_, err = s.planRepair("vg")
	assert.ErrorContains(t, err, "broken")
	_, err = s.CheckVGs(context.Background(), "")
	assert.ErrorContains(t, err, "broken")
}
