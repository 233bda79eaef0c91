//go:build guest

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/fault"
	"github.com/pmemctl/pmemctl/test/testenv"
)

// operation is something that is killed at each of its steps and then repeated.
type operation struct {
	name  string
	setup [][]string
	args  []string
	// gone: to find nothing left to do is a success of the repetition.
	gone bool
	// check looks at what the undisturbed run and each recovered one must hold.
	check func(t *testing.T)
}

func words(lines ...string) (commands [][]string) {
	for _, l := range lines {
		commands = append(commands, strings.Fields(l))
	}
	return commands
}

var operations = []operation{
	{name: "vg init", args: words("vg init --percent 5 region0")[0]},
	{name: "vg init with more", setup: words("vg init --percent 5 region0"), args: words("vg init --percent 10 region0")[0]},
	{name: "vg remove", setup: words("vg init --percent 5 region0"), args: words("vg remove pmemvgregion0")[0], gone: true},
	{name: "decommission", setup: words("vg init --percent 5 region0"), args: words("decommission region0 --force")[0]},
	{name: "create lvm", setup: words("vg init --percent 5 region0"), args: words("volume create a --type lvm --size 16Mi")[0], check: isExt4("a")},
	{name: "create direct", args: words("volume create a --type direct --size 16Mi --region region0")[0], check: isExt4("a")},
	{name: "delete lvm", setup: words("vg init --percent 5 region0", "volume create a --type lvm --size 16Mi"), args: words("volume delete a --force")[0], gone: true},
	{name: "delete direct", setup: words("volume create a --type direct --size 16Mi --region region0"), args: words("volume delete a --force")[0], gone: true},
	{name: "delete direct without erase", setup: words("volume create a --type direct --size 16Mi --region region0"), args: words("volume delete a --force --no-erase")[0], gone: true},
	{name: "expand while mounted", setup: words("vg init --percent 5 region0", "volume create a --type lvm --size 16Mi", "volume mount a /mnt/crash"),
		args: words("volume expand a --size 32Mi")[0], check: grewMounted},
	{name: "clone", setup: words("vg init --percent 5 region0", "volume create a --type lvm --size 16Mi"),
		args: words("volume clone a b --type direct --region region1")[0], check: isExt4("b")},
	{name: "mount of an empty volume", setup: words("vg init --percent 5 region0", "volume create a --type lvm --size 16Mi --fs none"),
		args: words("volume mount a /mnt/crash")[0]},
}

func TestCrash(t *testing.T) {
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) { crashAtEachStep(t, op) })
	}
}

func crashAtEachStep(t *testing.T, op operation) {
	prepare(t, op)
	log := filepath.Join(t.TempDir(), "steps")
	out, err := pmemctl([]string{fault.LogEnv + "=" + log}, op.args...)
	require.NoError(t, err, out)
	want := state(t)
	if op.check != nil {
		op.check(t)
	}
	steps := stepsIn(t, log)
	require.Greater(t, len(steps), 1, "an operation has steps")

	eachKill(t, steps, 1, func(env []string, where string) {
		prepare(t, op)
		out, err := pmemctl(env, op.args...)
		require.True(t, wasKilled(err), "%s: %v %s", where, err, out)
		nothingHalfMadeIsReady(t, where)
		out, err = pmemctl(nil, op.args...)
		if op.gone && exitCode(err) == 3 {
			err = nil
		}
		// The copy is finished, and may be older than its source by now.
		if op.name == "clone" && exitCode(err) == 4 && strings.Contains(out, "already exists") {
			err = nil
		}
		if !assert.NoError(t, err, "%s, and repeated: %s", where, out) {
			return
		}
		if op.name == "clone" { // what was copied in vain is erased
			must(t, "gc")
		}
		assert.Equal(t, want, state(t), where)
		if op.check != nil {
			op.check(t)
		}
	})
}

// eachKill calls do with the environment in which a pmemctl kills itself at a step: at each step
// in make test-crash, otherwise at some.
func eachKill(t *testing.T, steps []string, some int, do func(env []string, where string)) {
	t.Helper()
	stride, first := 1, 1
	if !testenv.All(testenv.Crash) {
		stride = max(1, len(steps)/some)
		first = 1 + len(t.Name())%stride
	}
	begun, killed := time.Now(), 0
	for at := first; at <= len(steps); at += stride {
		killed++
		do([]string{fmt.Sprintf("%s=%d", fault.KillAtEnv, at)}, fmt.Sprintf("killed at step %d of %d, %q", at, len(steps), steps[at-1]))
	}
	t.Logf("%d of %d steps killed, %.0f s", killed, len(steps), time.Since(begun).Seconds())
}

