//go:build guest

package integration

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// object is one of the OCI runtime's configuration.
type object map[string]any

// container is how a container's surroundings differ from a pod's with the mounts
// that docs/csi.md asks for.
type container struct {
	privateDev, readOnlySys bool
	// hostDir: the host's /etc and udev's state, as components/host mounts them.
	hostDir bool
}

// serverInContainer starts the server in a container made by runc: namespaces of
// its own for processes, IPC and mounts, a read-only root, a /run of its own, and
// so neither udevd nor the host's locks.
func serverInContainer(t *testing.T, c container, flags ...string) *csiServer {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(csiSocket), 0o755))
	require.NoError(t, exec.Command("sh", "-c", "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup").Run())
	bundle := t.TempDir()
	root := filepath.Join(bundle, "root")
	require.NoError(t, os.Mkdir(root, 0o755))
	// The tools of the guest are those of an image.
	require.NoError(t, exec.Command("mount", "--bind", "--make-private", "/", root).Run())
	t.Cleanup(func() { assert.NoError(t, exec.Command("umount", root).Run()) })

	sysOptions := []string{"nosuid", "noexec", "nodev"}
	if c.readOnlySys {
		sysOptions = append(sysOptions, "ro")
	}
	mounts := []object{
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": sysOptions},
		{"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
		{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
		// It may be below /tmp.
		{"destination": filepath.Dir(faultpointsBinary()), "type": "bind", "source": filepath.Dir(faultpointsBinary()), "options": []string{"bind", "ro"}},
		{"destination": filepath.Dir(csiSocket), "type": "bind", "source": filepath.Dir(csiSocket), "options": []string{"rbind", "rw"}},
		{"destination": "/mnt/csi", "type": "bind", "source": "/mnt/csi", "options": []string{"rbind", "rw", "rshared"}},
	}
	if c.privateDev {
		mounts = append(mounts, object{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"mode=755"}})
	} else {
		mounts = append(mounts, object{"destination": "/dev", "type": "bind", "source": "/dev", "options": []string{"rbind", "rslave"}})
	}
	if c.hostDir {
		require.NoError(t, exec.Command("mkdir", "-p", "/host").Run()) // the root in the container is read-only
		mounts = append(mounts,
			object{"destination": "/run/udev", "type": "bind", "source": "/run/udev", "options": []string{"bind", "ro"}},
			object{"destination": "/host", "type": "tmpfs", "source": "tmpfs"},
			object{"destination": "/host/etc", "type": "bind", "source": "/etc", "options": []string{"bind", "ro"}},
			object{"destination": "/host/etc/udev", "type": "bind", "source": "/etc/udev", "options": []string{"bind", "rw"}},
			object{"destination": "/host/etc/lvm", "type": "bind", "source": "/etc/lvm", "options": []string{"bind", "rw"}})
	}
	capabilities := []string{"CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_CHOWN", "CAP_SYS_RAWIO", "CAP_IPC_LOCK", "CAP_SYS_RESOURCE", "CAP_KILL"}
	config, err := json.Marshal(object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": 0, "gid": 0}, "cwd": "/", "env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
			"args":         append([]string{faultpointsBinary()}, serveArgs(flags...)...),
			"capabilities": object{"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
		},
		"root":     object{"path": root, "readonly": true},
		"hostname": "container",
		"mounts":   mounts,
		"linux": object{
			"namespaces":        []object{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}},
			"resources":         object{"devices": []object{{"allow": true, "access": "rwm"}}},
			"rootfsPropagation": "rshared",
		},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600))
	s := startServer(t, exec.Command("runc", "run", "--bundle", bundle, "pmemctl"))
	if slices.Contains(flags, "--init") {
		s.isPrepared(t)
	}
	return s
}

