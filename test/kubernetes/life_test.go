//go:build lab

package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

const record = "what a database wrote through a mapping with MAP_SYNC\n"

// dataStays writes as a database on PMEM does, and looks for it after each of the things
// that happen to pods, drivers and nodes.
func (s *suite) dataStays(t *testing.T) {
	pods := map[string]string{"sts-lvm-0": "node0", "sts-direct-0": "node1"}
	there := func(t *testing.T) {
		t.Helper()
		for pod := range pods {
			s.running(t, pod)
			eventually(t, patience, func(t testingT) string { // a restart may be about to be seen
				out, err := s.Kubectl(t.Context(), nil, "exec", pod, "--", "sh", "-c", "dd if=/data/records bs=1k count=1 2>/dev/null; stat -c %s /data/records; cat /proc/mounts")
				switch {
				case err != nil:
					return err.Error()
				case !strings.HasPrefix(out, record+record) || !strings.Contains(out, "4194304\n"):
					return "its data is not there: " + out
				}
				assert.Regexp(t, `(?m)^\S+ /data ext4 rw,.*dax=always`, out)
				return ""
			})
		}
	}
	for pod := range pods {
		s.in(t, pod, "mapsync", "/data/records", record)
	}
	there(t)

	t.Run("a pod is deleted", func(t *testing.T) {
		for pod := range pods {
			s.kubectl(t, "delete", "pod", pod, "--grace-period=1")
		}
		there(t)
	})
	t.Run("kubelet is restarted", func(t *testing.T) {
		for _, node := range pods {
			s.on(t, node, "sh", "-c", "pkill -x kubelet; while ps -C kubelet -o stat= | grep -qv Z; do sleep 0.1; done; start-kubelet")
		}
		for pod, node := range pods {
			s.kubectl(t, "wait", "--for=condition=Ready", "node/"+node, "--timeout="+patience.String())
			assert.Equal(t, "0", s.restarts(t, pod))
		}
		there(t)
	})
	t.Run("the driver is restarted", func(t *testing.T) {
		for pod, node := range pods {
			s.kubectl(t, "delete", "pod", "-n", "kube-system", s.driver(t, node), "--grace-period=5")
			assert.Equal(t, record, s.in(t, pod, "dd", "if=/data/records", fmt.Sprintf("bs=%d", len(record)), "count=1", "status=none")+"\n", "without a driver")
		}
		for _, set := range []string{"csi-local-plugin-lvm", "csi-local-plugin-direct"} {
			s.rolledOut(t, "kube-system", set)
		}
		there(t)
	})
	t.Run("the nodes lose power", func(t *testing.T) {
		const last = "the last before the power cut, which no unmount has flushed\n"
		for pod, node := range pods {
			s.in(t, pod, "mapsync", "/data/last", last)
			s.Node(node).Kill()
		}
		boots, ctx := errgroup.WithContext(t.Context())
		for _, node := range pods {
			boots.Go(func() error { return s.Node(node).Boot(ctx) })
		}
		require.NoError(t, boots.Wait())
		there(t)
		for pod := range pods {
			assert.Contains(t, s.in(t, pod, "dd", "if=/data/last", "bs=1k", "count=1", "status=none"), last)
			eventually(t, patience, func(t testingT) string { // of which the API server hears later
				if s.restarts(t, pod) == "0" {
					return "pod " + pod + " is not known to have been started again"
				}
				return ""
			})
		}
	})
}

