package csi

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/pmemctl/pmemctl/internal/volume"
)

// guarded fails the test if the service gets a name or a path that it does not accept, or harmful
// options.
type guarded struct {
	*fakeVolumes
	t *testing.T
}

func (g guarded) name(name string) { assert.NoError(g.t, volume.ValidateName(name), "%q", name) }

func (g guarded) options(options []string) {
	for _, o := range options {
		assert.NotEqual(g.t, "suid", o)
		assert.NotEqual(g.t, "dev", o)
	}
	assert.True(g.t, slices.Contains(options, "nosuid") && slices.Contains(options, "nodev"), options)
}

func (g guarded) Create(ctx context.Context, spec volume.Spec) (volume.Volume, bool, error) {
	g.name(spec.Name)
	return g.fakeVolumes.Create(ctx, spec)
}

func (g guarded) Clone(ctx context.Context, source string, spec volume.Spec) (volume.Volume, error) {
	g.name(spec.Name)
	g.name(source)
	return g.fakeVolumes.Clone(ctx, source, spec)
}

func (g guarded) DeleteAsCreated(ctx context.Context, name string) error {
	g.name(name)
	return g.fakeVolumes.DeleteAsCreated(ctx, name)
}

func (g guarded) Get(ctx context.Context, name string) (volume.Volume, error) {
	g.name(name)
	return g.fakeVolumes.Get(ctx, name)
}

func (g guarded) Expand(ctx context.Context, name string, size, limit uint64) (volume.Volume, error) {
	g.name(name)
	return g.fakeVolumes.Expand(ctx, name, size, limit)
}

// The service's own tests cover its handling of paths; here paths are discarded.
func (g guarded) Stage(_ context.Context, m volume.MountSpec) (volume.Volume, error) {
	g.name(m.Name)
	g.options(m.Options)
	return volume.Volume{}, nil
}

func (g guarded) Unstage(_ context.Context, name, _ string) error { g.name(name); return nil }

func (g guarded) Publish(_ context.Context, p volume.PublishSpec) error {
	g.name(p.Name)
	g.options(p.Options)
	return nil
}

func (g guarded) Unpublish(_ context.Context, name, _ string) error { g.name(name); return nil }

func (g guarded) Stats(_ context.Context, name, path string) (volume.Stats, error) {
	g.name(name)
	return volume.Stats{}, notFound(name + " at " + path)
}

// fuzz calls a method through the interceptors, with a request decoded from arbitrary bytes.
func fuzz[T proto.Message](f *testing.F, method string, seeds []T, call func(*Server, context.Context, T) (any, error)) {
	for _, seed := range seeds {
		data, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var zero T
		req := zero.ProtoReflect().New().Interface().(T)
		if proto.Unmarshal(data, req) != nil {
			return
		}
		fake := newFakeVolumes()
		fake.volumes["a"] = volume.Volume{Name: "a", Type: volume.TypeLVM, Size: 1 << 30, State: volume.Ready}
		s := newServer(fake)
		s.Volumes = guarded{fake, t}
		info := &grpc.UnaryServerInfo{FullMethod: "/csi.v1/" + method}
		_, err := s.observe(context.Background(), req, info, func(ctx context.Context, req any) (any, error) {
			return s.oneAtATime(ctx, req, info, func(ctx context.Context, req any) (any, error) { return call(s, ctx, req.(T)) })
		})
		if err != nil {
			assert.NotContains(t, err.Error(), "internal error in pmemctl", "a panic")
		}
	})
}

func any1[A any](answer A, err error) (any, error) { return answer, err }

func FuzzCreateVolume(f *testing.F) {
	fuzz(f, "CreateVolume", []*csi.CreateVolumeRequest{
		{Name: "b", VolumeCapabilities: []*csi.VolumeCapability{mountCap}, Parameters: map[string]string{"pmemType": "direct", "mkfsOptions": "-i 8192"}, CapacityRange: &csi.CapacityRange{RequiredBytes: 5, LimitBytes: 9}},
		{Name: "../c", VolumeCapabilities: []*csi.VolumeCapability{mountCap}, VolumeContentSource: &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: "a"}}}},
	}, func(s *Server, ctx context.Context, r *csi.CreateVolumeRequest) (any, error) {
		return any1(s.CreateVolume(ctx, r))
	})
}

func FuzzDeleteVolume(f *testing.F) {
	fuzz(f, "DeleteVolume", []*csi.DeleteVolumeRequest{{VolumeId: "a"}, {VolumeId: "../a"}}, func(s *Server, ctx context.Context, r *csi.DeleteVolumeRequest) (any, error) {
		return any1(s.DeleteVolume(ctx, r))
	})
}