// TestCSIContainer runs the server as a pod does, beside a command line outside of
// it.
func TestCSIContainer(t *testing.T) {
	ctx := context.Background()
	resetCSI(t)
	s := serverInContainer(t, container{}, "--init", "--percent", "20")
	defer func() { s.stop(t); resetCSI(t) }()
	_, err := s.Probe(ctx, &csi.ProbeRequest{})
	require.NoError(t, err)
	capability := mountCapability("ext4", "dax")
	for _, kind := range []string{"lvm", "direct"} {
		_, err := s.CreateVolume(ctx, createRequest("a", kind, 32<<20, capability))
		require.NoError(t, err, s.log.String())
		_, err = s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging, VolumeCapability: capability})
		require.NoError(t, err)
		_, err = s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging, TargetPath: csiTarget, VolumeCapability: capability})
		require.NoError(t, err)
		// What the container mounts is mounted outside of it.
		mounts, err := os.ReadFile("/proc/mounts")
		require.NoError(t, err)
		assert.Regexp(t, `(?m)^/dev/\S+ `+csiTarget+` ext4 .*dax=always`, string(mounts))
		require.NoError(t, os.WriteFile(csiTarget+"/file", []byte("x"), 0o600))
		out, err := pmemctl(nil, "volume", "delete", "a", "--force")
		assert.Equal(t, 6, exitCode(err), "in use: %s", out)
		if kind == "lvm" {
			_, err = s.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: "a", CapacityRange: &csi.CapacityRange{RequiredBytes: 64 << 20}, VolumeCapability: capability})
			require.NoError(t, err)
		}
		_, err = s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "a", TargetPath: csiTarget})
		require.NoError(t, err)
		_, err = s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: "a", StagingTargetPath: csiStaging})
		require.NoError(t, err)
		_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "a"})
		require.NoError(t, err)
		assert.Eventually(t, func() bool { return len(volumes(t)) == 0 }, time.Minute, 100*time.Millisecond)
	}

	// Both change the same devices at once, though their locks are not the same files.
	var wg sync.WaitGroup
	for i, kind := range []string{"lvm", "direct", "lvm", "direct"} {
		name := string(rune('p' + i))
		wg.Go(func() {
			_, err := s.CreateVolume(ctx, createRequest("in-"+name, kind, 16<<20, capability))
			assert.NoError(t, err)
		})
		wg.Go(func() {
			out, err := pmemctl(nil, "volume", "create", "out-"+name, "--type", kind, "--size", "16Mi")
			assert.NoError(t, err, out)
		})
	}
	wg.Wait()
	all := volumes(t)
	assert.Len(t, all, 8)
	for _, v := range all {
		assert.Equal(t, "ready", v.State, v.Name)
		assert.Equal(t, "ext4", strings.TrimSpace(output(t, "blkid", "-p", "-o", "value", "-s", "TYPE", v.Device)), v.Name)
		_, err := s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.Name})
		assert.NoError(t, err)
	}
	assert.Eventually(t, func() bool { return len(volumes(t)) == 0 }, time.Minute, 100*time.Millisecond)
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	require.NoError(t, err, "%s %v", name, args)
	return string(out)
}

// TestCSIContainerProbe: a container with the wrong mounts says which, and the
// calls change nothing.
func TestCSIContainerProbe(t *testing.T) {
	ctx := context.Background()
	for what, c := range map[string]struct {
		container container
		message   string
	}{
		"/sys read-only": {container{readOnlySys: true}, "/sys: is mounted read-only, so no namespace can be created; next: run the container privileged, or mount the host's /sys writable"},
		"/dev private":   {container{privateDev: true}, "/dev: is not the host's; next: mount the host's /dev into the container"},
	} {
		t.Run(what, func(t *testing.T) {
			resetCSI(t)
			before := state(t)
			s := serverInContainer(t, c.container, "--init")
			defer func() { s.stop(t) }()
			_, err := s.Probe(ctx, &csi.ProbeRequest{})
			assert.Equal(t, codes.FailedPrecondition, status.Code(err))
			assert.Equal(t, c.message, status.Convert(err).Message())
			_, err = s.CreateVolume(ctx, createRequest("a", "direct", 32<<20, blockCapability()))
			assert.Error(t, err)
			assert.Equal(t, before, state(t), "nothing was changed")
		})
	}
	resetCSI(t)
}
