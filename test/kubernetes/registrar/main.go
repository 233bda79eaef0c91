// Command registrar does what csi-node-driver-registrar does, whose image the page
// names: it offers a driver's socket to kubelet, until it is ended.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type server struct {
	registration.UnimplementedRegistrationServer
	driver, endpoint string
}

func (s server) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: s.driver, Endpoint: s.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (s server) NotifyRegistrationStatus(_ context.Context, r *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !r.PluginRegistered {
		log.Fatalln("kubelet refused:", r.Error) // the container is started again
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	flag.Int("v", 0, "")
	address := flag.String("csi-address", "/csi/csi.sock", "")
	var s server
	flag.StringVar(&s.endpoint, "kubelet-registration-path", "", "")
	flag.Parse()
	conn, err := grpc.NewClient("unix://"+*address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	for s.driver == "" {
		info, err := csi.NewIdentityClient(conn).GetPluginInfo(context.Background(), &csi.GetPluginInfoRequest{})
		if err != nil {
			log.Print(err)
			time.Sleep(time.Second)
		}
		s.driver = info.GetName()
	}
	socket := filepath.Join("/registration", s.driver+"-reg.sock")
	_ = os.Remove(socket) // of one that was killed
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	g := grpc.NewServer()
	registration.RegisterRegistrationServer(g, s)
	log.Fatal(g.Serve(listener))
}
