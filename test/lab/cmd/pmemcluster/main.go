// Command pmemcluster starts a real Kubernetes whose nodes are guests of the lab with
// PMEM, runs a command with kubectl and KUBECONFIG for it, and takes all of it down.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/pmemctl/pmemctl/test/lab"
	"github.com/pmemctl/pmemctl/test/lab/cluster"
)

const usage = `usage: pmemcluster [flags] [command [argument...]]

Starts etcd and the control plane of Kubernetes on this machine (127.0.0.1), and
nodes with PMEM in QEMU guests, and runs the command with KUBECONFIG set and kubectl
on PATH. Without a command: a shell. All of it is gone in the end.

`

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pmemcluster:", err)
	}
	os.Exit(code)
}

func run() (int, error) {
	programs := flag.String("programs", "build/kubernetes", "`directory` of the programs of Kubernetes (make kubernetes)")
	image := flag.String("image", "build/pmemctl-image.tar", "`archive` with pmemctl's image (make image)")
	nodes := flag.Int("nodes", 1, "`number` of nodes")
	dimm := flag.Int64("dimm", 12, "`GiB` of each of a node's two DIMMs; they are sparse files")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "pmemcluster.")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	dimms, err := lab.TempDir()
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dimms)
	cfg := cluster.Config{Dir: dir, DIMMDir: dimms}
	if cfg.Programs, err = filepath.Abs(*programs); err != nil {
		return 1, err
	}
	if cfg.Images, err = cluster.BaseImages(cfg.Programs); err != nil {
		return 1, err
	}
	own, err := cluster.ReadArchive(*image, dir)
	if err != nil {
		return 1, err
	}
	for tag, i := range own {
		cfg.Images = append(cfg.Images, i.Named("pmemctl:"+tag))
	}
	for i := range *nodes {
		cfg.Nodes = append(cfg.Nodes, cluster.NodeConfig{Name: fmt.Sprintf("node%d", i), DIMMs: lab.LabelledDIMMs(2, *dimm<<30)})
	}
	c, err := cluster.Start(ctx, cfg)
	if err != nil {
		return 1, err
	}
	defer c.Stop()
	args := flag.Args()
	if len(args) == 0 {
		args = []string{"bash"}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "PATH="+cfg.Programs+":"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
