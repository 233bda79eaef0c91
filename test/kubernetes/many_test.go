//go:build lab

package kubernetes

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/testenv"
)

// TestMany has two nodes with little PMEM, and one without: both types on one node,
// more claims than there is room for, an upgrade, and pods that come and go.
func TestMany(t *testing.T) {
	s := start(t, 1, false)
	inOrder(t, []step{
		{"deploy", s.deployMany},
		{"former driver", s.former},
		{"metrics", s.metrics},
		{"both types on one node", s.bothTypes},
		{"a burst that does not fit", s.burst},
		{"pods come and go", s.comeAndGo},
		{"upgrade", s.upgrade},
		{"servers", s.servers},
		{"adopt", s.adopt},
		{"move to the base", s.moveToBase},
		{"delete", s.deleteMany},
	})
}

// deployMany applies an image under another tag first, to be upgraded later.
func (s *suite) deployMany(t *testing.T) {
	s.prepareFormer(t)
	s.kubectl(t, "label", "node", "node0", label+"=") // no type is both
	s.kubectl(t, "label", "node", "node1", label+"=", label+"/type=lvm")
	s.apply(t, file(t, "servicemonitor-crd.yaml"))
	s.kubectl(t, "wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com", "--timeout="+patience.String())
	eventually(t, patience, func(t testingT) string { // the API server has yet to serve it
		s.kubectl(t, "apply", "-k", "testdata/with-metrics")
		return ""
	})
	for _, set := range []string{"csi-local-plugin", "csi-local-plugin-lvm"} {
		s.rolledOut(t, "kube-system", set)
	}
	eventually(t, patience, func(t testingT) string {
		for _, c := range []struct{ class, node string }{{"pmem-lvm", "node0"}, {"pmem-direct", "node0"}, {"pmem-lvm", "node1"}} {
			if s.capacity(t, c.class, c.node) <= 0 {
				return s.kubectl(t, "get", "csistoragecapacities", "-n", "kube-system", "-o", "wide")
			}
		}
		return ""
	})
	require.Equal(t, previous, s.kubectl(t, "get", "pod", "-n", "kube-system", s.driver(t, "node0"), "-o", "jsonpath={.spec.containers[0].image}"))
	nodes := s.kubectl(t, "get", "pods", "-n", "kube-system", "-o", "jsonpath={.items[*].spec.nodeName}")
	assert.ElementsMatch(t, []string{"node0", "node1"}, strings.Fields(nodes), "a node without PMEM has no pod, and no pod waits for it")
	assert.Empty(t, s.kubectl(t, "get", "csinode", "plain0", "-o", "jsonpath={.spec.drivers[*].name}"))
	s.Node("plain0").Kill() // the others need the processor
}

// metrics are where the Service says, for who has the token.
func (s *suite) metrics(t *testing.T) {
	eventually(t, patience, func(t testingT) string {
		address := s.kubectl(t, "get", "endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=pmemctl-metrics", "-o", `jsonpath={.items[*].endpoints[?(@.nodeName=="node0")].addresses[0]}`)
		out, err := s.Node("node0").Run(t.Context(), "curl", "-fsS", "-H", "Authorization: Bearer secret", "http://"+address+":9810/metrics")
		if err != nil || !strings.Contains(out, "pmemctl_") {
			return out
		}
		out, err = s.Node("node0").Run(t.Context(), "curl", "-sS", "http://"+address+":9810/metrics")
		if err != nil || out != "a token is required\n" {
			return "without the token: " + out
		}
		return ""
	})
}

