// Package csitest is what the tests of the CSI server share.
package csitest

import (
	"context"
	"net"
	"time"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// SanityConfig configures the suite of csi-test for a server on a unix socket, whose
// controller is on a socket of its own, or, if that is "", on the same.
func SanityConfig(socket, controllerSocket string) sanity.TestConfig {
	config := sanity.NewTestConfig()
	config.Address, config.DialOptions = "passthrough:///"+socket, dialSlowly
	if controllerSocket != "" {
		config.ControllerAddress, config.ControllerDialOptions = "passthrough:///"+controllerSocket, dialSlowly
	}
	return config
}

// csi-test waits for a connection to change its state, and waits a minute in vain for one
// that is ready before it begins to wait (utils.Connect). So it is not ready for a second.
var dialSlowly = []grpc.DialOption{
	grpc.WithTransportCredentials(insecure.NewCredentials()),
	grpc.WithContextDialer(func(ctx context.Context, socket string) (net.Conn, error) {
		time.Sleep(time.Second)
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}),
}
