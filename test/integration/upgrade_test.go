//go:build guest

package integration

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// previousBinary is pmemctl as it was before: see PREVIOUS in the Makefile.
func previousBinary() string {
	return built("pmemctl-previous")
}

// run runs a pmemctl that must succeed.
func run(t *testing.T, binary string, args ...string) string {
	t.Helper()
	out, err := exec.Command(binary, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", filepath.Base(binary), args, out)
	return string(out)
}

// oldVolumes are those that the previous pmemctl makes, and whether they have an ext4.
var oldVolumes = []struct {
	name, kind string
	filesystem bool
}{
	{"db", "lvm", true}, {"cache", "direct", true}, {"rawlvm", "lvm", false}, {"rawdirect", "direct", false},
}

// makeOld prepares the PMEM and makes volumes with data by the previous pmemctl; db stays
// mounted.
func makeOld(t *testing.T) (devices map[string]string) {
	t.Helper()
	old := previousBinary()
	require.NoError(t, resetPMEM())
	run(t, old, "region", "init-labels", "--all", "--force")
	run(t, old, "vg", "init", "--percent", "50")
	for _, v := range oldVolumes {
		args := []string{"volume", "create", v.name, "--type", v.kind, "--size", "64Mi"}
		if !v.filesystem {
			args = append(args, "--fs", "none")
		}
		run(t, old, args...)
	}
	devices = allReady(t, old, len(oldVolumes))
	for _, v := range oldVolumes {
		if v.filesystem {
			run(t, old, "volume", "mount", v.name, "/mnt/"+v.name)
			shell(t, "head -c 8M /dev/urandom >/mnt/"+v.name+"/file; sync -f /mnt/"+v.name+"; sha256sum </mnt/"+v.name+"/file >/tmp/sum-"+v.name)
			continue
		}
		shell(t, "head -c 8M /dev/urandom >/tmp/raw; dd if=/tmp/raw of="+devices[v.name]+" bs=1M oflag=direct conv=notrunc status=none; sha256sum </tmp/raw >/tmp/sum-"+v.name)
	}
	run(t, old, "volume", "unmount", "cache")
	return devices
}

func shell(t *testing.T, script string) {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	require.NoError(t, err, "%s: %s", script, out)
}

// allReady returns the devices of the volumes that a pmemctl lists, all of them ready.
func allReady(t *testing.T, binary string, count int) map[string]string {
	t.Helper()
	out, err := exec.Command(binary, "volume", "list", "-o", "json").Output()
	require.NoError(t, err, "%s", out)
	var list struct{ Volumes []listed }
	require.NoError(t, json.Unmarshal(out, &list))
	require.Len(t, list.Volumes, count, "%s", out)
	devices := map[string]string{}
	for _, v := range list.Volumes {
		assert.Equal(t, "ready", v.State, v.Name)
		assert.GreaterOrEqual(t, v.Size, uint64(64<<20), v.Name)
		assert.NotEmpty(t, v.Device, v.Name)
		devices[v.Name] = v.Device
	}
	return devices
}

// holdsOld looks for the data of makeOld by a pmemctl; all is unmounted after it.
func holdsOld(t *testing.T, binary string, devices map[string]string) {
	t.Helper()
	for _, v := range oldVolumes {
		if !v.filesystem {
			shell(t, `test "$(head -c 8M `+devices[v.name]+` | sha256sum)" = "$(cat /tmp/sum-`+v.name+`)"`)
			continue
		}
		run(t, binary, "volume", "mount", v.name, "/mnt/"+v.name)
		mounts, err := os.ReadFile("/proc/mounts")
		require.NoError(t, err)
		assert.Regexp(t, "(?m)^"+devices[v.name]+" /mnt/"+v.name+" ext4 rw,.*dax=always", string(mounts))
		shell(t, `test "$(sha256sum </mnt/`+v.name+`/file)" = "$(cat /tmp/sum-`+v.name+`)"`)
		run(t, binary, "volume", "unmount", v.name)
	}
}

// deleteOld deletes all, with a pmemctl, down to the groups.
func deleteOld(t *testing.T, binary string, volumes ...string) {
	t.Helper()
	run(t, binary, append([]string{"volume", "delete", "--force"}, volumes...)...)
	allReady(t, binary, 0)
	run(t, binary, "vg", "remove", "pmemvgregion0")
	run(t, binary, "vg", "remove", "pmemvgregion1")
	nothingIsLeft(t)
	assert.Empty(t, strings.TrimSpace(output(t, "ndctl", "list", "-N")), "a namespace is left")
}

// TestUpgrade: volumes and groups that the previous pmemctl made are used and deleted by
// this one; and by the previous one again, after this one has changed them.
func TestUpgrade(t *testing.T) {
	old, now := previousBinary(), faultpointsBinary()
	t.Run("and on", func(t *testing.T) {
		before := makeOld(t)
		devices := allReady(t, now, 4)
		assert.Equal(t, before, devices)
		groups := run(t, now, "vg", "list")
		assert.Regexp(t, `(?m)^pmemvgregion0 `, groups)
		assert.Regexp(t, `(?m)^pmemvgregion1 `, groups)
		// It is mounted, and grows so.
		run(t, now, "volume", "expand", "db", "--size", "96Mi")
		var size struct{ Volumes []listed }
		require.NoError(t, json.Unmarshal([]byte(run(t, now, "volume", "show", "db", "-o", "json")), &size))
		assert.Equal(t, uint64(96<<20), size.Volumes[0].Size)
		run(t, now, "volume", "unmount", "db")
		holdsOld(t, now, devices)
		// What is new beside what is old.
		run(t, now, "vg", "init", "--percent", "50")
		run(t, now, "volume", "create", "new", "--type", "lvm", "--size", "64Mi")
		run(t, now, "volume", "clone", "cache", "copy")
		holdsOld(t, now, allReady(t, now, 6))
		deleteOld(t, now, "db", "cache", "rawlvm", "rawdirect", "new", "copy")
	})
	t.Run("and back", func(t *testing.T) {
		devices := makeOld(t)
		run(t, now, "vg", "init", "--percent", "50")
		run(t, now, "volume", "expand", "db", "--size", "96Mi")
		run(t, now, "volume", "unmount", "db")
		holdsOld(t, now, devices)
		run(t, now, "volume", "create", "new", "--type", "lvm", "--size", "64Mi")
		holdsOld(t, old, allReady(t, old, 5))
		deleteOld(t, old, "db", "cache", "rawlvm", "rawdirect", "new")
	})
	require.NoError(t, resetPMEM())
}

// TestUpgradeCSI: pods go on when the server is replaced below them, by a newer one and
// by the older one again.
func TestUpgradeCSI(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	server := func(binary string) *csiServer {
		return startServer(t, exec.Command(binary, serveArgs("--init", "--percent", "50")...))
	}
	s := server(previousBinary())
	defer func() { s.stop(t); resetCSI(t) }()
	replace := func(binary string) {
		s.stop(t)
		s = server(binary)
	}
	disks := []disk{{name: "l", kind: "lvm", size: 64 << 20}, {name: "d", kind: "direct", size: 64 << 20}}
	for _, d := range disks {
		require.NoError(t, inOrder(s, d.createNew, d.stage, d.publish))
		require.NoError(t, os.WriteFile(d.target()+"/file", []byte("kept"), 0o600))
	}
	kept := func() {
		t.Helper()
		mounts, err := os.ReadFile("/proc/mounts")
		require.NoError(t, err)
		for _, d := range disks {
			data, err := os.ReadFile(d.target() + "/file")
			require.NoError(t, err)
			assert.Equal(t, "kept", string(data))
			assert.Regexp(t, " "+d.target()+` ext4 \S*dax=always`, string(mounts))
		}
	}
	replace(faultpointsBinary())
	list, err := s.ListVolumes(ctx, &csi.ListVolumesRequest{})
	require.NoError(t, err)
	assert.Len(t, list.GetEntries(), len(disks))
	for _, d := range disks {
		// As kubelet and the provisioner do again, each of them.
		require.NoError(t, inOrder(s, d.createNew, d.stage, d.publish))
	}
	kept()
	require.NoError(t, disks[0].expand(s))
	for _, d := range disks {
		require.NoError(t, inOrder(s, d.unpublish, d.unstage, d.stage, d.publish))
	}
	kept()
	replace(previousBinary())
	for _, d := range disks {
		require.NoError(t, inOrder(s, d.stage, d.publish))
	}
	kept()
	for _, d := range disks {
		require.NoError(t, inOrder(s, d.unpublish, d.unstage, d.delete))
	}
	assert.Empty(t, volumes(t))
}
