package csi

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/test/csitest"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "csi.sock")
	l, err := Listen(path)
	require.NoError(t, err)
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	_, err = Listen(path)
	assert.True(t, errs.Is(err, errs.Conflict), "served: %v", err)

	l.(*net.UnixListener).SetUnlinkOnClose(false) // as kill -9 leaves it
	require.NoError(t, l.Close())
	l, err = Listen(path)
	require.NoError(t, err, "a stale socket is replaced")
	l.Close()

	require.NoError(t, os.WriteFile(path, []byte("data"), 0o600))
	_, err = Listen(path)
	assert.True(t, errs.Is(err, errs.Conflict), "a file is left alone: %v", err)
}

func TestEndpoints(t *testing.T) {
	for endpoint, want := range map[string]string{"unix:///run/csi.sock": "/run/csi.sock", "unix:/run/csi.sock": "/run/csi.sock", "/run/csi.sock": "/run/csi.sock", "unix:////run/../csi.sock": "/csi.sock", "unix://var/lib/csi.sock": "/var/lib/csi.sock"} {
		got, err := socketPath(endpoint)
		assert.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, endpoint := range []string{"", "csi.sock", "tcp://127.0.0.1:1", "unix://", "unix:csi.sock"} {
		_, err := socketPath(endpoint)
		assert.True(t, errs.Is(err, errs.Invalid), endpoint)
	}
}

var mountCap, blockCap, capabilityOf = csitest.Mount(""), csitest.Block(), csitest.Mount

// blocking blocks in Create until it is released.
type blocking struct {
	*fakeVolumes
	begun, goOn chan struct{}
}

func (b *blocking) Create(ctx context.Context, spec volume.Spec) (volume.Volume, bool, error) {
	b.begun <- struct{}{}
	<-b.goOn
	return b.fakeVolumes.Create(ctx, spec)
}

func TestConcurrentCallsAborted(t *testing.T) {
	b := &blocking{newFakeVolumes(), make(chan struct{}), make(chan struct{})}
	s := newServer(b.fakeVolumes)
	s.Volumes = b
	client := csi.NewControllerClient(dial(t, serveFake(t, s)))
	create := &csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{mountCap}}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := client.CreateVolume(context.Background(), create)
		assert.NoError(t, err)
	})
	<-b.begun
	_, err := client.CreateVolume(context.Background(), create)
	assert.Equal(t, codes.Aborted, status.Code(err))
	_, err = client.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: "a"})
	assert.Equal(t, codes.Aborted, status.Code(err))
	_, err = client.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: "b"})
	assert.NoError(t, err, "another volume does not wait")
	close(b.goOn)
	wg.Wait()
	_, err = client.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: "a"})
	assert.NoError(t, err)
}

func TestCallOutlivesCaller(t *testing.T) {
	b := &blocking{newFakeVolumes(), make(chan struct{}, 2), make(chan struct{})}
	s := newServer(b.fakeVolumes)
	s.Volumes = b
	client := csi.NewControllerClient(dial(t, serveFake(t, s)))
	create := &csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{mountCap}}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-b.begun; cancel() }()
	_, err := client.CreateVolume(ctx, create)
	assert.Equal(t, codes.Canceled, status.Code(err))
	_, err = client.CreateVolume(context.Background(), create)
	assert.Equal(t, codes.Aborted, status.Code(err), "it is still at work")
	close(b.goOn)
	assert.Eventually(t, func() bool { _, err := client.CreateVolume(context.Background(), create); return err == nil }, 5*time.Second, 5*time.Millisecond)
	made := 0
	for _, call := range b.called {
		if call == "create" {
			made++
		}
	}
	assert.Equal(t, 2, made, "the first one made it, the last one found it")
}

func TestMessageSizeLimit(t *testing.T) {
	client := csi.NewControllerClient(dial(t, serveFake(t, newServer(newFakeVolumes()))))
	_, err := client.CreateVolume(context.Background(), &csi.CreateVolumeRequest{Name: strings.Repeat("x", maxMessage+1)})
	assert.Equal(t, codes.ResourceExhausted, status.Code(err))
	assert.Contains(t, err.Error(), "larger than max")
}

