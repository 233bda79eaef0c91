//go:build guest

package integration

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the host has of its own, which a tenant would like to be.
const (
	hostUUID  = "11111111-2222-3333-4444-555555555555"
	hostLabel = "hostroot"
)

// sh runs a script that must succeed; its output is what it wrote.
func sh(t *testing.T, script string, env ...string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", "export LC_ALL=C\n"+script)
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s%s", script, out, stderr.String())
	return string(out)
}

func do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := pmemctl(nil, args...)
	require.NoError(t, err, "%v: %s", args, out)
	return out
}

// deviceOf is the kernel's name of a volume's device.
func deviceOf(t *testing.T, volume string) string {
	t.Helper()
	for _, v := range volumes(t) {
		if v.Name == volume {
			require.NotEmpty(t, v.Device, volume)
			return strings.TrimSpace(sh(t, "basename $(readlink -f "+v.Device+")"))
		}
	}
	require.Fail(t, "no volume "+volume)
	return ""
}

// hostDisk is a disk of the host's own with a file system that it finds by UUID and label.
func hostDisk(t *testing.T) {
	sh(t, `
mkdir -p /run/hostile
truncate -s 32M /run/hostile/disk
mkfs.ext4 -q -F -U `+hostUUID+` -L `+hostLabel+` /run/hostile/disk
losetup -f --show /run/hostile/disk
udevadm settle
test -e /dev/disk/by-uuid/`+hostUUID)
	t.Cleanup(func() {
		_ = exec.Command("sh", "-c", "losetup -D; udevadm settle; rm -rf /run/hostile").Run()
	})
}

// setUpHost installs the rule and the filter, and takes them away after the test.
func setUpHost(t *testing.T) {
	t.Helper()
	do(t, "host", "setup", "--force")
	t.Cleanup(func() {
		out, err := pmemctl(nil, "host", "setup", "--remove", "--force")
		assert.NoError(t, err, out)
	})
}

// hostSees is what the host has made of its devices, and pmemctl's lists.
func hostSees(t *testing.T) string {
	t.Helper()
	return sh(t, `
udevadm settle
for dir in by-uuid by-label by-partuuid by-partlabel by-id; do
	for link in /dev/disk/$dir/*; do
		case $link in *'*'|*/pmem-*|*/dm-*) continue;; esac
		echo "$link $(readlink $link)"
	done
done
ls -d /dev/md* /dev/bcache* /dev/zd* 2>/dev/null || true
ls /dev/mapper
lsmod | awk '$1 ~ /^(raid|md|btrfs|bcache|zfs)/ { print $1 }'
pvs --noheadings -o pv_name 2>/dev/null
vgs --noheadings -o vg_name 2>/dev/null
`) + do(t, "volume", "list") + do(t, "vg", "list", "-o", "wide")
}

// attack is what a tenant writes.
type attack struct {
	name string
	make func(size uint64) image
	// script writes to $DEV in place of make.
	script string
	// is what blkid says of the device: that the bytes are what they are meant to be.
	is string
	// changes: try that pmemctl makes and deletes volumes all the same.
	changes bool
}

func attacks(vgName, vgUUID string) []attack {
	const foreign, pv = "FOREIG-nnnn-nnnn-nnnn-nnnn-nnnn-nnnnnn", "EviLpV-0000-0000-0000-0000-0000-000001"
	group := func(d lvmDevice) func(uint64) image {
		return func(size uint64) image {
			d.size, d.pvUUID = size, pv
			if d.metadataArea == 0 {
				d.metadataArea = 1 << 20
			}
			return d.image()
		}
	}
	return []attack{
		{name: "LVM group", is: "LVM2_member", make: group(lvmDevice{name: "evil", uuid: foreign, seqno: 1, tag: "pmemctl"})},
		{name: "LVM odd byte", changes: true, is: "LVM2_member", make: group(lvmDevice{name: "evil", uuid: foreign, seqno: 1, tag: "odd\x01\xffbyte"})},
		{name: "LVM name", changes: true, is: "LVM2_member", make: group(lvmDevice{name: vgName, uuid: foreign, seqno: 1, tag: "pmemctl"})},
		{name: "LVM name and UUID", changes: true, is: "LVM2_member", make: group(lvmDevice{name: vgName, uuid: vgUUID, seqno: 100000, tag: "pmemctl"})},
		{name: "LVM much metadata", is: "LVM2_member", make: group(lvmDevice{name: "evil", uuid: foreign, seqno: 1, tag: "pmemctl", padding: 700 << 10})},
		{name: "LVM area larger than the device", is: "LVM2_member", make: group(lvmDevice{name: "evil", uuid: foreign, seqno: 1, tag: "pmemctl", metadataArea: 1 << 50})},
		{name: "MD", is: "linux_raid_member", make: func(size uint64) image { return mdMember(size >> 9) }},
		{name: "GPT", is: "gpt", make: func(size uint64) image { return gpt(size>>9, hostLabel) }},
		{name: "MBR", is: "dos", make: func(uint64) image { return mbr(0x83, 2048, 16384) }},
		{name: "UUID and label", is: hostUUID, script: "mkfs.ext4 -q -F -b 4096 -U " + hostUUID + " -L " + hostLabel + " $DEV"},
		{name: "bcache", is: "bcache", make: func(uint64) image { return bcacheDevice() }},
		{name: "LUKS", is: "crypto_LUKS", make: func(uint64) image { return luks(hostUUID) }},
		{name: "ZFS", is: "zfs_member", make: func(uint64) image { return zfs() }},
		{name: "btrfs", is: "btrfs", make: func(size uint64) image { return btrfs("hostile-btrfs-00", hostLabel, size) }},
	}
}