// bothTypes puts a volume of each type below one pod. A claim that fits nowhere is told
// so in words.
func (s *suite) bothTypes(t *testing.T) {
	s.apply(t, file(t, "both.yaml"))
	s.running(t, "both")
	mounts := s.in(t, "both", "cat", "/proc/mounts")
	assert.Regexp(t, `(?m)^/dev/mapper/pmemvgregion\S+ /lvm ext4 rw,.*dax=always`, mounts)
	assert.Regexp(t, `(?m)^/dev/pmem\S+ /direct ext4 rw,.*dax=always`, mounts)
	for _, d := range []string{"/lvm", "/direct"} {
		s.in(t, "both", "mapsync", d+"/records", record)
	}
	eventually(t, patience, func(t testingT) string {
		out := s.kubectl(t, "get", "events", "--field-selector", "involvedObject.name=huge,reason=FailedScheduling", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(out, "did not have enough free storage") {
			return out
		}
		return ""
	})
	s.kubectl(t, "delete", "pod/huge", "pvc/huge", "--grace-period=1")
}

// freeLVM is what is free in the volume groups of a node, in bytes.
func (s *suite) freeLVM(t *testing.T, node string) (free []int64) {
	t.Helper()
	var groups vgList
	s.pmemctl(t, node, &groups, "vg", "list")
	for _, g := range groups.VGs {
		free = append(free, g.Free)
	}
	return free
}

// burst asks for 20 volumes at once where fewer fit: those that fit are bound, the
// others wait with a true reason, and nothing is left when they are deleted.
func (s *suite) burst(t *testing.T) {
	const count, size = 20, 160 << 20
	fit := 0
	before := map[string][]int64{}
	for _, node := range []string{"node0", "node1"} {
		before[node] = s.freeLVM(t, node)
		for _, free := range before[node] {
			fit += int(free / size)
		}
	}
	require.Less(t, fit, count)
	require.Greater(t, fit, count/2)
	t.Logf("%d of %d fit", fit, count)
	s.apply(t, file(t, "many.yaml"), "COUNT", strconv.Itoa(count), "SIZE", "160Mi", "CLASS", "pmem-lvm")
	bound := func(t testingT) int {
		phases := s.kubectl(t, "get", "pvc", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.phase}{"\n"}{end}`)
		n := 0
		for _, line := range strings.Split(phases, "\n") {
			if strings.HasPrefix(line, "many-") && strings.HasSuffix(line, " Bound") {
				n++
			}
		}
		return n
	}
	eventually(t, 2*patience, func(t testingT) string {
		running := s.kubectl(t, "get", "deployment", "many", "-o", "jsonpath={.status.readyReplicas}")
		if bound(t) != fit || running != strconv.Itoa(fit) {
			return fmt.Sprintf("%d claims are bound, %s pods are ready; %d volumes fit: %s", bound(t), running, fit, s.kubectl(t, "get", "pods,pvc"))
		}
		return ""
	})
	pending := s.kubectl(t, "get", "pods", "-l", "app=many", "--field-selector", "status.phase=Pending", "-o", "jsonpath={.items[*].metadata.name}")
	assert.Len(t, strings.Fields(pending), count-fit)
	for _, pod := range strings.Fields(pending) {
		eventually(t, patience, func(t testingT) string { // it may have been on its way to a node that is full now
			events := s.kubectl(t, "get", "events", "--field-selector", "involvedObject.name="+pod, "-o", "jsonpath={.items[*].message}")
			if !strings.Contains(events, "did not have enough free storage") {
				return "pod " + pod + " is not told why it waits: " + events
			}
			return ""
		})
	}
	s.kubectl(t, "delete", "deployment", "many")
	s.emptyAgain(t, 2*patience, before)
}

// emptyAgain waits until the pods of the Deployment many and their volumes are gone: no
// mount, no device, and the space is what it was.
func (s *suite) emptyAgain(t *testing.T, limit time.Duration, before map[string][]int64) {
	t.Helper()
	eventually(t, limit, func(t testingT) string {
		if left := s.kubectl(t, "get", "pods", "-l", "app=many", "-o", "name"); left != "" {
			return left
		}
		if left := s.kubectl(t, "get", "pv", "-o", `jsonpath={range .items[*]}{.spec.claimRef.name}{"\n"}{end}`); strings.Contains(left, "many-") {
			return left
		}
		return ""
	})
	for node, free := range before {
		s.erase(t, node)
		assert.Equal(t, free, s.freeLVM(t, node), node)
		used := strings.Fields(s.on(t, node, "sh", "-c", "grep -cE '^/dev/(mapper/)?pmem' /proc/mounts; ls /dev/mapper | grep -c pmemvg; ls /sys/class/block | grep -cE '^pmem[0-9]'; true"))
		want := map[string][]string{"node0": {"4", "1", "3"}, "node1": {"0", "0", "2"}}[node] // the pod both has one of each
		assert.Equal(t, want, used, "mounts, LVs, PMEM devices of %s", node)
	}
}

// comeAndGo creates and deletes pods with volumes: testenv.Pods of them at a time,
// testenv.Rounds times.
func (s *suite) comeAndGo(t *testing.T) {
	number := func(env string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(env)); err == nil {
			return n
		}
		return otherwise
	}
	pods, rounds := number(testenv.Pods, 6), number(testenv.Rounds, 1)
	before := map[string][]int64{"node0": s.freeLVM(t, "node0"), "node1": s.freeLVM(t, "node1")}
	limit := max(patience, time.Duration(pods)*30*time.Second)
	for range rounds {
		began := time.Now()
		s.apply(t, file(t, "many.yaml"), "COUNT", strconv.Itoa(pods), "SIZE", "16Mi", "CLASS", "pmem-lvm")
		eventually(t, limit, func(t testingT) string {
			if ready := s.kubectl(t, "get", "deployment", "many", "-o", "jsonpath={.status.readyReplicas}"); ready != strconv.Itoa(pods) {
				return ready + " pods are ready: " + s.kubectl(t, "get", "pods")
			}
			return ""
		})
		up := time.Since(began)
		s.kubectl(t, "delete", "deployment", "many")
		s.emptyAgain(t, limit, before)
		t.Logf("%d pods: up in %s, gone after %s", pods, up.Round(time.Second), time.Since(began).Round(time.Second))
	}
}

// upgrade replaces the driver's image under mounted volumes, and the CSIDriver of a release
// that offered inline volumes, as docs/kubernetes.md says.
func (s *suite) upgrade(t *testing.T) {
	object := s.kubectl(t, "get", "csidriver", driverName, "-o", "yaml")
	object = regexp.MustCompile(`(?m)^  (resourceVersion|uid|creationTimestamp): .*\n`).ReplaceAllString(object, "")
	former := strings.Replace(object, "  - Persistent", "  - Persistent\n  - Ephemeral", 1)
	require.NotEqual(t, object, former)
	s.kubectl(t, "delete", "csidriver", driverName)
	s.apply(t, former)
	out, err := s.Kubectl(t.Context(), nil, "apply", "-k", "testdata/with-metrics")
	require.Error(t, err, out)
	require.Contains(t, err.Error()+out, "field is immutable")
	s.kubectl(t, "delete", "csidriver", driverName)
	s.kubectl(t, "apply", "-k", "testdata/with-metrics")
	require.Equal(t, `["Persistent"]`, s.kubectl(t, "get", "csidriver", driverName, "-o", "jsonpath={.spec.volumeLifecycleModes}"))

	for _, set := range []string{"csi-local-plugin", "csi-local-plugin-lvm"} {
		s.kubectl(t, "set", "image", "-n", "kube-system", "daemonset/"+set, container+"="+s.image)
		s.rolledOut(t, "kube-system", set)
	}
	for _, d := range []string{"/lvm", "/direct"} {
		assert.Contains(t, s.in(t, "both", "dd", "if="+d+"/records", "bs=1k", "count=1", "status=none"), record)
		s.in(t, "both", "touch", d+"/after")
	}
	assert.Equal(t, "0", s.restarts(t, "both"))
	assert.Equal(t, s.image, s.kubectl(t, "get", "pod", "-n", "kube-system", s.driver(t, "node0"), "-o", "jsonpath={.spec.containers[0].image}"))
}

// moveToBase installs the base beside the overlay, moves data from a volume of the one to
// a volume of the other, and uninstalls the base.
func (s *suite) moveToBase(t *testing.T) {
	const base, baseDriver, baseLabel = root + "/deploy/kubernetes/base", "csi.pmemctl.io", "pmem.pmemctl.io/type"
	drivers := func(want ...string) {
		eventually(t, patience, func(t testingT) string {
			have := strings.Fields(s.kubectl(t, "get", "csinode", "node1", "-o", "jsonpath={.spec.drivers[*].name}"))
			if len(have) != len(want) || slices.ContainsFunc(want, func(d string) bool { return !slices.Contains(have, d) }) {
				return fmt.Sprintf("node1 has the drivers %v", have)
			}
			return ""
		})
	}
	s.kubectl(t, "label", "node", "node1", baseLabel+"=lvm")
	s.kubectl(t, "apply", "-k", base)
	s.rolledOut(t, "pmemctl", "pmemctl-lvm")
	drivers(driverName, baseDriver)
	assert.Equal(t, "node1", s.kubectl(t, "get", "pods", "-n", "pmemctl", "-o", "jsonpath={.items[*].spec.nodeName}"))

	s.apply(t, file(t, "move.yaml"))
	s.running(t, "move")
	var pvs []string
	for claim, driver := range map[string]string{"old": driverName, "new": baseDriver} {
		pv := s.kubectl(t, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")
		pvs = append(pvs, "pv/"+pv)
		assert.Equal(t, driver, s.kubectl(t, "get", "pv", pv, "-o", "jsonpath={.spec.csi.driver}"))
	}
	s.in(t, "move", "mapsync", "/old/records", record)
	s.in(t, "move", "cp", "-a", "/old/.", "/new/")
	s.in(t, "move", "cmp", "/old/records", "/new/records")
	s.kubectl(t, "delete", "pod/move", "pvc/old", "pvc/new", "--grace-period=1")
	s.gone(t, pvs...) // only then the sidecars have done their part
	assert.Empty(t, s.left(t, "node1", 0))

	s.kubectl(t, "delete", "-k", base, "--ignore-not-found") // its namespace goes first, and takes others along
	s.kubectl(t, "label", "node", "node1", baseLabel+"-")
	drivers(driverName)
}

// deleteMany: what was made before the upgrade goes by the driver after it.
func (s *suite) deleteMany(t *testing.T) {
	s.kubectl(t, "delete", "pod/both", "pvc/lvm", "pvc/direct", "--grace-period=1")
	s.gone(t, "pv")
	for _, node := range []string{"node0", "node1"} {
		assert.Empty(t, s.left(t, node, 0))
	}
}
