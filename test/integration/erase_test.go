//go:build guest

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/fault"
)

// keepEraser keeps commands from erasing in the background, until the function returned is
// called.
func keepEraser(t *testing.T) (release func()) {
	t.Helper()
	require.NoError(t, os.MkdirAll("/run/pmemctl", 0o700))
	lock := exec.Command("flock", "/run/pmemctl/eraser.lock", "sleep", "600")
	require.NoError(t, lock.Start())
	require.Eventually(t, func() bool { return exec.Command("flock", "-n", "/run/pmemctl/eraser.lock", "true").Run() != nil }, 5*time.Second, 10*time.Millisecond)
	return func() { _ = exec.Command("pkill", "-P", fmt.Sprint(lock.Process.Pid)).Run(); _ = lock.Wait() }
}

// erasing are the bytes that pmemctl capacity shows as such.
func erasing(t *testing.T) (bytes uint64) {
	t.Helper()
	out, err := exec.Command(faultpointsBinary(), "capacity", "-o", "json").Output()
	require.NoError(t, err)
	var c struct{ Capacities []struct{ Erasing uint64 } }
	require.NoError(t, json.Unmarshal(out, &c))
	for _, place := range c.Capacities {
		bytes += place.Erasing
	}
	return bytes
}

func prepareFor(t *testing.T, kind string) {
	t.Helper()
	require.NoError(t, resetPMEM())
	if kind == "lvm" {
		must(t, "vg init region0 --size 512Mi")
	}
}

func statesOf(t *testing.T, name string) (states []string) {
	t.Helper()
	for _, v := range volumesThough(t, 0) {
		if v.Name == name {
			states = append(states, v.State)
		}
	}
	return states
}

// TestEraseLater: a volume that is deleted without waiting frees its name at once, and its
// space when it is erased; whoever comes next goes on with that, after a kill as well.
func TestEraseLater(t *testing.T) {
	const secret = "OLD-SECRET"
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			prepareFor(t, kind)
			release := keepEraser(t)
			defer func() { release() }()
			must(t, "volume create a --type "+kind+" --region region0 --size 128Mi --fs none")
			_, _, device := shown(t, "a")
			shellf(t, "yes %s | dd of=%s bs=1M iflag=fullblock oflag=direct count=128 status=none", secret, device)
			must(t, "volume delete a --force --wait=false")
			assert.Equal(t, []string{"deleting"}, statesOf(t, "a"))
			assert.GreaterOrEqual(t, erasing(t), uint64(128<<20))

			// Its name is free, also for one that is deleted before the first is erased.
			must(t, "volume create a --type "+kind+" --region region0 --size 64Mi")
			assert.ElementsMatch(t, []string{"deleting", "ready"}, statesOf(t, "a"))
			must(t, "volume delete a --force --wait=false")
			assert.Equal(t, []string{"deleting", "deleting"}, statesOf(t, "a"))
			must(t, "volume create a --type "+kind+" --region region0 --size 32Mi")

			// Killed in the middle. The volume that is there is not touched.
			must(t, "volume mount a /mnt/a")
			shellf(t, "echo kept >/mnt/a/file")
			killedAt(t, "before zero", "gc")
			assert.Contains(t, statesOf(t, "a"), "deleting")

			// The next change has it go on in the background.
			release()
			release = func() {}
			must(t, "volume create other --type "+kind+" --region region0 --size 16Mi")
			assert.Eventually(t, func() bool { return len(volumes(t)) == 2 }, time.Minute, 200*time.Millisecond, "%v", volumes(t))
			assert.Zero(t, erasing(t))
			assert.Empty(t, unerased())
			assert.Equal(t, "kept", shellf(t, "cat /mnt/a/file"))
			must(t, "volume unmount a")
			must(t, "volume delete a other --force")
			if kind == "lvm" {
				isThere(t, "/dev/pmem0", secret, false)
				must(t, "vg remove pmemvgregion0")
			} else {
				shellf(t, "ndctl create-namespace -r region0 -m raw -s 512M")
				isThere(t, "/dev/pmem0", secret, false)
			}
		})
	}
	require.NoError(t, resetPMEM())
}

// killedAt runs a command that is killed at a point.
func killedAt(t *testing.T, point string, args ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stop")
	require.NoError(t, os.WriteFile(file, []byte(point), 0o600))
	cmd := exec.Command(faultpointsBinary(), args...)
	cmd.Env = append(os.Environ(), fault.StopEnv+"="+file)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { _, err := os.Stat(file); return err != nil }, time.Minute, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

// TestEraseForSpace: a create that lacks space has what was deleted be erased, and only where
// that is enough.
func TestEraseForSpace(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			prepareFor(t, kind)
			defer keepEraser(t)()
			if kind == "direct" {
				shellf(t, "ndctl create-namespace -r region0 -m raw -s $((4096 - 512))M >&2")
			}
			must(t, "volume create a --type "+kind+" --region region0 --size 200Mi")
			must(t, "volume create b --type "+kind+" --region region0 --size 100Mi")
			must(t, "volume delete a b --force --wait=false")
			out, err := pmemctl(nil, "volume", "create", "c", "--type", kind, "--region", "region0", "--size", "600Mi")
			assert.Equal(t, 5, exitCode(err), out)
			assert.Equal(t, []string{"deleting"}, statesOf(t, "a"), "nothing is erased for one that would not fit either")
			must(t, "volume create c --type "+kind+" --region region0 --size 300Mi")
			assert.Equal(t, []string{"ready"}, statesOf(t, "c"))
			must(t, "volume delete c --force --wait=false")
			must(t, "volume create d --type "+kind+" --region region0 --size 150Mi")
			must(t, "volume clone d e --region region0")
			assert.Equal(t, []string{"ready"}, statesOf(t, "e"))
			assert.Empty(t, statesOf(t, "c"), "a clone waits for its space too")
		})
	}
	require.NoError(t, resetPMEM())
}

