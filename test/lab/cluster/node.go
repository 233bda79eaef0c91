package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/test/lab"
)

// Node is a guest with a kubelet.
type Node struct {
	Name    string
	Address string // in its own network, and in the cluster
	cluster *Cluster
	cfg     NodeConfig
	index   int
	port    int // of the kubelet, there and on this machine
	machine *lab.Machine
}

func newNode(c *Cluster, index, port int, cfg NodeConfig) *Node {
	return &Node{Name: cfg.Name, Address: fmt.Sprintf("10.0.%d.15", network(index)), cluster: c, cfg: cfg, index: index, port: port}
}

func network(index int) int { return 2 + index }

// gateway is this machine's 127.0.0.1 as a node sees it.
func gateway(index int) net.IP { return net.IPv4(10, 0, byte(network(index)), 2) }

// dialNode connects to what the cluster knows as a kubelet.
func (c *Cluster) dialNode(ctx context.Context, address string) (net.Conn, error) {
	for _, n := range c.Nodes {
		if address == net.JoinHostPort(n.Address, strconv.Itoa(n.port)) {
			return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)))
		}
	}
	return nil, fmt.Errorf("%s is no node", address)
}

// pauseImage is what keeps a pod's namespaces.
const pauseImage = "lab.invalid/pause:1"

//go:embed node.sh
var nodeScript []byte

// Boot starts the guest, on the DIMM files that it had before if it had any, and
// returns when its kubelet says that it is ready. What was on its disk is gone.
func (n *Node) Boot(ctx context.Context) error {
	if err := n.boot(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return nil
}

func (n *Node) boot(ctx context.Context) error {
	began := time.Now()
	cfg := n.cluster.cfg
	dir := filepath.Join(cfg.DIMMDir, n.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(dir, "dimm0"))
	fresh := os.IsNotExist(err) && len(n.cfg.DIMMs) > 0
	memory := n.cfg.MemoryMiB
	if memory == 0 {
		memory = 3072
	}
	if n.machine, err = lab.Boot(ctx, lab.Config{
		Dir: dir, DIMMs: n.cfg.DIMMs, MemoryMiB: memory, Hostname: n.Name, OneCPU: true, TrimAfter: 1 << 30, Network: network(n.index), Forward: []int{n.port},
	}); err != nil {
		return err
	}
	keys := n.cluster.plane.keys
	server := fmt.Sprintf("https://%s:%d", gateway(n.index), n.cluster.plane.port)
	if err := keys.issue(n.Name, "system:node:"+n.Name, "system:nodes"); err != nil {
		return err
	}
	if err := keys.kubeconfig(n.Name, server); err != nil {
		return err
	}
	var out strings.Builder
	err = n.machine.Run(ctx, lab.Command{
		Args: []string{"bash", "-s"}, Stdin: nodeScript, Stdout: &out, Stderr: &out,
		Env: []string{
			"NODE=" + n.Name, fmt.Sprintf("FRESH=%t", fresh), "ADDRESS=" + n.Address, "GATEWAY=" + gateway(n.index).String(), "KUBELET_PORT=" + strconv.Itoa(n.port),
			"API_SERVICE=" + apiService, "API_PORT=" + strconv.Itoa(n.cluster.plane.port), "POD_NETWORK=" + fmt.Sprintf("10.88.%d.0/24", n.index),
			"PROGRAMS=" + cfg.Programs, "CA=" + keys.path("ca.crt"), "KUBECONFIG_FILE=" + keys.path(n.Name+".kubeconfig"),
			"REGISTRY=" + fmt.Sprintf("http://%s:%d", gateway(n.index), n.cluster.images.port), "PAUSE_IMAGE=" + pauseImage,
		},
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out.String())
	}
	ready := func() bool {
		out, err := n.cluster.Kubectl(ctx, nil, "get", "node", n.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")]['status','lastHeartbeatTime']}`)
		status, said, _ := strings.Cut(out, " ")
		at, _ := time.Parse(time.RFC3339, said)
		return err == nil && status == "True" && at.After(began) // and not by the kubelet of the boot before
	}
	if err := until(ctx, 8*time.Minute, "node "+n.Name, ready); err != nil {
		words, _ := n.Run(ctx, "tail", "-n", "40", "/var/log/kubelet.log", "/var/log/containerd.log")
		return fmt.Errorf("%w\n%s", err, words)
	}
	return nil
}

// Run runs a command on the node as root and returns what it prints.
func (n *Node) Run(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	err := n.machine.Run(ctx, lab.Command{Args: args, Stdout: &out, Stderr: &out})
	return out.String(), err
}

// Kill ends the node as a power cut does.
func (n *Node) Kill() {
	if n.machine != nil {
		n.machine.Kill()
		n.machine = nil
	}
}
