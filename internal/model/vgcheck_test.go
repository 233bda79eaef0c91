package model_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

const end = 2 * pmem.MiB // of a device: LVM's part of it

// onDisk is a host whose volume group pmemvg has a device in each region and volume a; the nodes
// of its devices can be opened.
type onDisk struct {
	*model.Host
	t *testing.T
	s *volume.Service
}

func newOnDisk(t *testing.T) onDisk {
	t.Helper()
	h := newHost(t)
	d := onDisk{h, t, h.Service()}
	d.s.Note = func(err error) { t.Errorf("unexpected note: %v", err) }
	require.NoError(t, volumetest.Second(d.s.InitVGs(ctx, volume.VGInitSpec{Percent: 25, Span: true})))
	require.NoError(t, volumetest.Create(volumetest.Spec("a", volume.TypeLVM, 64*pmem.MiB))(h, d.s))
	return d
}

// member is the namespace of a group in a region.
func (d onDisk) member(region string) pmem.Namespace {
	d.t.Helper()
	sys, err := d.s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	require.NoError(d.t, err)
	for _, n := range sys.Namespaces {
		if n.Region == region && n.Name == "pmemctl=pmemvg" {
			return n
		}
	}
	d.t.Fatalf("no member in %s", region)
	return pmem.Namespace{}
}

func (d onDisk) path(region string) string { return "/dev/" + d.member(region).Blockdev }

func (d onDisk) read(path string, at, count uint64) []byte {
	d.t.Helper()
	data, err := d.ReadDevice(path, at, count)
	require.NoError(d.t, err)
	return data
}

func (d onDisk) write(path string, at uint64, data []byte) {
	d.t.Helper()
	require.NoError(d.t, d.WriteDevice(path, at, data))
}

func (d onDisk) flip(path string, at uint64) {
	data := d.read(path, at, 1)
	data[0] ^= 0x40
	d.write(path, at, data)
}

// disk is what the device of a region has of LVM.
func (d onDisk) disk(region string) lvm.Disk {
	d.t.Helper()
	return d.diskOf(d.member(region))
}

func (d onDisk) diskOf(n pmem.Namespace) lvm.Disk {
	d.t.Helper()
	return lvm.ReadDisk(readerAt(func(p []byte, at int64) (int, error) {
		return copy(p, d.read("/dev/"+n.Blockdev, uint64(at), uint64(len(p)))), nil
	}), n.Size)
}

type readerAt func([]byte, int64) (int, error)

func (r readerAt) ReadAt(p []byte, at int64) (int, error) { return r(p, at) }

// media are both ends of each device that is up, and the files of the archive: what a check must
// not change.
func (d onDisk) media() map[string][]byte {
	d.t.Helper()
	all := map[string][]byte{}
	sys, err := d.s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	require.NoError(d.t, err)
	for _, n := range sys.Namespaces {
		if n.Enabled() {
			all[n.Dev] = slices.Concat(d.read("/dev/"+n.Blockdev, 0, end), d.read("/dev/"+n.Blockdev, n.Size-end, end))
		}
	}
	for _, file := range d.archived() {
		data, err := os.ReadFile(file)
		require.NoError(d.t, err)
		all[file] = data
	}
	return all
}

