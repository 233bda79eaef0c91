package csi

import (
	"context"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrar implements kubelet's plugin registration, in place of a sidecar.
type registrar struct {
	registration.UnimplementedRegistrationServer

	server   *Server
	endpoint string
}

// Register registers the server with kubelet on a socket in dir until the context ends. endpoint
// is the path of the CSI socket as kubelet sees it.
func (s *Server) Register(ctx context.Context, dir, endpoint string) error {
	path, err := socketPath(endpoint)
	if err != nil {
		return err
	}
	listener, err := Listen(filepath.Join(dir, s.Driver+"-reg.sock"))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, &registrar{server: s, endpoint: path})
	return serve(ctx, server, listener, &sync.WaitGroup{})
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: "CSIPlugin", Name: r.server.Driver, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (r *registrar) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if status.GetPluginRegistered() {
		r.server.Log.Info("registered with kubelet", "driver", r.server.Driver)
	} else {
		r.server.Log.Error("kubelet refused the registration", "driver", r.server.Driver, "error", status.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
