//go:build guest

package ndctl

import (
	"errors"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// TestGuestSnapshotsLeakNothing takes hundreds of snapshots; the memory of the process, C's and
// Go's, does not grow after the first few.
func TestGuestSnapshotsLeakNothing(t *testing.T) {
	read := func(times int, sel Select) {
		for range times {
			s, err := Lib{}.snapshot(sel)
			require.NoError(t, err)
			require.NotEmpty(t, s.Regions)
		}
	}
	// Go's heap grows until its first collection, which would look like a leak.
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	// The firmware of an emulated DIMM is slow, so it is queried less often.
	const times, timesOfAll = 100, 7
	round := func() int {
		read(times, Select{Namespaces: true, Badblocks: true})
		read(timesOfAll, Everything)
		return residentKiB(t)
	}
	resident := []int{round()}
	least := math.MaxInt
	for i := range 3 {
		resident = append(resident, round())
		least = min(least, resident[i+1]-resident[i])
	}
	t.Logf("resident memory after each %d snapshots: %d KiB", times+timesOfAll, resident)
	// A leak grows in every round, an arena of malloc or Go's heap once. A leaked libndctl context is
	// at least 20 KiB; malloc's per-thread overhead was 2 KiB per snapshot.
	require.Less(t, least, 4*(times+timesOfAll), "memory grows with the number of snapshots")
}

func residentKiB(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for _, line := range strings.Split(string(data), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			require.NoError(t, err)
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestGuestInfoBlockIsTheKernels compares pmemctl's info block with the kernel's for the same
// namespace.
func TestGuestInfoBlockIsTheKernels(t *testing.T) {
	s, err := Lib{}.Snapshot(Select{})
	require.NoError(t, err)
	region := s.Regions[0]
	require.NoError(t, Lib{}.InitLabels(region.Dev))
	for _, size := range []uint64{16 * pmem.MiB, 80 * pmem.MiB, 1008 * pmem.MiB} {
		n, err := Lib{}.CreateNamespace(pmem.NamespaceSpec{Region: region.Dev, Mode: pmem.ModeFSDAX, Map: pmem.MapDev, RawSize: size, Align: pmem.DefaultAlign, Name: "info block"})
		require.NoError(t, err)
		blockdev, err := Lib{}.EnableRaw(n.UUID)
		require.NoError(t, err)
		device, err := os.Open("/dev/" + blockdev)
		require.NoError(t, err)
		kernels := make([]byte, 4096)
		_, err = device.ReadAt(kernels, pmem.InfoBlockOffset)
		require.NoError(t, err)
		require.NoError(t, device.Close())
		ours := pmem.PFNInfoBlock(uuid.UUID(kernels[16:32]), uuid.MustParse(n.UUID), n.RawSize, n.Size, n.Align)
		assert.Equal(t, kernels, ours)
		require.NoError(t, Lib{}.DisableRaw(n.UUID))
		require.NoError(t, Lib{}.DestroyNamespace(n.UUID))
	}
}

// TestGuestSysfsMatchesLibndctl compares the two ways of reading the subsystem, with existing
// namespaces and with namespaces of all modes, enabled and disabled.
func TestGuestSysfsMatchesLibndctl(t *testing.T) {
	compare := func(what string) {
		t.Helper()
		for _, sel := range []Select{{}, {Badblocks: true}, {Namespaces: true}} {
			want, err := Lib{}.snapshot(sel)
			require.NoError(t, err)
			got, ok := fromSysfs(sel)
			if !ok {
				require.True(t, sel.Namespaces && slices.ContainsFunc(want.Regions, func(r pmem.Region) bool { return !r.Labels }), what)
				continue
			}
			for i := range want.Buses { // it changes by itself
				want.Buses[i].ScrubState, got.Buses[i].ScrubState = "", ""
			}
			assert.Equal(t, want, got, "%s: %+v", what, sel)
		}
	}
	compared := 0
	compare("what there is")
	s, err := Lib{}.Snapshot(Select{})
	require.NoError(t, err)
	for _, r := range s.Regions {
		if err := (Lib{}).InitLabels(r.Dev); r.ReadOnly || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EBUSY) {
			continue // it cannot have labels, or shares a DIMM
		} else {
			require.NoError(t, err, r.Dev)
		}
		compare(r.Dev + ": empty")
		now, err := Lib{}.Snapshot(Select{})
		require.NoError(t, err)
		r, _ = now.Region(r.Dev)
		var made []string
		for _, spec := range []pmem.NamespaceSpec{
			{Mode: pmem.ModeFSDAX, Map: pmem.MapDev, Align: pmem.DefaultAlign, Name: "pmemctl:a"},
			{Mode: pmem.ModeFSDAX, Map: pmem.MapMem, Align: pmem.DefaultAlign},
			{Mode: pmem.ModeFSDAX, Raw: true, Name: "raw"},
			{Mode: pmem.ModeDevDAX, Map: pmem.MapDev, Align: pmem.DefaultAlign},
			{Mode: pmem.ModeSector, Sector: 4096},
			{Mode: pmem.ModeRaw},
		} {
			spec.Region, spec.RawSize = r.Dev, pmem.RoundUp(32*pmem.MiB, r.SizeAlign(pmem.DefaultAlign))
			if r.MaxRaw(pmem.DefaultAlign) < 8*spec.RawSize {
				continue // too small for all of them
			}
			n, err := Lib{}.CreateNamespace(spec)
			require.NoError(t, err, "%+v", spec)
			made = append(made, n.UUID)
		}
		compare(r.Dev + ": all modes")
		for _, uuid := range made {
			require.NoError(t, Lib{}.DisableNamespace(uuid))
		}
		compare(r.Dev + ": all down")
		for _, uuid := range made {
			require.NoError(t, Lib{}.DestroyNamespace(uuid))
		}
		require.NoError(t, Lib{}.DisableRegion(r.Dev))
		compare(r.Dev + ": the region down")
		require.NoError(t, Lib{}.EnableRegion(r.Dev))
		compared++
	}
	require.Positive(t, compared, "regions with namespaces of all modes")
}
