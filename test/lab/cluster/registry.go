package cluster

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// imageRegistry stands for every registry there is: nodes pull from it whatever
// registry an image's name begins with.
type imageRegistry struct {
	port   int
	server *http.Server
}

func startRegistry() (*imageRegistry, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &imageRegistry{
		port:   listener.Addr().(*net.TCPAddr).Port,
		server: &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))},
	}
	go func() { _ = r.server.Serve(listener) }()
	return r, nil
}

// push makes an image known by its names.
func (r *imageRegistry) push(i Image) error {
	for _, n := range i.Names {
		public, err := name.NewTag(n)
		if err != nil {
			return err
		}
		here, err := name.NewTag(fmt.Sprintf("127.0.0.1:%d/%s:%s", r.port, public.RepositoryStr(), public.TagStr()), name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(here, i.image); err != nil {
			return fmt.Errorf("image %s: %w", n, err)
		}
	}
	return nil
}

func (r *imageRegistry) stop() { _ = r.server.Close() }
