package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/test/lab"
)

// serviceRange is where the addresses of services come from; nothing routes to them,
// but to that of the API server itself (see node.sh).
const (
	serviceRange = "10.96.0.0/24"
	apiService   = "10.96.0.1"
)

// controlPlane is etcd, the API server, the controller manager and the scheduler.
type controlPlane struct {
	port int // of the API server
	keys *keys
	cmds []*exec.Cmd
	tube net.Listener
}

func startControlPlane(ctx context.Context, cfg Config, dial dialer) (*controlPlane, error) {
	dir := cfg.Dir
	keys, err := newKeys(dir)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	etcdPort, peerPort, apiPort := ports[0], ports[1], ports[2]
	p := &controlPlane{port: apiPort, keys: keys}
	server := fmt.Sprintf("https://127.0.0.1:%d", apiPort)
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(apiService)}
	for i := range cfg.Nodes {
		addresses = append(addresses, gateway(i))
	}
	for _, id := range []struct {
		name, user, group string
	}{
		{"apiserver", "kube-apiserver", "system:masters"}, {"admin", "admin", "system:masters"},
		{"controllers", "system:kube-controller-manager", ""}, {"scheduler", "system:kube-scheduler", ""},
	} {
		if err := errors.Join(keys.issue(id.name, id.user, id.group, addresses...), keys.kubeconfig(id.name, server)); err != nil {
			return nil, err
		}
	}
	tube := filepath.Join(dir, "nodes.sock")
	if p.tube, err = serveConnect(tube, dial); err != nil {
		return nil, err
	}
	egress := filepath.Join(dir, "egress.yaml")
	if err := os.WriteFile(egress, []byte(`apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport:
      uds:
        udsName: `+tube+"\n"), 0o600); err != nil {
		return nil, err
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	program := func(name string) string { return filepath.Join(cfg.Programs, name) }
	for _, args := range [][]string{
		{"etcd", "--data-dir=" + filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn", "--listen-client-urls=" + etcd, "--advertise-client-urls=" + etcd,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer},
		{program("kube-apiserver"), "--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", apiPort),
			"--endpoint-reconciler-type=none",
			"--tls-cert-file=" + keys.path("apiserver.crt"), "--tls-private-key-file=" + keys.path("apiserver.key"), "--client-ca-file=" + keys.path("ca.crt"),
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + keys.path("apiserver.key"), "--service-account-signing-key-file=" + keys.path("apiserver.key"),
			"--authorization-mode=Node,RBAC", "--allow-privileged", "--service-cluster-ip-range=" + serviceRange,
			"--kubelet-client-certificate=" + keys.path("apiserver.crt"), "--kubelet-client-key=" + keys.path("apiserver.key"),
			"--kubelet-preferred-address-types=InternalIP", "--egress-selector-config-file=" + egress, "--profiling=false"},
		{program("kube-controller-manager"), "--kubeconfig=" + keys.path("controllers.kubeconfig"), "--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false",
			"--use-service-account-credentials", "--service-account-private-key-file=" + keys.path("apiserver.key"), "--root-ca-file=" + keys.path("ca.crt"),
			"--controllers=*,-nodeipam,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller",
			// A node that comes back after a power cut is to find its pods.
			"--node-monitor-grace-period=60s"},
		{program("kube-scheduler"), "--kubeconfig=" + keys.path("scheduler.kubeconfig"), "--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false"},
	} {
		if err := p.start(dir, args); err != nil {
			p.stop()
			return nil, err
		}
		if filepath.Base(args[0]) == "kube-apiserver" {
			kubectl := []string{program("kubectl"), "--kubeconfig=" + keys.path("admin.kubeconfig"), "get", "--raw=/readyz"}
			if err := until(ctx, 3*time.Minute, "the API server", func() bool { return exec.CommandContext(ctx, kubectl[0], kubectl[1:]...).Run() == nil }); err != nil {
				err = fmt.Errorf("%w\n%s", err, lastLines(filepath.Join(dir, "kube-apiserver.log")))
				p.stop()
				return nil, err
			}
		}
	}
	return p, nil
}

// start runs a program until stop, or the end of this process; its log is in dir.
func (p *controlPlane) start(dir string, args []string) error {
	log, err := os.Create(filepath.Join(dir, filepath.Base(args[0])+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := lab.StartTied(cmd); err != nil {
		return err
	}
	p.cmds = append(p.cmds, cmd)
	return nil
}

func (p *controlPlane) stop() {
	for i := len(p.cmds) - 1; i >= 0; i-- {
		_ = p.cmds[i].Process.Kill()
		_ = p.cmds[i].Wait()
	}
	if p.tube != nil {
		p.tube.Close()
	}
}

// freePorts are ports of 127.0.0.1 that nothing listens on at the moment.
func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func lastLines(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 4 << 10
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-most), io.SeekStart)
	}
	data, _ := io.ReadAll(f)
	return strings.TrimSpace(string(data))
}
