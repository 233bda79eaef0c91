//go:build lab

package kubernetes

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// adopt takes over a volume as pmem-csi makes it, and its PersistentVolume, as
// docs/guide/migrate.md says: the claim and the data stay.
func (s *suite) adopt(t *testing.T) {
	const (
		handle = "pvc-7b-1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6"
		pv     = "pvc-7b0f2c1e-8a55-4a5e-9d0e-0b7c6c4d3a21"
	)
	in := func(args ...string) []string {
		return append([]string{"exec", "-i", "-n", "kube-system", s.driver(t, "node0"), "-c", container, "--"}, args...)
	}
	s.on(t, "node0", "sh", "-ec", `
ndctl create-namespace -m fsdax -s 64M -n `+handle+` > /tmp/namespace
device=/dev/$(sed -n 's/.*"blockdev":"\(.*\)".*/\1/p' /tmp/namespace)
mkfs.ext4 -q -F -b 4096 "$device"
mkdir -p /mnt/old
mount -o dax "$device" /mnt/old
echo what pmem-csi had > /mnt/old/records
umount /mnt/old`)
	s.kubectl(t, "label", "node", "node0", "pmem-csi.intel.com/node=node0")
	s.apply(t, file(t, "adopt.yaml"), "HANDLE", handle, "PV", pv)
	bound := func() {
		eventually(t, patience, func(t testingT) string {
			if phase := s.kubectl(t, "get", "pvc", "taken", "-o", "jsonpath={.status.phase}"); phase != "Bound" {
				return "the claim is " + phase
			}
			return ""
		})
	}
	bound()
	claim := s.kubectl(t, "get", "pvc", "taken", "-o", "jsonpath={.metadata.uid}")

	s.replacePVs(t, []string{pv}, func() { s.kubectl(t, in("pmemctl", "adopt", handle, "--force")...) }, func(old string) string {
		rewritten, err := s.Kubectl(t.Context(), strings.NewReader(old), in("pmemctl", "adopt-pv", "--from", "pmem-csi.intel.com", "--driver", driverName)...)
		require.NoError(t, err)
		return rewritten
	})
	s.kubectl(t, "label", "node", "node0", "pmem-csi.intel.com/node-")
	bound()
	require.Equal(t, "Retain Delete", s.kubectl(t, "get", "pv", pv, "-o", `jsonpath={.spec.persistentVolumeReclaimPolicy} {.metadata.annotations.pmemctl\.io/old-reclaim-policy}`))
	s.kubectl(t, "patch", "pv", pv, "-p", `{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`)
	assert.Equal(t, claim, s.kubectl(t, "get", "pvc", "taken", "-o", "jsonpath={.metadata.uid}"))
	assert.Equal(t, driverName, s.kubectl(t, "get", "pv", pv, "-o", "jsonpath={.spec.csi.driver}"))

	s.apply(t, file(t, "adopted.yaml"))
	s.running(t, "taken")
	assert.Equal(t, "what pmem-csi had", strings.TrimSpace(s.in(t, "taken", "cat", "/data/records")))
	assert.Regexp(t, `(?m)^/dev/pmem\S+ /data ext4 rw,.*dax=always`, s.in(t, "taken", "cat", "/proc/mounts"))
	assert.Equal(t, "node0", s.kubectl(t, "get", "pod", "taken", "-o", "jsonpath={.spec.nodeName}"))

	// It is deleted as any other.
	s.kubectl(t, "delete", "pod/taken", "pvc/taken", "--grace-period=1")
	s.gone(t, "pv/"+pv)
	var volumes volumeList
	s.pmemctl(t, "node0", &volumes, "volume", "list")
	for _, v := range volumes.Volumes {
		assert.False(t, strings.HasPrefix(v.Name, "pvc-7b-") && v.State == "ready", v)
	}
}

// prepareFormer makes node1 what Alibaba Cloud's driver leaves: a group in all of region1
// with a volume, a namespace with a file system in region0, and the driver gone. Both are
// adopted before pmemctl's driver comes.
func (s *suite) prepareFormer(t *testing.T) {
	s.on(t, "node1", "sh", "-ec", `
fill() { mkdir -p /mnt/former; mount -o dax "$1" /mnt/former; echo "what the former driver had, $2" > /mnt/former/records; umount /mnt/former; }
blockdev() { sed -n 's|.*"blockdev":"\(.*\)".*|/dev/\1|p' /tmp/namespace; }
ndctl create-namespace -r region1 > /tmp/namespace
vgcreate --force pmemvgregion1 "$(blockdev)"
lvcreate -n disk-lvm -L 64M pmemvgregion1
mkfs.ext4 -q -b 4096 /dev/pmemvgregion1/disk-lvm
fill /dev/pmemvgregion1/disk-lvm lvm
ndctl create-namespace -r region0 -s 64M -n disk-direct > /tmp/namespace
mkfs.ext4 -q -F -b 4096 "$(blockdev)"
fill "$(blockdev)" direct`)
	pmemctl, err := filepath.Abs(root + "/build/pmemctl")
	require.NoError(t, err)
	s.apply(t, file(t, "former.yaml"))
	s.replacePVs(t, []string{"disk-lvm", "disk-direct"}, func() { s.on(t, "node1", pmemctl, "adopt", "--force") }, func(old string) string {
		cmd := exec.CommandContext(t.Context(), pmemctl, "adopt-pv", "--driver", driverName)
		cmd.Stdin = strings.NewReader(old)
		rewritten, err := cmd.Output()
		require.NoError(t, err)
		return string(rewritten)
	})
	for _, pv := range []string{"disk-lvm", "disk-direct"} {
		s.kubectl(t, "patch", "pv", pv, "-p", `{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`)
	}
}

// replacePVs replaces PersistentVolumes as docs/guide/migrate.md says: with all of them kept, then
// adopt, then new objects.
func (s *suite) replacePVs(t *testing.T, pvs []string, adopt func(), rewrite func(old string) string) {
	t.Helper()
	rewritten := rewrite(s.kubectl(t, "get", "pv", "-o", "json"))
	for _, pv := range pvs {
		s.kubectl(t, "patch", "pv", pv, "-p", `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)
	}
	adopt()
	for _, pv := range pvs {
		s.kubectl(t, "delete", "pv", pv, "--wait=false")
		s.kubectl(t, "patch", "pv", pv, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
		s.gone(t, "pv/"+pv)
	}
	_, err := s.Kubectl(t.Context(), strings.NewReader(rewritten), "create", "-f", "-")
	require.NoError(t, err)
}

// former serves what prepareFormer left, with the claims of then, and deletes it.
func (s *suite) former(t *testing.T) {
	s.running(t, "former")
	for kind, device := range map[string]string{"lvm": "/dev/mapper/pmemvgregion1-disk--lvm", "direct": `/dev/pmem\S+`} {
		assert.Equal(t, "what the former driver had, "+kind, s.in(t, "former", "cat", "/"+kind+"/records"))
		assert.Regexp(t, `(?m)^`+device+` /`+kind+` ext4 rw,.*dax=always`, s.in(t, "former", "cat", "/proc/mounts"))
	}
	s.kubectl(t, "delete", "pod/former", "pvc/former-lvm", "pvc/former-direct", "--grace-period=1")
	s.gone(t, "pv/disk-lvm", "pv/disk-direct")
}