// write puts the bytes on a device that has been zeroed.
func (a attack) write(t *testing.T, device string) {
	t.Helper()
	sh(t, "dd if=/dev/zero of=/dev/"+device+" bs=4M count=1 conv=notrunc,fsync status=none")
	if a.script != "" {
		sh(t, a.script, "DEV=/dev/"+device)
	} else {
		data, err := os.ReadFile("/sys/class/block/" + device + "/size")
		require.NoError(t, err)
		sectors, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
		require.NoError(t, err)
		f, err := os.OpenFile("/dev/"+device, os.O_WRONLY, 0)
		require.NoError(t, err)
		for at, b := range a.make(sectors << 9) {
			_, err := f.WriteAt(b, at)
			require.NoError(t, err)
		}
		require.NoError(t, f.Sync())
		require.NoError(t, f.Close())
	}
	out, _ := exec.Command("blkid", "-p", "/dev/"+device).CombinedOutput()
	require.Contains(t, string(out), a.is, "the bytes are no %s", a.name)
}

// looksAgain has the kernel and udevd look at devices as they do at boot and after a change.
func looksAgain(t *testing.T, devices ...string) {
	t.Helper()
	for _, d := range devices {
		sh(t, `
blockdev --rereadpt /dev/`+d+` 2>/dev/null || true
echo add > /sys/class/block/`+d+`/uevent
udevadm settle
echo change > /sys/class/block/`+d+`/uevent
udevadm settle`)
	}
}

var uuidOfGroup = regexp.MustCompile(`\S{6}(-\S{4}){5}-\S{6}`)

// prepareHostile makes two volumes of a tenant, which have no file system, and two of
// others.
func prepareHostile(t *testing.T) (group string) {
	t.Helper()
	// Udevd can leave a link of a device that comes and goes fast. It would lead to what gets
	// the name next.
	sh(t, "udevadm settle; find /dev/disk -xtype l -delete")
	do(t, "vg", "init", "region0", "--percent", "25")
	for _, kind := range []string{"lvm", "direct"} {
		do(t, "volume", "create", "other-"+kind, "--type", kind, "--size", "32Mi", "--region", "region0")
		do(t, "volume", "create", "tenant-"+kind, "--type", kind, "--size", "64Mi", "--region", "region0", "--fs", "none") // blkid wants 64 MiB for ZFS
		do(t, "volume", "mount", "other-"+kind, "/mnt/other-"+kind)
		require.NoError(t, os.WriteFile("/mnt/other-"+kind+"/file", []byte(kind), 0o600))
	}
	group = uuidOfGroup.FindString(do(t, "vg", "list", "-o", "wide"))
	require.NotEmpty(t, group)
	return group
}

