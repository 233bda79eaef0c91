//go:build guest

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/pmemctl/pmemctl/internal/fault"
	"github.com/pmemctl/pmemctl/test/csitest"
	"github.com/pmemctl/pmemctl/test/testenv"
)

const (
	csiSocket  = "/run/csi-test/csi.sock"
	kubeletDir = "/mnt/csi"
	csiStaging = kubeletDir + "/staging"
	csiTarget  = kubeletDir + "/pods/target"
	nodeID     = "node-a"
	nodeKey    = "csi.pmemctl.io/node"
)

// csiServer is a running pmemctl serve-csi.
type csiServer struct {
	cmd   *exec.Cmd
	log   *strings.Builder
	ended chan error
	conn  *grpc.ClientConn
	csitest.Client
}

// DeleteVolume waits until the volume is erased, which the call itself does not.
func (s *csiServer) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest, opts ...grpc.CallOption) (*csi.DeleteVolumeResponse, error) {
	before := unerased()
	answer, err := s.ControllerClient.DeleteVolume(ctx, req, opts...)
	// Others may delete too, all the time.
	deleted := slices.DeleteFunc(unerased(), func(uuid string) bool { return slices.Contains(before, uuid) })
	for begun := time.Now(); err == nil; time.Sleep(20 * time.Millisecond) {
		now := unerased()
		if !slices.ContainsFunc(deleted, func(uuid string) bool { return slices.Contains(now, uuid) }) {
			return answer, nil
		}
		if s.cmd != nil && s.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return nil, errors.New("the server was killed while it erased")
		}
		if time.Since(begun) > 2*time.Minute {
			return nil, fmt.Errorf("what was deleted is not erased: %v of %v", now, deleted)
		}
	}
	return answer, err
}

// unerased are the UUIDs of the volumes that are deleted and not erased yet.
func unerased() (uuids []string) {
	entries, _ := os.ReadDir("/run/pmemctl/erasing")
	for _, e := range entries {
		uuids = append(uuids, e.Name())
	}
	return uuids
}

// untilErased waits for the server to erase what was deleted.
func untilErased(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for slices.ContainsFunc(volumes(t), func(v listed) bool { return v.State == "deleting" }) {
		require.True(t, time.Now().Before(deadline), "what was deleted is not erased")
		time.Sleep(50 * time.Millisecond)
	}
}

// startCSI starts a server and waits until it answers; nil when it was killed by
// a fault point before that.
func startCSI(t *testing.T, env []string, flags ...string) *csiServer {
	t.Helper()
	cmd := exec.Command(faultpointsBinary(), serveArgs(flags...)...)
	cmd.Env = append(append(os.Environ(), "PMEMCTL_ERASE_RATE=max"), env...)
	return startServer(t, cmd)
}

func serveArgs(flags ...string) []string {
	return append([]string{"serve-csi", "--endpoint", "unix://" + csiSocket, "--nodeid", nodeID, "--kubelet-dir", kubeletDir}, flags...)
}

// startServer starts a command that serves on csiSocket, and waits until it has prepared
// the PMEM, where it is to.
func startServer(t *testing.T, cmd *exec.Cmd) *csiServer {
	t.Helper()
	s := startServerUnprepared(t, cmd)
	if s != nil && strings.Contains(strings.Join(cmd.Args, " "), "--init") && !s.isPrepared(t) {
		return nil
	}
	return s
}

func startServerUnprepared(t *testing.T, cmd *exec.Cmd) *csiServer {
	t.Helper()
	s := &csiServer{cmd: cmd, log: &strings.Builder{}, ended: make(chan error, 1)}
	s.cmd.Stderr = s.log
	require.NoError(t, s.cmd.Start())
	go func() { s.ended <- s.cmd.Wait() }()
	var err error
	s.conn, err = grpc.NewClient("unix://"+csiSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	s.Client = csitest.NewClient(s.conn)
	// Longer than the minute that a server waits for another pmemctl's locks.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := s.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
		answered <- err
	}()
	select {
	case err := <-answered:
		if err == nil {
			return s
		}
		select {
		case <-time.After(10 * time.Second):
			_ = s.cmd.Process.Kill() // or the next one finds its socket served
			require.NoError(t, err, s.log.String())
		case ended := <-s.ended: // it came to the fault point while it was asked
			s.conn.Close()
			require.True(t, wasKilled(ended), "%v, %v\n%s", err, ended, s.log.String())
			return nil
		}
	case err := <-s.ended:
		s.conn.Close()
		require.True(t, wasKilled(err), "%v\n%s", err, s.log.String())
		return nil
	}
	return s
}

// isPrepared waits for the end of the preparation; false when the server was killed in it.
func (s *csiServer) isPrepared(t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := s.GetCapacity(ctx, &csi.GetCapacityRequest{}); status.Code(err) != codes.Unavailable {
			return true
		}
		select {
		case err := <-s.ended:
			s.conn.Close()
			require.True(t, wasKilled(err), "%v\n%s", err, s.log.String())
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	require.Fail(t, "the PMEM was not prepared", s.log.String())
	return false
}

// stop ends the server in the orderly way.
func (s *csiServer) stop(t *testing.T) {
	t.Helper()
	s.conn.Close()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.ended:
		assert.NoError(t, err, s.log.String())
	case <-time.After(40 * time.Second):
		_ = s.cmd.Process.Kill()
		assert.Fail(t, "the server did not end", s.log.String())
	}
}