// unchanged requires that media are as they were.
func (d onDisk) unchanged(before map[string][]byte) {
	d.t.Helper()
	after := d.media()
	require.Equal(d.t, slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	for name := range before {
		require.True(d.t, bytes.Equal(before[name], after[name]), "%s was changed", name)
	}
}

func (d onDisk) archived() []string {
	files, err := filepath.Glob(filepath.Join(d.s.ArchiveDir, "*", "*"))
	require.NoError(d.t, err)
	return files
}

// rows are the parts of groups in short: device, part, state and change.
func rows(parts []volume.VGPart) []string {
	all := []string{}
	for _, p := range parts {
		row := fmt.Sprintf("%s %s %s", filepath.Base(p.Device), p.Part, p.State)
		if p.Change != 0 {
			row += fmt.Sprintf(" %d", p.Change)
		}
		all = append(all, strings.TrimPrefix(row, ". "))
	}
	return all
}

// TestCheckVGs damages one thing after the other: each is shown, with the command that helps, and
// nothing is changed.
func TestCheckVGs(t *testing.T) {
	whole := func(device string) []string {
		return []string{device + " label ok", device + " copy 1 ok 4", device + " copy 2 ok 4"}
	}
	older := func(d onDisk) (path string, at uint64, data []byte) {
		n := d.member("region0")
		return "/dev/" + n.Blockdev, n.Size/end*end - end, d.read("/dev/"+n.Blockdev, n.Size/end*end-end, end)
	}
	for what, c := range map[string]struct {
		damage func(onDisk)
		want   []string // of pmem0; that of pmem1 follows, unless it is here
		reason string   // of the first part that is not ok
		next   string
	}{
		"nothing": {func(onDisk) {}, whole("pmem0"), "", ""},
		"the label is gone": {
			func(d onDisk) { d.write(d.path("region0"), 0, make([]byte, 4096)) },
			[]string{"pmem0 label damaged", "pmem0 copy 1 ok 4", "pmem0 copy 2 ok 4"}, "reads as zeros", "vg repair pmemvg",
		},
		"a byte of the label": {
			func(d onDisk) { d.flip(d.path("region0"), 512+40) },
			[]string{"pmem0 label damaged", "pmem0 copy 1 ok 4", "pmem0 copy 2 ok 4"}, "byte 40 ", "vg repair pmemvg",
		},
		"the header of the first copy is gone": {
			func(d onDisk) { d.write(d.path("region0"), 4096, make([]byte, 512)) },
			[]string{"pmem0 label ok", "pmem0 copy 1 damaged", "pmem0 copy 2 ok 4"}, "its header is gone", "vg repair pmemvg",
		},
		"a byte of the header of the first copy": { // its text can be read
			func(d onDisk) { d.flip(d.path("region0"), 4096+30) },
			[]string{"pmem0 label ok", "pmem0 copy 1 damaged 4", "pmem0 copy 2 ok 4"}, "byte 30 of its header", "vg repair pmemvg",
		},
		"a byte of the text of the first copy": {
			func(d onDisk) { d.flip(d.path("region0"), 8192+30) },
			[]string{"pmem0 label ok", "pmem0 copy 1 damaged", "pmem0 copy 2 ok 4"}, "its text is damaged", "vg repair pmemvg",
		},
		"the second copy was not written for two changes": {
			func(d onDisk) {
				path, at, data := older(d)
				require.NoError(d.t, volumetest.Create(volumetest.Spec("b", volume.TypeLVM, 16*pmem.MiB))(d, d.s))
				d.write(path, at, data)
			},
			[]string{"pmem0 label ok", "pmem0 copy 1 ok 6", "pmem0 copy 2 damaged 4", "pmem1 label ok", "pmem1 copy 1 ok 6", "pmem1 copy 2 ok 6"},
			"it is at change 4, but the group is at 6", "vg repair pmemvg",
		},
		"another text of the same change": {
			func(d onDisk) {
				disk := d.disk("region0")
				text := bytes.Replace(disk.Copies[0].Text, []byte("VISIBLE"), []byte("visible"), 1)
				disk.Copies = disk.Copies[1:]
				disk.Copies[0].Damage = "to be replaced"
				pv, _ := disk.Copies[0].Group.PV(disk.Label.PV)
				writes, err := disk.Repair(text, disk.Copies[0].Group, pv)
				require.NoError(d.t, err)
				for _, w := range writes {
					if w.Offset > end {
						d.write(d.path("region0"), w.Offset, w.Data)
					}
				}
			},
			[]string{"pmem0 label ok", "pmem0 copy 1 ok 4", "pmem0 copy 2 damaged 4"}, "it differs from copy 1 on", "vg repair pmemvg",
		},
		"the namespace is disabled": {
			func(d onDisk) { require.NoError(d.t, d.Unbind(d.member("region0").Dev)) },
			[]string{"device missing", "pmem1 label ok", "pmem1 copy 1 ok 4", "pmem1 copy 2 ok 4"}, "its namespace is disabled", "namespace show namespace0.0",
		},
		"the info block is lost": {
			func(d onDisk) {
				require.NoError(d.t, d.LoseInfoBlock(d.member("region0").Dev))
				require.NoError(d.t, d.Reboot())
			},
			[]string{"pmem0 device damaged", "pmem1 label ok", "pmem1 copy 1 ok 4", "pmem1 copy 2 ok 4"}, "its info block is lost", "namespace show namespace0.0",
		},
		"the node is not there": {
			func(d onDisk) { d.HideNode(d.path("region0")) },
			[]string{"pmem0 device damaged", "pmem1 label ok", "pmem1 copy 1 ok 4", "pmem1 copy 2 ok 4"}, "cannot be opened", "namespace show namespace0.0",
		},
		"the region is not there": {
			func(d onDisk) { d.LoseRegion("region0") },
			[]string{"pmem1 label ok", "pmem1 copy 1 ok 4", "pmem1 copy 2 ok 4", "device missing"}, " is missing", "region list",
		},
		"the label is another device's": {
			func(d onDisk) { d.write(d.path("region0"), 0, d.otherLabel()) },
			[]string{"pmem0 label damaged", "pmem0 copy 1 ok 4", "pmem0 copy 2 ok 4"}, "the group does not contain this physical volume", "vg repair pmemvg",
		},
		"a device that was never added": {
			func(d onDisk) { d.marked(128 * pmem.MiB) },
			[]string{"pmem0 label ok", "pmem0 copy 1 ok 4", "pmem0 copy 2 ok 4", "pmem0.1 device unused"}, "complete without this device", "see what would be lost: pmemctl vg remove pmemvg",
		},
		"a device that was never added, beside damage": { // nobody is told to remove the group
			func(d onDisk) {
				d.marked(128 * pmem.MiB)
				d.write(d.path("region1"), 0, make([]byte, 4096))
			},
			[]string{"pmem0 label ok", "pmem0 copy 1 ok 4", "pmem0 copy 2 ok 4", "pmem0.1 device unused", "pmem1 label damaged", "pmem1 copy 1 ok 4", "pmem1 copy 2 ok 4"}, "complete without this device", "pmemctl vg repair pmemvg",
		},
		"it is on a device of another size": {
			func(d onDisk) { d.moveToLarger() },
			[]string{"pmem0.1 label damaged", "pmem0.1 copy 1 ok 4", "pmem0.1 copy 2 damaged"}, "bytes, but it has", "vg repair pmemvg",
		},
		"everything on the devices is gone": {
			func(d onDisk) { d.clearAll() },
			[]string{"pmem0 label damaged", "pmem0 copy 1 damaged", "pmem0 copy 2 damaged", "pmem1 label damaged", "pmem1 copy 1 damaged", "pmem1 copy 2 damaged"}, "reads as zeros", "vg repair pmemvg",
		},
		"and the archive too": {
			func(d onDisk) {
				d.clearAll()
				require.NoError(d.t, os.RemoveAll(d.s.ArchiveDir))
			},
			[]string{"pmem0 label damaged", "pmem0 copy 1 damaged", "pmem1 label damaged", "pmem1 copy 1 damaged"}, "reads as zeros", "nothing is left to restore it from; keep the device",
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := newOnDisk(t)
			d.t = t
			c.damage(d)
			before := d.media()
			parts, err := d.s.CheckVGs(ctx, "pmemvg")
			require.NoError(t, err)
			want := c.want
			if !slices.ContainsFunc(want, func(row string) bool { return strings.HasPrefix(row, "pmem1 ") }) {
				want = slices.Concat(want, whole("pmem1"))
			}
			assert.Equal(t, want, rows(parts))
			i := slices.IndexFunc(parts, func(p volume.VGPart) bool { return p.State != volume.PartOK })
			if c.reason == "" {
				assert.Equal(t, -1, i)
			} else if assert.NotEqual(t, -1, i) {
				if what == "the region is not there" {
					assert.Equal(t, d.size("region1"), parts[i].Size)
				}
				assert.Contains(t, parts[i].Reason, c.reason)
				assert.Contains(t, parts[i].Next, c.next)
			}
			for _, p := range parts {
				assert.Equal(t, "pmemvg", p.VG)
				assert.Equal(t, p.State == volume.PartDamaged || p.State == volume.PartMissing, p.Damaged())
			}
			all, err := d.s.CheckVGs(ctx, "")
			require.NoError(t, err)
			assert.Equal(t, parts, all, "there is no other group")
			d.unchanged(before)
			volumetest.IsKind(t, errs.NotFound, volumetest.Second(d.s.CheckVGs(ctx, "other")), "has no device")
		})
	}
}

