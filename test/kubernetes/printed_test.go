//go:build lab

package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/lab/cluster"
)

const (
	pageRegistry = "registry.cn-hangzhou.aliyuncs.com/acs/"
	pagePlugin   = pageRegistry + "csi-plugin:v1.20.6-2be29b1-aliyun"
)

// asPrinted applies the page's YAML as it is printed, with nothing replaced but the
// plugin's image. Upstream's sidecars stand for the page's images of them.
func (s *suite) asPrinted(t *testing.T) {
	require.NoError(t, s.Push(pageImages(t)...))
	s.apply(t, `{apiVersion: v1, kind: ServiceAccount, metadata: {name: admin, namespace: kube-system}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: admin},
 roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, subjects: [{kind: ServiceAccount, name: admin, namespace: kube-system}]}`)
	plugin := file(t, "page/plugin.yaml")
	require.Contains(t, plugin, pagePlugin)
	s.apply(t, plugin, pagePlugin, s.image+"-ack")
	s.apply(t, file(t, "page/storageclasses.yaml"))
	// The Deployment first, as the page has it: it is to do no harm.
	s.apply(t, file(t, "page/provisioner.yaml"))
	s.kubectl(t, "apply", "-k", root+"/deploy/kubernetes/overlays/ack-as-printed")
	for _, set := range []string{"csi-local-plugin", "csi-local-sidecars"} {
		s.rolledOut(t, "kube-system", set)
	}
	eventually(t, patience, func(t testingT) string {
		out, err := s.Kubectl(t.Context(), nil, "logs", "-n", "kube-system", "deployment/csi-local-provisioner", "-c", "external-local-provisioner", "--tail=50")
		if err != nil || !strings.Contains(out, "instead of one for all nodes") {
			return "the page's Deployment is not told what to do: " + out
		}
		return ""
	})
	pmemctl, err := filepath.Abs(root + "/build/pmemctl")
	require.NoError(t, err)
	// The plugin is on a node without PMEM too, and waits there without harm.
	require.NoError(t, s.Node("plain0").Boot(t.Context()))
	onPlain := `{.items[?(@.spec.nodeName=="plain0")].status.containerStatuses[*]['name','ready','restartCount']}`
	eventually(t, patience, func(t testingT) string {
		const well = "csi-localplugin driver-registrar true true 0 0"
		if now := s.kubectl(t, "get", "pods", "-n", "kube-system", "-l", "app=csi-local-plugin", "-o", "jsonpath="+onPlain); now != well {
			return "on plain0: " + now
		}
		return ""
	})
	claims := strings.ReplaceAll(file(t, "claims.yaml"), "storage: SIZE", "storage: 128Mi")
	withoutNode := strings.ReplaceAll(claims, "  annotations:\n    volume.kubernetes.io/selected-node: NODE\n", "")
	require.NotEqual(t, claims, withoutNode)
	s.apply(t, claims, "TYPE", "lvm", "NODE", "node0") // as it was before the driver was uninstalled
	s.apply(t, withoutNode, "TYPE", "direct")
	volumes := map[string]string{} // and the nodes that list them
	for kind, device := range map[string]string{"lvm": "/dev/mapper/pmemvgregion", "direct": "/dev/pmem"} {
		pod := "sts-" + kind + "-0"
		s.running(t, pod)
		assert.Regexp(t, "^"+device, fieldsOf(t, s.in(t, pod, "df", "/data"))[0])
		assert.Regexp(t, `(?m)^\S+ /data ext4 rw,.*dax=always`, s.in(t, pod, "cat", "/proc/mounts"))
		if kind == "lvm" {
			assert.Contains(t, s.in(t, pod, "dd", "if=/data/records", "bs=1k", "count=1", "status=none"), record)
		}
		s.in(t, pod, "mapsync", "/data/records", record)
		node := s.kubectl(t, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
		volume := s.kubectl(t, "get", "pvc", "pmem-"+kind, "-o", "jsonpath={.spec.volumeName}")
		assert.Contains(t, s.on(t, node, pmemctl, "volume", "list"), volume)
		volumes[volume] = node
	}
	s.kubectl(t, "delete", "statefulset", "sts-lvm", "sts-direct")
	s.gone(t, "pods/sts-lvm-0", "pods/sts-direct-0")
	s.kubectl(t, "delete", "pvc", "pmem-lvm", "pmem-direct")
	for volume, node := range volumes {
		s.gone(t, "pv/"+volume)
		assert.NotContains(t, s.on(t, node, pmemctl, "volume", "list"), volume, "its PersistentVolume is gone")
	}
	for _, f := range []string{"provisioner.yaml", "plugin.yaml", "storageclasses.yaml"} {
		s.kubectl(t, "delete", "--ignore-not-found", "-f", "testdata/page/"+f)
	}
	s.kubectl(t, "delete", "--ignore-not-found", "-k", root+"/deploy/kubernetes/overlays/ack-as-printed") // both have the CSIDriver
}

// pageImages stand for the images of the page's sidecars.
func pageImages(t *testing.T) []cluster.Image {
	t.Helper()
	dir := t.TempDir()
	registrar := filepath.Join(dir, "registrar")
	build := exec.Command("go", "build", "-o", registrar, "./registrar")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	// What the page's provisioner was told by flags that there are no longer.
	old := filepath.Join(dir, "old")
	require.NoError(t, os.WriteFile(old, []byte(`#!/bin/busybox sh
for a; do
	shift
	case $a in
	--enable-leader-election=true) set -- "$@" --leader-election ;;
	--leader-election-type=*) ;;
	*) set -- "$@" "$a" ;;
	esac
done
exec /csi-provisioner "$@"
`), 0o755))
	var images []cluster.Image
	for _, i := range []struct {
		name     string
		contents cluster.Contents
	}{
		{"csi-node-driver-registrar:v1.3.0-6e9fff3-aliyun", cluster.Contents{Files: map[string]string{"/registrar": registrar}, Entrypoint: []string{"/registrar"}}},
		{"csi-resizer:v0.3.0", cluster.Contents{Files: map[string]string{"/csi-resizer": filepath.Join(programs(t), "csi-resizer")}, Entrypoint: []string{"/csi-resizer"}}},
		{"csi-provisioner:v1.6.0-b6f763a43-ack", cluster.Contents{
			Files:      map[string]string{"/old": old, "/bin/busybox": "/bin/busybox", "/csi-provisioner": filepath.Join(programs(t), "csi-provisioner")},
			Entrypoint: []string{"/old"},
		}},
	} {
		image, err := cluster.NewImage(i.contents, pageRegistry+i.name)
		require.NoError(t, err)
		images = append(images, image)
	}
	return images
}
