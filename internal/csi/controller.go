package csi

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// defaultSize is the size in bytes of a volume if none is requested.
const defaultSize = 1 << 30

var controllerCapabilities = []csi.ControllerServiceCapability_RPC_Type{
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
	csi.ControllerServiceCapability_RPC_GET_CAPACITY,
	csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
	csi.ControllerServiceCapability_RPC_GET_VOLUME,
	csi.ControllerServiceCapability_RPC_VOLUME_CONDITION,
	csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
	csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
}

// ControllerGetCapabilities returns the capabilities of the controller service.
func (s *Server) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range controllerCapabilities {
		if t == csi.ControllerServiceCapability_RPC_EXPAND_VOLUME && (s.NodeExpansion || !s.expands()) {
			continue
		}
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}}})
	}
	return answer, nil
}

// CreateVolume creates a volume on this node.
func (s *Server) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if req.GetName() == "" {
		return nil, invalid("name is missing")
	}
	if len(req.GetMutableParameters()) > 0 {
		return nil, invalid("mutable parameters are not supported")
	}
	spec, err := s.spec(req.GetParameters())
	if err != nil {
		return nil, err
	}
	if spec.FS, err = checkCapabilities(req.GetVolumeCapabilities(), spec.FS); err != nil {
		return nil, err
	}
	if spec.Size, spec.Limit, err = sizeRange(req.GetCapacityRange()); err != nil {
		return nil, err
	}
	if spec.FS == mount.None {
		spec.MkfsOptions = nil // of a class that is also used for file systems
	}
	here, err := s.here(ctx, req.GetAccessibilityRequirements())
	if err != nil {
		return nil, err
	}
	if len(here) == 0 {
		return nil, status.Errorf(codes.ResourceExhausted, "volume %s: must be created on another node (this node is %s=%s); next: let the provisioner of that node create it", req.GetName(), s.TopologyKey, s.NodeID)
	}
	spec.Name = volumeName(req.GetName())
	vol, err := s.createIn(ctx, here, spec, req.GetVolumeContentSource())
	if err != nil {
		return nil, s.notPrepared(err)
	}
	s.deleted.remove(vol.Name)
	answer := s.describe(vol)
	answer.ContentSource = req.GetVolumeContentSource()
	answer.VolumeContext = volumeContext(req.GetParameters(), vol, spec)
	return &csi.CreateVolumeResponse{Volume: answer}, nil
}

// volumeContext returns the parameters and, for a file system, whether the kernel permits MAP_SYNC.
func volumeContext(parameters map[string]string, vol volume.Volume, spec volume.Spec) map[string]string {
	answer := map[string]string{}
	maps.Copy(answer, parameters)
	delete(answer, paramMapSync)
	if spec.FS != mount.None {
		answer[paramMapSync] = "supported"
		if vol.NoMapSync {
			answer[paramMapSync] = "refused"
		}
	}
	return answer
}

// createIn creates a volume in the first place that has room, or finds it there.
func (s *Server) createIn(ctx context.Context, places []placement, spec volume.Spec, from *csi.VolumeContentSource) (vol volume.Volume, err error) {
	// First try the free space, then wait for deleted volumes being erased.
	for _, wait := range []time.Duration{0, spaceWait / time.Duration(max(len(places), 1))} {
		spec.SpaceWait, err = wait, nil
		for _, p := range places {
			spec.Within = p.within
			made, failed := s.create(ctx, spec, from)
			if failed == nil {
				return made, nil
			}
			if err == nil {
				err = failed
			}
			if !errs.Is(failed, errs.NoSpace) && !errs.Is(failed, errs.Conflict) {
				return vol, err
			}
		}
		if len(s.Volumes.Unerased()) == 0 {
			break
		}
	}
	return vol, err
}

// spaceWait is how long CreateVolume waits for the space of deleted volumes; it is shorter than
// the timeout of the sidecars.
const spaceWait = 30 * time.Second

