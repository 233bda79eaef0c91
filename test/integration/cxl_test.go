//go:build guest

package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCXLServer: one of two CXL regions is destroyed under volumes that pods have. It is unpublished,
// not taken for deleted, and back after the region was restored; the other one goes on.
func TestCXLServer(t *testing.T) {
	ctx := context.Background()
	resetDevices(t)
	sh(t, `set -e; pmemctl doctor | sed -n 's/^warning  *memdev .*else: \(cxl create-region [^ ].*[^ ]\) *$/\1/p' | sh -e >&2; udevadm settle`)
	do(t, "region", "save")
	t.Cleanup(func() { // the scripts begin without a region
		for _, region := range []string{"region0", "region1"} {
			shellf(t, "cxl disable-region %[1]s && cxl destroy-region %[1]s", region)
		}
		do(t, "region", "save", "--force")
	})
	s := startCSI(t, nil, "--init", "--percent", "50")
	defer func() { s.stop(t) }()
	uses := map[string]*csi.VolumeCapability{}
	regions := map[string]string{}
	// The two lvm volumes do not fit in one group, and the two direct ones not in one region.
	for _, name := range []string{"lvm-a", "lvm-b", "direct-a", "direct-b"} {
		c := mountCapability("ext4", "dax")
		uses[name] = c
		kind, _, _ := strings.Cut(name, "-")
		_, err := s.CreateVolume(ctx, createRequest(name, kind, 64<<20, c))
		require.NoError(t, err)
		require.NoError(t, s.stage(name, c))
		require.NoError(t, s.publish(name, c))
		write(t, name, c)
		regions[name] = shellf(t, "pmemctl volume show %s -o json | jq -r '.volumes[0].regions[0]'", name)
	}
	assert.NotEqual(t, regions["lvm-a"], regions["lvm-b"])
	assert.NotEqual(t, regions["direct-a"], regions["direct-b"])

	gone := regions["direct-a"]
	shellf(t, "cxl disable-region %[1]s && cxl destroy-region %[1]s", gone)
	for name, region := range regions {
		condition := s.condition(t, name, targetOf(name))
		if region != gone {
			assert.Empty(t, condition, name)
			assertContent(t, name, uses[name])
			continue
		}
		assert.Contains(t, condition, "its device was removed", name)
		refused(t, s.remove(name), "may be in region "+gone+", which is missing")
		require.NoError(t, s.unpublish(name, targetOf(name)))
		require.NoError(t, s.unstage(name))
		refused(t, s.remove(name), "may be in region "+gone+", which is missing")
		assert.Error(t, s.stage(name, uses[name]))
	}
	do(t, "region", "restore")
	for name, region := range regions {
		if region == gone {
			require.NoError(t, s.stage(name, uses[name]))
			require.NoError(t, s.publish(name, uses[name]))
		}
		assertContent(t, name, uses[name])
		require.NoError(t, s.unpublish(name, targetOf(name)))
		require.NoError(t, s.unstage(name))
		require.NoError(t, s.remove(name))
	}
	assert.Empty(t, volumes(t))
	for _, region := range []string{"region0", "region1"} {
		do(t, "vg", "remove", "pmemvg"+region)
	}
}
