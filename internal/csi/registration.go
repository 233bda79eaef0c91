package csi

import (
	"context"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrar speaks kubelet's plugin registration, for which others use a sidecar.
type registrar struct {
	registration.UnimplementedRegistrationServer

	server   *Server
	endpoint string
}

// Register offers the server to kubelet on a socket in its directory of plugins until
// the context ends. The endpoint is the path of the CSI socket as kubelet sees it.
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