func (s *Server) create(ctx context.Context, spec volume.Spec, from *csi.VolumeContentSource) (volume.Volume, error) {
	if from == nil {
		vol, created, err := s.Volumes.Create(ctx, spec)
		if err == nil && !created && spec.FS == mount.None { // it may have another access type
			err = s.Volumes.UsableAs(ctx, vol.Name, spec.FS)
		}
		return vol, noPlace(err)
	}
	source := from.GetVolume().GetVolumeId()
	if source == "" {
		return volume.Volume{}, invalid("volume_content_source: only volumes can be a source; there are no snapshots")
	}
	if _, err := s.get(ctx, source); err != nil {
		return volume.Volume{}, err
	}
	spec.OrExisting = true
	vol, err := s.Volumes.Clone(ctx, source, spec)
	return vol, noPlace(err)
}

// noPlace converts errors about missing or unusable regions and volume groups, because another
// node may have some.
func noPlace(err error) error {
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Unsupported) || errs.Is(err, errs.Damaged) {
		return errs.Wrap(errs.NoSpace, "", "this node has no suitable region or volume group", "", err)
	}
	return err
}

// get returns a volume by its ID. An ID that is not a valid name is that of no volume.
func (s *Server) get(ctx context.Context, id string) (volume.Volume, error) {
	if volume.ValidateName(id) != nil {
		return volume.Volume{}, noVolume(id)
	}
	return s.Volumes.Get(ctx, id)
}

func noVolume(id string) error {
	return status.Errorf(codes.NotFound, "volume %.64q: does not exist", id)
}

// sizeRange returns the size and its limit in bytes; a limit of 0 is none.
func sizeRange(r *csi.CapacityRange) (size, limit uint64, err error) {
	required, most := r.GetRequiredBytes(), r.GetLimitBytes()
	switch {
	case required < 0 || most < 0:
		return 0, 0, invalid("capacity_range has a negative size")
	case most != 0 && most < required:
		return 0, 0, invalid("capacity_range: limit_bytes %d is below required_bytes %d", most, required)
	case required != 0:
		return uint64(required), uint64(most), nil
	case most != 0 && most < defaultSize:
		return 1, uint64(most), nil
	}
	return defaultSize, uint64(most), nil
}

func (s *Server) describe(vol volume.Volume) *csi.Volume {
	return &csi.Volume{VolumeId: vol.Name, CapacityBytes: int64(vol.Size), AccessibleTopology: []*csi.Topology{{Segments: s.nodeSegment()}}}
}

// DeleteVolume deletes a volume; it succeeds if the volume does not exist.
func (s *Server) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, invalid("volume_id is missing")
	}
	if volume.ValidateName(req.GetVolumeId()) != nil {
		return &csi.DeleteVolumeResponse{}, nil
	}
	err := s.Volumes.DeleteAsCreated(ctx, req.GetVolumeId())
	switch {
	case err == nil:
		s.deleted.add(req.GetVolumeId())
		s.eraser.deleted()
	case errs.Is(err, errs.NotFound) && s.deleted.has(req.GetVolumeId()):
		err = nil // even if its device is not visible now
	case errs.Is(err, errs.NotFound):
		err = s.Volumes.Absent(ctx, req.GetVolumeId())
	}
	return &csi.DeleteVolumeResponse{}, err
}

// ValidateVolumeCapabilities reports whether a volume supports some capabilities.
func (s *Server) ValidateVolumeCapabilities(ctx context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, invalid("volume_id is missing")
	}
	if len(req.GetVolumeCapabilities()) == 0 {
		return nil, invalid("volume_capabilities are missing")
	}
	if _, err := s.get(ctx, req.GetVolumeId()); err != nil {
		return nil, err
	}
	for _, c := range req.GetVolumeCapabilities() {
		if err := checkCapability(c); err != nil {
			return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
		}
		fs := c.GetMount().GetFsType()
		if c.GetBlock() != nil {
			fs = mount.None
		}
		err := s.Volumes.UsableAs(ctx, req.GetVolumeId(), fs)
		if errs.Is(err, errs.Conflict) {
			return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: req.GetVolumeContext(), VolumeCapabilities: req.GetVolumeCapabilities(), Parameters: req.GetParameters(),
	}}, nil
}

// pageToken is the prefix of the tokens of ListVolumes. A page begins after a name, so volumes
// that exist all the time are neither omitted nor repeated.
const pageToken = "after:"