// TestHostile plays a tenant with raw block volumes that writes what would do harm, and
// looks whether anything but its volumes changed, on the host and for other tenants.
func TestHostile(t *testing.T) {
	require.NoError(t, resetPMEM())
	t.Cleanup(func() { assert.NoError(t, resetPMEM()) })
	hostDisk(t)
	group := prepareHostile(t)
	direct, lvm := deviceOf(t, "tenant-direct"), deviceOf(t, "tenant-lvm")
	list := attacks("pmemvgregion0", group)

	// Without the rule the harm is done, or this test shows nothing; and it is seen.
	for _, a := range list {
		switch a.name {
		case "UUID and label":
			a.write(t, direct)
			looksAgain(t, direct)
			assert.Contains(t, sh(t, "readlink /dev/disk/by-uuid/"+hostUUID), direct)
		case "LVM group":
			a.write(t, direct)
			assert.Contains(t, sh(t, "vgs --noheadings -o vg_name"), "evil")
		}
	}
	out, err := pmemctl(nil, "host", "check")
	assert.Equal(t, 1, exitCode(err), out)
	assert.Regexp(t, `udev rule +problem`, out)
	assert.Regexp(t, `udev links +problem`, out)
	assert.Regexp(t, `LVM +problem`, out)
	sh(t, "dd if=/dev/zero of=/dev/"+direct+" bs=4M count=1 conv=notrunc,fsync status=none")

	setUpHost(t)
	do(t, "host", "check")
	looksAgain(t, direct, lvm)
	before := hostSees(t)
	assert.Contains(t, before, hostUUID)
	for _, a := range list {
		t.Run(a.name, func(t *testing.T) {
			a.write(t, direct)
			a.write(t, lvm)
			looksAgain(t, direct, lvm)
			if a.name == "GPT" || a.name == "MBR" {
				_, err := os.Stat("/dev/" + direct + "p1")
				require.NoError(t, err, "the kernel has made no partition of it")
			}
			do(t, "host", "check")
			assert.Equal(t, before, hostSees(t))
			if a.changes {
				for _, kind := range []string{"lvm", "direct"} {
					do(t, "volume", "create", "new", "--type", kind, "--size", "16Mi", "--region", "region0")
					do(t, "volume", "delete", "new", "--force")
				}
			}
			if a.name == "LVM group" {
				// What kubelet does for each raw block volume.
				loop := sh(t, "losetup -f --show /dev/"+direct)
				sh(t, "udevadm settle; test -e /dev/disk/pmemctl/$(basename "+loop+")")
				do(t, "host", "check")
				assert.Equal(t, before, hostSees(t))
				sh(t, "losetup -d "+loop)
			}
		})
	}

	t.Run("file system", func(t *testing.T) { hostileFilesystem(t, before) })
	t.Run("devices come again", func(t *testing.T) {
		writeForReboot(t, list)
		for _, kind := range []string{"lvm", "direct"} {
			do(t, "volume", "unmount", "other-"+kind)
		}
		comeAgain(t)
		assert.Len(t, volumes(t), 4)
		hostileAfter(t)
	})

	t.Run("delete", func(t *testing.T) {
		gptAttack := list[slices.IndexFunc(list, func(a attack) bool { return a.name == "GPT" })]
		direct := deviceOf(t, "tenant-direct")
		gptAttack.write(t, direct)
		looksAgain(t, direct)
		_, err := os.Stat("/dev/" + direct + "p1")
		require.NoError(t, err)
		do(t, "volume", "delete", "tenant-direct", "tenant-lvm", "--force")
		do(t, "volume", "unmount", "other-lvm")
		do(t, "volume", "unmount", "other-direct")
		do(t, "volume", "delete", "other-direct", "other-lvm", "--force")
		do(t, "vg", "remove", "pmemvgregion0")
	})
}

// hostileFilesystem: an image that a tenant wrote harms whoever mounts or copies it, and
// nobody else.
func hostileFilesystem(t *testing.T, before string) {
	device := "/dev/" + deviceOf(t, "tenant-direct")
	sh(t, "dd if=/dev/zero of="+device+" bs=4M count=1 conv=notrunc,fsync status=none; mkfs.ext4 -q -F -b 4096 "+device)
	good := make([]byte, 1024)
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.ReadAt(good, 1024)
	require.NoError(t, err)
	for what, field := range map[string]int{"blocks": 4, "block size": 24, "blocks of a group": 32, "first data block": 20, "inodes of a group": 40} {
		bad := slices.Clone(good)
		copy(bad[field:], "\xff\xff\xff\xff")
		_, err = f.WriteAt(bad, 1024)
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		out, err := pmemctl(nil, "volume", "mount", "tenant-direct", "/mnt/tenant")
		assert.NotZero(t, exitCode(err), "%s: %s", what, out)
		assert.Contains(t, out, "volume tenant-direct", what)
	}
	out, err := pmemctl(nil, "volume", "clone", "tenant-direct", "copy")
	if err == nil {
		do(t, "volume", "delete", "copy", "--force")
	} else {
		assert.Contains(t, out, "volume copy: could not be created")
		do(t, "gc") // what was copied
	}
	assert.Equal(t, before, hostSees(t))

	// An error in it must not stop the machine, though it asks for that.
	_, err = f.WriteAt(good, 1024)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	sh(t, "tune2fs -e panic "+device)
	do(t, "volume", "mount", "tenant-direct", "/mnt/tenant")
	sh(t, "echo 1 > /sys/fs/ext4/"+strings.TrimPrefix(device, "/dev/")+"/trigger_fs_error; ! touch /mnt/tenant/file 2>/dev/null")
	do(t, "volume", "unmount", "tenant-direct")
	assert.Equal(t, before, hostSees(t))
}