type panicking struct{ *fakeVolumes }

func (panicking) List(context.Context) ([]volume.Volume, error) { panic("odd") }

func TestPanicInCall(t *testing.T) {
	s := newServer(newFakeVolumes())
	s.Volumes = panicking{newFakeVolumes()}
	client := csi.NewControllerClient(dial(t, serveFake(t, s)))
	_, err := client.ListVolumes(context.Background(), &csi.ListVolumesRequest{})
	assert.Equal(t, codes.Internal, status.Code(err))
	_, err = client.ControllerGetCapabilities(context.Background(), &csi.ControllerGetCapabilitiesRequest{})
	assert.NoError(t, err)
}

func TestProbeReason(t *testing.T) {
	f := newFakeVolumes()
	f.fail = errs.New(errs.NotFound, "", "no persistent memory found", "modprobe nfit")
	s := newServer(f)
	_, err := identity{Server: s}.Probe(context.Background(), &csi.ProbeRequest{})
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	assert.Contains(t, err.Error(), "no persistent memory found; next: modprobe nfit")
	answer, err := identity{Server: s}.Probe(context.Background(), &csi.ProbeRequest{})
	require.NoError(t, err)
	assert.True(t, answer.GetReady().GetValue())
}

// TestPagesUnderChange lists in pages while volumes appear and disappear: the others are listed
// exactly once.
func TestPagesUnderChange(t *testing.T) {
	f := newFakeVolumes()
	s := newServer(f)
	for _, name := range []string{"b", "d", "f", "h"} {
		_, _, err := f.Create(context.Background(), volume.Spec{Name: name, Size: 1})
		require.NoError(t, err)
	}
	var got []string
	token := ""
	for page := 0; page == 0 || token != ""; page++ {
		answer, err := s.ListVolumes(context.Background(), &csi.ListVolumesRequest{MaxEntries: 1, StartingToken: token})
		require.NoError(t, err)
		for _, e := range answer.GetEntries() {
			got = append(got, e.GetVolume().GetVolumeId())
		}
		token = answer.GetNextToken()
		if page == 1 { // after d
			require.NoError(t, f.DeleteAsCreated(context.Background(), "d"))
			_, _, err := f.Create(context.Background(), volume.Spec{Name: "a", Size: 1})
			require.NoError(t, err)
		}
	}
	assert.Equal(t, []string{"b", "d", "f", "h"}, got)
}

func TestAnotherNode(t *testing.T) {
	s := newServer(newFakeVolumes())
	at := func(node string) []*csi.Topology {
		return []*csi.Topology{{Segments: map[string]string{s.TopologyKey: node}}}
	}
	isHere := func(r *csi.TopologyRequirement) bool {
		p, err := s.here(context.Background(), r)
		require.NoError(t, err)
		return len(p) > 0
	}
	assert.True(t, isHere(nil))
	assert.True(t, isHere(&csi.TopologyRequirement{Requisite: append(at("node-b"), at("node-a")...)}))
	assert.False(t, isHere(&csi.TopologyRequirement{Requisite: at("node-b"), Preferred: at("node-a")}))
	assert.False(t, isHere(&csi.TopologyRequirement{Preferred: at("node-b")}))
	answer, err := s.GetCapacity(context.Background(), &csi.GetCapacityRequest{AccessibleTopology: at("node-b")[0]})
	require.NoError(t, err)
	assert.Zero(t, answer.GetAvailableCapacity())
}