var mountCapability, blockCapability, class = csitest.Mount, csitest.Block, csitest.Class

func createRequest(name, kind string, size int64, c *csi.VolumeCapability) *csi.CreateVolumeRequest {
	here := []*csi.Topology{{Segments: map[string]string{nodeKey: nodeID}}}
	return &csi.CreateVolumeRequest{
		Name: name, Parameters: class(kind), CapacityRange: &csi.CapacityRange{RequiredBytes: size}, VolumeCapabilities: []*csi.VolumeCapability{c},
		AccessibilityRequirements: &csi.TopologyRequirement{Requisite: here, Preferred: here},
	}
}

func resetCSI(t *testing.T) {
	t.Helper()
	for _, path := range []string{csiTarget + "-inline", csiTarget + "2", csiTarget, csiStaging} {
		for exec.Command("umount", path).Run() == nil { // one may be over another
		}
	}
	require.NoError(t, os.RemoveAll("/mnt/csi"))
	require.NoError(t, os.MkdirAll(csiStaging, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Dir(csiTarget), 0o755))
	require.NoError(t, resetPMEM())
}

// growth are the specs that direct volumes cannot pass where lvm ones are served too, so
// that EXPAND_VOLUME is offered.
var growth = []string{
	"ExpandVolume [Controller Server] [It] should work",
	"Node Service NodeExpandVolume [It] should work if node-expand is called after node-publish",
}

var (
	sanityFigures = regexp.MustCompile(`(\d+) Passed \| (\d+) Failed \| (\d+) Pending \| (\d+) Skipped`)
	sanityFailure = regexp.MustCompile(`(?m)^\s*\[FAIL\] (.*)$`)
)

// TestCSISanity runs the suite of csi-test, as it comes, against the real server. Of what is
// configured, docs/csi.md says why.
func TestCSISanity(t *testing.T) {
	for _, what := range []struct{ serves, kind, access string }{
		{"all", "lvm", "mount"}, {"all", "direct", "mount"}, {"all", "lvm", "block"}, {"direct", "direct", "block"},
	} {
		t.Run(what.serves+" "+what.kind+" "+what.access, func(t *testing.T) { csiSanity(t, what.serves, what.kind, what.access) })
	}
}

// csiSanity runs it with a --type of the server, a type of the volumes, and mount or block.
func csiSanity(t *testing.T, serves, kind, access string) {
	resetCSI(t)
	s := startCSI(t, nil, "--type", serves, "--init", "--percent", "60")
	defer func() { s.stop(t); resetCSI(t) }()
	size, passed, skipped := int64(64<<20), 51, 51
	var failed []string
	switch {
	case serves == "direct": // no growth is offered
		passed, skipped = 44, 58
	case kind == "direct":
		failed, passed = growth, passed-len(growth)
	}
	parameters := filepath.Join(t.TempDir(), "class.yaml")
	require.NoError(t, os.WriteFile(parameters, []byte("volumeType: PMEM\npmemType: "+kind+"\nnodeAffinity: \"true\"\n"), 0o600))
	dir := filepath.Join(kubeletDir, "sanity")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	sanity := exec.Command(built("csi-sanity"), "-ginkgo.no-color", "-csi.endpoint", "unix://"+csiSocket,
		"-csi.mountdir", filepath.Join(dir, "target"), "-csi.stagingdir", filepath.Join(dir, "staging"), "-csi.testvolumeaccesstype", access,
		"-csi.testvolumesize", fmt.Sprint(size), "-csi.testvolumeexpandsize", fmt.Sprint(2*size), "-csi.testvolumeparameters", parameters)
	out, err := sanity.CombinedOutput()
	if len(failed) == 0 {
		assert.NoError(t, err)
	}
	figures := sanityFigures.FindStringSubmatch(string(out))
	assert.Equal(t, fmt.Sprint([]int{passed, len(failed), 1, skipped}), fmt.Sprint(figures[min(1, len(figures)):]))
	var names []string
	for _, match := range sanityFailure.FindAllStringSubmatch(string(out), -1) {
		names = append(names, match[1])
	}
	assert.ElementsMatch(t, failed, names)
	if t.Failed() {
		t.Logf("%s\n%s", out, s.log.String())
	}
}

