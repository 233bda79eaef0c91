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

// SanityConfig configures the suite of csi-test for a server on a unix socket.
func SanityConfig(socket string) sanity.TestConfig {
	config := sanity.NewTestConfig()
	config.Address = "passthrough:///" + socket
	config.DialOptions = []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, socket string) (net.Conn, error) {
			// csi-test waits for the connection to change its state, and waits a minute in
			// vain for one that is ready before it begins to wait (utils.Connect).
			time.Sleep(50 * time.Millisecond)
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}),
	}
	return config
}
