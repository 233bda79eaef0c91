package csi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/volume"
)

// handle is an ID of an inline volume, as kubelet generates it.
func handle(letter string) string { return "csi-" + strings.Repeat(letter, 64) }

// podWith creates kubelet's directory of a pod with a volume.
func podWith(t *testing.T, kubelet, pod, data string) string {
	t.Helper()
	dir := filepath.Join(kubelet, "pods", pod, "volumes", "kubernetes.io~csi", "scratch")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "mount"), 0o755))
	if data != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "vol_data.json"), []byte(data), 0o600))
	}
	return dir
}

// TestInlineVolumesOfRunningPods: after a reboot nothing is mounted, and kubelet requests the
// volumes of the same pods again.
func TestInlineVolumesOfRunningPods(t *testing.T) {
	data := func(letter string) string {
		return `{"volumeHandle":"` + handle(letter) + `","driverName":"csi.pmemctl.io","volumeLifecycleMode":"Ephemeral"}`
	}
	all := []string{ephemeralName(handle("a")), ephemeralName(handle("b")), "ephemeral-of-a-person", "pvc"}
	slices.Sort(all)
	var withoutB []string
	for _, name := range all {
		if name != ephemeralName(handle("b")) {
			withoutB = append(withoutB, name)
		}
	}
	for what, c := range map[string]struct {
		prepare func(kubelet string)
		kept    []string
	}{
		"one pod is gone":   {func(k string) { podWith(t, k, "1", data("a")) }, withoutB},
		"both pods are":     {func(k string) { podWith(t, k, "1", data("c")) }, []string{"ephemeral-of-a-person", "pvc"}},
		"both pods live on": {func(k string) { podWith(t, k, "1", data("a")); podWith(t, k, "2", data("b")) }, all},
		"a pod that goes, with its volume unpublished": {func(k string) {
			podWith(t, k, "1", data("a"))
			require.NoError(t, os.MkdirAll(filepath.Join(k, "pods", "2", "volumes", "kubernetes.io~csi", "scratch"), 0o755))
		}, withoutB},
		"a pod whose volume is not known": {func(k string) { podWith(t, k, "1", data("a")); podWith(t, k, "2", "") }, all},
		"a torn file":                     {func(k string) { podWith(t, k, "1", data("a")); podWith(t, k, "2", `{"volumeHa`) }, all},
		"a file without an ID":            {func(k string) { podWith(t, k, "1", `{"driverName":"x"}`) }, all},
		"no pod at all":                   {func(k string) { require.NoError(t, os.MkdirAll(filepath.Join(k, "pods"), 0o755)) }, all},
		"no directory of pods":            {func(string) {}, all},
		"what cannot be read": {func(k string) {
			require.NoError(t, os.MkdirAll(filepath.Join(k, "pods", "1", "volumes"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(k, "pods", "1", "volumes", "kubernetes.io~csi"), nil, 0o600))
		}, all},
	} {
		f := newFakeVolumes()
		for _, name := range all {
			f.volumes[name] = volume.Volume{Name: name, State: volume.Ready}
		}
		s := newServer(f)
		s.KubeletDir = t.TempDir()
		c.prepare(s.KubeletDir)
		require.NoError(t, s.clearAway(t.Context()), what)
		left, err := f.List(t.Context())
		require.NoError(t, err)
		var names []string
		for _, vol := range left {
			names = append(names, vol.Name)
		}
		assert.Equal(t, c.kept, names, what)
	}
}

func TestInlineAttributes(t *testing.T) {
	f := newFakeVolumes()
	s := newServer(f)
	s.InlineMaxSize = 1 << 30
	target := filepath.Join(t.TempDir(), "mount")
	publish := func(attributes map[string]string, fs string) error {
		context := map[string]string{ephemeralKey: "true", kubernetesPrefix + "pod.name": "p", kubernetesPrefix + "serviceAccount.tokens": "{}"}
		for key, value := range attributes {
			context[key] = value
		}
		capability := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fs}}, AccessMode: mountCap.AccessMode}
		_, err := s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: handle("a"), TargetPath: target, VolumeCapability: capability, VolumeContext: context})
		return err
	}
	err := publish(map[string]string{"size": "64Mi"}, "")
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	assert.ErrorContains(t, err, "inline volumes are disabled on this node")
	assert.ErrorContains(t, err, "--inline")

	s.Inline = true
	for what, c := range map[string]struct {
		attributes map[string]string
		fs         string
		code       codes.Code
		text       string
	}{
		"too large":       {map[string]string{"size": "1025Mi"}, "", codes.OutOfRange, "exceeds the maximum of 1 GiB for inline volumes"},
		"no size":         {nil, "", codes.InvalidArgument, "attribute size is missing"},
		"nothing":         {map[string]string{"size": "0"}, "", codes.InvalidArgument, "invalid size"},
		"odd size":        {map[string]string{"size": "much"}, "", codes.InvalidArgument, "invalid size"},
		"a type":          {map[string]string{"size": "64Mi", "pmemType": "direct"}, "", codes.InvalidArgument, `"pmemType" is not supported for inline volumes`},
		"mkfs":            {map[string]string{"size": "64Mi", "mkfsOptions": "-i 65536"}, "", codes.InvalidArgument, `"mkfsOptions" is not supported`},
		"no erasing":      {map[string]string{"size": "64Mi", "eraseAfterDelete": "false"}, "", codes.InvalidArgument, `"eraseAfterDelete" is not supported`},
		"of a class":      {map[string]string{"size": "64Mi", kubernetesFSType: "xfs"}, "", codes.InvalidArgument, `"csi.storage.k8s.io/fstype" is not supported`},
		"another system":  {map[string]string{"size": "64Mi", "fsType": "ntfs"}, "", codes.InvalidArgument, "neither ext4 nor xfs"},
		"two systems":     {map[string]string{"size": "64Mi", "fsType": "xfs"}, "ext4", codes.InvalidArgument, "differs"},
		"the largest one": {map[string]string{"size": "1Gi", "fsType": "xfs"}, "", codes.OK, ""},
	} {
		err := publish(c.attributes, c.fs)
		assert.Equal(t, c.code, status.Code(err), "%s: %v", what, err)
		if err != nil {
			assert.ErrorContains(t, err, c.text, what)
			assert.Empty(t, f.volumes, what)
		}
		delete(f.volumes, ephemeralName(handle("a")))
	}

	// An existing volume is mounted again, unpublished and deleted.
	require.NoError(t, publish(map[string]string{"size": "1Gi"}, ""))
	s.Inline = false
	assert.NoError(t, publish(map[string]string{"size": "1Gi", "pmemType": "direct"}, ""))
	_, err = s.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: handle("a"), TargetPath: target})
	assert.NoError(t, err)
	assert.Empty(t, f.volumes)
}
