//go:build lab

package kubernetes

import (
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

	old := s.kubectl(t, "get", "pv", "-o", "json")
	rewritten, err := s.Kubectl(t.Context(), strings.NewReader(old), in("pmemctl", "adopt-pv", "--from", "pmem-csi.intel.com", "--driver", driverName)...)
	require.NoError(t, err)
	s.kubectl(t, "patch", "pv", pv, "-p", `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)
	s.kubectl(t, in("pmemctl", "adopt", handle, "--force")...)
	s.kubectl(t, "delete", "pv", pv, "--wait=false")
	s.kubectl(t, "patch", "pv", pv, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	s.gone(t, "pv/"+pv)
	_, err = s.Kubectl(t.Context(), strings.NewReader(rewritten), "create", "-f", "-")
	require.NoError(t, err)
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
