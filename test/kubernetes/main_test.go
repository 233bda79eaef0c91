//go:build lab

// Package kubernetes follows the page that pmemctl is made for on a real cluster: the
// control plane on this machine, nodes with PMEM in guests, pmemctl's own image. It is
// for make test-k8s.
package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/lab"
	"github.com/pmemctl/pmemctl/test/lab/cluster"
)

const (
	root = "../.."
	// patience is how long a pod may take to come up: everything in a guest is ten times
	// as slow as on a real machine, and kubelet waits two minutes after a few failures.
	patience = 10 * time.Minute
)

// previous is the image that testdata/with-metrics has.
const previous = "pmemctl:previous"

func TestMain(m *testing.M) {
	code := m.Run()
	fmt.Println(lab.Summary())
	os.Exit(code)
}

// suite is one cluster that tests use one after the other.
type suite struct {
	*cluster.Cluster
	image string // pmemctl's
}

// programs is the directory of the programs of Kubernetes.
func programs(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(root + "/build/kubernetes")
	require.NoError(t, err)
	return dir
}

// start brings up a cluster with two nodes that have PMEM, and plain0, which has none
// and may come later.
func start(t *testing.T, dimmGiB int64, plainLater bool) *suite {
	t.Helper()
	dimms, err := lab.TempDir()
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dimms) })
	dir := t.TempDir()
	cfg := cluster.Config{Dir: dir, DIMMDir: dimms, Programs: programs(t)}
	mapsync := filepath.Join(dir, "mapsync")
	build := exec.Command("go", "build", "-o", mapsync, "./mapsync")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	cfg.Images, err = cluster.BaseImages(cfg.Programs, mapsync)
	require.NoError(t, err)
	own, err := cluster.ReadArchive(root+"/build/pmemctl-image.tar", dir)
	require.NoError(t, err)
	s := &suite{}
	for tag, i := range own {
		cfg.Images = append(cfg.Images, i.Named("pmemctl:"+tag))
		if !strings.HasSuffix(tag, "-ack") {
			s.image = "pmemctl:" + tag
			cfg.Images = append(cfg.Images, i.Named(previous))
		}
	}
	cfg.Nodes = []cluster.NodeConfig{
		{Name: "node0", DIMMs: lab.LabelledDIMMs(2, dimmGiB<<30)},
		{Name: "node1", DIMMs: lab.LabelledDIMMs(2, dimmGiB<<30)},
		{Name: "plain0", Later: plainLater},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	c, err := cluster.Start(ctx, cfg)
	require.NoError(t, err)
	s.Cluster = c
	t.Cleanup(func() {
		if t.Failed() {
			s.explain(t)
		}
		_ = c.Stop()
	})
	return s
}

// step is a test that goes on where the one before it ended.
type step struct {
	name string
	do   func(*testing.T)
}

// inOrder runs steps up to the first that fails.
func inOrder(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		if !t.Run(s.name, s.do) {
			return
		}
	}
}