// TestCSILife takes a volume of each type through its life, and looks at the
// device each time.
func TestCSILife(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"lvm", "direct"} {
		for _, fs := range []string{"ext4", "xfs"} {
			t.Run(kind+" "+fs, func(t *testing.T) {
				resetCSI(t)
				s := startCSI(t, nil, "--init", "--percent", "50")
				defer func() { s.stop(t) }()
				capability := mountCapability(fs, "dax")
				free, err := s.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: class(kind)})
				require.NoError(t, err)

				created, err := s.CreateVolume(ctx, createRequest("disk-1", kind, 320<<20, capability))
				require.NoError(t, err)
				vol := created.GetVolume()
				assert.Equal(t, "disk-1", vol.GetVolumeId())
				assert.GreaterOrEqual(t, vol.GetCapacityBytes(), int64(320<<20))
				assert.Equal(t, nodeID, vol.GetAccessibleTopology()[0].GetSegments()[nodeKey])

				_, err = s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "disk-1", StagingTargetPath: csiStaging, VolumeCapability: capability})
				require.NoError(t, err)
				for _, target := range []string{csiTarget, csiTarget + "2"} {
					_, err = s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "disk-1", StagingTargetPath: csiStaging, TargetPath: target, VolumeCapability: capability, Readonly: target != csiTarget})
					require.NoError(t, err)
				}
				mounts, err := os.ReadFile("/proc/mounts")
				require.NoError(t, err)
				device := volumes(t)[0].Device
				assert.True(t, strings.HasPrefix(device, map[string]string{"lvm": "/dev/mapper/pmemvgregion0-disk--1", "direct": "/dev/pmem"}[kind]), device)
				for _, line := range []string{device + " " + csiStaging + " " + fs + " rw,", device + " " + csiTarget + " " + fs + " rw,nosuid,nodev", device + " " + csiTarget + "2 " + fs + " ro,nosuid,nodev"} {
					assert.Contains(t, string(mounts), line)
				}
				assert.Equal(t, 3, strings.Count(string(mounts), "dax=always"), "DAX is on everywhere")
				require.NoError(t, os.WriteFile(csiTarget+"/file", []byte("kept"), 0o600))
				assert.Error(t, os.WriteFile(csiTarget+"2/file", []byte("x"), 0o600), "read-only")

				stats, err := s.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: "disk-1", VolumePath: csiTarget})
				require.NoError(t, err)
				assert.False(t, stats.GetVolumeCondition().GetAbnormal())
				require.Len(t, stats.GetUsage(), 2)
				assert.Greater(t, stats.GetUsage()[0].GetAvailable(), int64(200<<20))

				_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "disk-1"})
				assert.Equal(t, codes.FailedPrecondition, status.Code(err), "in use: %v", err)

				expanded, err := s.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: "disk-1", CapacityRange: &csi.CapacityRange{RequiredBytes: 640 << 20}, VolumeCapability: capability})
				if kind == "direct" {
					assert.Equal(t, codes.OutOfRange, status.Code(err))
					assert.Contains(t, err.Error(), "pmemctl volume clone disk-1 NEWNAME")
				} else {
					require.NoError(t, err)
					assert.Equal(t, int64(640<<20), expanded.GetCapacityBytes())
					_, err = s.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: "disk-1", VolumePath: csiTarget, CapacityRange: &csi.CapacityRange{RequiredBytes: 640 << 20}})
					require.NoError(t, err)
					var st syscall.Statfs_t
					require.NoError(t, syscall.Statfs(csiTarget, &st))
					assert.Greater(t, st.Blocks*uint64(st.Bsize), uint64(500<<20), "the file system grew")
				}

				// A new server knows all of it.
				s.stop(t)
				s = startCSI(t, nil)
				data, err := os.ReadFile(csiTarget + "/file")
				require.NoError(t, err)
				assert.Equal(t, "kept", string(data))
				for range 2 { // each call twice
					for _, target := range []string{csiTarget, csiTarget + "2"} {
						_, err = s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "disk-1", TargetPath: target})
						require.NoError(t, err)
						assert.NoFileExists(t, target)
					}
					_, err = s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: "disk-1", StagingTargetPath: csiStaging})
					require.NoError(t, err)
					_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "disk-1"})
					require.NoError(t, err)
				}
				assert.Empty(t, volumes(t))
				after, err := s.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: class(kind)})
				require.NoError(t, err)
				assert.Equal(t, free.GetAvailableCapacity(), after.GetAvailableCapacity(), "the space is back")
			})
		}
	}
	resetCSI(t)
}

// TestCSIRawBlock publishes a device, and TestCSIInline a volume that lives as
// long as its pod.
func TestCSIRawBlock(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := startCSI(t, nil, "--init", "--percent", "20")
	defer func() { s.stop(t) }()
	for _, kind := range []string{"lvm", "direct"} {
		name := "raw-" + kind
		_, err := s.CreateVolume(ctx, createRequest(name, kind, 32<<20, blockCapability()))
		require.NoError(t, err)
		_, err = s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: name, StagingTargetPath: csiStaging, VolumeCapability: blockCapability()})
		require.NoError(t, err)
		for range 2 {
			_, err = s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: name, StagingTargetPath: csiStaging, TargetPath: csiTarget, VolumeCapability: blockCapability()})
			require.NoError(t, err)
		}
		require.NoError(t, exec.Command("dd", "if=/dev/urandom", "of="+csiTarget, "bs=1M", "count=4", "conv=notrunc,fsync").Run())
		stats, err := s.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: name, VolumePath: csiTarget})
		require.NoError(t, err)
		assert.GreaterOrEqual(t, stats.GetUsage()[0].GetTotal(), int64(32<<20))
		_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: name})
		assert.Equal(t, codes.FailedPrecondition, status.Code(err), "published: %v", err)
		copied := createRequest("copy", kind, 32<<20, blockCapability())
		copied.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: name}}}
		_, err = s.CreateVolume(ctx, copied)
		assert.Equal(t, codes.FailedPrecondition, status.Code(err), "published: %v", err)
		_, err = s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: name, TargetPath: csiTarget})
		require.NoError(t, err)
		assert.NoFileExists(t, csiTarget)
		_, err = s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: name, StagingTargetPath: csiStaging})
		require.NoError(t, err)
		_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: name})
		require.NoError(t, err)
	}
	assert.Empty(t, volumes(t))
}