// The fake has region0 on NUMA node 0, region1 and region2 on node 1.
func TestRegionTopology(t *testing.T) {
	s := newServer(newFakeVolumes())
	s.RegionTopology = true
	info, err := s.NodeGetInfo(context.Background(), &csi.NodeGetInfoRequest{})
	require.NoError(t, err)
	whole := info.GetAccessibleTopology().GetSegments()
	key := func(name string) string { return s.Driver + "/" + name }
	assert.Equal(t, map[string]string{s.TopologyKey: s.NodeID, key("region0"): "true", key("region1"): "true", key("region2"): "true", key("numa0"): "true", key("numa1"): "true"}, whole)

	for what, c := range map[string]struct {
		keys    []string
		matches bool
		within  []string
	}{
		"the node":                {nil, true, nil},
		"one region":              {[]string{"region1"}, true, []string{"region1"}},
		"a NUMA node":             {[]string{"numa1"}, true, []string{"region1", "region2"}},
		"a region on a NUMA node": {[]string{"numa1", "region2"}, true, []string{"region2"}},
		"a region elsewhere":      {[]string{"numa0", "region2"}, false, nil},
		"no such region":          {[]string{"region7"}, false, nil},
	} {
		segments := map[string]string{s.TopologyKey: s.NodeID}
		for _, k := range c.keys {
			segments[key(k)] = "true"
		}
		got, err := s.here(context.Background(), &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: segments}}})
		require.NoError(t, err)
		var want []placement
		if c.matches {
			want = []placement{{matches: true, within: c.within}}
		}
		assert.Equal(t, want, got, what)
	}
	got, err := s.here(context.Background(), &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: whole}}, Preferred: []*csi.Topology{{Segments: whole}}})
	require.NoError(t, err)
	assert.Contains(t, got, placement{matches: true}, "all of the node")
	var inOrder []*csi.Topology
	for _, k := range []string{"region2", "region0"} {
		inOrder = append(inOrder, &csi.Topology{Segments: map[string]string{s.TopologyKey: s.NodeID, key(k): "true"}})
	}
	got, err = s.here(context.Background(), &csi.TopologyRequirement{Requisite: inOrder})
	require.NoError(t, err)
	assert.Equal(t, []placement{{true, []string{"region2"}}, {true, []string{"region0"}}}, got)
}

// TestRefusedExpansionLetsPodsStart: kubelet gets the real code once, and then the one after which
// it mounts the volume with its current size.
func TestRefusedExpansionLetsPodsStart(t *testing.T) {
	f := newFakeVolumes()
	s := newServer(f)
	f.volumes["fixed"] = volume.Volume{Name: "fixed", Type: volume.TypeDirect, Size: 1 << 30}
	f.volumes["other"] = f.volumes["fixed"]
	f.at["fixed"], f.at["other"] = map[string]bool{"/pod": true}, map[string]bool{"/pod": true}
	expand := func(id string) codes.Code {
		_, err := s.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: id, VolumePath: "/pod", CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30}})
		assert.Error(t, err)
		return status.Code(toStatus(err))
	}
	assert.Equal(t, codes.OutOfRange, expand("fixed"))
	assert.Equal(t, codes.FailedPrecondition, expand("fixed"))
	assert.Equal(t, codes.FailedPrecondition, expand("fixed"))
	assert.Equal(t, codes.OutOfRange, expand("other"))

	f.volumes["full"] = volume.Volume{Name: "full", Type: volume.TypeLVM, Size: 1 << 30}
	f.at["full"] = map[string]bool{"/pod": true}
	full := func() codes.Code {
		f.failExpand = errs.New(errs.NoSpace, "volume full", "has no space", "")
		return expand("full")
	}
	assert.Equal(t, codes.ResourceExhausted, full())
	assert.Equal(t, codes.ResourceExhausted, full(), "space may come")
	s.notGrown.Store("full", time.Now().Add(-waitForSpace-time.Second))
	f.volumes["gone"] = volume.Volume{Name: "gone", UUID: "uuid-gone", State: volume.Deleting}
	assert.Equal(t, codes.ResourceExhausted, full(), "it is being erased")
	s.notGrown.Store("full", time.Now().Add(-5*waitForSpace-time.Second))
	assert.Equal(t, codes.FailedPrecondition, full(), "for ever, or elsewhere")
	delete(f.volumes, "gone")
	s.notGrown.Store("full", time.Now().Add(-waitForSpace-time.Second))
	assert.Equal(t, codes.FailedPrecondition, full())
}

