// Package csi serves the Container Storage Interface. It decodes a call, hands it
// to the volume service, encodes the answer and maps errors to gRPC codes; it has
// no policy of its own.
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

// Volumes is what the server needs of the volume service; *volume.Service is one.
type Volumes interface {
	Create(context.Context, volume.Spec) (vol volume.Volume, created bool, err error)
	Clone(ctx context.Context, source string, spec volume.Spec) (volume.Volume, error)
	DeleteAsCreated(ctx context.Context, name string) error
	Deleted(context.Context) ([]volume.Volume, error)
	Unerased() []string
	SpaceWanted() bool
	TryErase(ctx context.Context, vol volume.Volume, rate volume.EraseRate) (began bool, err error)
	Absent(ctx context.Context, name string) error
	Get(ctx context.Context, name string) (volume.Volume, error)
	List(context.Context) ([]volume.Volume, error)
	Expand(ctx context.Context, name string, size uint64) (volume.Volume, error)
	CapacityFor(context.Context, volume.Spec) (volume.Capacity, error)
	Stage(context.Context, volume.MountSpec) (volume.Volume, error)
	Unstage(ctx context.Context, name, path string) error
	Publish(context.Context, volume.PublishSpec) error
	Unpublish(ctx context.Context, name, path string) error
	Stats(ctx context.Context, name, path string) (volume.Stats, error)
	UsableAs(ctx context.Context, name, fs string) error
	CheckHost(context.Context) error
	Regions(context.Context) ([]pmem.Region, error)
	Up(name string) bool
	MountedAt(volume.Volume) []mount.Point
}

// Config says what the server is.
type Config struct {
	Driver, Version, NodeID string
	// TopologyKey is the key of the node's segment of topology, whose value is NodeID.
	TopologyKey string
	// RegionTopology adds segments for the regions and NUMA nodes with PMEM.
	RegionTopology bool
	// Type is what is made when the parameters do not say, and all that is made
	// when Only is set.
	Type volume.Type
	Only bool
	// NodeExpansion leaves expansion to the node service, for an external-resizer
	// that speaks for all nodes to the controller of one.
	NodeExpansion bool
	// ControllerEndpoint is a second socket, which alone has the controller service then:
	// a provisioner for all nodes, which would take a volume of another node for deleted,
	// finds no controller on the first; and a sidecar that is taken over can mount nothing.
	// "" is none.
	ControllerEndpoint string
	// KubeletDir is kubelet's directory, which has that of the pods.
	KubeletDir string
	// Inline allows new inline volumes, of at most InlineMaxSize bytes: whoever may make a
	// pod may have one.
	Inline        bool
	InlineMaxSize uint64
	// EraseRate is how much of the bandwidth of each region or volume group the erasing of
	// deleted volumes takes.
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
	// Resume has suspended volumes go on, and Prepare prepares the PMEM; Background calls
	// them. Both may be nil.
	Resume  func(context.Context) ([]string, error)
	Prepare func(context.Context) error

	work        inWork
	deleted     lately         // volumes that this server deleted
	options     sync.Map       // with which volumes were staged and published, by place
	notGrown    sync.Map       // since when expansions of volumes were refused
	noCapacity  sync.Map       // why none of a type can be made, as told last
	detached    sync.WaitGroup // calls that are at work
	serving     sync.Map       // the paths of the sockets
	preparation preparation
	eraser      eraser
	deadline    func(method string) time.Duration // of tests; nil is deadlineOf
}

// expands reports whether volumes are served that can grow.
func (s *Server) expands() bool { return !s.Only || s.Type != volume.TypeDirect }

// maxMessage is the largest message that is taken, in bytes.
const maxMessage = 4 << 20

// drainTimeout is how long calls may go on after the server was told to end; less
// than the 30 seconds after which Kubernetes kills where nothing else is said.
const drainTimeout = 25 * time.Second

// Run serves on a unix socket until the context ends; then it takes no more calls,
// and waits for those at work.
func (s *Server) Run(ctx context.Context, endpoint string) error {
	return s.run(ctx, endpoint, s.ControllerEndpoint == "")
}

// RunController serves on ControllerEndpoint, as Run does.
func (s *Server) RunController(ctx context.Context) error {
	return s.run(ctx, s.ControllerEndpoint, true)
}

// tellingNode is the node service on ControllerEndpoint: what the sidecars of a controller
// ask, the provisioner for the topology and the resizer for who expands. It changes
// nothing.
type tellingNode struct {
	csi.UnimplementedNodeServer
	server *Server
}

// NodeGetInfo is that of the server.
func (n tellingNode) NodeGetInfo(ctx context.Context, req *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return n.server.NodeGetInfo(ctx, req)
}

// NodeGetCapabilities is that of the server.
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

// refuseController answers the sidecars of other drivers' Deployments, which log it.
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
	if errors.Is(err, grpc.ErrServerStopped) { // it was told to end before it had begun
		return nil
	}
	return err
}

// socketPath reads an endpoint: unix:///run/csi.sock, unix:/run/csi.sock or
// /run/csi.sock; also unix://run/csi.sock, as many manifests have it.
func socketPath(endpoint string) (string, error) {
	path := endpoint
	if rest, ok := strings.CutPrefix(path, "unix:"); ok {
		path = rest
		if noHost, ok := strings.CutPrefix(rest, "//"); ok && noHost != "" {
			path = "/" + noHost
		}
	}
	if path = filepath.Clean(path); !filepath.IsAbs(path) || path == "/" {
		return "", errs.Invalidf("endpoint "+fmt.Sprintf("%q", endpoint), "use unix:///path/to/csi.sock", "is not a unix socket")
	}
	return path, nil
}

// Listen makes a unix socket that only root can use. A socket that nobody serves,
// as a killed server leaves it, is replaced; a served one is not.
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

// inWork are the volumes that a call is at work on.
type inWork struct {
	mu    sync.Mutex
	names map[string]bool
}

// begin is false when another call is at work on one of the volumes.
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

// lately are names, of which the oldest are forgotten.
type lately struct {
	mu    sync.Mutex
	names map[string]bool
	order []string
}

// mostLately bounds what is remembered.
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