func (d onDisk) size(region string) uint64 { return d.member(region).Size }

// marked makes a namespace in region0 with the mark of the group, which no group has.
func (d onDisk) marked(size uint64) pmem.Namespace {
	d.t.Helper()
	n, err := d.s.CreateNamespace(ctx, volume.NamespaceRequest{Region: "region0", Mode: pmem.ModeFSDAX, Size: size, Name: "new"})
	require.NoError(d.t, err)
	n, err = d.s.NDCTL.RenameNamespace(n.Dev, "pmemctl=pmemvg")
	require.NoError(d.t, err)
	for _, at := range []uint64{0, n.Size - end} {
		d.write("/dev/"+n.Blockdev, at, make([]byte, end))
	}
	return n
}

// otherLabel is the label of a physical volume that is of no group.
func (d onDisk) otherLabel() []byte {
	disk := d.disk("region0")
	pv, ok := disk.Copies[0].Group.PV(disk.Label.PV)
	require.True(d.t, ok)
	pv.UUID = "otherr-1111-1111-1111-1111-1111-111111"
	disk.Label, disk.LabelDamage = lvm.Label{}, "is to be made"
	writes, err := disk.Repair(disk.Copies[0].Text, disk.Copies[0].Group, pv)
	require.NoError(d.t, err)
	require.Zero(d.t, writes[len(writes)-1].Offset)
	return writes[len(writes)-1].Data
}

func (d onDisk) clearAll() {
	for _, region := range []string{"region0", "region1"} {
		n := d.member(region)
		d.write("/dev/"+n.Blockdev, 0, make([]byte, end))
		d.write("/dev/"+n.Blockdev, n.Size/end*end-end, make([]byte, end))
	}
}