// TestDeletedVolumeStaysDeleted: even if something is not visible afterwards.
func TestDeletedVolumeStaysDeleted(t *testing.T) {
	f := newFakeVolumes()
	s := newServer(f)
	remove := func(id string) codes.Code {
		_, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		return status.Code(toStatus(err))
	}
	create := &csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{mountCap}}
	_, err := s.CreateVolume(t.Context(), create)
	require.NoError(t, err)
	assert.Equal(t, codes.OK, remove("a"))
	f.hidden = errs.New(errs.Unsupported, "volume", "may be in region1, which is disabled", "")
	assert.Equal(t, codes.OK, remove("a"))
	assert.Equal(t, codes.FailedPrecondition, remove("b"), "nobody knows of that one")

	f.hidden = nil
	_, err = s.CreateVolume(t.Context(), create)
	require.NoError(t, err)
	delete(f.volumes, "a") // its region goes
	f.hidden = errs.New(errs.Unsupported, "volume", "may be in region1, which is disabled", "")
	assert.Equal(t, codes.FailedPrecondition, remove("a"), "it was made again")

	for i := range mostLately + 5 {
		s.deleted.add(strings.Repeat("x", 1+i%3) + time.Duration(i).String())
	}
	assert.Len(t, s.deleted.names, mostLately)
	assert.Len(t, s.deleted.order, mostLately)
}

func TestCapabilitiesAreCompared(t *testing.T) {
	f := newFakeVolumes()
	f.systems = map[string]string{"a": "ext4"}
	s := newServer(f)
	create := func(c *csi.VolumeCapability) codes.Code {
		_, err := s.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "a", VolumeCapabilities: []*csi.VolumeCapability{c}})
		return status.Code(toStatus(err))
	}
	assert.Equal(t, codes.OK, create(capabilityOf("ext4")))
	assert.Equal(t, codes.OK, create(capabilityOf("ext4")))
	assert.Equal(t, codes.AlreadyExists, create(blockCap))

	confirmed := func(caps ...*csi.VolumeCapability) bool {
		answer, err := s.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{VolumeId: "a", VolumeCapabilities: caps})
		require.NoError(t, err)
		assert.Equal(t, answer.GetConfirmed() == nil, answer.GetMessage() != "", answer)
		return answer.GetConfirmed() != nil
	}
	assert.True(t, confirmed(mountCap, capabilityOf("ext4")))
	assert.False(t, confirmed(capabilityOf("xfs")))
	assert.False(t, confirmed(mountCap, blockCap))
	assert.False(t, confirmed(capabilityOf("ntfs")))

	staging, target := filepath.Join(t.TempDir(), "staging"), filepath.Join(t.TempDir(), "target")
	stage := func(flags ...string) codes.Code {
		_, err := s.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: "a", StagingTargetPath: staging, VolumeCapability: capabilityOf("", flags...)})
		return status.Code(toStatus(err))
	}
	publish := func(from string, flags ...string) codes.Code {
		_, err := s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: "a", StagingTargetPath: from, TargetPath: target, VolumeCapability: capabilityOf("", flags...)})
		return status.Code(toStatus(err))
	}
	assert.Equal(t, codes.OK, stage("dax", "discard"))
	assert.Equal(t, codes.OK, stage("discard", "dax"), "the order is nothing")
	assert.Equal(t, codes.AlreadyExists, stage("dax"))
	assert.Equal(t, codes.FailedPrecondition, publish(""), "CSI spec: staging_target_path is not set")
	assert.Equal(t, codes.OK, publish(staging, "dax"))
	assert.Equal(t, codes.AlreadyExists, publish(staging, "dax", "noexec"))
	_, err := s.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "a", TargetPath: target})
	require.NoError(t, err)
	assert.Equal(t, codes.OK, publish(staging, "dax", "noexec"))
	delete(f.at["a"], staging) // unmounted by hand
	assert.Equal(t, codes.OK, stage("dax"))
	_, err = s.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: "a", StagingTargetPath: staging})
	require.NoError(t, err)
	assert.Equal(t, codes.OK, stage())
}

