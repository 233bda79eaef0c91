package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// answer is what fio 3.33 prints, shortened.
const answer = `fio: a warning
{ "fio version" : "fio-3.33", "jobs" : [ { "jobname" : "bench", "error" : 0,
  "read" : { "iops" : 250000.5, "bw_bytes" : 1024002048, "clat_ns" : { "percentile" : { "50.000000" : 1200, "99.000000" : 3400 } } },
  "write" : { "iops" : 100000, "bw_bytes" : 409600000, "clat_ns" : { "percentile" : { "50.000000" : 2200, "99.000000" : 9900 } } } } ] }`

// fio answers as fio, after fail has been asked.
type fio struct {
	runs []string
	fail func(run string) error
}

func (f *fio) run(_ context.Context, name string, args ...string) ([]byte, error) {
	run := name + " " + strings.Join(args, " ")
	f.runs = append(f.runs, run)
	if f.fail != nil {
		if err := f.fail(run); err != nil {
			return nil, err
		}
	}
	if slices.Contains(args, "--enghelp") {
		return []byte("Available IO engines: \tpsync \tlibpmem \n"), nil
	}
	return []byte(answer), nil
}

func newBench(t *testing.T) (*model.Host, *volume.Service, *fio, *Bench) {
	h := model.New(t.TempDir(), 4*pmem.GiB, 4*pmem.GiB)
	s := h.Service()
	_, err := s.InitVGs(t.Context(), volume.VGInitSpec{Percent: 50})
	require.NoError(t, err)
	_, _, err = s.Create(t.Context(), volume.Spec{Name: "db", Type: volume.TypeLVM, Size: pmem.GiB, FS: "ext4"})
	require.NoError(t, err)
	f := &fio{}
	return h, s, f, &Bench{
		Volumes: s, Run: f.run, Machine: Machine{Root: t.TempDir()}, Records: filepath.Join(t.TempDir(), "records"), Mounts: t.TempDir(),
		Types: []volume.Type{volume.TypeLVM, volume.TypeDirect}, Size: 256 * pmem.MiB, Time: time.Second,
	}
}

// nothingLeft: only the volume that was there before, and it is as before.
func nothingLeft(t *testing.T, s *volume.Service, b *Bench) {
	t.Helper()
	volumes, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, volumes, 1, volumes)
	assert.Equal(t, "db", volumes[0].Name)
	assert.Equal(t, volume.Ready, volumes[0].State)
	assert.Empty(t, Leftovers(b.Records))
	left, err := os.ReadDir(b.Mounts)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestMeasure(t *testing.T) {
	_, s, f, b := newBench(t)
	dir := t.TempDir()
	b.Against = []string{dir}
	var steps []string
	b.Step = func(done, total int, what string) {
		steps = append(steps, fmt.Sprintf("%d of %d, %s", done, total, what))
	}
	r, err := b.Measure(t.Context())
	require.NoError(t, err)
	read, write := Measure{1200, 3400, 250000.5, 1024002048}, Measure{2200, 9900, 100000, 409600000}
	assert.Equal(t, []Measurement{
		{"lvm", Block, read, write}, {"lvm", Mapped, read, write}, {"direct", Block, read, write}, {"direct", Mapped, read, write}, {dir, Block, read, write},
	}, r.Measurements)
	require.Len(t, r.Properties, 2)
	assert.Positive(t, r.Properties[0].ExpandedIn)
	assert.Zero(t, r.Properties[1].ExpandedIn, "a direct volume cannot grow")
	for _, p := range r.Properties {
		assert.Positive(t, p.Largest)
		assert.LessOrEqual(t, p.Largest, p.Free)
	}
	assert.Empty(t, r.Warnings)
	assert.Len(t, steps, 10)
	assert.Contains(t, steps[9], "9 of 10")
	assert.Contains(t, strings.Join(f.runs, "\n"), "--ioengine=libpmem --direct=1 --thread --output-format=json --runtime=1000ms")
	nothingLeft(t, s, b)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// TestMeasureFails: whatever fails, no volume is left.
func TestMeasureFails(t *testing.T) {
	broken := errors.New("broken")
	for _, at := range []string{"enghelp", "rw=write", "bs=4k --ioengine=psync", "libpmem", "randwrite"} {
		_, s, f, b := newBench(t)
		b.Against = []string{t.TempDir()}
		f.fail = func(run string) error {
			if strings.Contains(run, at) {
				return broken
			}
			return nil
		}
		_, err := b.Measure(t.Context())
		require.ErrorIs(t, err, broken, at)
		nothingLeft(t, s, b)
	}
}

// TestMeasureInterrupted: neither is after a signal.
func TestMeasureInterrupted(t *testing.T) {
	_, s, f, b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.fail = func(run string) error {
		if strings.Contains(run, "randread") {
			cancel()
			return ctx.Err()
		}
		return nil
	}
	_, err := b.Measure(ctx)
	require.EqualError(t, err, "interrupted")
	nothingLeft(t, s, b)
}

// TestMeasureKilled: what a bench leaves that is killed at any step is removed by the next one.
func TestMeasureKilled(t *testing.T) {
	h, _, _, b := newBench(t)
	h.DieAt(0)
	_, err := b.Measure(t.Context())
	require.NoError(t, err)
	steps := len(h.Steps())
	require.Greater(t, steps, 20)
	for at := 1; at <= steps; at++ {
		h, _, _, b := newBench(t)
		h.DieAt(at)
		_, err := b.Measure(t.Context())
		require.Error(t, err)
		require.True(t, h.Died())
		s := h.Service()
		b.Volumes = s
		require.NoError(t, b.RemoveLeftovers(t.Context()), at)
		// It was being deleted without being erased, or it is to be erased as any other.
		_, err = s.EraseAll(t.Context(), volume.EraseRate{}, true)
		require.NoError(t, err)
		nothingLeft(t, s, b)
	}
}

// TestRemoveLeftovers: only what benches recorded is removed.
func TestRemoveLeftovers(t *testing.T) {
	_, s, _, b := newBench(t)
	require.NoError(t, b.RemoveLeftovers(t.Context()))
	require.NoError(t, os.MkdirAll(b.Records, 0o700))
	for _, name := range []string{"db", "pmemctl-bench-0-lvm", "pmemctl-bench-0123456789abcdef-direct"} {
		require.NoError(t, os.WriteFile(filepath.Join(b.Records, name), nil, 0o600))
	}
	other := "pmemctl-bench-fedcba9876543210-lvm" // not recorded
	_, _, err := s.Create(t.Context(), volume.Spec{Name: other, Type: volume.TypeLVM, Size: pmem.GiB / 4, FS: "ext4"})
	require.NoError(t, err)
	require.NoError(t, b.RemoveLeftovers(t.Context()))
	volumes, err := s.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, volumes, 2)
	assert.FileExists(t, filepath.Join(b.Records, "db"))
	assert.NoFileExists(t, filepath.Join(b.Records, "pmemctl-bench-0123456789abcdef-direct"))
}