func FuzzValidateVolumeCapabilities(f *testing.F) {
	fuzz(f, "ValidateVolumeCapabilities", []*csi.ValidateVolumeCapabilitiesRequest{{VolumeId: "a", VolumeCapabilities: []*csi.VolumeCapability{mountCap}}}, func(s *Server, ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (any, error) {
		return any1(s.ValidateVolumeCapabilities(ctx, r))
	})
}

func FuzzListVolumes(f *testing.F) {
	fuzz(f, "ListVolumes", []*csi.ListVolumesRequest{{MaxEntries: 1, StartingToken: "after:a"}}, func(s *Server, ctx context.Context, r *csi.ListVolumesRequest) (any, error) {
		return any1(s.ListVolumes(ctx, r))
	})
}

func FuzzGetCapacity(f *testing.F) {
	fuzz(f, "GetCapacity", []*csi.GetCapacityRequest{{Parameters: map[string]string{"pmemType": "lvm"}, AccessibleTopology: &csi.Topology{Segments: map[string]string{"a": "b"}}}}, func(s *Server, ctx context.Context, r *csi.GetCapacityRequest) (any, error) {
		return any1(s.GetCapacity(ctx, r))
	})
}

func FuzzControllerGetVolume(f *testing.F) {
	fuzz(f, "ControllerGetVolume", []*csi.ControllerGetVolumeRequest{{VolumeId: "a"}}, func(s *Server, ctx context.Context, r *csi.ControllerGetVolumeRequest) (any, error) {
		return any1(s.ControllerGetVolume(ctx, r))
	})
}

func FuzzControllerExpandVolume(f *testing.F) {
	fuzz(f, "ControllerExpandVolume", []*csi.ControllerExpandVolumeRequest{{VolumeId: "a", CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30, LimitBytes: 3 << 30}}}, func(s *Server, ctx context.Context, r *csi.ControllerExpandVolumeRequest) (any, error) {
		return any1(s.ControllerExpandVolume(ctx, r))
	})
}

func FuzzNodeStageVolume(f *testing.F) {
	fuzz(f, "NodeStageVolume", []*csi.NodeStageVolumeRequest{{VolumeId: "a", StagingTargetPath: "/x/..", VolumeCapability: mountCap}}, func(s *Server, ctx context.Context, r *csi.NodeStageVolumeRequest) (any, error) {
		return any1(s.NodeStageVolume(ctx, r))
	})
}

func FuzzNodeUnstageVolume(f *testing.F) {
	fuzz(f, "NodeUnstageVolume", []*csi.NodeUnstageVolumeRequest{{VolumeId: "a", StagingTargetPath: "/x"}}, func(s *Server, ctx context.Context, r *csi.NodeUnstageVolumeRequest) (any, error) {
		return any1(s.NodeUnstageVolume(ctx, r))
	})
}

func FuzzNodePublishVolume(f *testing.F) {
	fuzz(f, "NodePublishVolume", []*csi.NodePublishVolumeRequest{
		{VolumeId: "a", StagingTargetPath: "/x", TargetPath: "/y", VolumeCapability: mountCap, Readonly: true},
		{VolumeId: strings.Repeat("x", 68), TargetPath: "/y", VolumeCapability: mountCap, VolumeContext: map[string]string{ephemeralKey: "true", "size": "1Gi"}},
	}, func(s *Server, ctx context.Context, r *csi.NodePublishVolumeRequest) (any, error) {
		return any1(s.NodePublishVolume(ctx, r))
	})
}

func FuzzNodeUnpublishVolume(f *testing.F) {
	fuzz(f, "NodeUnpublishVolume", []*csi.NodeUnpublishVolumeRequest{{VolumeId: "a", TargetPath: "/y"}, {VolumeId: "", TargetPath: ".."}}, func(s *Server, ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (any, error) {
		return any1(s.NodeUnpublishVolume(ctx, r))
	})
}

func FuzzNodeGetVolumeStats(f *testing.F) {
	fuzz(f, "NodeGetVolumeStats", []*csi.NodeGetVolumeStatsRequest{{VolumeId: "a", VolumePath: "/y"}}, func(s *Server, ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (any, error) {
		return any1(s.NodeGetVolumeStats(ctx, r))
	})
}

func FuzzNodeExpandVolume(f *testing.F) {
	fuzz(f, "NodeExpandVolume", []*csi.NodeExpandVolumeRequest{{VolumeId: "a", VolumePath: "/y", CapacityRange: &csi.CapacityRange{RequiredBytes: 1}}}, func(s *Server, ctx context.Context, r *csi.NodeExpandVolumeRequest) (any, error) {
		return any1(s.NodeExpandVolume(ctx, r))
	})
}

func FuzzVolumeName(f *testing.F) {
	f.Add("disk-1")
	f.Add("../" + filepath.Join("a", "b"))
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" {
			return
		}
		assert.NoError(t, volume.ValidateName(volumeName(name)))
	})
}
