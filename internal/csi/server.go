// Package csi serves the Container Storage Interface. It decodes a call, passes it to the volume
// service, encodes the response and maps errors to gRPC codes; it has no policy.
package csi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Volumes is what the server requires of the volume service; *volume.Service implements it.
type Volumes interface {
	Create(context.Context, volume.Spec) (vol volume.Volume, created bool, err error)
	Clone(ctx context.Context, source string, spec volume.Spec) (volume.Volume, error)
	DeleteAsCreated(ctx context.Context, name string) error
	Deleted(context.Context) ([]volume.Volume, error)
	Unerased() []string
	WatchUnerased(context.Context) (<-chan struct{}, error)
	SpaceWanted() bool
	TryErase(ctx context.Context, vol volume.Volume, rate volume.EraseRate) (began bool, err error)
	Absent(ctx context.Context, name string) error
	Get(ctx context.Context, name string) (volume.Volume, error)
	List(context.Context) ([]volume.Volume, error)
	Expand(ctx context.Context, name string, size, limit uint64) (volume.Volume, error)
	CapacityFor(context.Context, volume.Spec) (volume.Capacity, error)
	Stage(context.Context, volume.MountSpec) (volume.Volume, error)
	Unstage(ctx context.Context, name, path string) error
	Publish(context.Context, volume.PublishSpec) error
	Unpublish(ctx context.Context, name, path string) error
	Stats(ctx context.Context, name, path string) (volume.Stats, error)
	UsableAs(ctx context.Context, name, fs string) error
	CheckHost(context.Context) error
	Regions(context.Context) ([]pmem.Region, error)
	IsUp(name string) bool
	MountedAt(volume.Volume) []mount.Point
}

// Config is the configuration of the server.
type Config struct {
	Driver, Version, NodeID string
	// TopologyKey is the key of the node's topology segment, whose value is NodeID.
	TopologyKey string
	// RegionTopology adds topology segments for regions and NUMA nodes with PMEM.
	RegionTopology bool
	// Type is the default type of volumes, and with Only the only one served.
	Type volume.Type
	Only bool
	// NodeExpansion leaves expansion to the node service, for a single external-resizer that calls
	// the controller of one node for all nodes.
	NodeExpansion bool
	// ControllerEndpoint is a second socket that alone serves the controller: a provisioner for
	// all nodes, to which the volumes of other nodes look deleted, finds no controller on the
	// first socket; and a compromised sidecar cannot mount anything. "" is none.
	ControllerEndpoint string
	// KubeletDir is kubelet's root directory, which contains those of the pods.
	KubeletDir string
	// Inline allows new inline volumes, of at most InlineMaxSize bytes: anyone who may create a
	// pod may have one.
	Inline        bool
	InlineMaxSize uint64
	// EraseRate is the share of the bandwidth of each region or volume group that erasing deleted
	// volumes may use.
	EraseRate volume.EraseRate
}

// Server answers CSI calls.
type Server struct {
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer

	Config
	Volumes Volumes
	Log     *slog.Logger
	Metrics *Metrics // may be nil
	// Resume resumes suspended volumes, and Prepare prepares the PMEM; Background calls them. Both
	// may be nil.
	Resume  func(context.Context) ([]string, error)
	Prepare func(context.Context) error

	work        inWork
	deleted     lately         // volumes deleted by this server
	options     sync.Map       // options with which volumes were staged and published, by place
	notGrown    sync.Map       // when expansions of volumes were first refused
	noCapacity  sync.Map       // the last logged reason for no capacity, by type
	detached    sync.WaitGroup // calls in progress
	serving     sync.Map       // the paths of the sockets
	preparation preparation
	eraser      eraser
	deadline    func(method string) time.Duration // set by tests; nil is deadlineOf
}

// expands reports whether this server has volumes that can grow.
func (s *Server) expands() bool { return !s.Only || s.Type != volume.TypeDirect }

// maxMessage is the maximum size of a message in bytes.
const maxMessage = 4 << 20

// drainTimeout is how long calls may continue after the server was told to stop; it is less than
// the default grace period of Kubernetes, 30 seconds.
const drainTimeout = 25 * time.Second

// Run serves on a Unix socket until the context ends; then it finishes the calls in progress.
func (s *Server) Run(ctx context.Context, endpoint string) error {
	return s.run(ctx, endpoint, s.ControllerEndpoint == "")
}

// RunController serves on ControllerEndpoint, as Run does.
func (s *Server) RunController(ctx context.Context) error {
	return s.run(ctx, s.ControllerEndpoint, true)
}

// tellingNode is the node service on ControllerEndpoint, with the calls of controller sidecars:
// the provisioner reads the topology, and the resizer the expansion capability. It changes
// nothing.
type tellingNode struct {
	csi.UnimplementedNodeServer
	server *Server
}