// TestCSIRawBlockOfFilesystem: a volume that was made for a filesystem may have a former
// tenant's bytes below it, and is not given out raw, whatever it holds now.
func TestCSIRawBlockOfFilesystem(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := startCSI(t, nil, "--init", "--percent", "20")
	defer func() { s.stop(t) }()
	for _, kind := range kinds {
		name := "fs-" + kind
		_, err := s.CreateVolume(ctx, createRequest(name, kind, 32<<20, mountCapability("ext4")))
		require.NoError(t, err)
		_, _, device := shown(t, name)
		shellf(t, "dd if=/dev/zero of=%s bs=1M count=4 oflag=direct status=none", device)
	}
	for range 2 {
		for _, kind := range kinds {
			name := "fs-" + kind
			_, err := s.CreateVolume(ctx, createRequest(name, kind, 32<<20, blockCapability()))
			assert.Equal(t, codes.AlreadyExists, status.Code(err), "%v", err)
			_, err = s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: name, StagingTargetPath: csiStaging, TargetPath: csiTarget, VolumeCapability: blockCapability()})
			assert.Equal(t, codes.AlreadyExists, status.Code(err), "%v", err)
			assert.ErrorContains(t, err, "was created for a file system")
			assert.NoFileExists(t, csiTarget)
			confirmed, err := s.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: name, VolumeCapabilities: []*csi.VolumeCapability{blockCapability()}})
			assert.NoError(t, err)
			assert.Nil(t, confirmed.GetConfirmed())
			copied := createRequest("copy", kind, 32<<20, blockCapability())
			copied.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: name}}}
			_, err = s.CreateVolume(ctx, copied)
			assert.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
		}
		// Nor by a server that sees them for the first time, as after a reboot.
		s.stop(t)
		shellf(t, "rm -rf /run/pmemctl; vgchange -an pmemvgregion0; ndctl disable-namespace $(ndctl list -N | jq -r '.[] | select(.name == \"pmemctl:fs-direct\").dev')")
		s = startCSI(t, nil, "--init", "--percent", "20")
	}
}

func TestCSIInline(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := startCSI(t, nil, "--init", "--percent", "20", "--inline", "--inline-max-size", "32Mi")
	defer func() { s.stop(t) }()
	// Kubelet's directories of two pods.
	publish := map[string]*csi.NodePublishVolumeRequest{}
	for _, pod := range []string{"stays", "goes"} {
		dir := filepath.Join(kubeletDir, "pods", pod, "volumes", "kubernetes.io~csi", "scratch")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		id := "csi-" + strings.Repeat(pod[:1], 64)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "vol_data.json"), []byte(`{"volumeHandle":"`+id+`","volumeLifecycleMode":"Ephemeral"}`), 0o600))
		publish[pod] = &csi.NodePublishVolumeRequest{
			VolumeId: id, TargetPath: filepath.Join(dir, "mount"), VolumeCapability: mountCapability("ext4"),
			VolumeContext: map[string]string{"csi.storage.k8s.io/ephemeral": "true", "size": "32Mi", "csi.storage.k8s.io/pod.name": pod},
		}
		for range 2 {
			_, err := s.NodePublishVolume(ctx, publish[pod])
			require.NoError(t, err)
		}
	}
	stays, goes := publish["stays"], publish["goes"]
	large := &csi.NodePublishVolumeRequest{VolumeId: "csi-" + strings.Repeat("0", 64), TargetPath: csiTarget, VolumeCapability: mountCapability("ext4"), VolumeContext: map[string]string{"csi.storage.k8s.io/ephemeral": "true", "size": "33Mi"}}
	_, err := s.NodePublishVolume(ctx, large)
	assert.Equal(t, codes.OutOfRange, status.Code(err), "%v", err)
	require.NoError(t, os.WriteFile(stays.TargetPath+"/file", []byte("kept"), 0o600))
	stats, err := s.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: stays.VolumeId, VolumePath: stays.TargetPath})
	require.NoError(t, err)
	assert.Greater(t, stats.GetUsage()[0].GetTotal(), int64(16<<20))

	// As after a reboot, and one pod went meanwhile. Inline volumes are off now.
	require.NoError(t, s.cmd.Process.Kill())
	<-s.ended
	s.conn.Close()
	for _, p := range publish {
		require.NoError(t, exec.Command("umount", p.TargetPath).Run())
	}
	require.NoError(t, os.RemoveAll(filepath.Join(kubeletDir, "pods", "goes")))
	require.Len(t, volumes(t), 2)
	s = startCSI(t, nil)
	assert.Eventually(t, func() bool { return len(volumes(t)) == 1 }, 20*time.Second, 200*time.Millisecond, "that of the pod which is gone")
	_, err = s.NodePublishVolume(ctx, stays)
	require.NoError(t, err, s.log.String())
	data, err := os.ReadFile(stays.TargetPath + "/file")
	require.NoError(t, err)
	assert.Equal(t, "kept", string(data), "the pod lives on, with what it had")
	require.NoError(t, os.MkdirAll(filepath.Dir(goes.TargetPath), 0o755))
	_, err = s.NodePublishVolume(ctx, goes)
	assert.Equal(t, codes.FailedPrecondition, status.Code(err), "%v", err)
	assert.ErrorContains(t, err, "inline volumes are disabled on this node")
	for range 2 {
		_, err = s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: stays.VolumeId, TargetPath: stays.TargetPath})
		require.NoError(t, err)
	}
	untilErased(t)
	assert.Empty(t, volumes(t))
	assert.NoFileExists(t, stays.TargetPath)
}

