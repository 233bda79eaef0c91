//go:build lab

package kubernetes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/pmemctl/pmemctl/test/lab/cluster"
)

// TestAdmission has a control plane without nodes, and does with the token of one node's
// sidecars what they do, and what they would do in other hands.
func TestAdmission(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Config{Dir: t.TempDir(), Programs: programs(t)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Stop() })
	s := &suite{Cluster: c}
	s.kubectl(t, "apply", "-k", "testdata/with-admission")
	s.kubectl(t, "apply", "-k", root+"/deploy/kubernetes/base")
	eventually(t, time.Minute, func(t testingT) string { // their types are looked at in the background
		if checked := s.kubectl(t, "get", "validatingadmissionpolicies", "-o", "jsonpath={.items[*].status.observedGeneration}"); checked != "1 1 1 1" {
			return "not yet: " + checked
		}
		return ""
	})
	assert.Empty(t, s.kubectl(t, "get", "validatingadmissionpolicies", "-o", "jsonpath={.items[*].status.typeChecking.expressionWarnings}"))
	uid := map[string]string{}
	for _, node := range []string{"node0", "node1"} {
		s.apply(t, `{apiVersion: v1, kind: Node, metadata: {name: NODE}}
---
{apiVersion: v1, kind: Pod, metadata: {name: driver-NODE, namespace: kube-system}, spec: {nodeName: NODE, serviceAccountName: pmemctl-csi, tolerations: [{operator: Exists}], containers: [{name: c, image: none}]}}`, "NODE", node)
		uid[node] = s.kubectl(t, "get", "pod", "-n", "kube-system", "driver-"+node, "-o", "jsonpath={.metadata.uid}")
	}
	a := &account{suite: s, server: s.kubectl(t, "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"), ca: filepath.Join(filepath.Dir(s.Kubeconfig()), "ca.crt"),
		token: s.kubectl(t, "create", "token", "-n", "kube-system", "pmemctl-csi", "--bound-object-kind=Pod", "--bound-object-name=driver-node0")}
	eventually(t, time.Minute, func(t testingT) string { // the policies take effect a little later
		if _, err := a.run(pv("early", "other.csi.io", "node0"), "create", "-f", "-", "--dry-run=server"); err == nil {
			return "a volume of another driver is allowed"
		}
		return ""
	})

	t.Run("volumes", func(t *testing.T) {
		const another = "may change only volumes of that driver"
		const elsewhere = "only by the account of its own node, not by that of node0"
		a.may(t, pv("own", driverName, "node0"), "create", "-f", "-")
		a.mayNot(t, another, pv("foreign", "other.csi.io", "node0"), "create", "-f", "-")
		a.mayNot(t, elsewhere, pv("there", driverName, "node1"), "create", "-f", "-")
		a.mayNot(t, elsewhere, strings.Replace(pv("both", driverName, "node0"), "[node0]", "[node0, node1]", 1), "create", "-f", "-")
		a.mayNot(t, elsewhere, strings.Split(pv("anywhere", driverName, "node0"), "  nodeAffinity:")[0], "create", "-f", "-")
		a.mayNot(t, another, strings.Split(pv("path", driverName, "node0"), "  csi:")[0]+"  hostPath: {path: /}\n", "create", "-f", "-")
		a.mayNot(t, "need no secrets", strings.Replace(pv("secret", driverName, "node0"), "volumeHandle:", "nodePublishSecretRef: {name: s, namespace: kube-system}, volumeHandle:", 1), "create", "-f", "-")

		s.apply(t, pv("foreign", "other.csi.io", "node0")+"---\n"+pv("there", driverName, "node1"))
		const grow, handOver = `{"spec":{"capacity":{"storage":"2Gi"}}}`, `{"spec":{"claimRef":{"kind":"PersistentVolumeClaim","name":"mine","namespace":"default"}}}`
		a.may(t, "", "patch", "pv", "own", "-p", grow)
		a.may(t, "", "patch", "pv", "there", "-p", grow) // the resizer is at work for all nodes
		a.may(t, "", "annotate", "pv", "there", "volume.alpha.kubernetes.io/pre-resize-capacity=1Gi")
		a.mayNot(t, another, "", "patch", "pv", "foreign", "-p", grow)
		a.mayNot(t, "only the capacity of a volume on another node", "", "patch", "pv", "there", "-p", handOver)
		a.mayNot(t, "only the capacity of a volume on another node", "", "patch", "pv", "there", "-p", `{"metadata":{"finalizers":["a/b"]}}`)
		a.mayNot(t, "only the capacity of a volume on another node", "", "patch", "pv", "there", "-p", `{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`)
		a.mayNot(t, another, "", "delete", "pv", "foreign", "--wait=false")
		a.mayNot(t, elsewhere, "", "delete", "pv", "there", "--wait=false")
		a.may(t, "", "patch", "pv", "own", "-p", `{"metadata":{"finalizers":["external-provisioner.volume.kubernetes.io/finalizer"]}}`)
		a.may(t, "", "delete", "pv", "own", "--wait=false")
		a.may(t, "", "patch", "pv", "own", "--type=json", "-p", `[{"op":"remove","path":"/metadata/finalizers"}]`)
	})

	t.Run("claims", func(t *testing.T) {
		for name, driver := range map[string]string{"own-claim": driverName, "foreign-claim": "other.csi.io"} {
			s.apply(t, fmt.Sprintf(`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: %s, annotations: {volume.kubernetes.io/storage-provisioner: %s}},
 spec: {accessModes: [ReadWriteOnce], storageClassName: pmem-lvm, resources: {requests: {storage: 1Gi}}}}`, name, driver))
		}
		const selected = "volume.kubernetes.io/selected-node"
		replace := func(name string, pairs ...string) string { // as the provisioner does, which may not patch
			return strings.NewReplacer(pairs...).Replace(s.kubectl(t, "get", "pvc", name, "-o", "json"))
		}
		annotate := func(name, node string) string {
			return replace(name, `"annotations": {`, `"annotations": {"`+selected+`": "`+node+`",`)
		}
		a.mayNot(t, "only by the account of that node", annotate("own-claim", "node1"), "replace", "-f", "-")
		a.mayNot(t, "only claims for its own volumes", annotate("foreign-claim", "node0"), "replace", "-f", "-")
		a.may(t, annotate("own-claim", "node0"), "replace", "-f", "-")
		a.may(t, replace("own-claim", `"`+selected+`": "node0",`, ""), "replace", "-f", "-")
		a.may(t, replace("own-claim", `"finalizers": [`, `"finalizers": ["provisioner.storage.kubernetes.io/cloning-protection",`), "replace", "-f", "-")
		a.mayNot(t, "only the cloning finalizer", replace("own-claim", `"kubernetes.io/pvc-protection"`, `"a/b"`), "replace", "-f", "-")
		a.mayNot(t, "the spec or labels of a claim", replace("own-claim", `"annotations": {`, `"labels": {"a": "b"}, "annotations": {`), "replace", "-f", "-")
		// For kubectl, which looks before it patches.
		s.kubectl(t, "create", "clusterrole", "look", "--verb=get", "--resource=persistentvolumeclaims/status")
		s.kubectl(t, "create", "clusterrolebinding", "look", "--clusterrole=look", "--serviceaccount=kube-system:pmemctl-csi")
		const status = `{"status":{"conditions":[{"type":"Resizing","status":"True"}]}}`
		a.may(t, "", "patch", "pvc", "own-claim", "--subresource=status", "-p", status)
		a.mayNot(t, "only claims for its own volumes", "", "patch", "pvc", "foreign-claim", "--subresource=status", "-p", status)
	})

	t.Run("capacity", func(t *testing.T) {
		capacity := func(name, node, pod string) string {
			return fmt.Sprintf(`{apiVersion: storage.k8s.io/v1, kind: CSIStorageCapacity, metadata: {name: %s, namespace: kube-system, ownerReferences: [{apiVersion: v1, kind: Pod, controller: true, name: driver-%s, uid: %s}]},
 storageClassName: pmem-lvm, capacity: 1Gi, nodeTopology: {matchLabels: {%s/node: %s}}}`, name, pod, uid[pod], driverName, node)
		}
		const another, belongs = "may not publish the capacity of another node", "owned by the pod that publishes it"
		a.may(t, capacity("own", "node0", "node0"), "create", "-f", "-")
		a.mayNot(t, another, capacity("there", "node1", "node0"), "create", "-f", "-")
		a.mayNot(t, belongs, capacity("kept", "node0", "node1"), "create", "-f", "-")
		s.apply(t, capacity("there", "node1", "node1")+"\n---\n"+capacity("left", "node0", "node1"))
		more := `{"capacity":"2Gi"}`
		a.may(t, "", "patch", "-n", "kube-system", "csistoragecapacity", "own", "-p", more)
		a.mayNot(t, another, "", "patch", "-n", "kube-system", "csistoragecapacity", "there", "-p", more)
		a.mayNot(t, another, "", "delete", "-n", "kube-system", "csistoragecapacity", "there")
		for _, name := range []string{"own", "left"} {
			a.may(t, "", "delete", "-n", "kube-system", "csistoragecapacity", name)
		}
	})

	t.Run("leases", func(t *testing.T) {
		lease := `{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: %s, namespace: kube-system}}`
		a.may(t, fmt.Sprintf(lease, "external-resizer-localplugin-csi-alibabacloud-com"), "create", "-f", "-")
		a.mayNot(t, "only the lease of its resizer", fmt.Sprintf(lease, "another"), "create", "-f", "-")
	})

	t.Run("a token without a node", func(t *testing.T) {
		a.token = s.kubectl(t, "create", "token", "-n", "kube-system", "pmemctl-csi")
		a.mayNot(t, "own node", pv("loose", driverName, "node0"), "create", "-f", "-")
	})

	t.Run("the base is another account", func(t *testing.T) { // without the component
		a.token = s.kubectl(t, "create", "token", "-n", "pmemctl", "pmemctl-csi")
		a.may(t, pv("base", "csi.pmemctl.io", "node1"), "create", "-f", "-")
	})

	t.Run("every kustomization is taken", func(t *testing.T) {
		s.apply(t, file(t, "servicemonitor-crd.yaml"))
		s.kubectl(t, "wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com", "--timeout=1m")
		s.kubectl(t, "delete", "csidriver", driverName) // of which the modes cannot be changed
		for _, dir := range []string{"testdata/with-components", "testdata/with-metrics", root + "/deploy/kubernetes/overlays/ack-as-printed"} {
			eventually(t, time.Minute, func(t testingT) string {
				s.kubectl(t, "apply", "--dry-run=server", "-k", dir)
				return ""
			})
		}
	})
}