// ListVolumes lists the volumes by name.
func (s *Server) ListVolumes(ctx context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	if req.GetMaxEntries() < 0 {
		return nil, invalid("max_entries is negative")
	}
	after, ok := strings.CutPrefix(req.GetStartingToken(), pageToken)
	if req.GetStartingToken() != "" && !ok {
		return nil, status.Errorf(codes.Aborted, "starting_token %.64q was not returned by ListVolumes", req.GetStartingToken())
	}
	volumes, err := s.Volumes.List(ctx)
	if err != nil {
		return nil, err
	}
	answer := &csi.ListVolumesResponse{}
	for _, vol := range volumes {
		if vol.State != volume.Ready && vol.State != volume.Damaged || ok && vol.Name <= after {
			continue
		}
		if n := len(answer.Entries); req.GetMaxEntries() > 0 && n == int(req.GetMaxEntries()) {
			answer.NextToken = pageToken + answer.Entries[n-1].GetVolume().GetVolumeId()
			break
		}
		answer.Entries = append(answer.Entries, &csi.ListVolumesResponse_Entry{Volume: s.describe(vol), Status: &csi.ListVolumesResponse_VolumeStatus{VolumeCondition: condition(vol)}})
	}
	return answer, nil
}

// ControllerGetVolume returns a volume with its condition.
func (s *Server) ControllerGetVolume(ctx context.Context, req *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, invalid("volume_id is missing")
	}
	vol, err := s.get(ctx, req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{Volume: s.describe(vol), Status: &csi.ControllerGetVolumeResponse_VolumeStatus{VolumeCondition: condition(vol)}}, nil
}

func condition(vol volume.Volume) *csi.VolumeCondition {
	if vol.State == volume.Damaged {
		return &csi.VolumeCondition{Abnormal: true, Message: "damaged: " + vol.Health}
	}
	if vol.Health != "" {
		return &csi.VolumeCondition{Abnormal: true, Message: vol.Health}
	}
	return &csi.VolumeCondition{Message: string(vol.State)}
}

// GetCapacity returns the space for new volumes, and the maximum size of one, in usable bytes.
func (s *Server) GetCapacity(ctx context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	spec, err := s.spec(req.GetParameters())
	if status.Code(err) == codes.ResourceExhausted {
		return &csi.GetCapacityResponse{}, nil // this node does not serve the type
	}
	if err != nil {
		return nil, err
	}
	if len(req.GetVolumeCapabilities()) > 0 {
		if spec.FS, err = checkCapabilities(req.GetVolumeCapabilities(), spec.FS); err != nil {
			return nil, err
		}
	}
	if t := req.GetAccessibleTopology(); t != nil {
		here, err := s.hereFor(ctx, t)
		if err != nil {
			return nil, err
		}
		if !here.matches {
			return &csi.GetCapacityResponse{}, nil
		}
		spec.Within = here.within
	}
	c, err := s.Volumes.CapacityFor(ctx, spec)
	if err != nil {
		return nil, err
	}
	if old, _ := s.noCapacity.Swap(spec.Type, c.Reason); old != c.Reason && c.Reason != "" { // it is asked all the time
		s.Log.Warn("no capacity", "type", spec.Type, "reason", c.Reason)
	}
	return &csi.GetCapacityResponse{AvailableCapacity: int64(c.Free), MaximumVolumeSize: wrapperspb.Int64(int64(c.Largest)), MinimumVolumeSize: wrapperspb.Int64(int64(c.Smallest))}, nil
}

// ControllerExpandVolume expands a volume, also while it is in use.
func (s *Server) ControllerExpandVolume(ctx context.Context, req *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	vol, err := s.expand(ctx, req.GetVolumeId(), req.GetCapacityRange(), req.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	// A file system that is mounted has grown; kubelet's call makes sure.
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: int64(vol.Size), NodeExpansionRequired: req.GetVolumeCapability().GetBlock() == nil}, nil
}

func (s *Server) expand(ctx context.Context, id string, r *csi.CapacityRange, c *csi.VolumeCapability) (volume.Volume, error) {
	var none volume.Volume
	if id == "" {
		return none, invalid("volume_id is missing")
	}
	if r == nil {
		return none, invalid("capacity_range is missing")
	}
	size, limit, err := sizeRange(r)
	if err != nil {
		return none, err
	}
	if r.GetRequiredBytes() == 0 {
		size = 1 // its current size
	}
	if c != nil {
		if err := checkCapability(c); err != nil {
			return none, err
		}
	}
	if volume.ValidateName(id) != nil {
		return none, noVolume(id)
	}
	return s.Volumes.Expand(ctx, id, size, limit)
}