// TestCSIHeldLock: another's lock keeps no pod from ending, and what was being erased when
// the server ended is erased then.
func TestCSIHeldLock(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := startCSI(t, nil, "--init", "--percent", "20")
	defer func() { s.stop(t) }()
	capability := mountCapability("ext4")
	for name, kind := range map[string]string{"a": "lvm", "gone-lvm": "lvm", "gone-direct": "direct", "twin": "direct"} {
		_, err := s.CreateVolume(ctx, createRequest(name, kind, 16<<20, capability))
		require.NoError(t, err)
	}
	_, err := s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging, VolumeCapability: capability})
	require.NoError(t, err)
	_, err = s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging, TargetPath: csiTarget, VolumeCapability: capability})
	require.NoError(t, err)
	s.stop(t)
	out, err := exec.Command("lvchange", "--addtag", "pmemctl.removing", "pmemvgregion0/gone-lvm").CombinedOutput()
	require.NoError(t, err, "%s", out)
	log := filepath.Join(t.TempDir(), "steps")
	out2, err := pmemctl([]string{fault.LogEnv + "=" + log}, "volume", "delete", "twin", "--force")
	require.NoError(t, err, out2)
	zero := 1 + slices.Index(stepsIn(t, log), "before zero")
	_, err = pmemctl([]string{fmt.Sprintf("%s=%d", fault.KillAtEnv, zero)}, "volume", "delete", "gone-direct", "--force")
	require.True(t, wasKilled(err), "%v", err)
	deleting := 0
	for _, v := range volumes(t) {
		if v.State == "deleting" {
			deleting++
		}
	}
	require.Equal(t, 2, deleting, volumes(t))

	lock := exec.Command("flock", "/run/pmemctl/host.lock", "sleep", "60")
	require.NoError(t, lock.Start())
	released := func() { _ = exec.Command("pkill", "-P", fmt.Sprint(lock.Process.Pid)).Run(); _ = lock.Wait() }
	defer released()
	require.Eventually(t, func() bool { return exec.Command("flock", "-n", "/run/pmemctl/host.lock", "true").Run() != nil }, 5*time.Second, 10*time.Millisecond)
	begun := time.Now()
	cmd := exec.Command(faultpointsBinary(), serveArgs("--init", "--percent", "20")...)
	s = startServerUnprepared(t, cmd)
	_, err = s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "a", TargetPath: csiTarget})
	assert.NoError(t, err)
	_, err = s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging})
	assert.NoError(t, err)
	assert.Less(t, time.Since(begun), 15*time.Second)
	probe, err := s.Probe(ctx, &csi.ProbeRequest{})
	assert.NoError(t, err)
	assert.True(t, probe.GetReady().GetValue())
	_, err = s.CreateVolume(ctx, createRequest("b", "lvm", 16<<20, capability))
	assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	released()
	assert.Eventually(t, func() bool {
		_, err = s.CreateVolume(ctx, createRequest("b", "lvm", 16<<20, capability))
		return err == nil
	}, 30*time.Second, 100*time.Millisecond, "%v", err)
	assert.Eventually(t, func() bool { return len(volumes(t)) == 2 }, 20*time.Second, 200*time.Millisecond, "what was being erased is gone: %v", volumes(t))
	for _, v := range volumes(t) {
		assert.Contains(t, []string{"a", "b"}, v.Name)
		assert.Equal(t, "ready", v.State)
	}
}

