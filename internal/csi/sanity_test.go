package csi

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/volume"
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
	ended := make(chan error, 2)
	go func() { ended <- s.Run(ctx, endpoint) }()
	sockets := []string{endpoint}
	if s.ControllerEndpoint != "" {
		sockets = append(sockets, s.ControllerEndpoint)
		go func() { ended <- s.RunController(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range sockets {
			require.NoError(t, <-ended)
		}
		os.RemoveAll(dir)
	})
	for _, socket := range sockets { // the file is there before anybody listens
		require.Eventually(t, func() bool {
			conn, err := net.Dial("unix", strings.TrimPrefix(socket, "unix://"))
			if err == nil {
				conn.Close()
			}
			return err == nil
		}, 30*time.Second, 5*time.Millisecond)
	}
	return endpoint
}

func dial(t *testing.T, endpoint string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64<<20)))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestSanityOnAFakeBackend uses a separate socket for the controller; on real regions the suite
// runs with one socket, and for each type.
func TestSanityOnAFakeBackend(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-C", "../../test/csisanity", "-o", dir+"/", "tool")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	s := newServer(newFakeVolumes())
	s.ControllerEndpoint = filepath.Join(dir, "c.sock")
	out, err = exec.Command(filepath.Join(dir, "csi-sanity"), "-ginkgo.no-color", "-csi.endpoint", serveFake(t, s), "-csi.controllerendpoint", "unix://"+s.ControllerEndpoint,
		"-csi.mountdir", filepath.Join(dir, "target"), "-csi.stagingdir", filepath.Join(dir, "staging")).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if !assert.NoError(t, err) {
		t.Log(string(out))
	}
	assert.Contains(t, lines[len(lines)-1], "49 Passed | 0 Failed | 1 Pending | 53 Skipped")
}

// TestControllerSocket: a provisioner for all nodes must not find a controller, because the
// volumes of other nodes look deleted to it.
func TestControllerSocket(t *testing.T) {
	s := newServer(newFakeVolumes())
	s.ControllerEndpoint = filepath.Join(t.TempDir(), "c.sock")
	main := dial(t, serveFake(t, s))
	has := func(conn *grpc.ClientConn) bool {
		r, err := csi.NewIdentityClient(conn).GetPluginCapabilities(t.Context(), &csi.GetPluginCapabilitiesRequest{})
		require.NoError(t, err)
		return slices.ContainsFunc(r.Capabilities, func(c *csi.PluginCapability) bool {
			return c.GetService().GetType() == csi.PluginCapability_Service_CONTROLLER_SERVICE
		})
	}
	assert.False(t, has(main))
	_, err := csi.NewControllerClient(main).DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "disk"})
	assert.Equal(t, codes.Unimplemented, status.Code(err), "%v", err)
	assert.ErrorContains(t, err, s.ControllerEndpoint)

	controller := dial(t, "unix://"+s.ControllerEndpoint)
	assert.True(t, has(controller))
	_, err = csi.NewControllerClient(controller).DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "disk"})
	assert.NoError(t, err)
	// The resizer reads the capabilities on the same socket, and the provisioner the topology.
	// Calls that mount or change something are for kubelet only.
	node := csi.NewNodeClient(controller)
	_, err = node.NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
	assert.NoError(t, err)
	info, err := node.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	assert.NoError(t, err)
	assert.Equal(t, s.NodeID, info.GetNodeId())
	dir := t.TempDir()
	for what, call := range map[string]func() error{
		"stage": func() error {
			_, err := node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: "disk", StagingTargetPath: dir, VolumeCapability: mountCap})
			return err
		},
		"unstage": func() error {
			_, err := node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: "disk", StagingTargetPath: dir})
			return err
		},
		"publish": func() error {
			_, err := node.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: "disk", StagingTargetPath: dir, TargetPath: dir, VolumeCapability: mountCap})
			return err
		},
		"unpublish": func() error {
			_, err := node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "disk", TargetPath: dir})
			return err
		},
		"expand": func() error {
			_, err := node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: "disk", VolumePath: dir})
			return err
		},
		"statistics": func() error {
			_, err := node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "disk", VolumePath: dir})
			return err
		},
	} {
		assert.Equal(t, codes.Unimplemented, status.Code(call()), what)
	}
}
