package csi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/volume"
)

var nodeCapabilities = []csi.NodeServiceCapability_RPC_Type{
	csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
	csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
	csi.NodeServiceCapability_RPC_VOLUME_CONDITION,
	csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
}

// NodeGetCapabilities returns the capabilities of the node service. With NodeExpansion, one
// resizer serves all nodes: it exits if the controller beside it does not expand, and sets the new
// size of a PersistentVolume before the node is asked. Kubelet then mounts the volume for no pod
// before NodeExpandVolume has answered, see refuseExpansion.
func (s *Server) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	answer := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range nodeCapabilities {
		if t == csi.NodeServiceCapability_RPC_EXPAND_VOLUME && !s.expands() && !s.NodeExpansion {
			continue
		}
		answer.Capabilities = append(answer.Capabilities, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	return answer, nil
}

// NodeGetInfo returns the node's ID and topology.
func (s *Server) NodeGetInfo(ctx context.Context, _ *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	topology, err := s.topology(ctx)
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetInfoResponse{NodeId: s.NodeID, AccessibleTopology: topology}, nil
}

// safeOptions are the options of every mount for a container, because its content is not trusted.
var safeOptions = []string{"nosuid", "nodev"}

// mountOptions returns the mount options of a capability, and refuses those that would undo the
// safe ones.
func mountOptions(c *csi.VolumeCapability) ([]string, error) {
	options := c.GetMount().GetMountFlags()
	for _, o := range options {
		if o == "suid" || o == "dev" {
			return nil, invalid("mount option %s is not allowed: a volume could contain set-user-ID programs or device nodes", o)
		}
	}
	for _, o := range safeOptions {
		if !slices.Contains(options, o) {
			options = append(options[:len(options):len(options)], o)
		}
	}
	return options, nil
}

// NodeStageVolume mounts a volume with DAX. A raw block volume needs no staging.
func (s *Server) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, invalid("volume_id is missing")
	}
	if req.GetStagingTargetPath() == "" {
		return nil, invalid("staging_target_path is missing")
	}
	if err := checkCapability(req.GetVolumeCapability()); err != nil {
		return nil, err
	}
	if volume.ValidateName(req.GetVolumeId()) != nil {
		return nil, noVolume(req.GetVolumeId())
	}
	if req.GetVolumeCapability().GetBlock() != nil {
		vol, err := s.Volumes.Get(ctx, req.GetVolumeId())
		if err == nil && slices.ContainsFunc(s.Volumes.MountedAt(vol), func(p mount.Point) bool { return p.Path == req.GetStagingTargetPath() }) {
			err = errs.New(errs.Conflict, "volume "+vol.Name, "is staged at "+req.GetStagingTargetPath()+" as a file system, but a raw block device was requested", "unstage it first")
		}
		return &csi.NodeStageVolumeResponse{}, err
	}
	options, err := mountOptions(req.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, s.withOptions(ctx, req.GetVolumeId(), req.GetStagingTargetPath(), options, func() error {
		vol, err := s.Volumes.Stage(ctx, volume.MountSpec{Name: req.GetVolumeId(), Path: req.GetStagingTargetPath(), FS: req.GetVolumeCapability().GetMount().GetFsType(), Options: options})
		if err == nil && vol.Health != "" {
			s.Log.Warn("staged a volume with problems", "volume", vol.Name, "health", vol.Health)
		}
		return err
	})
}

// NodeUnstageVolume unmounts a volume.
func (s *Server) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, invalid("volume_id is missing")
	}
	if req.GetStagingTargetPath() == "" {
		return nil, invalid("staging_target_path is missing")
	}
	if volume.ValidateName(req.GetVolumeId()) != nil {
		return nil, noVolume(req.GetVolumeId())
	}
	err := s.Volumes.Unstage(ctx, req.GetVolumeId(), req.GetStagingTargetPath())
	if err == nil {
		s.options.Delete(place{req.GetVolumeId(), req.GetStagingTargetPath()})
	}
	return &csi.NodeUnstageVolumeResponse{}, err
}

// place is where a volume is staged or published.
type place struct{ id, path string }

// withOptions stages or publishes a volume, and fails if it is there with other options. The
// volume service compares those that the kernel shows; of the others, which belong to the file
// system, only this server knows which it used.
func (s *Server) withOptions(ctx context.Context, id, path string, options []string, do func() error) error {
	used := strings.Join(slices.Sorted(slices.Values(options)), ",")
	if before, ok := s.options.Load(place{id, path}); ok && before != used {
		if _, err := s.Volumes.Stats(ctx, id, path); err == nil {
			return errs.New(errs.Conflict, "volume "+id, fmt.Sprintf("is already in use at %s with the options %s, but %s were requested", path, before, used), "unpublish and unstage it first")
		}
	}
	err := do()
	if err == nil {
		s.options.Store(place{id, path}, used)
	}
	return err
}

// NodePublishVolume publishes a staged volume to a container, or creates an inline volume first.
func (s *Server) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	switch {
	case req.GetVolumeId() == "":
		return nil, invalid("volume_id is missing")
	case req.GetTargetPath() == "":
		return nil, invalid("target_path is missing")
	}
	if err := checkCapability(req.GetVolumeCapability()); err != nil {
		return nil, err
	}
	options, err := mountOptions(req.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	if req.GetVolumeContext()[ephemeralKey] == "true" {
		return s.publishInline(ctx, req, options)
	}
	publish := volume.PublishSpec{Name: req.GetVolumeId(), From: req.GetStagingTargetPath(), Target: req.GetTargetPath(), FS: req.GetVolumeCapability().GetMount().GetFsType(), ReadOnly: isReadOnly(req), Options: options}
	switch {
	case req.GetVolumeCapability().GetBlock() != nil:
		publish.From = ""
	case req.GetStagingTargetPath() == "": // CSI spec, errors of NodePublishVolume
		return nil, status.Error(codes.FailedPrecondition, "staging_target_path is missing; next: stage the volume first")
	}
	if volume.ValidateName(req.GetVolumeId()) != nil {
		return nil, noVolume(req.GetVolumeId())
	}
	publish.Alone = req.GetVolumeCapability().GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	return &csi.NodePublishVolumeResponse{}, s.withOptions(ctx, publish.Name, publish.Target, options, func() error { return s.Volumes.Publish(ctx, publish) })
}