// hostileAfter is what holds after devices have come again, by a reboot or otherwise.
func hostileAfter(t *testing.T) {
	t.Helper()
	do(t, "host", "check")
	assert.Contains(t, sh(t, "readlink /dev/disk/by-uuid/"+hostUUID), "loop")
	assert.Contains(t, sh(t, "readlink /dev/disk/by-label/"+hostLabel), "loop")
	assert.NotContains(t, sh(t, "ls /dev/mapper"), "pmemvg", "the host has activated what is pmemctl's")
	assert.NotContains(t, sh(t, "vgs --noheadings -o vg_name 2>&1 || true"), "pmemvg")
	for _, kind := range []string{"lvm", "direct"} {
		do(t, "volume", "mount", "other-"+kind, "/mnt/other-"+kind)
		data, err := os.ReadFile("/mnt/other-" + kind + "/file")
		require.NoError(t, err)
		assert.Equal(t, kind, string(data))
		do(t, "volume", "create", "new", "--type", kind, "--size", "16Mi", "--region", "region0")
		do(t, "volume", "delete", "new", "--force")
	}
	do(t, "host", "check")
}

// TestHostileBeforeReboot and TestHostileAfterReboot are for two guests with the same
// DIMMs, which may have other volumes.
func TestHostileBeforeReboot(t *testing.T) {
	group := prepareHostile(t)
	writeForReboot(t, attacks("pmemvgregion0", group))
	for _, kind := range []string{"lvm", "direct"} {
		do(t, "volume", "unmount", "other-"+kind)
	}
}

func TestHostileAfterReboot(t *testing.T) {
	hostDisk(t)
	setUpHost(t)
	comeAgain(t) // this guest had no rule when it came up
	hostileAfter(t)
	do(t, "volume", "unmount", "other-lvm")
	do(t, "volume", "unmount", "other-direct")
	do(t, "volume", "delete", "tenant-direct", "tenant-lvm", "other-direct", "other-lvm", "--force")
}

// writeForReboot leaves the worst: a group that passes for pmemctl's own, and a file system
// that passes for the host's.
func writeForReboot(t *testing.T, list []attack) {
	t.Helper()
	for _, a := range list {
		switch a.name {
		case "LVM name and UUID":
			a.write(t, deviceOf(t, "tenant-direct"))
		case "UUID and label":
			a.write(t, deviceOf(t, "tenant-lvm"))
		}
	}
}

// comeAgain is what happens at boot: no device of region0 is there, then udevd, which
// remembers nothing, sees them all.
func comeAgain(t *testing.T) {
	t.Helper()
	sh(t, `
dmsetup ls | awk '/^pmemvg/ { print $1 }' | xargs -r -n1 dmsetup remove
ndctl disable-region region0 2>/dev/null
for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in systemd-udevd) kill ${p#/proc/};; esac; done
while pidof systemd-udevd >/dev/null; do sleep 0.1; done
rm -rf /run/udev /run/lvm
/lib/systemd/systemd-udevd --daemon >/dev/null 2>&1
ndctl enable-region region0 2>/dev/null
udevadm trigger --action=add
udevadm settle`)
}

// TestHostileContainer: the driver sets the host up from its container, where it has no
// udevadm of the host's, for volumes that are there already.
func TestHostileContainer(t *testing.T) {
	resetCSI(t)
	t.Cleanup(func() { resetCSI(t) })
	prepareHostile(t)
	for _, kind := range []string{"lvm", "direct"} {
		do(t, "volume", "unmount", "other-"+kind)
	}
	t.Cleanup(func() { do(t, "host", "setup", "--remove", "--force") })
	sh(t, "mkdir -p /etc/initramfs-tools/hooks") // cannot be written from the container
	t.Cleanup(func() { sh(t, "rm -r /etc/initramfs-tools") })
	out, err := pmemctl(nil, "host", "check")
	assert.Equal(t, 1, exitCode(err), out)

	s := serverInContainer(t, container{hostDir: true}, "--host-dir", "/host")
	deadline := time.Now().Add(30 * time.Second)
	for {
		out, _ = pmemctl(nil, "host", "check")
		if strings.Count(out, "problem") == 1 || time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Second)
	}
	s.stop(t)
	assert.Regexp(t, `udev rule +ok`, out)
	assert.Regexp(t, `udev links +ok`, out)
	assert.Regexp(t, `LVM +ok`, out)
	assert.Regexp(t, `initramfs +problem .*pmemctl host setup`, out)
	assert.Contains(t, s.log.String(), "/host/etc/udev/rules.d/12-pmemctl.rules")
	assert.Contains(t, s.log.String(), "not written: read-only here")
	assert.Regexp(t, `level=WARN .*check=initramfs`, s.log.String())
}
