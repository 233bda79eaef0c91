//go:build guest

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// These tests take devices away under volumes that are in use, and file systems out of
// order. Each volume has a staging path and a target of its own below /mnt/csi.

func stagingOf(name string) string { return "/mnt/csi/staging-" + name }
func targetOf(name string) string  { return "/mnt/csi/pods/" + name }

func shellf(t *testing.T, command string, args ...any) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", fmt.Sprintf(command, args...)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

// unbind takes the block device of a namespace away, as when its DIMM is lost, and
// returns how to bring it back.
func unbind(t *testing.T, blockdev string) (bind func()) {
	t.Helper()
	device, err := filepath.EvalSymlinks("/sys/block/" + blockdev + "/device")
	require.NoError(t, err)
	to := func(file string) {
		require.NoError(t, os.WriteFile("/sys/bus/nd/drivers/nd_pmem/"+file, []byte(filepath.Base(device)), 0))
	}
	to("unbind")
	require.NoFileExists(t, "/sys/block/"+blockdev+"/size")
	return func() { to("bind") }
}

func numberOf(t *testing.T, blockdev string) string {
	t.Helper()
	data, err := os.ReadFile("/sys/class/block/" + filepath.Base(blockdev) + "/dev")
	require.NoError(t, err)
	return strings.TrimSpace(string(data))
}

// mountsOn are the lines of mountinfo of a path.
func mountsOn(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	var lines []string
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 4 && f[4] == path {
			lines = append(lines, line)
		}
	}
	return lines
}

type use struct {
	kind string
	c    *csi.VolumeCapability
}

// uses are volumes of each kind in which a pod can have one.
func uses() map[string]use {
	return map[string]use{
		"direct-fs": {"direct", mountCapability("ext4")}, "direct-raw": {"direct", blockCapability()},
		"lvm-fs": {"lvm", mountCapability("ext4")}, "lvm-raw": {"lvm", blockCapability()},
		"direct-xfs": {"direct", mountCapability("xfs")}, "lvm-xfs": {"lvm", mountCapability("xfs")},
	}
}

func (s *csiServer) stage(name string, c *csi.VolumeCapability) error {
	_ = os.MkdirAll(stagingOf(name), 0o755)
	_, err := s.NodeStageVolume(context.Background(), &csi.NodeStageVolumeRequest{VolumeId: name, StagingTargetPath: stagingOf(name), VolumeCapability: c})
	return err
}

func (s *csiServer) publishAt(name, target string, c *csi.VolumeCapability) error {
	_, err := s.NodePublishVolume(context.Background(), &csi.NodePublishVolumeRequest{VolumeId: name, StagingTargetPath: stagingOf(name), TargetPath: target, VolumeCapability: c})
	return err
}

func (s *csiServer) publish(name string, c *csi.VolumeCapability) error {
	return s.publishAt(name, targetOf(name), c)
}

func (s *csiServer) unpublish(name, target string) error {
	_, err := s.NodeUnpublishVolume(context.Background(), &csi.NodeUnpublishVolumeRequest{VolumeId: name, TargetPath: target})
	return err
}

func (s *csiServer) unstage(name string) error {
	_, err := s.NodeUnstageVolume(context.Background(), &csi.NodeUnstageVolumeRequest{VolumeId: name, StagingTargetPath: stagingOf(name)})
	return err
}

func (s *csiServer) remove(name string) error {
	_, err := s.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: name})
	return err
}

// condition is what is abnormal at a path, "" for nothing.
func (s *csiServer) condition(t *testing.T, name, path string) string {
	t.Helper()
	stats, err := s.NodeGetVolumeStats(context.Background(), &csi.NodeGetVolumeStatsRequest{VolumeId: name, VolumePath: path})
	require.NoError(t, err, name)
	if !stats.GetVolumeCondition().GetAbnormal() {
		return ""
	}
	return stats.GetVolumeCondition().GetMessage()
}

func refused(t *testing.T, err error, text string) {
	t.Helper()
	assert.Equal(t, codes.FailedPrecondition, status.Code(err), "%v", err)
	assert.ErrorContains(t, err, text)
}

