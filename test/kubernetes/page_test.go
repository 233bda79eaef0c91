//go:build lab

package kubernetes

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPage follows the page: labels, the driver, two claims, two applications; and
// goes on with what happens to them later.
func TestPage(t *testing.T) {
	s := start(t, 12, true)
	inOrder(t, []step{
		{"deploy", s.deploy},
		{"claims and applications", s.applications},
		{"data stays", s.dataStays},
		{"expand", s.expand},
		{"volumes of every kind", s.everyKind},
		{"change the type of a node", s.changeType},
		{"delete", s.deleteAll},
		{"uninstall", s.uninstall},
		{"as printed", s.asPrinted},
	})
}

type vgList struct {
	VGs []struct {
		Name string
		Free int64
	}
}

type volumeList struct {
	Volumes []struct {
		Name, Type, State string
		Size              int64
	}
}

const (
	driverName = "localplugin.csi.alibabacloud.com"
	container  = "csi-localplugin"
	label      = "pmem.csi.alibabacloud.com"
)

// deploy labels the nodes and applies the overlay, with inline volumes and the narrowed
// account: everything becomes ready, and the
// regions are prepared by the driver.
func (s *suite) deploy(t *testing.T) {
	s.kubectl(t, "label", "node", "node0", label+"=", label+"/type=lvm")
	s.kubectl(t, "label", "node", "node1", label+"=", label+"/type=direct")
	s.kubectl(t, "apply", "-k", "testdata/with-components") // the overlay, and what may be added
	s.privileged(t)
	s.apart(t)
	for _, set := range []string{"csi-local-plugin-lvm", "csi-local-plugin-direct"} {
		s.rolledOut(t, "kube-system", set)
	}
	for _, node := range []string{"node0", "node1"} {
		eventually(t, patience, func(t testingT) string {
			if drivers := s.kubectl(t, "get", "csinode", node, "-o", "jsonpath={.spec.drivers[*].name}"); drivers != driverName {
				return node + " has the drivers " + strconv.Quote(drivers)
			}
			return ""
		})
		topology := s.kubectl(t, "get", "csinode", node, "-o", "jsonpath={.spec.drivers[0].topologyKeys[*]}")
		assert.Equal(t, driverName+"/node", topology)
	}
	var groups vgList
	eventually(t, patience, func(t testingT) string { // the driver prepares the regions by itself
		if s.pmemctl(t, "node0", &groups, "vg", "list"); len(groups.VGs) != 2 {
			return "there are not two volume groups"
		}
		return ""
	})
	assert.Equal(t, []string{"pmemvgregion0", "pmemvgregion1"}, []string{groups.VGs[0].Name, groups.VGs[1].Name})
	eventually(t, patience, func(t testingT) string {
		lvm, direct := s.capacity(t, "pmem-lvm", "node0"), s.capacity(t, "pmem-direct", "node1")
		if lvm < 20<<30 || direct < 20<<30 {
			return s.kubectl(t, "get", "csistoragecapacities", "-n", "kube-system", "-o", "yaml")
		}
		return ""
	})
	assert.Equal(t, groups.VGs[0].Free+groups.VGs[1].Free, s.capacity(t, "pmem-lvm", "node0"), "what the scheduler is told is true")
	assert.LessOrEqual(t, s.capacity(t, "pmem-lvm", "node1"), int64(0), "a node of type direct has nothing for lvm")
	assert.LessOrEqual(t, s.capacity(t, "pmem-direct", "node0"), int64(0))
}

// privileged shows why the driver is: less is refused for what mounts for others.
func (s *suite) privileged(t *testing.T) {
	t.Helper()
	objects := s.kubectl(t, "kustomize", root+"/deploy/kubernetes/overlays/ack")
	_, err := s.Kubectl(t.Context(), strings.NewReader(strings.ReplaceAll(objects, "privileged: true", "capabilities: {add: [SYS_ADMIN]}")), "apply", "--dry-run=server", "-f", "-")
	assert.ErrorContains(t, err, "Bidirectional mount propagation is available only to privileged containers")
}

