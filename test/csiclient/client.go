package main

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/test/csitest"
)

const (
	startTimeout = 30 * time.Second // for a server that is just being started
	callTimeout  = 5 * time.Minute  // for one call, with what is tried again
	retryAfter   = 50 * time.Millisecond
)

// client makes CSI calls as Kubernetes does: again, when another call was at work
// on the volume.
type client struct {
	conn *grpc.ClientConn
	csitest.Client
}

// connect waits until the server answers.
func connect(ctx context.Context, endpoint string) (*client, error) {
	if endpoint == "" {
		return nil, fmt.Errorf("--endpoint is missing")
	}
	often := backoff.Config{BaseDelay: retryAfter, Multiplier: 1, MaxDelay: retryAfter}
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: often, MinConnectTimeout: time.Second}), grpc.WithUnaryInterceptor(call))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := csi.NewIdentityClient(conn).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", endpoint, err)
	}
	return &client{conn, csitest.NewClient(conn)}, nil
}

// call makes a call until it is not Aborted, and lets its error say which one it
// was.
func call(ctx context.Context, method string, req, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		err := invoke(ctx, method, req, answer, conn, options...)
		if err == nil {
			return nil
		}
		st := status.Convert(err)
		err = fmt.Errorf("%s: %s: %s", path.Base(method), st.Code(), st.Message())
		if st.Code() != codes.Aborted {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryAfter):
		}
	}
}

// rawBlock is the file system of a volume that is used as a device.
const rawBlock = "none"

// wanted is what a volume is to be.
type wanted struct {
	kind, fs, region string
	size             sizeFlag
	noErase          bool
}

// parameters are those of a StorageClass.
func (w wanted) parameters() map[string]string {
	p := csitest.Class(w.kind)
	if w.region != "" {
		p["pmemRegion"] = w.region
	}
	if w.noErase {
		p["eraseAfterDelete"] = "false"
	}
	return p
}

// capability is how a volume is used; "" is the file system that it has.
func capability(fs string) *csi.VolumeCapability {
	if fs == rawBlock {
		return csitest.Block()
	}
	return csitest.Mount(fs, "dax")
}

func (c *client) create(ctx context.Context, name string, w wanted) (*csi.Volume, error) {
	answer, err := c.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, Parameters: w.parameters(), CapacityRange: csitest.Size(int64(w.size)),
		VolumeCapabilities: []*csi.VolumeCapability{capability(w.fs)},
	})
	return answer.GetVolume(), err
}

// expand is the part of the external-resizer, and then that of kubelet.
func (c *client) expand(ctx context.Context, name string, size int64, path string) (int64, error) {
	answer, err := c.Expand(ctx, name, size)
	if err == nil && answer.GetNodeExpansionRequired() {
		err = c.ExpandOnNode(ctx, name, path, size)
	}
	return answer.GetCapacityBytes(), err
}

func (c *client) capacity(ctx context.Context, w wanted) (string, error) {
	answer, err := c.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: w.parameters()})
	free, most := uint64(answer.GetAvailableCapacity()), uint64(answer.GetMaximumVolumeSize().GetValue())
	return fmt.Sprintf("%s: %s free, %s at most in one volume", w.kind, pmem.FormatSize(free), pmem.FormatSize(most)), err
}

// list is a line for each volume.
func (c *client) list(ctx context.Context) (string, error) {
	answer, err := c.ListVolumes(ctx, &csi.ListVolumesRequest{})
	var lines []string
	for _, e := range answer.GetEntries() {
		lines = append(lines, describe(e.GetVolume())+", "+e.GetStatus().GetVolumeCondition().GetMessage())
	}
	return strings.Join(lines, "\n"), err
}

// describe is a volume as a line, such as "db: 512 MiB on node lab".
func describe(vol *csi.Volume) string {
	line := vol.GetVolumeId() + ": " + pmem.FormatSize(uint64(vol.GetCapacityBytes()))
	for _, t := range vol.GetAccessibleTopology() {
		for _, node := range t.GetSegments() { // one of each
			line += " on node " + node
		}
	}
	return line
}