// TestCSIStatsOfDown asks for the figures of volumes whose devices are gone, as they are
// for a moment when somebody deletes them.
func TestCSIStatsOfDown(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := startCSI(t, nil, "--init", "--percent", "20")
	defer func() { s.stop(t) }()
	for kind, down := range map[string]string{
		"lvm":    "udevadm settle; dmsetup remove --retry pmemvgregion0-lvm",
		"direct": "ndctl disable-namespace $(pmemctl volume show direct -o json | jq -r .volumes[0].namespace)",
	} {
		_, err := s.CreateVolume(ctx, createRequest(kind, kind, 32<<20, mountCapability("ext4")))
		require.NoError(t, err)
		out, err := exec.Command("sh", "-c", down).CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, v := range volumes(t) {
			require.False(t, v.Name == kind && v.Device != "", "%s is up", kind)
		}
		_, err = s.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: kind, VolumePath: csiTarget})
		assert.Equal(t, codes.NotFound, status.Code(err), "%v", err)
		assert.ErrorContains(t, err, "volume "+kind+": is not published at "+csiTarget)
	}
	resetCSI(t)
}

// TestCSIRefusals asserts codes and messages of what is refused.
func TestCSIRefusals(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := startCSI(t, nil, "--init", "--percent", "20")
	defer func() { s.stop(t) }()
	_, err := s.CreateVolume(ctx, createRequest("a", "lvm", 32<<20, mountCapability("ext4")))
	require.NoError(t, err)
	create := func(change func(*csi.CreateVolumeRequest)) error {
		req := createRequest("b", "lvm", 32<<20, mountCapability("ext4"))
		change(req)
		_, err := s.CreateVolume(ctx, req)
		return err
	}
	stage := func(change func(*csi.NodeStageVolumeRequest)) error {
		req := &csi.NodeStageVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging, VolumeCapability: mountCapability("ext4")}
		change(req)
		_, err := s.NodeStageVolume(ctx, req)
		return err
	}
	require.NoError(t, os.Symlink("/etc", "/mnt/csi/link"))
	for what, c := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"no space": {create(func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 100 << 30 }), codes.ResourceExhausted, "does not fit; the largest possible lvm volume is"},
		"another node": {create(func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements.Requisite[0].Segments[nodeKey] = "node-b"
		}), codes.ResourceExhausted, "must be created on another node"},
		"another size": {create(func(r *csi.CreateVolumeRequest) { r.Name = "a"; r.CapacityRange.RequiredBytes = 64 << 20 }), codes.AlreadyExists, "exists with size 32 MiB, but 64 MiB was requested"},
		"another type": {create(func(r *csi.CreateVolumeRequest) { r.Name = "a"; r.Parameters["pmemType"] = "direct" }), codes.AlreadyExists, "exists with type lvm"},
		"misspelt":     {create(func(r *csi.CreateVolumeRequest) { r.Parameters["pmemtype"] = "lvm" }), codes.InvalidArgument, `unknown parameter "pmemtype"; did you mean pmemType?`},
		"shared": {create(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0].AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		}), codes.InvalidArgument, "local to one node"},
		"impossible range": {create(func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: 3<<20 + 1, LimitBytes: 3<<20 + 2}
		}), codes.OutOfRange, "the smallest possible size"},
		"mkfs with a device":      {create(func(r *csi.CreateVolumeRequest) { r.Parameters["mkfsOptions"] = "-J device=/dev/pmem0" }), codes.InvalidArgument, "mkfs option"},
		"mkfs of a directory":     {create(func(r *csi.CreateVolumeRequest) { r.Parameters["mkfsOptions"] = "-d /etc" }), codes.InvalidArgument, "mkfs option"},
		"mkfs elsewhere":          {create(func(r *csi.CreateVolumeRequest) { r.Parameters["mkfsOptions"] = "/dev/pmem0" }), codes.InvalidArgument, "mkfs option"},
		"path upwards":            {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = csiStaging + "/../../etc" }), codes.InvalidArgument, "is not absolute and clean"},
		"link":                    {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "/mnt/csi/link" }), codes.InvalidArgument, "through a symbolic link"},
		"behind a link":           {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "/mnt/csi/link/cron.d" }), codes.InvalidArgument, "through a symbolic link"},
		"a directory of the host": {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "/usr/local/sbin" }), codes.InvalidArgument, "is not below kubelet's directory /mnt/csi"},
		"no parent":               {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "/mnt/csi/not/there" }), codes.FailedPrecondition, "does not exist"},
		"long path":               {stage(func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "/" + strings.Repeat("x", 4096) }), codes.InvalidArgument, "the maximum is 4095"},
		"suid":                    {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability = mountCapability("ext4", "suid") }), codes.InvalidArgument, "suid is not allowed"},
		"two options":             {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability = mountCapability("ext4", "noatime,suid") }), codes.InvalidArgument, "is not a single option"},
		"another device": {stage(func(r *csi.NodeStageVolumeRequest) {
			r.VolumeCapability = mountCapability("ext4", "journal_path=/dev/pmem0")
		}), codes.InvalidArgument, "names another device"},
		"no volume":  {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "nobody" }), codes.NotFound, "volume nobody: does not exist"},
		"odd volume": {stage(func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "../a" }), codes.NotFound, "does not exist"},
	} {
		assert.Equal(t, c.code, status.Code(c.err), "%s: %v", what, c.err)
		if c.err != nil {
			assert.Contains(t, status.Convert(c.err).Message(), c.text, what)
		}
	}
	assert.Len(t, volumes(t), 1, "nothing was made")
	resetCSI(t)
}