// stepsIn are the fault points that a process passed.
func stepsIn(t *testing.T, log string) []string {
	t.Helper()
	data, err := os.ReadFile(log)
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func prepare(t *testing.T, op operation) {
	t.Helper()
	require.NoError(t, resetPMEM())
	for _, args := range op.setup {
		out, err := pmemctl(nil, args...)
		require.NoError(t, err, out)
		if args[1] == "mount" {
			require.NoError(t, os.WriteFile("/mnt/crash/file", []byte("kept"), 0o600))
		}
	}
}

func faultpointsBinary() string {
	return built("pmemctl-faultpoints")
}

// pmemctl runs the build with fault points; the output is both of its outputs.
func pmemctl(env []string, args ...string) (string, error) {
	cmd := exec.Command(faultpointsBinary(), args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func wasKilled(err error) bool {
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

func exitCode(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

type listed struct {
	Name, State, Type, Device, UUID string
	Size                            uint64
}

func volumes(t *testing.T) []listed {
	t.Helper()
	return volumesThough(t, 0)
}

// volumesThough lists the volumes with an exit code that is allowed besides 0.
func volumesThough(t *testing.T, code int) []listed {
	t.Helper()
	out, err := exec.Command(faultpointsBinary(), "volume", "list", "-o", "json").Output()
	if exitCode(err) != code {
		require.NoError(t, err)
	}
	var l struct{ Volumes []listed }
	require.NoError(t, json.Unmarshal(out, &l))
	return l.Volumes
}

// nothingHalfMadeIsReady: all volumes of these tests that are shown as ready
// have a file system, or were made without one in the setup.
func nothingHalfMadeIsReady(t *testing.T, where string) {
	t.Helper()
	// A device that was killed while it was marked is out of sight until the next change.
	for _, v := range volumesThough(t, 11) {
		if v.State != "ready" || v.Device == "" {
			continue
		}
		out, _ := exec.Command("blkid", "-p", "-o", "value", "-s", "TYPE", v.Device).Output()
		if got := strings.TrimSpace(string(out)); got != "ext4" && !strings.Contains(t.Name(), "empty") {
			assert.Fail(t, "a half-made volume is shown as ready", "%s: volume %s has %q", where, v.Name, got)
		}
	}
}

// state is what the kernel and LVM have, without names and numbers that differ
// from run to run, and without the namespaces that the kernel keeps for later.
func state(t *testing.T) string {
	t.Helper()
	const script = `
udevadm settle 2>/dev/null
ndctl list -RNi | jq -S '[.. | objects | select(.dev? and (.dev | startswith("region") or startswith("namespace"))) | select(.size != 0) | {dev: (.dev | sub("[0-9.]+$"; "")), mode, map, size, available_size, name, state}] | sort_by(.dev, .name, .size)'
vgs --noheadings --units b -o vg_name,vg_size,vg_free,vg_tags
lvs --noheadings --units b -o lv_name,lv_size,lv_tags,segtype,lv_active,lv_suspended | sed 's/copy-of\.[^, ]*/copy-of.UUID/'
ls /dev/mapper
awk '$5 ~ "^/mnt/" { print $5, $9 }' /proc/self/mountinfo
`
	var stderr bytes.Buffer
	cmd := exec.Command("sh", "-c", script)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

func isExt4(name string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		for _, v := range volumes(t) {
			if v.Name == name {
				out, err := exec.Command("e2fsck", "-f", "-n", v.Device).CombinedOutput()
				assert.NoError(t, err, "%s", out)
				return
			}
		}
		assert.Fail(t, "no volume "+name)
	}
}

func grewMounted(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile("/mnt/crash/file")
	assert.NoError(t, err)
	assert.Equal(t, "kept", string(data))
	var st syscall.Statfs_t
	require.NoError(t, syscall.Statfs("/mnt/crash", &st))
	assert.Greater(t, st.Blocks*uint64(st.Bsize), uint64(24<<20), "the file system has grown")
}
