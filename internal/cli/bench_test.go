package cli

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/bench"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/report"
)

func TestBenchFlags(t *testing.T) {
	var got benchOptions
	run := func(args ...string) error {
		cmd := newBenchCommand(newShell(nil).app, func(_ context.Context, o *benchOptions) error {
			got = *o
			return nil
		})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(args)
		return cmd.Execute()
	}
	require.NoError(t, run())
	assert.Equal(t, benchOptions{kind: "all", size: 256 * pmem.MiB, time: 5 * time.Second, output: benchOutput{outputFlag: outputTable}}, got)
	require.NoError(t, run("--type", "lvm", "--size", "1Gi", "--time", "2s", "--against", "/a", "--against", "/b", "-o", "markdown"))
	assert.Equal(t, []string{"/a", "/b"}, got.against)
	assert.True(t, got.output.markdown)
	for _, bad := range []string{"--size=1Mi", "--time=10ms", "-o=xml"} {
		assert.Error(t, run(bad), bad)
	}
}

// benchShell has a fio that answers.
func benchShell(t *testing.T) *shell {
	sh := newModelShell(t)
	sh.collect = report.Collector{Run: func(_ context.Context, _ string, args ...string) ([]byte, error) {
		if slices.Contains(args, "--enghelp") {
			return []byte("psync libpmem"), nil
		}
		const direction = `{"iops": 250000, "bw_bytes": 1048576, "clat_ns": {"percentile": {"50.000000": 900, "99.000000": 3400}}}`
		return []byte(`{"jobs": [{"read": ` + direction + `, "write": ` + direction + `}]}`), nil
	}}
	require.Equal(t, exitOK, sh.run("vg init --percent 50"))
	return sh
}

func TestBench(t *testing.T) {
	sh := benchShell(t)
	require.Equal(t, exitOK, sh.run("bench"), sh.stderr.String())
	lines := strings.Split(sh.stdout.String(), "\n")
	assert.Regexp(t, `^VOLUME +ACCESS \(4 KiB, RANDOM\) +READ +READ P99 +READS/S +WRITE +WRITE P99 +WRITES/S`, lines[0])
	assert.Regexp(t, `^lvm +read, write +900 ns +3.4 us +250000 +900 ns +3.4 us +250000`, lines[1])
	assert.Regexp(t, `^direct +load, store `, lines[4])
	assert.Regexp(t, `^direct +0% +no +`, lines[8])
	require.Equal(t, exitOK, sh.run("bench -o markdown --type direct"))
	assert.Contains(t, sh.stdout.String(), "| VOLUME | ACCESS (4 KiB, RANDOM) | READ | READ P99 | READS/S | READ/S |")
	assert.Contains(t, sh.stdout.String(), "|---|---|")
	assert.Contains(t, sh.stdout.String(), "| direct | read, write | 900 ns | 3.4 us | 250000 | 1 MiB |")
	require.Equal(t, exitOK, sh.run("bench -o json"))
	assert.Contains(t, sh.stdout.String(), `"median_ns": 900`)
	require.Equal(t, exitOK, sh.run("volume list"))
	assert.NotContains(t, sh.stdout.String(), "bench")
	assert.Equal(t, exitInvalid, sh.run("bench --type ssd"))

	lock, err := sh.host.Locks.Try(benchLock)
	require.NoError(t, err)
	assert.Equal(t, exitBusy, sh.run("bench"))
	lock.Release()
	sh.root = func() bool { return false }
	assert.Equal(t, exitPermission, sh.run("bench"))
}

// TestGCRemovesBench: what a killed bench left is removed, unless a bench is running.
func TestGCRemovesBench(t *testing.T) {
	sh := benchShell(t)
	const name = "pmemctl-bench-0123456789abcdef-lvm"
	require.Equal(t, exitOK, sh.run("volume create "+name+" --type lvm --size 256Mi"))
	require.Equal(t, exitOK, sh.run("gc"))
	require.Equal(t, exitOK, sh.run("volume show "+name), "only what a bench recorded")
	records := filepath.Join(sh.host.StateDir, "bench")
	require.NoError(t, os.MkdirAll(records, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(records, name), nil, 0o600))
	lock, err := sh.host.Locks.Try(benchLock)
	require.NoError(t, err)
	require.Equal(t, exitOK, sh.run("gc"))
	require.Equal(t, exitOK, sh.run("volume show "+name))
	lock.Release()
	require.Equal(t, exitOK, sh.run("gc"))
	require.Equal(t, exitNotFound, sh.run("volume show "+name))
	assert.Empty(t, bench.Leftovers(records))
}

func TestLatency(t *testing.T) {
	assert.Equal(t, []string{"999 ns", "1.0 us", "12.5 us", "3.1 ms"}, []string{latency(999), latency(1000), latency(12500), latency(3100000)})
}