// shown is the state and the health that volume list has of a volume.
func shown(t *testing.T, name string) (state, health, device string) {
	t.Helper()
	out, err := exec.Command(faultpointsBinary(), "volume", "list", "-o", "json").Output()
	if exitCode(err) != 11 { // something else is out of sight
		require.NoError(t, err)
	}
	var l struct {
		Volumes []struct{ Name, State, Health, Device string }
	}
	require.NoError(t, json.Unmarshal(out, &l))
	for _, v := range l.Volumes {
		if v.Name == name {
			return v.State, v.Health, v.Device
		}
	}
	return "", "", ""
}

func resetDevices(t *testing.T) {
	t.Helper()
	for name := range uses() {
		for _, path := range []string{targetOf(name), stagingOf(name)} {
			for exec.Command("umount", "-l", path).Run() == nil { // one may be over another
			}
		}
	}
	resetCSI(t)
}

// content is what the tests write to each volume, and find again.
func content(name string) []byte { return bytes.Repeat([]byte(name+" kept "), 4096) }

func write(t *testing.T, name string, c *csi.VolumeCapability) {
	t.Helper()
	path := targetOf(name)
	if c.GetBlock() == nil {
		path += "/file"
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	_, err = f.Write(content(name))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

func assertContent(t *testing.T, name string, c *csi.VolumeCapability) {
	t.Helper()
	path := targetOf(name)
	if c.GetBlock() == nil {
		path += "/file"
	}
	data, err := exec.Command("dd", "if="+path, "iflag=direct", "bs=4096", fmt.Sprintf("count=%d", len(content(name))/4096)).Output()
	if assert.NoError(t, err, name) {
		assert.True(t, bytes.Equal(content(name)[:len(data)], data) && len(data) > 0, "%s has its content", name)
	}
}

// TestDevicesGone takes the devices away under volumes of every kind that pods have, and
// brings them back.
func TestDevicesGone(t *testing.T) {
	resetDevices(t)
	defer resetDevices(t)
	s := startCSI(t, nil, "--init", "--percent", "60")
	defer func() { s.stop(t) }()
	var binds []func()
	direct := map[string]string{}
	for name, u := range uses() {
		size := int64(32 << 20)
		if strings.HasSuffix(name, "xfs") {
			size = 304 << 20
		}
		_, err := s.CreateVolume(context.Background(), createRequest(name, u.kind, size, u.c))
		require.NoError(t, err)
		require.NoError(t, s.stage(name, u.c))
		require.NoError(t, s.publish(name, u.c))
		write(t, name, u.c)
		if u.kind == "direct" {
			_, _, device := shown(t, name)
			direct[name] = filepath.Base(device)
		}
	}
	require.NoError(t, os.Mkdir(targetOf("direct-fs")+"/below", 0o755))
	// Processes that have files open, as those of a pod that does not end by itself.
	held := map[string]*exec.Cmd{}
	for _, name := range []string{"direct-fs", "lvm-fs"} {
		held[name] = exec.Command("sleep", "300")
		held[name].Dir = targetOf(name)
		require.NoError(t, held[name].Start())
		defer func() { _ = held[name].Process.Kill(); _ = held[name].Wait() }()
	}
	assert.Error(t, exec.Command("umount", targetOf("lvm-fs")).Run(), "it is busy")
	shellf(t, "mount -t tmpfs foreign %s/below", targetOf("direct-fs"))

	pools := strings.Fields(shellf(t, "pvs --noheadings -o pv_name -S vg_tags=pmemctl"))
	was := map[string]string{}
	for _, device := range direct {
		was[device] = numberOf(t, device)
		binds = append(binds, unbind(t, device))
	}
	for _, device := range pools {
		was[filepath.Base(device)] = numberOf(t, device)
		binds = append(binds, unbind(t, filepath.Base(device)))
	}

	for name := range uses() {
		state, health, _ := shown(t, name)
		assert.Equal(t, "damaged", state, name)
		assert.Contains(t, health, "its device was removed", name)
		assert.Contains(t, s.condition(t, name, targetOf(name)), "its device was removed", name)
	}
	refused(t, s.remove("direct-fs"), "is still in use at "+stagingOf("direct-fs"))
	// What is foreign stays: another volume's path, and what was mounted below.
	assert.Error(t, s.unpublish("direct-fs", targetOf("direct-xfs")))
	assert.Error(t, s.unpublish("lvm-raw", targetOf("direct-raw")))
	assert.Error(t, s.unpublish("direct-raw", targetOf("lvm-raw")))
	refused(t, s.unpublish("direct-fs", targetOf("direct-fs")), "/below (tmpfs) mounted below it")
	for _, path := range []string{targetOf("direct-xfs"), targetOf("direct-raw"), targetOf("lvm-raw"), targetOf("direct-fs") + "/below", targetOf("direct-fs")} {
		assert.Len(t, mountsOn(t, path), 1, path)
	}
	shellf(t, "umount %s/below", targetOf("direct-fs"))

	// Half of them end while their devices are away, the others when they are back.
	end := func(name string, u use) {
		t.Helper()
		require.NoError(t, s.unpublish(name, targetOf(name)), name)
		require.NoError(t, s.unpublish(name, targetOf(name)), "again: %s", name)
		assert.NoFileExists(t, targetOf(name))
		if u.c.GetBlock() == nil {
			require.NoError(t, s.unstage(name), name)
		}
		assert.Empty(t, mountsOn(t, targetOf(name)))
		assert.Empty(t, mountsOn(t, stagingOf(name)))
	}
	for name, u := range uses() {
		if !strings.HasSuffix(name, "xfs") {
			end(name, u)
		}
	}
	refused(t, s.remove("lvm-raw"), "may be in volume group")
	_, err := pmemctl(nil, "volume", "unmount", "lvm-xfs")
	assert.NoError(t, err, "by its name alone, on all paths")
	assert.Empty(t, mountsOn(t, targetOf("lvm-xfs")))
	assert.Empty(t, mountsOn(t, stagingOf("lvm-xfs")))

	for _, bind := range binds {
		bind()
	}
	assert.NotEqual(t, was[filepath.Base(pools[0])], numberOf(t, pools[0]), "a mapped device holds the old number")
	// Of what has files open from before nothing is mixed with what is new.
	refused(t, s.stage("lvm-fs", uses()["lvm-fs"].c), "but the old one is still in use")
	for _, cmd := range held {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	refused(t, s.stage("direct-xfs", uses()["direct-xfs"].c), "is still in use at "+targetOf("direct-xfs"))
	require.NoError(t, s.unpublish("direct-xfs", targetOf("direct-xfs")))
	for name, u := range uses() {
		for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
			if err = s.stage(name, u.c); err == nil { // who was killed lets go in a moment
				break
			}
		}
		require.NoError(t, err, name)
		require.NoError(t, s.publish(name, u.c), name)
		assert.Len(t, mountsOn(t, targetOf(name)), 1, "the old mount of %s is off", name)
		assertContent(t, name, u.c)
		assert.Empty(t, s.condition(t, name, targetOf(name)), name)
		state, health, device := shown(t, name)
		assert.Equal(t, "ready", state, "%s: %s", name, health)
		if u.kind == "lvm" {
			assert.Contains(t, shellf(t, "dmsetup table %s", device), " "+numberOf(t, pools[0])+" ", name)
		}
		write(t, name, u.c)
		end(name, u)
		require.NoError(t, s.remove(name), name)
	}
	left, _ := os.ReadDir("/run/pmemctl/used")
	assert.Empty(t, left, "nothing is remembered of what is over")
}

// TestDevicesGoneRegion disables a whole region, as when a DIMM is lost: nothing is seen
// of its namespaces any more.
func TestDevicesGoneRegion(t *testing.T) {
	resetDevices(t)
	defer resetDevices(t)
	s := startCSI(t, nil, "--type", "direct")
	defer func() { s.stop(t) }()
	u := uses()["direct-fs"]
	_, err := s.CreateVolume(context.Background(), createRequest("direct-fs", "direct", 32<<20, u.c))
	require.NoError(t, err)
	require.NoError(t, s.stage("direct-fs", u.c))
	require.NoError(t, s.publish("direct-fs", u.c))
	write(t, "direct-fs", u.c)
	region := shellf(t, "pmemctl volume show direct-fs -o json | jq -r '.volumes[0].regions[0]'")
	unit := func(file string) {
		require.NoError(t, os.WriteFile("/sys/bus/nd/drivers/nd_region/"+file, []byte(region), 0))
	}
	unit("unbind")
	state, health, _ := shown(t, "direct-fs")
	assert.Equal(t, "damaged", state)
	assert.Contains(t, health, "its device was removed")
	assert.Contains(t, s.condition(t, "direct-fs", targetOf("direct-fs")), "its device was removed")
	refused(t, s.remove("direct-fs"), "may be in region "+region+", which is disabled")
	require.NoError(t, s.unpublish("direct-fs", targetOf("direct-fs")))
	require.NoError(t, s.unstage("direct-fs"))
	assert.Empty(t, mountsOn(t, stagingOf("direct-fs")))
	unit("bind")
	require.NoError(t, s.stage("direct-fs", u.c))
	require.NoError(t, s.publish("direct-fs", u.c))
	assertContent(t, "direct-fs", u.c)
	require.NoError(t, s.unpublish("direct-fs", targetOf("direct-fs")))
	require.NoError(t, s.unstage("direct-fs"))
	require.NoError(t, s.remove("direct-fs"))
}

// TestDevicesGoneFromSpan has a group over two regions lose one under volumes that pods
// have: the volume that is not on it goes on, the others end, and an admin who gives up
// the device for good, as LVM tells, loses what was on it and nothing else.
func TestDevicesGoneFromSpan(t *testing.T) {
	resetDevices(t)
	must(t, "vg init --span --name pool --percent 20")
	s := startCSI(t, nil, "--type", "lvm")
	capability := mountCapability("ext4")
	names := []string{"here", "away", "both"}
	defer func() {
		s.stop(t)
		for _, name := range names {
			for _, path := range []string{targetOf(name), stagingOf(name)} {
				for exec.Command("umount", "-l", path).Run() == nil {
				}
			}
		}
		resetCSI(t)
	}()
	must(t, "volume create here --type lvm --size 64Mi --region region0")
	must(t, "volume create away --type lvm --size 64Mi --region region1")
	must(t, "volume create both --type lvm --size 64Mi --stripe")
	use := func(name string) {
		t.Helper()
		require.NoError(t, s.stage(name, capability), name)
		require.NoError(t, s.publish(name, capability), name)
	}
	end := func(name string) {
		t.Helper()
		require.NoError(t, s.unpublish(name, targetOf(name)), name)
		require.NoError(t, s.unstage(name), name)
		assert.Empty(t, mountsOn(t, targetOf(name)))
		assert.Empty(t, mountsOn(t, stagingOf(name)))
	}
	for _, name := range names {
		use(name)
		write(t, name, capability)
	}
	device := filepath.Base(shellf(t, "pvs --noheadings -o pv_name -S vg_name=pool | while read -r pv; do readlink -f /sys/block/${pv##*/} | grep -q /region1/ && echo $pv; done; true"))
	namespace := shellf(t, "ndctl list -N -r region1 | jq -r '.[0].dev'")
	bind := unbind(t, device)

	for name, want := range map[string]string{"here": "ready", "away": "damaged", "both": "damaged"} {
		state, health, _ := shown(t, name)
		assert.Equal(t, want, state, "%s: %s", name, health)
		assert.Equal(t, want == "damaged", s.condition(t, name, targetOf(name)) != "", name)
	}
	assertContent(t, "here", capability)
	write(t, "here", capability)
	end("here")
	use("here")
	assertContent(t, "here", capability)
	for _, name := range names {
		refused(t, s.remove(name), "")
	}
	end("away")
	assert.Error(t, s.stage("away", capability))
	refused(t, s.remove("away"), "is missing a device")

	out, err := exec.Command("vgreduce", "-y", "--removemissing", "--force", "pool").CombinedOutput()
	require.Error(t, err, "the other still has its pod")
	require.Contains(t, string(out), "contains a filesystem in use")
	end("both")
	shellf(t, "vgreduce -y --removemissing --force pool")
	state, _, _ := shown(t, "here")
	assert.Equal(t, "ready", state)
	for _, name := range []string{"away", "both"} { // its namespace may come back
		refused(t, s.remove(name), "may be in volume group pool, whose namespace ")
	}
	end("here")
	use("here")
	assertContent(t, "here", capability)

	// The device is back, and the group goes on without it: nothing of it comes back.
	bind()
	vgRefused(t, 11, "volume group pool: is complete without /dev/"+device+", which has its mark\n", "vg list")
	vgRefused(t, 11, "volume group pool: is complete without /dev/"+device+", which has its mark\n", "volume list")
	assert.Contains(t, must(t, "vg check"), "the group is complete without this device")
	refused(t, s.remove("away"), "may be in volume group pool: ")
	vgRefused(t, 11, "the data on them would be lost, and the group would remain: "+namespace+" (region1, ", "vg remove pool")
	must(t, "vg remove pool --force")
	must(t, "vg list")
	for _, name := range []string{"away", "both"} {
		require.NoError(t, s.remove(name), "it is gone for certain")
	}
	end("here")
	use("here")
	assertContent(t, "here", capability)
	end("here")
	require.NoError(t, s.remove("here"))
	must(t, "vg remove pool")
	assert.Empty(t, volumes(t))
}

// ext4State is what the superblock of a volume's device says of its state.
func ext4State(t *testing.T, device string) string {
	t.Helper()
	return shellf(t, "dumpe2fs -h %s 2>/dev/null | sed -n 's/^Filesystem state: *//p'", device)
}

// passed runs pmemctl and returns the points of change that it passed.
func passed(t *testing.T, args ...string) (points string, out string, err error) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	out, err = pmemctl([]string{"PMEMCTL_FAULT_LOG=" + log}, args...)
	data, _ := os.ReadFile(log)
	return string(data), out, err
}

// TestDevicesFaults has the kernel give up file systems that pods have, and looks that
// the next pod gets a sound one.
func TestDevicesFaults(t *testing.T) {
	resetDevices(t)
	defer resetDevices(t)
	const metrics = "127.0.0.1:9099"
	s := startCSI(t, nil, "--init", "--percent", "60", "--metrics-address", metrics)
	defer func() { s.stop(t) }()
	for _, c := range []struct {
		name, kind, fs, flag string
		fault                string // a command, given the kernel's name of the device and a path on it
		says                 string
	}{
		{"lvm-fs", "lvm", "ext4", "errors=remount-ro", "echo 1 > /sys/fs/ext4/%s/trigger_fs_error # %s", "was made read-only by the kernel"},
		{"direct-fs", "direct", "ext4", "dax", ": %s; xfs_io -x -c shutdown %s", "was shut down by the kernel"},
		{"lvm-xfs", "lvm", "xfs", "dax", ": %s; xfs_io -x -c shutdown %s", "was shut down by the kernel"},
	} {
		capability := mountCapability(c.fs, c.flag)
		size := map[string]int64{"ext4": 32 << 20, "xfs": 304 << 20}[c.fs]
		_, err := s.CreateVolume(context.Background(), createRequest(c.name, c.kind, size, capability))
		require.NoError(t, err)
		require.NoError(t, s.stage(c.name, capability))
		require.NoError(t, s.publish(c.name, capability))
		write(t, c.name, capability)
		_, _, device := shown(t, c.name)
		kernel := shellf(t, "basename $(realpath %s)", device)
		assert.Empty(t, s.condition(t, c.name, targetOf(c.name)))
		shellf(t, c.fault, kernel, targetOf(c.name))

		assert.Contains(t, s.condition(t, c.name, targetOf(c.name)), c.says)
		state, health, _ := shown(t, c.name)
		assert.Equal(t, "damaged", state)
		assert.Contains(t, health, c.says)
		out, _ := pmemctl(nil, "volume", "show", c.name)
		assert.Contains(t, out, c.says)
		if c.name == "lvm-fs" { // the host is read at a rate of its own
			counted := fmt.Sprintf(`pmemctl_volumes{state="damaged",type="%s"} 1`, c.kind)
			assert.Eventually(t, func() bool { return strings.Contains(shellf(t, "curl -s http://%s/metrics", metrics), counted) }, time.Minute, time.Second, counted)
		}
		for _, target := range []string{targetOf(c.name) + "-2", targetOf(c.name)} {
			refused(t, s.publishAt(c.name, target, capability), c.says)
		}
		assert.NoFileExists(t, targetOf(c.name)+"-2")
		refused(t, s.stage(c.name, capability), c.says)
		require.Len(t, mountsOn(t, targetOf(c.name)), 1, "the pod keeps what it has")
		require.NoError(t, s.unpublish(c.name, targetOf(c.name)))

		// Nobody uses it: it is mounted anew, and checked before that.
		require.NoError(t, s.stage(c.name, capability))
		require.NoError(t, s.publish(c.name, capability))
		assertContent(t, c.name, capability)
		write(t, c.name, capability)
		assert.Empty(t, s.condition(t, c.name, targetOf(c.name)))
		if c.fs == "ext4" {
			assert.Equal(t, "clean", ext4State(t, device))
		}
		require.NoError(t, s.unpublish(c.name, targetOf(c.name)))
		require.NoError(t, s.unstage(c.name))
	}
	// A log of XFS that cannot be replayed.
	_, _, device := shown(t, "lvm-xfs")
	shellf(t, `mkdir -p /mnt/broken; mount %[1]s /mnt/broken; touch /mnt/broken/new; xfs_io -x -c "shutdown -f" /mnt/broken; umount /mnt/broken
		log=$(xfs_db -r -c "sb 0" -c "p logstart" %[1]s | sed 's/.*= //')
		at=$(xfs_db -r -c "convert fsblock $log daddr" %[1]s | sed 's/.*(\(.*\))/\1/')
		dd if=/dev/urandom of=%[1]s bs=512 seek=$((at+1)) count=8000 conv=notrunc status=none`, device)
	refused(t, s.stage("lvm-xfs", mountCapability("xfs")), "xfs_repair "+device+"; if its log cannot be replayed, xfs_repair -L")
	assert.Empty(t, mountsOn(t, stagingOf("lvm-xfs")))

	// With its error flag set, and expanded: checked, mounted, grown.
	_, _, device = shown(t, "lvm-fs")
	capability := mountCapability("ext4")
	shellf(t, "debugfs -w -R 'set_super_value state 3' %s 2>/dev/null; pmemctl volume expand lvm-fs --size 64Mi", device)
	require.NoError(t, s.stage("lvm-fs", capability))
	assert.Equal(t, "clean", ext4State(t, device))
	assert.Greater(t, shellf(t, "stat -f -c %%b %s", stagingOf("lvm-fs")), "13000", "blocks of 4 KiB")
	// With an error while it is mounted it does not grow, but stays mounted, and is shown.
	// (As a version before errors=remount-ro mounted it.)
	shellf(t, "mount -o remount,errors=continue %s; echo 1 > /sys/fs/ext4/$(basename $(realpath %s))/trigger_fs_error", stagingOf("lvm-fs"), device)
	_, err := pmemctl(nil, "volume", "expand", "lvm-fs", "--size", "128Mi")
	assert.ErrorContains(t, err, "exit status 7")
	require.NoError(t, s.stage("lvm-fs", capability), "it is mounted: success, again and again")
	require.NoError(t, s.publish("lvm-fs", capability))
	assert.Contains(t, s.condition(t, "lvm-fs", targetOf("lvm-fs")), "has errors, which are repaired at the next mount")
	state, health, _ := shown(t, "lvm-fs")
	assert.Equal(t, "ready", state)
	assert.Contains(t, health, "has errors")
	_, err = s.NodeExpandVolume(context.Background(), &csi.NodeExpandVolumeRequest{VolumeId: "lvm-fs", VolumePath: targetOf("lvm-fs"), CapacityRange: &csi.CapacityRange{RequiredBytes: 128 << 20}})
	refused(t, err, "must be checked before it can grow")
	// It is mounted already: whoever mounts it once more does not have it checked.
	points, out, err := passed(t, "volume", "mount", "lvm-fs", "/mnt/second")
	require.NoError(t, err, out)
	assert.NotContains(t, points, "e2fsck")
	assert.Equal(t, "clean with errors", ext4State(t, device))
	require.NoError(t, s.unpublish("lvm-fs", targetOf("lvm-fs")))
	shellf(t, "pmemctl volume unmount lvm-fs")
	// Nor for a read-only mount, nor one that is clean.
	points, out, err = passed(t, "volume", "mount", "lvm-fs", "/mnt/second", "--read-only")
	require.NoError(t, err, out)
	assert.NotContains(t, points, "e2fsck")
	assert.Equal(t, "clean with errors", ext4State(t, device))
	shellf(t, "pmemctl volume unmount lvm-fs")
	for _, checked := range []bool{true, false} {
		points, out, err = passed(t, "volume", "mount", "lvm-fs", "/mnt/second")
		require.NoError(t, err, out)
		assert.Equal(t, checked, strings.Contains(points, "before e2fsck"))
		assert.Greater(t, shellf(t, "stat -f -c %%b /mnt/second"), "26000", "it has grown")
		shellf(t, "pmemctl volume unmount lvm-fs")
	}
	// What cannot be repaired without being asked is refused, and not touched.
	shellf(t, "debugfs -w -R 'clri <2>' %[1]s 2>/dev/null; debugfs -w -R 'set_super_value state 2' %[1]s 2>/dev/null", device)
	refused(t, s.stage("lvm-fs", capability), "repair it: e2fsck -f "+device)
	assert.Empty(t, mountsOn(t, stagingOf("lvm-fs")))
}

// TestDevicesRawOrMounted: who has a volume as a raw device has it alone.
func TestDevicesRawOrMounted(t *testing.T) {
	resetDevices(t)
	defer resetDevices(t)
	s := startCSI(t, nil, "--init", "--percent", "20")
	defer func() { s.stop(t) }()
	for _, name := range []string{"lvm-fs", "direct-fs"} {
		kind := uses()[name].kind
		_, err := s.CreateVolume(context.Background(), createRequest(name, kind, 32<<20, blockCapability()))
		require.NoError(t, err)
		_, _, device := shown(t, name)
		shellf(t, "mkfs.ext4 -q -b 4096 %s", device) // as the one who has it may
		require.NoError(t, s.stage(name, mountCapability("ext4")))
		refused(t, s.publish(name, blockCapability()), "is mounted on "+stagingOf(name))
		assert.NoFileExists(t, targetOf(name))
		require.NoError(t, s.unstage(name))
		require.NoError(t, s.publish(name, blockCapability()))
		require.NoError(t, s.publishAt(name, targetOf(name)+"-2", blockCapability()), "a second raw device of it is for the access mode to allow")
		refused(t, s.stage(name, mountCapability("ext4")), "is published at "+targetOf(name))
		out, err := pmemctl(nil, "volume", "mount", name, "/mnt/second")
		assert.ErrorContains(t, err, "exit status 6", out)
		assert.Empty(t, mountsOn(t, stagingOf(name)))
		require.NoError(t, s.unpublish(name, targetOf(name)+"-2"))
		require.NoError(t, s.unpublish(name, targetOf(name)))
		require.NoError(t, s.stage(name, mountCapability("ext4")))
		require.NoError(t, s.unstage(name))
	}
	// A number comes again once nothing holds it: what was published under it is not
	// given the device of another volume.
	require.NoError(t, s.publish("direct-fs", blockCapability()))
	_, _, device := shown(t, "direct-fs")
	was := numberOf(t, device)
	bind := unbind(t, filepath.Base(device))
	_, err := s.CreateVolume(context.Background(), createRequest("direct-raw", "direct", 32<<20, blockCapability()))
	require.NoError(t, err)
	_, _, device = shown(t, "direct-raw")
	// The lowest number that is free comes first: others take those below.
	for i := 0; i < 20 && numberOf(t, device) != was; i++ {
		shellf(t, "ndctl disable-namespace $(ndctl list -N | jq -r '.[] | select(.name == \"pmemctl:direct-raw\").dev')")
		_, err := s.CreateVolume(context.Background(), createRequest(fmt.Sprintf("filler-%d", i), "direct", 16<<20, blockCapability()))
		require.NoError(t, err)
		shellf(t, "ndctl enable-namespace $(ndctl list -Ni | jq -r '.[] | select(.name == \"pmemctl:direct-raw\").dev')")
		_, _, device = shown(t, "direct-raw")
	}
	require.Equal(t, was, numberOf(t, device), "the kernel gives the number again")
	refused(t, s.publish("direct-raw", blockCapability()), "has the device number of volume direct-fs")
	assert.NoFileExists(t, targetOf("direct-raw"))
	require.NoError(t, s.unpublish("direct-fs", targetOf("direct-fs")))
	require.NoError(t, s.publish("direct-raw", blockCapability()))
	require.NoError(t, s.unpublish("direct-raw", targetOf("direct-raw")))
	bind()
}
