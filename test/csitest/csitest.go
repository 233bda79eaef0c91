// Package csitest has what the tests, the demo and the benchmark of the CSI server share:
// the requests of Kubernetes' sidecars and of kubelet, and a client that makes them.
package csitest

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// Mount is the capability of a volume with a file system, for one node; "" is the file system
// that it has.
func Mount(fs string, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fs, MountFlags: flags}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

// Block is the capability of a raw block volume, for one node.
func Block() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

// Class is the parameters of a StorageClass for lvm or direct volumes, as the ACK page has them.
func Class(kind string) map[string]string {
	return map[string]string{"volumeType": "PMEM", "pmemType": kind, "nodeAffinity": "true"}
}

// Size is a range from so many bytes up.
func Size(bytes int64) *csi.CapacityRange { return &csi.CapacityRange{RequiredBytes: bytes} }

// Client makes calls of a server.
type Client struct {
	csi.IdentityClient
	csi.ControllerClient
	csi.NodeClient
}

// NewClient makes a client over a connection.
func NewClient(conn grpc.ClientConnInterface) Client {
	return Client{csi.NewIdentityClient(conn), csi.NewControllerClient(conn), csi.NewNodeClient(conn)}
}

// Stage calls NodeStageVolume.
func (c Client) Stage(ctx context.Context, name, staging string, capability *csi.VolumeCapability) error {
	_, err := c.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: name, StagingTargetPath: staging, VolumeCapability: capability})
	return err
}

// Publish calls NodePublishVolume.
func (c Client) Publish(ctx context.Context, name, staging, target string, capability *csi.VolumeCapability) error {
	_, err := c.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: name, StagingTargetPath: staging, TargetPath: target, VolumeCapability: capability})
	return err
}

// Unpublish calls NodeUnpublishVolume.
func (c Client) Unpublish(ctx context.Context, name, target string) error {
	_, err := c.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: name, TargetPath: target})
	return err
}

// Unstage calls NodeUnstageVolume.
func (c Client) Unstage(ctx context.Context, name, staging string) error {
	_, err := c.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: name, StagingTargetPath: staging})
	return err
}

// Delete calls DeleteVolume.
func (c Client) Delete(ctx context.Context, name string) error {
	_, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: name})
	return err
}

// Expand calls ControllerExpandVolume, as the external-resizer does.
func (c Client) Expand(ctx context.Context, name string, bytes int64) (*csi.ControllerExpandVolumeResponse, error) {
	return c.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: name, CapacityRange: Size(bytes)})
}

// ExpandOnNode calls NodeExpandVolume, as kubelet does after it.
func (c Client) ExpandOnNode(ctx context.Context, name, path string, bytes int64) error {
	_, err := c.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: name, VolumePath: path, CapacityRange: Size(bytes)})
	return err
}
