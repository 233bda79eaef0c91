package volume

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

func TestEraseRate(t *testing.T) {
	for text, want := range map[string]EraseRate{"max": {}, "20%": {Share: 0.2}, "0.5%": {Share: 0.005}, "100%": {Share: 1}, "500Mi": {Bytes: 500 * pmem.MiB}, "1G": {Bytes: 1e9}} {
		got, err := ParseEraseRate(text)
		assert.NoError(t, err, text)
		assert.InDelta(t, want.Share, got.Share, 1e-9, text)
		assert.Equal(t, want.Bytes, got.Bytes, text)
	}
	for _, text := range []string{"", "0", "0%", "101%", "-1%", "NaN%", "%", "20 %", "1Ki", "fast", "20", "1e3%"} {
		_, err := ParseEraseRate(text)
		assert.True(t, errs.Is(err, errs.Invalid), text)
	}
	assert.Equal(t, 4*time.Second, EraseRate{Share: 0.2}.pause(time.Second, 1).Round(time.Millisecond))
	assert.Zero(t, EraseRate{Share: 1}.pause(time.Second, 1))
	assert.Zero(t, EraseRate{}.pause(time.Second, 1))
	assert.Equal(t, 3*time.Second, EraseRate{Bytes: pmem.MiB}.pause(time.Second, 4*pmem.MiB))
	assert.LessOrEqual(t, EraseRate{Bytes: pmem.MiB}.pause(9*time.Second, 4*pmem.MiB), time.Duration(0), "it is behind")
}

func TestDeletedLV(t *testing.T) {
	vol := Volume{Name: "db", VG: "pmemvgregion0", UUID: "AbC-d3-fgh"}
	assert.Equal(t, "pmemctl+-db+AbCd3f", deletedLV(vol))
	mark, name := parseMark(deletedLV(vol))
	assert.Equal(t, markRemoving, mark)
	assert.Equal(t, "db", name)
	vol.VG, vol.Name = strings.Repeat("v", 70), strings.Repeat("a-", 20)+"b"
	long := deletedLV(vol)
	assert.LessOrEqual(t, len(strings.TrimPrefix(lvm.MapperPath(vol.VG, long), "/dev/mapper/")), maxMapper)
	mark, name = parseMark(long)
	assert.Equal(t, markRemoving, mark)
	assert.True(t, strings.HasPrefix(vol.Name, name), name)
}

func TestScarce(t *testing.T) {
	v := threeRegions(512 * pmem.MiB)
	direct := Volume{Type: TypeDirect, Regions: []string{v.PMEM.Regions[0].Dev}}
	v.PMEM.Regions[0].Size, v.PMEM.Regions[0].AvailableSize = 800, 101
	assert.False(t, v.isScarce(direct))
	v.PMEM.Regions[0].AvailableSize = 99
	assert.True(t, v.isScarce(direct))
	vg := &v.LVM.VGs[0]
	inGroup := Volume{Type: TypeLVM, VG: vg.Name, vgUUID: vg.UUID}
	vg.Size, vg.Free = 900, 900
	assert.False(t, v.isScarce(inGroup))
	vg.Free = 100
	assert.True(t, v.isScarce(inGroup))
}

// TestEraseOrder: the smallest is erased first, but small ones do not keep a large one waiting for
// ever.
func TestEraseOrder(t *testing.T) {
	s := &Service{RunDir: t.TempDir()}
	a := Volume{Name: "a", UUID: "a", Type: TypeLVM, VG: "vg", RawSize: 100}
	s.keepErasure(a, Erasure{Since: time.Now().Add(-2 * smallestFirstFor)})
	small := Volume{Name: "small", UUID: "small", Type: TypeLVM, VG: "vg", RawSize: 1}
	s.keepErasure(small, Erasure{Since: time.Now()})
	old := Volume{Name: "old", UUID: "old", Type: TypeLVM, VG: "vg", RawSize: 1}
	s.keepErasure(old, Erasure{Since: time.Now().Add(-smallestFirstFor - time.Second)})
	var names []string
	for _, vol := range s.inEraseOrder([]Volume{small, old, a}) {
		names = append(names, vol.Name)
	}
	assert.Equal(t, []string{"a", "old", "small"}, names)
}

