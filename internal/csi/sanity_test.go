package csi

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/test/csitest"
)

func newServer(f *fakeVolumes) *Server {
	return &Server{
		Config:  Config{Driver: "csi.pmemctl.io", Version: "test", NodeID: "node-a", TopologyKey: "csi.pmemctl.io/node", Type: volume.TypeLVM},
		Volumes: f, Log: slog.New(slog.DiscardHandler),
	}
}

// serveFake serves on a socket until the test ends, and returns the endpoint.
func serveFake(t *testing.T, s *Server) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi") // t.TempDir may be too long for a socket
	require.NoError(t, err)
	endpoint := "unix://" + filepath.Join(dir, "csi.sock")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, endpoint) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		os.RemoveAll(dir)
	})
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, "csi.sock")); return err == nil }, 5*time.Second, 5*time.Millisecond)
	return endpoint
}

func dial(t *testing.T, endpoint string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64<<20)))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestSanityOnAFakeBackend(t *testing.T) {
	config := csitest.SanityConfig(strings.TrimPrefix(serveFake(t, newServer(newFakeVolumes())), "unix://"))
	dir := t.TempDir()
	config.TargetPath, config.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	config.TestVolumeSize = 1 << 30
	config.TestVolumeExpandSize = 2 << 30
	sanity.Test(t, config)
}