// TestWithoutDAX: a volume without DAX is measured, with a warning.
func TestWithoutDAX(t *testing.T) {
	h, s, _, b := newBench(t)
	h.RefuseDAX()
	r, err := b.Measure(t.Context())
	require.NoError(t, err)
	assert.Len(t, r.Measurements, 2)
	require.Len(t, r.Warnings, 2)
	assert.Contains(t, r.Warnings[0], "lvm: volume pmemctl-bench-")
	assert.Contains(t, r.Warnings[0], "without DAX")
	nothingLeft(t, s, b)
}

func TestWarnings(t *testing.T) {
	h, _, f, b := newBench(t)
	h.SmallFaults()
	f.fail = nil
	for path, text := range map[string]string{
		"proc/cpuinfo": "processor : 0\nflags\t\t: fpu vme hypervisor lahf_lm\n", "proc/loadavg": "4000.5 2 1 1/2 3", "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(b.Machine.Root, path)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(b.Machine.Root, path), []byte(text), 0o600))
	}
	r, err := b.Measure(t.Context())
	require.NoError(t, err)
	for i, want := range []string{"virtual machine", "busy: load 4000.50", "governor powersave", "lvm: faults map 4 KiB", "direct: faults map 4 KiB"} {
		assert.Contains(t, r.Warnings[i], want)
	}
	b.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if slices.Contains(args, "--enghelp") {
			return []byte("psync"), nil
		}
		return f.run(ctx, name, args...)
	}
	r, err = b.Measure(t.Context())
	require.NoError(t, err)
	assert.Contains(t, r.Warnings[3], "no engine libpmem")
	assert.Len(t, r.Measurements, 2)
}

func TestNear(t *testing.T) {
	root := t.TempDir()
	m := Machine{root}
	node := 1
	r := pmem.Region{Dev: "region0", NUMANode: &node}
	cpus, far := m.near(r)
	assert.Empty(t, cpus+far)
	for i, list := range []string{"0-3", "4-7", ""} {
		dir := filepath.Join(root, fmt.Sprintf("sys/devices/system/node/node%d", i))
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cpulist"), []byte(list+"\n"), 0o600))
	}
	cpus, far = m.near(r)
	assert.Equal(t, "4-7", cpus)
	assert.Empty(t, far)
	node = 2
	_, far = m.near(r)
	assert.Contains(t, far, "region0 is on NUMA node 2, which has no processors")
	cpus, far = m.near(pmem.Region{})
	assert.Empty(t, cpus+far)
}

func TestParseBad(t *testing.T) {
	for _, text := range []string{"", "{", "{}", `{"jobs": [{"error": 5}]}`, `{"jobs": [{}]}`} {
		_, err := parse([]byte(text), "randread")
		assert.Error(t, err, text)
	}
	_, _, f, b := newBench(t)
	b.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		out, err := f.run(ctx, name, args...)
		if slices.Contains(args, "--rw=randread") {
			out = []byte("{}")
		}
		return out, err
	}
	_, err := b.Measure(t.Context())
	assert.Equal(t, errs.Internal, errs.KindOf(err))
	assert.ErrorContains(t, err, "fio: gave an answer that cannot be read")
}

func TestAgainstNothing(t *testing.T) {
	_, s, _, b := newBench(t)
	b.Types, b.Against = nil, []string{"/no/such/directory"}
	_, err := b.Measure(t.Context())
	assert.Equal(t, errs.Invalid, errs.KindOf(err))
	nothingLeft(t, s, b)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(answer))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parse(data, "randwrite"); err == nil {
			assert.Positive(t, m.MedianNS)
		}
	})
}