// apart shows that the base can be installed beside the overlay, as docs/guide/migrate.md
// has it: they share nothing that has no namespace.
func (s *suite) apart(t *testing.T) {
	t.Helper()
	objects := func(directory string) (names []string) {
		out := s.kubectl(t, "apply", "--dry-run=client", "-o", "name", "-k", root+"/deploy/kubernetes/"+directory)
		for _, name := range strings.Fields(out) {
			if regexp.MustCompile("^(cluster|csidriver|storageclass)").MatchString(name) {
				names = append(names, name)
			}
		}
		return names
	}
	base, overlay := objects("base"), objects("overlays/ack")
	require.NotEmpty(t, base)
	require.NotEmpty(t, overlay)
	for _, name := range base {
		assert.NotContains(t, overlay, name)
	}
}

// capacity is what the scheduler is told of a class on a node, in bytes; -1 when it is
// told nothing.
func (s *suite) capacity(t testingT, class, node string) int64 {
	t.Helper()
	out := s.kubectl(t, "get", "csistoragecapacities", "-n", "kube-system", "-o",
		`jsonpath={range .items[?(@.storageClassName=="`+class+`")]}{.nodeTopology.matchLabels}{" "}{.capacity}{"\n"}{end}`)
	for _, line := range strings.Split(out, "\n") {
		topology, capacity, ok := strings.Cut(line, " ")
		if ok && strings.Contains(topology, `"`+node+`"`) {
			return bytes(t, capacity)
		}
	}
	return -1
}

// applications makes the claims and the applications of the page, and sees what it says.
func (s *suite) applications(t *testing.T) {
	kinds := []struct{ name, node, size, device string }{
		{"lvm", "node0", "10Gi", "/dev/mapper/pmemvgregion"},
		{"direct", "node1", "9Gi", "/dev/pmem"},
	}
	for _, k := range kinds {
		s.apply(t, file(t, "claims.yaml"), "TYPE", k.name, "NODE", k.node, "SIZE", k.size)
	}
	for _, k := range kinds {
		pod, claim := "sts-"+k.name+"-0", "pmem-"+k.name
		s.runningWithin(t, 2*patience, pod) // 10 GiB are cleared
		assert.Equal(t, "Bound", s.kubectl(t, "get", "pvc", claim, "-o", "jsonpath={.status.phase}"))
		volume := s.kubectl(t, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")
		assert.Regexp(t, "^disk-", volume)

		df := fieldsOf(t, s.in(t, pod, "df", "/data"))
		assert.Regexp(t, "^"+k.device, df[0])
		if k.name == "lvm" {
			assert.Contains(t, df[0], strings.ReplaceAll(volume, "-", "--"))
		}
		assert.Equal(t, "/data", df[5])
		assert.Regexp(t, `(?m)^\S+ /data ext4 rw,.*dax=always`, s.in(t, pod, "cat", "/proc/mounts"))
		var volumes volumeList
		s.pmemctl(t, k.node, &volumes, "volume", "list")
		require.Len(t, volumes.Volumes, 1)
		assert.Equal(t, volume, volumes.Volumes[0].Name)
		assert.GreaterOrEqual(t, volumes.Volumes[0].Size, bytes(t, k.size), "usable size")
		t.Logf("kubectl exec %s -- df /data: %s", pod, strings.Join(df, " "))
	}
}

// fieldsOf are what df says of one file system, behind its header; a long name of a
// device has a line of its own.
func fieldsOf(t *testing.T, df string) []string {
	t.Helper()
	const header = 7 // words
	words := strings.Fields(df)
	require.Len(t, words, header+6, df)
	return words[header:]
}

// bytes reads a quantity of Kubernetes.
func bytes(t testingT, quantity string) int64 {
	t.Helper()
	for suffix, unit := range map[string]int64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30} {
		if number, ok := strings.CutSuffix(quantity, suffix); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			require.NoError(t, err)
			return n * unit
		}
	}
	n, err := strconv.ParseInt(quantity, 10, 64)
	require.NoError(t, err)
	return n
}