// moveToLarger copies the head of the device in region0 to one of another size, which takes its
// place.
func (d onDisk) moveToLarger() {
	require.NoError(d.t, d.Reboot()) // nothing is active
	from, to := d.member("region0"), d.marked(1*pmem.GiB)
	d.write("/dev/"+to.Blockdev, 0, d.read("/dev/"+from.Blockdev, 0, end))
	require.NoError(d.t, volumetest.Second(d.s.NDCTL.RenameNamespace(from.Dev, "foreign")))
}

// loseIdentity leaves only one copy, which a third device of the group has: of the two without a
// label nothing says which is which.
func (d onDisk) loseIdentity() {
	require.NoError(d.t, volumetest.Second(d.s.InitVGs(ctx, volume.VGInitSpec{Percent: 50, Span: true, Regions: []string{"region1"}})))
	require.NoError(d.t, os.RemoveAll(d.s.ArchiveDir))
	d.clearAll()
}

// growData has the metadata say that the data of region0's device goes to its end, where its label
// has a second copy.
func (d onDisk) growData() {
	for _, region := range []string{"region0", "region1"} {
		disk := d.disk(region)
		text := bytes.ReplaceAll(disk.Copies[0].Text, []byte("seqno = 4"), []byte("seqno = 5"))
		text = bytes.ReplaceAll(text, []byte("pe_count = 249"), []byte("pe_count = 250"))
		pv, _ := disk.Copies[0].Group.PV(disk.Label.PV)
		writes, err := disk.Repair(text, disk.Copies[0].Group, pv)
		require.NoError(d.t, err)
		for _, w := range writes {
			if w.Offset < end {
				d.write(d.path(region), w.Offset, w.Data)
			}
		}
	}
}

// TestCheckVGsAgain: what is being written at the moment of the first look is not damaged; it is
// looked at again with the host locked.
func TestCheckVGsAgain(t *testing.T) {
	d := newOnDisk(t)
	path := d.path("region0")
	label := d.read(path, 0, 4096)
	d.write(path, 0, make([]byte, 4096))
	locked := 0
	d.FailReads(func(read, _ string) error {
		if read == "/dev" { // the host is locked
			locked++
			d.write(path, 0, label)
		}
		return nil
	})
	for range 2 {
		parts, err := d.s.CheckVGs(ctx, "pmemvg")
		require.NoError(t, err)
		assert.Equal(t, []string{"pmem0 label ok", "pmem0 copy 1 ok 4", "pmem0 copy 2 ok 4", "pmem1 label ok", "pmem1 copy 1 ok 4", "pmem1 copy 2 ok 4"}, rows(parts))
		assert.Equal(t, 1, locked, "what is whole is not looked at again")
	}
}

// TestCheckOneVG: of several groups the one named is shown, and all without a name.
func TestCheckOneVG(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, initVGs(25)(h, s))
	for name, want := range map[string][]string{
		"pmemvgregion0": {"pmem0 label ok", "pmem0 copy 1 ok 1", "pmem0 copy 2 ok 1"},
		"pmemvgregion1": {"pmem1 label ok", "pmem1 copy 1 ok 1", "pmem1 copy 2 ok 1"},
		"":              {"pmem0 label ok", "pmem0 copy 1 ok 1", "pmem0 copy 2 ok 1", "pmem1 label ok", "pmem1 copy 1 ok 1", "pmem1 copy 2 ok 1"},
	} {
		parts, err := s.CheckVGs(ctx, name)
		require.NoError(t, err)
		assert.Equal(t, want, rows(parts), name)
	}
}

// TestUnusedCopy: a copy that LVM was told to ignore (pvchange --metadataignore) is neither damaged
// nor repaired.
func TestUnusedCopy(t *testing.T) {
	d := newOnDisk(t)
	n := d.member("region0")
	at := n.Size/end*end - end
	header := d.read(d.path("region0"), at, 512)
	const flags = 60 // of the first text in the header
	header[flags] = 1
	binary.LittleEndian.PutUint32(header, lvm.Sum(header[4:]))
	d.write(d.path("region0"), at, header)
	parts, err := d.s.CheckVGs(ctx, "pmemvg")
	require.NoError(t, err)
	assert.Equal(t, []string{"pmem0 label ok", "pmem0 copy 1 ok 4", "pmem0 copy 2 unused", "pmem1 label ok", "pmem1 copy 1 ok 4", "pmem1 copy 2 ok 4"}, rows(parts))
	assert.Equal(t, "LVM does not use this copy", parts[2].Reason)
	plan, err := d.s.PlanRepair(ctx, "pmemvg")
	require.NoError(t, err)
	assert.Empty(t, plan.Writes)
}