// TestCSISwappedTarget: somebody replaces a directory on the way to a target by a link to
// another one, again and again. Nothing is ever mounted there.
func TestCSISwappedTarget(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := startCSI(t, nil, "--type", "direct")
	defer func() { s.stop(t); resetCSI(t) }()
	_, err := s.CreateVolume(ctx, createRequest("a", "direct", 16<<20, mountCapability("ext4")))
	require.NoError(t, err)
	elsewhere, dir, link := t.TempDir(), filepath.Join(kubeletDir, "pod"), filepath.Join(kubeletDir, "link")
	require.NoError(t, os.MkdirAll(filepath.Join(elsewhere, "mount"), 0o755))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.Symlink(elsewhere, link))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
				stopped <- err
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	staged, refused := 0, 0
	for begun := time.Now(); time.Since(begun) < 5*time.Second; {
		_, err := s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "a", StagingTargetPath: filepath.Join(dir, "mount"), VolumeCapability: mountCapability("ext4")})
		if err == nil {
			staged++
		} else {
			refused++
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		require.NoError(t, err)
		require.NotContains(t, string(mounts), elsewhere)
		_, _ = s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: "a", StagingTargetPath: filepath.Join(dir, "mount")})
	}
	close(stop)
	require.NoError(t, <-stopped)
	// An unstaging may have found the link.
	if st, err := os.Lstat(dir); assert.NoError(t, err) && st.Mode()&os.ModeSymlink != 0 {
		require.NoError(t, unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE))
	}
	_, err = s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: "a", StagingTargetPath: filepath.Join(dir, "mount")})
	require.NoError(t, err)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), kubeletDir+"/")
	assert.NotZero(t, staged)
	assert.NotZero(t, refused)
	assert.DirExists(t, filepath.Join(elsewhere, "mount"), "and nothing was removed there")
	t.Logf("staged %d times, refused %d times", staged, refused)
}

// TestCSISurroundings asks the server as kubelet's registration, Prometheus and a
// liveness probe do, and as the provisioner while a region is down.
func TestCSISurroundings(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	dir := t.TempDir()
	s := startCSI(t, nil, "--init", "--percent", "20", "--registration-dir", dir, "--metrics-address", "127.0.0.1:9099")
	defer func() { s.stop(t) }()
	get := func(path string) string {
		answer, err := http.Get("http://127.0.0.1:9099" + path)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, answer.StatusCode)
		return string(body)
	}
	assert.Equal(t, "ok\n", get("/healthz"))
	_, err := s.CreateVolume(ctx, createRequest("a", "lvm", 32<<20, mountCapability("ext4")))
	require.NoError(t, err)
	metrics := get("/metrics")
	for _, line := range []string{`pmemctl_region_size_bytes{region="region0"} 4.294967296e+09`, `pmemctl_volumes{state="ready",type="lvm"} 1`, `pmemctl_csi_operation_duration_seconds_count{code="OK",method="CreateVolume"} 1`, "pmemctl_read_error 0"} {
		assert.Contains(t, metrics, line+"\n")
	}

	conn, err := grpc.NewClient("unix://"+dir+"/csi.pmemctl.io-reg.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	info, err := registration.NewRegistrationClient(conn).GetInfo(ctx, &registration.InfoRequest{})
	require.NoError(t, err)
	assert.Equal(t, "/var/lib/kubelet/plugins/csi.pmemctl.io/csi.sock", info.GetEndpoint())

	// What may come back is not deleted, and holds up nothing else.
	require.NoError(t, exec.Command("vgchange", "-an", "pmemvgregion1").Run())
	out, err := pmemctl(nil, "region", "disable", "region1")
	require.NoError(t, err, out)
	_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "elsewhere"})
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	assert.Contains(t, status.Convert(err).Message(), "may be in region region1, which is disabled; next: pmemctl region enable region1")
	_, err = s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "a", TargetPath: csiTarget})
	assert.NoError(t, err)
	_, err = s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-" + strings.Repeat("0", 64), TargetPath: csiTarget})
	assert.NoError(t, err)
	out, err = pmemctl(nil, "region", "enable", "region1")
	require.NoError(t, err, out)
	_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "elsewhere"})
	assert.NoError(t, err)
}

// csiCall is a call of a volume's life.
type csiCall struct {
	name string
	do   func(*csiServer) error
}