// restarts is how often a pod's container was started again.
func (s *suite) restarts(t testingT, pod string) string {
	t.Helper()
	return s.kubectl(t, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
}

// expand grows the lvm claim under the running pod; the direct one is refused with an
// event, and left as it was.
func (s *suite) expand(t *testing.T) {
	before, starts := s.in(t, "sts-lvm-0", "df", "/data"), s.restarts(t, "sts-lvm-0")
	direct := s.kubectl(t, "get", "pvc", "pmem-direct", "-o", "jsonpath={.status.capacity.storage}")
	for _, kind := range []string{"lvm", "direct"} {
		s.kubectl(t, "patch", "pvc", "pmem-"+kind, "-p", `{"spec":{"resources":{"requests":{"storage":"11Gi"}}}}`)
	}
	eventually(t, patience, func(t testingT) string {
		if now := s.kubectl(t, "get", "pvc", "pmem-lvm", "-o", "jsonpath={.status.capacity.storage}"); now != "11Gi" {
			return "the claim has " + now + ": " + s.kubectl(t, "describe", "pvc", "pmem-lvm")
		}
		return ""
	})
	after := s.in(t, "sts-lvm-0", "df", "/data")
	blocks := func(df string) int64 { return bytes(t, fieldsOf(t, df)[1]+"Ki") }
	assert.Greater(t, blocks(after)-blocks(before), int64(900<<20), "%s\n%s", before, after)
	assert.Regexp(t, `(?m)^\S+ /data ext4 rw,.*dax=always`, s.in(t, "sts-lvm-0", "cat", "/proc/mounts"))
	assert.Equal(t, starts, s.restarts(t, "sts-lvm-0"))

	eventually(t, patience, func(t testingT) string {
		events := s.kubectl(t, "get", "events", "-o", `jsonpath={range .items[?(@.reason=="VolumeResizeFailed")]}{.involvedObject.name}: {.message}{"\n"}{end}`)
		if !strings.Contains(events, "cannot grow in place") || !strings.Contains(events, "pmemctl volume clone disk-") {
			return "no event says what to do: " + events + s.kubectl(t, "describe", "pvc", "pmem-direct")
		}
		return ""
	})
	assert.Equal(t, direct, s.kubectl(t, "get", "pvc", "pmem-direct", "-o", "jsonpath={.status.capacity.storage}"))
	// Not in the way of the pod, now and when it comes again.
	s.kubectl(t, "delete", "pod", "sts-direct-0", "--grace-period=1")
	s.running(t, "sts-direct-0")
	assert.Contains(t, s.in(t, "sts-direct-0", "dd", "if=/data/records", "bs=1k", "count=1", "status=none"), record)
}

// everyKind uses raw block, inline, generic ephemeral, read-only and cloned volumes, and
// kubelet's figures of them.
func (s *suite) everyKind(t *testing.T) {
	s.apply(t, file(t, "kinds.yaml"))
	filesystems := map[string]string{"ext4": "64Mi", "xfs": "320Mi"} // mkfs.xfs makes none below 300 MiB
	for fs, size := range filesystems {
		s.apply(t, file(t, "source.yaml"), "FS", fs, "SIZE", size)
	}
	for _, pod := range []string{"block", "inline", "generic", "source-ext4", "source-xfs"} {
		s.running(t, pod)
	}
	s.in(t, "block", "sh", "-c", "echo raw >/dev/volume")
	assert.Equal(t, "raw", s.in(t, "block", "dd", "if=/dev/volume", "bs=3", "count=1", "status=none"))
	for _, pod := range []string{"inline", "generic"} {
		assert.Regexp(t, `(?m)^\S+ /data ext4 rw,.*dax=always`, s.in(t, pod, "cat", "/proc/mounts"), pod)
		s.in(t, pod, "mapsync", "/data/records", record)
	}
	for fs, size := range filesystems {
		s.in(t, "source-"+fs, "mapsync", "/data/records", record)
		s.kubectl(t, "delete", "pod", "source-"+fs, "--grace-period=1")
		s.apply(t, file(t, "clone.yaml"), "FS", fs, "SIZE", size)
	}
	for fs := range filesystems {
		clone := "clone-" + fs
		s.running(t, clone)
		assert.Contains(t, s.in(t, clone, "dd", "if=/data/records", "bs=1k", "count=1", "status=none"), record, fs)
		assert.Regexp(t, `(?m)^\S+ /data `+fs+` ro,.*dax=always`, s.in(t, clone, "cat", "/proc/mounts"))
		_, err := s.Kubectl(t.Context(), nil, "exec", clone, "--", "touch", "/data/new")
		assert.ErrorContains(t, err, "Read-only file system", fs)
	}

	eventually(t, patience, func(t testingT) string {
		figures := s.kubectl(t, "get", "--raw", "/api/v1/nodes/node0/proxy/metrics")
		for _, claim := range []string{"pmem-lvm", "copy-ext4", "copy-xfs", "block"} {
			if !strings.Contains(figures, `kubelet_volume_stats_capacity_bytes{namespace="default",persistentvolumeclaim="`+claim+`"}`) {
				return "kubelet says nothing of " + claim
			}
		}
		return ""
	})

	s.kubectl(t, "delete", "pod", "block", "inline", "generic", "clone-ext4", "clone-xfs", "--grace-period=1")
	s.kubectl(t, "delete", "pvc", "block", "source-ext4", "copy-ext4", "source-xfs", "copy-xfs")
	s.gone(t, "pods/block", "pods/inline", "pvc/block", "pvc/source-ext4", "pvc/copy-ext4", "pvc/source-xfs", "pvc/copy-xfs")
	eventually(t, patience, func(t testingT) string { return s.left(t, "node0", 1) })
}

// erase has what was deleted on a node be erased now: the driver takes its time.
func (s *suite) erase(t testingT, node string) {
	s.kubectl(t, "exec", "-n", "kube-system", s.driver(t, node), "-c", container, "--", "pmemctl", "gc")
}

// left tells what is wrong when a node has another number of volumes.
func (s *suite) left(t testingT, node string, count int) string {
	s.erase(t, node)
	var volumes volumeList
	if s.pmemctl(t, node, &volumes, "volume", "list"); len(volumes.Volumes) != count {
		return s.kubectl(t, "exec", "-n", "kube-system", s.driver(t, node), "-c", container, "--", "pmemctl", "tree")
	}
	return ""
}

// changeType moves a node to the other type while a pod has a volume of the first.
func (s *suite) changeType(t *testing.T) {
	s.kubectl(t, "label", "node", "node1", "--overwrite", label+"/type=lvm")
	eventually(t, patience, func(t testingT) string {
		args, err := s.Kubectl(t.Context(), nil, "get", "pods", "-n", "kube-system", "-l", "app.kubernetes.io/name=pmemctl", "--field-selector", "spec.nodeName=node1", "-o", "jsonpath={.items[*].spec.containers[0].args}{.items[*].status.containerStatuses[0].ready}")
		if err != nil || !strings.Contains(args, "--type=lvm") || strings.Contains(args, "--type=direct") || !strings.HasSuffix(args, "true") {
			return "the driver of node1 has " + args
		}
		return ""
	})
	assert.Contains(t, s.in(t, "sts-direct-0", "dd", "if=/data/records", "bs=1k", "count=1", "status=none"), record)
	// What exists is served on: the pod comes again.
	s.kubectl(t, "delete", "pod", "sts-direct-0", "--grace-period=1")
	s.running(t, "sts-direct-0")
	assert.Contains(t, s.in(t, "sts-direct-0", "dd", "if=/data/records", "bs=1k", "count=1", "status=none"), record)
	eventually(t, patience, func(t testingT) string {
		if s.capacity(t, "pmem-direct", "node1") > 0 || s.capacity(t, "pmem-lvm", "node1") <= 0 {
			return s.kubectl(t, "get", "csistoragecapacities", "-n", "kube-system", "-o", "wide")
		}
		return ""
	})
}

// deleteAll deletes applications and claims: volumes and devices are gone, and the space
// is back.
func (s *suite) deleteAll(t *testing.T) {
	for _, kind := range []string{"lvm", "direct"} {
		s.kubectl(t, "delete", "statefulset", "sts-"+kind)
		s.gone(t, "pods/sts-"+kind+"-0")
		s.kubectl(t, "delete", "pvc", "pmem-"+kind)
	}
	s.gone(t, "pv")
	for _, node := range []string{"node0", "node1"} {
		assert.Empty(t, s.left(t, node, 0))
		mounts := s.on(t, node, "sh", "-c", "grep -E 'pmem[0-9]|pmemvg' /proc/mounts || true")
		assert.Empty(t, mounts, "mounts on %s", node)
	}
	assert.Equal(t, "", s.on(t, "node0", "sh", "-c", "ls /dev/mapper | grep disk || true"))
}

// uninstall removes the driver in the documented order; the data of a volume that is
// kept stays.
func (s *suite) uninstall(t *testing.T) {
	s.apply(t, strings.ReplaceAll(file(t, "claims.yaml"), "storage: SIZE", "storage: 128Mi"), "TYPE", "lvm", "NODE", "node0")
	s.running(t, "sts-lvm-0")
	s.in(t, "sts-lvm-0", "mapsync", "/data/records", record)
	volume := s.kubectl(t, "get", "pvc", "pmem-lvm", "-o", "jsonpath={.spec.volumeName}")
	s.kubectl(t, "delete", "statefulset", "sts-lvm")
	s.gone(t, "pods/sts-lvm-0")
	s.kubectl(t, "delete", "-k", "testdata/with-components")
	eventually(t, patience, func(t testingT) string {
		return s.kubectl(t, "get", "pods", "-n", "kube-system", "-o", "name")
	})
	path, err := s.Node("node0").Run(t.Context(), "sh", "-c", "mkdir -p /mnt/check && lvchange -ay pmemvgregion0 pmemvgregion1 && mount /dev/pmemvgregion*/"+volume+" /mnt/check && head -n 1 /mnt/check/records && umount /mnt/check")
	require.NoError(t, err, path)
	assert.Contains(t, path, strings.TrimSpace(record))
}