// explain logs what a person would look at.
func (s *suite) explain(t *testing.T) {
	for _, args := range [][]string{
		{"get", "pods,pvc,pv,csistoragecapacities", "-A", "-o", "wide"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		{"logs", "-n", "kube-system", "-l", "app.kubernetes.io/name=pmemctl", "--all-containers", "--tail=40", "--prefix"},
		{"logs", "-n", "pmemctl", "-l", "app.kubernetes.io/name=pmemctl", "--all-containers", "--tail=40", "--prefix"},
	} {
		out, err := s.Kubectl(context.Background(), nil, args...)
		t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// kubectl runs it, and the test ends when it fails.
func (s *suite) kubectl(t testingT, args ...string) string {
	t.Helper()
	out, err := s.Kubectl(t.Context(), nil, args...)
	require.NoError(t, err)
	return strings.TrimSpace(out)
}

// apply applies objects, in which pairs of words are replaced.
func (s *suite) apply(t *testing.T, objects string, pairs ...string) {
	t.Helper()
	_, err := s.Kubectl(t.Context(), strings.NewReader(strings.NewReplacer(pairs...).Replace(objects)), "apply", "-f", "-")
	require.NoError(t, err)
}

func file(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(data)
}

// testingT is a test, or one of several attempts of it.
type testingT interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// attempt is one look at what may be different at the next.
type attempt struct {
	*testing.T
	problem string
}

func (a *attempt) Errorf(format string, args ...any) { a.problem += fmt.Sprintf(format, args...) }
func (a *attempt) FailNow()                          { runtime.Goexit() }

// eventually looks until check returns "", and fails with what was wrong last. A look that
// fails, as kubectl's at a pod that is just going, is one in vain and no more.
func eventually(t *testing.T, limit time.Duration, check func(testingT) string) {
	t.Helper()
	var problem string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Second) {
		look := &attempt{T: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			look.problem += check(look)
		}()
		<-done
		if problem = look.problem; problem == "" {
			return
		}
	}
	require.Fail(t, "not within "+limit.String(), problem)
}

// running waits until a pod is ready.
func (s *suite) running(t *testing.T, pod string) {
	t.Helper()
	s.runningWithin(t, patience, pod)
}

func (s *suite) runningWithin(t *testing.T, limit time.Duration, pod string) {
	t.Helper()
	eventually(t, limit, func(t testingT) string {
		out, err := s.Kubectl(t.Context(), nil, "get", "pod", pod, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err != nil || out != "True" {
			events, _ := s.Kubectl(t.Context(), nil, "get", "events", "--field-selector", "involvedObject.name="+pod, "-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
			return "pod " + pod + " is not ready; its events: " + events
		}
		return ""
	})
}

// in runs a command in a pod.
func (s *suite) in(t *testing.T, pod string, args ...string) string {
	t.Helper()
	return s.kubectl(t, append([]string{"exec", pod, "--"}, args...)...)
}

// on runs a command on a node.
func (s *suite) on(t *testing.T, node string, args ...string) string {
	t.Helper()
	out, err := s.Node(node).Run(t.Context(), args...)
	require.NoError(t, err, out)
	return strings.TrimSpace(out)
}

// pmemctl runs pmemctl in the driver's pod of a node, and parses what it prints.
func (s *suite) pmemctl(t testingT, node string, into any, args ...string) {
	t.Helper()
	out := s.kubectl(t, append([]string{"exec", "-n", "kube-system", s.driver(t, node), "-c", container, "--", "pmemctl"}, append(args, "-o", "json")...)...)
	require.NoError(t, json.Unmarshal([]byte(out), into), out)
}

// driver is the name of the driver's pod on a node; one that is just going is not it.
func (s *suite) driver(t testingT, node string) string {
	t.Helper()
	pods := s.kubectl(t, "get", "pods", "-n", "kube-system", "-l", "app.kubernetes.io/name=pmemctl", "--field-selector", "spec.nodeName="+node,
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{"\n"}{end}`)
	for _, line := range strings.Split(pods, "\n") {
		if words := strings.Fields(line); len(words) == 1 {
			return words[0]
		}
	}
	require.Fail(t, "no driver on "+node, pods)
	return ""
}

// rolledOut waits until the pods of a DaemonSet are ready, all with its latest template.
func (s *suite) rolledOut(t *testing.T, namespace, set string) {
	t.Helper()
	s.kubectl(t, "rollout", "status", "-n", namespace, "daemonset/"+set, "--timeout="+patience.String())
}

// gone waits until objects are no more.
func (s *suite) gone(t *testing.T, objects ...string) {
	t.Helper()
	s.goneWithin(t, patience, objects...)
}

func (s *suite) goneWithin(t *testing.T, limit time.Duration, objects ...string) {
	t.Helper()
	eventually(t, limit, func(t testingT) string {
		out := ""
		for _, o := range objects {
			left, err := s.Kubectl(t.Context(), nil, "get", o, "--ignore-not-found", "-o", "name")
			if err != nil {
				return err.Error()
			}
			out += left
		}
		return out
	})
}