func isReadOnly(req *csi.NodePublishVolumeRequest) bool {
	return req.GetReadonly() || req.GetVolumeCapability().GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
}

// NodeUnpublishVolume unpublishes a volume, and deletes an inline volume.
func (s *Server) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	switch {
	case req.GetVolumeId() == "":
		return nil, invalid("volume_id is missing")
	case req.GetTargetPath() == "":
		return nil, invalid("target_path is missing")
	}
	inline, err := s.isInline(ctx, req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if !inline {
		err := s.Volumes.Unpublish(ctx, req.GetVolumeId(), req.GetTargetPath())
		if err == nil {
			s.options.Delete(place{req.GetVolumeId(), req.GetTargetPath()})
		}
		return &csi.NodeUnpublishVolumeResponse{}, err
	}
	name := ephemeralName(req.GetVolumeId())
	if err := s.Volumes.Unpublish(ctx, name, req.GetTargetPath()); err != nil {
		return nil, err
	}
	// Also what an interrupted call left unfinished or partly erased.
	if err := s.Volumes.DeleteAsCreated(ctx, name); err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	s.eraser.deleted()
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeGetVolumeStats returns the usage and the condition of a volume.
func (s *Server) NodeGetVolumeStats(ctx context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	switch {
	case req.GetVolumeId() == "":
		return nil, invalid("volume_id is missing")
	case req.GetVolumePath() == "":
		return nil, invalid("volume_path is missing")
	}
	name := req.GetVolumeId()
	if volume.ValidateName(name) != nil {
		name = ephemeralName(name)
	}
	st, err := s.Volumes.Stats(ctx, name, req.GetVolumePath())
	if errs.Is(err, errs.NotFound) {
		if inline, again := s.Volumes.Stats(ctx, ephemeralName(req.GetVolumeId()), req.GetVolumePath()); again == nil {
			st, err = inline, nil
		}
	}
	if err != nil {
		return nil, err
	}
	answer := &csi.NodeGetVolumeStatsResponse{VolumeCondition: &csi.VolumeCondition{Abnormal: st.Abnormal != "", Message: st.Abnormal}}
	if st.Abnormal == "" {
		answer.VolumeCondition.Message = "well"
	}
	if st.Total > 0 {
		answer.Usage = append(answer.Usage, &csi.VolumeUsage{Unit: csi.VolumeUsage_BYTES, Total: int64(st.Total), Used: int64(st.Used), Available: int64(st.Available)})
	}
	if st.Inodes > 0 {
		answer.Usage = append(answer.Usage, &csi.VolumeUsage{Unit: csi.VolumeUsage_INODES, Total: int64(st.Inodes), Used: int64(st.InodesUsed), Available: int64(st.Inodes - st.InodesUsed)})
	}
	return answer, nil
}

// NodeExpandVolume expands a volume and its file system.
func (s *Server) NodeExpandVolume(ctx context.Context, req *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, invalid("volume_id is missing")
	}
	if req.GetVolumePath() == "" {
		return nil, invalid("volume_path is missing")
	}
	if volume.ValidateName(req.GetVolumeId()) != nil {
		return nil, noVolume(req.GetVolumeId())
	}
	if _, err := s.Volumes.Stats(ctx, req.GetVolumeId(), req.GetVolumePath()); err != nil {
		return nil, err
	}
	r := req.GetCapacityRange()
	if r == nil {
		r = &csi.CapacityRange{} // to its current size
	}
	vol, err := s.expand(ctx, req.GetVolumeId(), r, req.GetVolumeCapability())
	if err != nil {
		return nil, s.refuseExpansion(req.GetVolumeId(), err)
	}
	s.notGrown.Delete(req.GetVolumeId())
	return &csi.NodeExpandVolumeResponse{CapacityBytes: int64(vol.Size)}, nil
}

// waitForSpace is how long the start of a pod may be delayed if there is no space for an
// expansion.
const waitForSpace = 2 * time.Minute

// refuseExpansion returns the error for a volume that cannot grow, such that its pods can still
// start. Kubelet turns an error into an event and mounts the volume for no pod until it has grown;
// but after FAILED_PRECONDITION it continues with the current size, and does not ask again while
// the volume is mounted (pkg/volume/util/operationexecutor/node_expander.go). So the real code is
// returned first, and FAILED_PRECONDITION later: at once for a volume that can never grow, after a
// while if space may become free.
func (s *Server) refuseExpansion(id string, err error) error {
	if !errs.Is(err, errs.FixedSize) && !errs.Is(err, errs.NoSpace) {
		return err
	}
	patience := waitForSpace
	if len(s.Volumes.Unerased()) > 0 { // space will be free soon, perhaps elsewhere
		patience = 5 * waitForSpace
	}
	first, told := s.notGrown.LoadOrStore(id, time.Now())
	if told && (errs.Is(err, errs.FixedSize) || time.Since(first.(time.Time)) > patience) {
		return asPrecondition(err)
	}
	return err
}
