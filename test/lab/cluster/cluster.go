// Package cluster runs a real Kubernetes: etcd and the control plane as processes of
// this machine, and each node in a guest of the lab with containerd and kubelet.
// Nothing of it is left on this machine, and it listens on 127.0.0.1 alone.
//
// The programs of Kubernetes must have been built into Config.Programs: make
// kubernetes.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pmemctl/pmemctl/test/lab"
)

// Config describes a cluster.
type Config struct {
	// Dir holds the logs and keys, DIMMDir the DIMM files. They must exist; Dir must not
	// be below /dev or /run, which are others in a guest.
	Dir, DIMMDir string
	// Programs is the directory of kube-apiserver and the others.
	Programs string
	// Images are what nodes can pull.
	Images []Image
	Nodes  []NodeConfig
}

// NodeConfig describes a node.
type NodeConfig struct {
	Name      string
	DIMMs     []lab.DIMM
	MemoryMiB int  // 0 is 3072
	Later     bool // Start does not boot it
}

// Cluster is a running cluster. Its methods may be called by one goroutine at a time,
// Kubectl by several.
type Cluster struct {
	Nodes  []*Node
	cfg    Config
	plane  *controlPlane
	images *imageRegistry
}

// Start brings a cluster up; its nodes are ready when it returns, but for those that
// come later.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	c := &Cluster{cfg: cfg}
	ports, err := freePorts(len(cfg.Nodes))
	if err != nil {
		return nil, err
	}
	for i, n := range cfg.Nodes {
		c.Nodes = append(c.Nodes, newNode(c, i, ports[i], n))
	}
	if c.images, err = startRegistry(); err != nil {
		return nil, err
	}
	if err := c.Push(cfg.Images...); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	if c.plane, err = startControlPlane(ctx, cfg, c.dialNode); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	boots, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		if !n.cfg.Later {
			boots.Go(func() error { return n.Boot(ctx) })
		}
	}
	if err := boots.Wait(); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Stop ends all of it. The DIMM files stay.
func (c *Cluster) Stop() error {
	for _, n := range c.Nodes {
		n.Kill()
	}
	if c.plane != nil {
		c.plane.stop()
	}
	c.images.stop()
	return nil
}

// Push adds images to what nodes can pull.
func (c *Cluster) Push(images ...Image) error {
	for _, i := range images {
		if err := c.images.push(i); err != nil {
			return err
		}
	}
	return nil
}

// Kubeconfig is the file of the administrator.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.cfg.Dir, "admin.kubeconfig") }

// Kubectl runs kubectl as the administrator and returns what it prints.
func (c *Cluster) Kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.cfg.Programs, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.cfg.Dir)
	cmd.Stdin = stdin
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// Node finds a node by name; nil when there is none.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// until calls done every so often, until it is true or the time is over.
func until(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come within %s", what, limit)
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}