// TestSidecars looks at what the manifests give to the containers beside the driver: the
// controller's socket, in a directory of its own, and their token.
func TestSidecars(t *testing.T) {
	for _, dir := range []string{"base", "overlays/ack", "overlays/ack-as-printed"} {
		out, err := exec.Command(filepath.Join(programs(t), "kubectl"), "kustomize", root+"/deploy/kubernetes/"+dir).Output()
		require.NoError(t, err)
		sets := 0
		for document := range strings.SplitSeq(string(out), "\n---\n") {
			var object struct {
				Kind string
				Spec struct {
					VolumeLifecycleModes []string
					Template             struct {
						Spec struct {
							Containers []struct {
								Name         string
								Args         []string
								VolumeMounts []struct {
									Name     string
									ReadOnly bool
								}
							}
							Volumes []struct {
								Name     string
								EmptyDir *struct{}
								HostPath *struct{ Path string }
							}
						}
					}
				}
			}
			require.NoError(t, yaml.Unmarshal([]byte(document), &object))
			switch object.Kind {
			case "CSIDriver":
				assert.NotContains(t, object.Spec.VolumeLifecycleModes, "Ephemeral", dir)
			case "DaemonSet":
				sets++
				sidecars := 0
				for _, c := range object.Spec.Template.Spec.Containers {
					if c.Name == "pmemctl" || c.Name == container {
						assert.NotContains(t, c.Args, "--inline", dir)
						continue
					}
					sidecars++
					for _, m := range c.VolumeMounts {
						assert.Contains(t, []string{"controller", "token"}, m.Name, "%s: %s", dir, c.Name)
						assert.True(t, m.ReadOnly, "%s: %s", dir, c.Name)
					}
				}
				assert.Equal(t, 2, sidecars, dir)
				for _, v := range object.Spec.Template.Spec.Volumes {
					if v.Name == "controller" && v.HostPath != nil {
						assert.True(t, strings.HasSuffix(v.HostPath.Path, "/controller"), "%s: %s", dir, v.HostPath.Path)
					}
				}
			}
		}
		assert.Positive(t, sets, dir)
	}
}