// csiCalls are the calls of a volume's life, in order; each is killed at each of
// its steps, with the ones before it done.
func csiCalls(kind string) []csiCall {
	ctx := context.Background()
	c := mountCapability("ext4", "dax")
	calls := []csiCall{
		{"create", func(s *csiServer) error {
			_, err := s.CreateVolume(ctx, createRequest("a", kind, 16<<20, c))
			return err
		}},
		{"stage", func(s *csiServer) error {
			_, err := s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging, VolumeCapability: c})
			return err
		}},
		{"publish", func(s *csiServer) error {
			_, err := s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging, TargetPath: csiTarget, VolumeCapability: c, Readonly: true})
			return err
		}},
	}
	if kind == "lvm" {
		more := &csi.CapacityRange{RequiredBytes: 32 << 20}
		calls = append(calls, csiCall{"expand", func(s *csiServer) error {
			_, err := s.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: "a", CapacityRange: more, VolumeCapability: c})
			if err == nil {
				_, err = s.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: "a", VolumePath: csiTarget, StagingTargetPath: csiStaging, CapacityRange: more})
			}
			return err
		}})
	}
	inline := &csi.NodePublishVolumeRequest{
		VolumeId: "csi-" + strings.Repeat("0123456789abcdef", 4), TargetPath: csiTarget + "-inline", VolumeCapability: c,
		VolumeContext: map[string]string{"csi.storage.k8s.io/ephemeral": "true", "size": "16Mi"},
	}
	return append(calls, []csiCall{
		{"unpublish", func(s *csiServer) error {
			_, err := s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "a", TargetPath: csiTarget})
			return err
		}},
		{"unstage", func(s *csiServer) error {
			_, err := s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging})
			return err
		}},
		{"clone", func(s *csiServer) error {
			req := createRequest("b", kind, 16<<20, c)
			req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: "a"}}}
			_, err := s.CreateVolume(ctx, req)
			return err
		}},
		{"delete", func(s *csiServer) error {
			_, err := s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "a"})
			return err
		}},
		{"publish inline", func(s *csiServer) error {
			_, err := s.NodePublishVolume(ctx, inline)
			return err
		}},
		{"unpublish inline", func(s *csiServer) error {
			_, err := s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: inline.VolumeId, TargetPath: inline.TargetPath})
			return err
		}},
	}...)
}

// TestCSICrash kills the server with SIGKILL at steps of each call, starts it
// again, and repeats the call, as kubelet would.
func TestCSICrash(t *testing.T) {
	short := !testenv.All(testenv.Crash) // each call of one type
	ofLVM := map[string]bool{"stage": true, "expand": true, "unstage": true, "delete": true, "unpublish inline": true}
	for _, kind := range []string{"lvm", "direct"} {
		calls := csiCalls(kind)
		flags := []string{"--type", kind, "--inline"} // an inline volume has the type of the server
		for i, call := range calls {
			if short && ofLVM[call.name] != (kind == "lvm") {
				continue
			}
			t.Run(kind+" "+call.name, func(t *testing.T) {
				prepare := func() *csiServer {
					resetCSI(t)
					s := startCSI(t, nil, append(flags, "--init", "--percent", "10")...)
					for _, before := range calls[:i] {
						require.NoError(t, before.do(s), before.name)
					}
					return s
				}
				prepare().stop(t)
				log := filepath.Join(t.TempDir(), "steps")
				s := startCSI(t, []string{fault.LogEnv + "=" + log}, flags...)
				require.NoError(t, untilNotAborted(func() error { return call.do(s) }))
				untilErased(t)
				s.stop(t)
				want := state(t)
				steps := stepsIn(t, log)
				eachKill(t, steps, 1, func(env []string, where string) {
					prepare().stop(t)
					s := startCSI(t, env, flags...)
					if s != nil {
						// The server may be looking for what inline volumes left, until it is killed.
						err := untilNotAborted(func() error { return call.do(s) })
						if call.name != "unpublish inline" { // which answers before the bytes are erased
							require.Error(t, err, where)
						}
						select {
						case end := <-s.ended:
							require.True(t, wasKilled(end), where)
						case <-time.After(time.Minute):
							require.Fail(t, "the server was not killed", "%s: %v\n%s", where, err, s.log.String())
						}
						s.conn.Close()
					}
					nothingHalfMadeIsReady(t, where)
					s = startCSI(t, nil, flags...)
					assert.NoError(t, untilNotAborted(func() error { return call.do(s) }), "%s, and repeated: %s", where, s.log.String())
					untilErased(t)
					s.stop(t)
					assert.Equal(t, want, state(t), where)
				})
			})
		}
	}
	resetCSI(t)
}

// TestCSICrashInit kills the server while it prepares the PMEM.
func TestCSICrashInit(t *testing.T) {
	flags := []string{"--init", "--percent", "10"}
	resetCSI(t)
	log := filepath.Join(t.TempDir(), "steps")
	startCSI(t, []string{fault.LogEnv + "=" + log}, flags...).stop(t)
	want := state(t)
	steps := stepsIn(t, log)
	eachKill(t, steps, 2, func(env []string, where string) {
		resetCSI(t)
		require.Nil(t, startCSI(t, env, flags...), where)
		s := startCSI(t, nil, flags...)
		_, err := s.Probe(context.Background(), &csi.ProbeRequest{})
		assert.NoError(t, err, where)
		s.stop(t)
		assert.Equal(t, want, state(t), where)
	})
	resetCSI(t)
}