// TestEraseBadMedium: what cannot be erased is told, and holds up no other volume; it is given
// up on request.
func TestEraseBadMedium(t *testing.T) {
	ctx := context.Background()
	media := []string{fault.MediaEnv + "=" + fmt.Sprint(100<<20, 4096)}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			prepareFor(t, kind)
			release := keepEraser(t)
			defer func() { release() }()
			must(t, "volume create bad --type "+kind+" --region region0 --size 120Mi --fs none")
			must(t, "volume create good --type "+kind+" --region region0 --size 16Mi")
			out, err := pmemctl(media, "volume", "delete", "bad", "--force")
			assert.Equal(t, 11, exitCode(err), out)
			assert.Contains(t, out, "volume bad: is deleted, but 4 KiB of it cannot be erased, the first at byte 104857600")
			assert.Contains(t, out, "next: replace the DIMM; or leave the data there: pmemctl gc --give-up ")
			out, err = pmemctl(nil, "volume", "list")
			assert.Equal(t, 11, exitCode(err), out)
			assert.Contains(t, out, "cannot be erased")

			release()
			release = func() {}
			s := startCSI(t, media)
			_, err = s.ControllerClient.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "bad"})
			assert.NoError(t, err, "it is deleted")
			_, err = s.ControllerClient.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "good"})
			assert.NoError(t, err)
			assert.Eventually(t, func() bool { return len(volumesThough(t, 11)) == 1 }, time.Minute, 200*time.Millisecond, "the others do not wait")
			s.stop(t)
			assert.Contains(t, s.log.String(), "a deleted volume could not be erased")
			// Another volume has the name now, and is not what is given up.
			bad := volumesThough(t, 11)[0].UUID
			must(t, "volume create bad --type "+kind+" --region region0 --size 16Mi")
			must(t, "gc --give-up "+bad)
			assert.Equal(t, []string{"ready"}, statesOf(t, "bad"))
			out, err = pmemctl(nil, "gc", "--give-up", bad)
			assert.Equal(t, 3, exitCode(err), out)
			must(t, "volume delete bad --force")
			assert.Empty(t, volumes(t))
			assert.Empty(t, unerased())

			// Nor is it given out.
			out, err = pmemctl(media, "volume", "create", "raw", "--type", kind, "--region", "region0", "--size", "120Mi", "--fs", "none")
			assert.Equal(t, 11, exitCode(err), out)
			assert.Contains(t, out, "has media errors that a write does not clear")
			assert.Empty(t, volumes(t))
		})
	}
	require.NoError(t, resetPMEM())
}

// TestEraseCopy: what a clone had copied when it was killed does not stay in free space.
func TestEraseCopy(t *testing.T) {
	const secret = "COPIED-SECRET"
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			prepareFor(t, kind)
			must(t, "volume create source --type "+kind+" --size 64Mi --fs none --region region0")
			_, _, device := shown(t, "source")
			shellf(t, "yes %s | dd of=%s bs=1M iflag=fullblock oflag=direct count=64 status=none", secret, device)
			log := filepath.Join(t.TempDir(), "steps")
			out, err := pmemctl([]string{fault.LogEnv + "=" + log}, "volume", "clone", "source", "copy")
			require.NoError(t, err, out)
			must(t, "volume delete copy --force")
			steps := stepsIn(t, log)
			last := map[string]string{"lvm": "before lvchange", "direct": "before set_alt_name"}[kind]
			at := len(steps)
			for at > 0 && steps[at-1] != last {
				at--
			}
			out, err = pmemctl([]string{fmt.Sprintf("%s=%d", fault.KillAtEnv, at)}, "volume", "clone", "source", "copy")
			require.True(t, wasKilled(err), out)
			require.Equal(t, []string{"creating"}, statesOf(t, "copy"))
			must(t, "volume delete source --force")
			release := keepEraser(t)
			must(t, "volume create other --type "+kind+" --size 16Mi --region region0")
			assert.Equal(t, []string{"deleting"}, statesOf(t, "copy"))
			release()
			must(t, "gc")
			must(t, "volume delete other --force")
			assert.Empty(t, volumes(t))
			if kind == "direct" {
				shellf(t, "ndctl create-namespace -r region0 -m raw -s 512M >&2")
			}
			isThere(t, "/dev/pmem0", secret, false)
		})
	}
	require.NoError(t, resetPMEM())
}