// NodeGetInfo is Server.NodeGetInfo.
func (n tellingNode) NodeGetInfo(ctx context.Context, req *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return n.server.NodeGetInfo(ctx, req)
}

// NodeGetCapabilities is Server.NodeGetCapabilities.
func (n tellingNode) NodeGetCapabilities(ctx context.Context, req *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return n.server.NodeGetCapabilities(ctx, req)
}

func (s *Server) run(ctx context.Context, endpoint string, hasController bool) error {
	path, err := socketPath(endpoint)
	if err != nil {
		return err
	}
	listener, err := Listen(path)
	if err != nil {
		return err
	}
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxMessage), grpc.ChainUnaryInterceptor(s.observe, s.afterPreparation, s.oneAtATime)}
	if !hasController {
		options = append(options, grpc.UnknownServiceHandler(s.refuseController))
	}
	server := grpc.NewServer(options...)
	csi.RegisterIdentityServer(server, identity{Server: s, hasController: hasController})
	if hasController && s.ControllerEndpoint != "" {
		csi.RegisterNodeServer(server, tellingNode{server: s})
	} else {
		csi.RegisterNodeServer(server, s)
	}
	if hasController {
		csi.RegisterControllerServer(server, s)
	}
	s.serving.Store(path, true)
	s.Log.Info("serving", "endpoint", "unix://"+path, "driver", s.Driver, "node", s.NodeID, "version", s.Version)
	return serve(ctx, server, listener, &s.detached)
}

// refuseController answers sidecars that serve all nodes, which log the error.
func (s *Server) refuseController(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	service, method, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if service != csi.Controller_ServiceDesc.ServiceName {
		return status.Errorf(codes.Unimplemented, "unknown method %s for service %s", method, service)
	}
	s.Log.Warn("refused a call of a provisioner or resizer for all nodes", "method", method, "controller", s.ControllerEndpoint)
	return status.Errorf(codes.Unimplemented, "%s has no controller service on this socket: each node serves its own on %s; next: run external-provisioner and external-resizer on each node (--node-deployment) with that socket, instead of one for all nodes", s.Driver, s.ControllerEndpoint)
}

func serve(ctx context.Context, server *grpc.Server, listener net.Listener, work *sync.WaitGroup) error {
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drained := make(chan struct{})
	go func() { server.GracefulStop(); work.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(drainTimeout):
		server.Stop()
	}
	err := <-ended
	if errors.Is(err, grpc.ErrServerStopped) { // it was stopped before it started
		return nil
	}
	return err
}

// socketPath parses an endpoint: unix:///run/csi.sock, unix:/run/csi.sock or /run/csi.sock; also
// unix://run/csi.sock, which many manifests have.
func socketPath(endpoint string) (string, error) {
	path := endpoint
	if rest, ok := strings.CutPrefix(path, "unix:"); ok {
		path = rest
		if noHost, ok := strings.CutPrefix(rest, "//"); ok && noHost != "" {
			path = "/" + noHost
		}
	}
	if path = filepath.Clean(path); !filepath.IsAbs(path) || path == "/" {
		return "", errs.New(errs.Invalid, "endpoint "+fmt.Sprintf("%q", endpoint), "is not a unix socket", "use unix:///path/to/csi.sock")
	}
	return path, nil
}

// Listen creates a Unix socket that only root can use. A socket that no process serves, left by a
// killed server, is replaced.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	st, err := os.Lstat(path)
	if err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, errs.New(errs.Conflict, "endpoint "+path, "exists and is not a socket", "remove it, or choose another --endpoint")
		}
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			conn.Close()
			return nil, errs.New(errs.Conflict, "endpoint "+path, "is served by another process", "stop that process first: fuser "+path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// inWork is the set of volumes with a call in progress.
type inWork struct {
	mu    sync.Mutex
	names map[string]bool
}

// begin returns false if a call for one of the volumes is in progress.
func (w *inWork) begin(names ...string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.ContainsFunc(names, func(name string) bool { return w.names[name] }) {
		return false
	}
	if w.names == nil {
		w.names = map[string]bool{}
	}
	for _, name := range names {
		w.names[name] = true
	}
	return true
}

func (w *inWork) end(names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		delete(w.names, name)
	}
}

// lately is a set of names that forgets the oldest.
type lately struct {
	mu    sync.Mutex
	names map[string]bool
	order []string
}

// mostLately is the maximum number of names.
const mostLately = 10000

func (l *lately) add(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[string]bool{}
	}
	if !l.names[name] {
		l.order = append(l.order, name)
	}
	l.names[name] = true
	if len(l.order) > mostLately {
		delete(l.names, l.order[0])
		l.order = l.order[1:]
	}
}

func (l *lately) remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names[name] {
		delete(l.names, name)
		l.order = slices.DeleteFunc(l.order, func(n string) bool { return n == name })
	}
}

func (l *lately) has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names[name]
}