// account is that of the sidecars, as they have it.
type account struct {
	*suite
	server, ca, token string
}

func (a *account) run(objects string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(root, "build/kubernetes/kubectl"), append([]string{"--server=" + a.server, "--certificate-authority=" + a.ca, "--token=" + a.token}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HOME="+filepath.Dir(a.ca))
	cmd.Stdin = strings.NewReader(objects)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (a *account) may(t *testing.T, objects string, args ...string) {
	t.Helper()
	out, err := a.run(objects, args...)
	assert.NoError(t, err, out)
}

// mayNot sees that a policy refuses it, with a reason, and not RBAC.
func (a *account) mayNot(t *testing.T, reason, objects string, args ...string) {
	t.Helper()
	out, err := a.run(objects, args...)
	assert.Error(t, err, "%s is allowed", strings.Join(args, " "))
	assert.Contains(t, out, "ValidatingAdmissionPolicy")
	assert.Contains(t, out, reason)
}

// pv is a PersistentVolume as external-provisioner makes it.
func pv(name, driver, node string) string {
	return strings.NewReplacer("NAME", name, "DRIVER", driver, "NODE", node).Replace(`apiVersion: v1
kind: PersistentVolume
metadata: {name: NAME}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 1Gi}
  persistentVolumeReclaimPolicy: Retain
  storageClassName: pmem-lvm
  csi: {driver: DRIVER, volumeHandle: NAME}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: DRIVER/node, operator: In, values: [NODE]}]}]}
`)
}