// TestNoExpansionOnDirectNode: expansion is not offered if it is never possible.
func TestNoExpansionOnDirectNode(t *testing.T) {
	offered := func(s *Server) (controller, node, plugin bool) {
		c, err := s.ControllerGetCapabilities(t.Context(), nil)
		require.NoError(t, err)
		for _, capability := range c.GetCapabilities() {
			controller = controller || capability.GetRpc().GetType() == csi.ControllerServiceCapability_RPC_EXPAND_VOLUME
		}
		n, err := s.NodeGetCapabilities(t.Context(), nil)
		require.NoError(t, err)
		for _, capability := range n.GetCapabilities() {
			node = node || capability.GetRpc().GetType() == csi.NodeServiceCapability_RPC_EXPAND_VOLUME
		}
		p, err := identity{Server: s}.GetPluginCapabilities(t.Context(), nil)
		require.NoError(t, err)
		for _, capability := range p.GetCapabilities() {
			plugin = plugin || capability.GetVolumeExpansion() != nil
		}
		return
	}
	for _, c := range []struct {
		kind volume.Type
		only bool
		want bool
	}{{volume.TypeDirect, true, false}, {volume.TypeLVM, true, true}, {volume.TypeLVM, false, true}} {
		s := newServer(newFakeVolumes())
		s.Type, s.Only = c.kind, c.only
		controller, node, plugin := offered(s)
		assert.Equal(t, [3]bool{c.want, c.want, c.want}, [3]bool{controller, node, plugin}, c)
	}
	// With one resizer for all nodes, kubelet must get an answer, or its pods wait forever.
	s := newServer(newFakeVolumes())
	s.Type, s.Only, s.NodeExpansion = volume.TypeDirect, true, true
	controller, node, _ := offered(s)
	assert.Equal(t, [2]bool{false, true}, [2]bool{controller, node})
}

// TestWaitsForErasing: a create or a clone waits for the space of a volume being erased.
func TestWaitsForErasing(t *testing.T) {
	const size = 1 << 30
	for name, from := range map[string]*csi.VolumeContentSource{
		"new":  nil,
		"copy": {Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: "source"}}},
	} {
		f := newFakeVolumes()
		f.free = 0
		f.volumes["source"] = volume.Volume{Name: "source", Type: volume.TypeLVM, Size: size, State: volume.Ready}
		f.volumes["gone"] = volume.Volume{Name: "gone", Type: volume.TypeLVM, Size: size, State: volume.Deleting, UUID: "gone"}
		_, err := newServer(f).CreateVolume(context.Background(), &csi.CreateVolumeRequest{
			Name: name, VolumeCapabilities: []*csi.VolumeCapability{mountCap}, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
			Parameters: map[string]string{"pmemType": "lvm"}, VolumeContentSource: from,
		})
		require.NoError(t, err, name)
		assert.Equal(t, 2, f.timesCalled("create"), "%s: first where there is room now", name)
	}
}

// TestAsk: another process learns who serves a socket, and why it is not ready.
func TestAsk(t *testing.T) {
	f := newFakeVolumes()
	s := newServer(f)
	socket := strings.TrimPrefix(serveFake(t, s), "unix://")
	name, version, err := Ask(t.Context(), socket)
	require.NoError(t, err)
	assert.Equal(t, []string{s.Driver, s.Version}, []string{name, version})
	f.fail = errs.New(errs.NotFound, "", "no persistent memory found", "modprobe nfit")
	_, _, err = Ask(t.Context(), socket)
	assert.ErrorContains(t, err, "is not ready: no persistent memory found")
	_, _, err = Ask(t.Context(), socket+".missing")
	assert.ErrorContains(t, err, "does not answer")
}
