//go:build guest

package integration

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// regionOf returns the region of the bus of a provider, as no other test knows its number.
func regionOf(t *testing.T, provider string) string {
	t.Helper()
	var buses struct{ Buses []pmem.Bus }
	require.NoError(t, json.Unmarshal([]byte(do(t, "bus", "list", "-o", "json")), &buses))
	var regions struct{ Regions []pmem.Region }
	require.NoError(t, json.Unmarshal([]byte(do(t, "region", "list", "-o", "json")), &regions))
	for _, b := range buses.Buses {
		for _, r := range regions.Regions {
			if b.Provider == provider && r.Bus == b.Dev {
				return r.Dev
			}
		}
	}
	t.Fatalf("no region of provider %s", provider)
	return ""
}

// TestUnlabelledServer: the server takes a region without labels only if it is named and all of its
// bytes are zero, and serves volumes in it; none that requires MAP_SYNC on virtio-pmem.
func TestUnlabelledServer(t *testing.T) {
	ctx := context.Background()
	virtio, memmap := regionOf(t, pmem.ProviderVirtio), regionOf(t, pmem.ProviderE820)
	free := func(s *csiServer, params map[string]string) int64 {
		t.Helper()
		answer, err := s.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: params})
		require.NoError(t, err)
		return answer.GetAvailableCapacity()
	}
	required := class("lvm")
	required["mapSync"] = "required"

	require.NoError(t, os.MkdirAll(filepath.Dir(targetOf("db")), 0o755))
	s := startCSI(t, nil, "--init")
	assert.Zero(t, free(s, class("lvm")), "no region is named")
	s.stop(t)
	sh(t, `printf data | dd of=/dev/$(ndctl list -N -r `+memmap+` | jq -r '.[0].blockdev') seek=1000 bs=4096 conv=notrunc status=none`)
	s = startCSI(t, nil, "--init", "--init-whole", memmap)
	assert.Zero(t, free(s, class("lvm")), "it is not empty")
	assert.Contains(t, s.log.String(), memmap)
	s.stop(t)

	s = startCSI(t, nil, "--init", "--init-whole", virtio)
	defer func() { s.stop(t) }()
	assert.Greater(t, free(s, class("lvm")), int64(512<<20))
	assert.Zero(t, free(s, required), "virtio-pmem refuses MAP_SYNC")
	assert.Zero(t, free(s, class("direct")))
	request := createRequest("db", "lvm", 64<<20, mountCapability("ext4", "dax"))
	request.Parameters = required
	_, err := s.CreateVolume(ctx, request)
	assert.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
	assert.ErrorContains(t, err, "requires MAP_SYNC, which the kernel refuses on region "+virtio)
	_, err = s.CreateVolume(ctx, createRequest("db", "direct", 64<<20, mountCapability("ext4", "dax")))
	assert.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)

	request.Parameters = class("lvm")
	made, err := s.CreateVolume(ctx, request)
	require.NoError(t, err)
	assert.Equal(t, "refused", made.GetVolume().GetVolumeContext()["mapSync"])
	use := func(do func(*testing.T, string, *csi.VolumeCapability)) {
		t.Helper()
		c := mountCapability("ext4", "dax")
		require.NoError(t, s.stage("db", c))
		require.NoError(t, s.publish("db", c))
		do(t, "db", c)
		require.NoError(t, s.unpublish("db", targetOf("db")))
		require.NoError(t, s.unstage("db"))
	}
	use(write)
	s.stop(t)

	// After it was emptied, the other region has what is required.
	sh(t, "blkdiscard -z /dev/$(ndctl list -N -r "+memmap+" | jq -r '.[0].blockdev')")
	s = startCSI(t, nil, "--init", "--init-whole", virtio+","+memmap)
	use(assertContent)
	assert.Greater(t, free(s, required), int64(512<<20))
	request = createRequest("synced", "lvm", 64<<20, mountCapability("xfs", "dax"))
	request.CapacityRange = &csi.CapacityRange{RequiredBytes: 320 << 20}
	request.Parameters = required
	made, err = s.CreateVolume(ctx, request)
	require.NoError(t, err)
	assert.Equal(t, "supported", made.GetVolume().GetVolumeContext()["mapSync"])
	require.NoError(t, s.stage("synced", mountCapability("xfs", "dax")))
	stats, err := s.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: "synced", VolumePath: stagingOf("synced")})
	require.NoError(t, err)
	assert.False(t, stats.GetVolumeCondition().GetAbnormal())
	require.NoError(t, s.unstage("synced"))
	for _, name := range []string{"synced", "db"} {
		require.NoError(t, s.remove(name))
	}
	for _, region := range []string{virtio, memmap} {
		do(t, "vg", "remove", "pmemvg"+region)
	}
}