func TestErasureRecord(t *testing.T) {
	s := &Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, RunDir: t.TempDir()}
	a := Volume{Name: "a", UUID: "uuid-a", Type: TypeLVM, VG: "vg", RawSize: 100, State: Deleting}
	b := Volume{Name: "b", UUID: "uuid-b", Type: TypeDirect, Regions: []string{"region0"}, RawSize: 10, State: Deleting}
	assert.Empty(t, s.Unerased())
	since := time.Now().Add(-30 * time.Second).Round(time.Second)
	s.keepErasure(a, Erasure{Since: since, Done: 40, Rate: 20})
	e := s.erasure(a)
	assert.True(t, since.Equal(e.Since))
	assert.Equal(t, "40 % erased, 20 B/s", e.text(a.RawSize))
	order := s.inEraseOrder([]Volume{a, b})
	assert.Equal(t, "b", order[0].Name, "the smaller one")
	left, known := order[1].left()
	assert.True(t, known)
	assert.Equal(t, 3*time.Second, left)
	s.keepErasure(b, Erasure{Failed: "no"})
	assert.Equal(t, "b", s.inEraseOrder([]Volume{b, a})[1].Name, "what failed comes last")
	s.keepErasure(b, Erasure{})
	assert.ElementsMatch(t, []string{"uuid-a", "uuid-b"}, s.Unerased())
	s.want(a)
	assert.True(t, s.isWanted(a))
	assert.False(t, s.isWanted(b))
	assert.Equal(t, "a", s.inEraseOrder([]Volume{b, a})[0].Name, "the one that is waited for")
	s.forgetErasure(a)
	assert.Equal(t, []string{"uuid-b"}, s.Unerased())

	err := s.noSpaceYet(errs.New(errs.NoSpace, "volume c", "does not fit", ""), []Volume{a, b})
	require.True(t, errs.Is(err, errs.NoSpace))
	assert.ErrorContains(t, err, "volume c: does not fit; 110 B of deleted volumes there must be erased first")
}

func TestSpaceWanted(t *testing.T) {
	s := &Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, RunDir: t.TempDir()}
	vol := Volume{Type: TypeLVM, VG: "vg"}
	assert.False(t, s.SpaceWanted())
	s.want(vol)
	assert.True(t, s.SpaceWanted())
	assert.True(t, s.isWanted(vol))
	long := time.Now().Add(-wantedFor)
	require.NoError(t, os.Chtimes(s.wantedFile(vol), long, long))
	assert.False(t, s.SpaceWanted())
}

// TestIsStill: a logical volume that got the name of another one meanwhile is not deleted in its
// place.
func TestIsStill(t *testing.T) {
	const id = "BbGdzb-XOAn-Uo02-oyzF-SIxv-oW26-RJtTnk"
	up := func(lv string) blockdev.Mapped {
		return blockdev.Mapped{Name: "vg-db", UUID: "LVM-" + strings.Repeat("g", 32) + strings.ReplaceAll(lv, "-", "")}
	}
	vol := Volume{Name: "db", Type: TypeLVM, VG: "vg", UUID: id}
	assert.NoError(t, isStill(vol, up(id)))
	assert.ErrorContains(t, isStill(vol, blockdev.Mapped{Name: "vg-db", UUID: "CRYPT-LUKS2-db"}), "is not a logical volume")
	err := isStill(vol, up("AAGdzb-XOAn-Uo02-oyzF-SIxv-oW26-RJtTnk"))
	assert.True(t, errs.Is(err, errs.Busy), "%v", err)
	assert.ErrorContains(t, err, "was renamed in the meantime")
}

func TestHidesOldBytes(t *testing.T) {
	for options, want := range map[string]bool{"": true, "-O fast_commit": true, "-O ^metadata_csum": false, "-i 65536 -O extent,^has_journal": false, "-O none": false, "-O none,has_journal": false, "-N 4096": true} {
		spec := Spec{FS: mount.Ext4, MkfsOptions: strings.Fields(options)}
		assert.Equal(t, want, spec.hidesOldBytes(), options)
	}
	assert.True(t, Spec{FS: mount.XFS, MkfsOptions: []string{"-m", "finobt=0"}}.hidesOldBytes())
	assert.False(t, Spec{FS: mount.None}.hidesOldBytes())
	assert.True(t, Spec{FS: mount.None, forFS: true}.hidesOldBytes(), "a clone")
}
