package volume

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// TestLost: only what is known to belong to the volume counts as its stale mount. No machine has a
// device with this number.
func TestLost(t *testing.T) {
	gone := blockdev.Number{Major: 259, Minor: 1<<20 - 1}
	vol := Volume{Name: "db", UUID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", Type: TypeDirect, Device: "/dev/pmem0.1"}
	host := &fakePMEM{namespace: pmem.Namespace{Dev: "namespace0.2", UUID: "2b4e28ba-2fa1-11d2-883f-0016d3cca427", Name: markVolume + "web"}}
	s := &Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, NDCTL: host, RunDir: t.TempDir()}
	at := func(source string) mount.Use {
		return mount.Use{Point: mount.Point{Path: "/mnt/db", Source: source}, Number: gone}
	}
	assert.False(t, s.lost("db", at("/dev/pmem0.1")), "nothing is remembered")
	require.NoError(t, s.rememberUse(vol, gone, vol.Device))
	assert.True(t, s.lost("db", at("/dev/pmem0.1")))
	assert.False(t, s.lost("other", at("/dev/pmem0.1")), "it is another volume's")
	assert.False(t, s.lost("db", at("/dev/sda1")), "somebody mounted another device that had the number")
	assert.False(t, s.lost("db", mount.Use{Point: at("/dev/pmem0.1").Point, Number: blockdev.Number{Minor: 30}}), "no block device")

	// The number has a new user, and no longer belongs to the former one.
	require.NoError(t, s.rememberUse(Volume{Name: "web", UUID: "x", Type: TypeDirect}, gone, "/dev/pmem0.1"))
	assert.False(t, s.lost("db", at("/dev/pmem0.1")))
	assert.True(t, s.lost("web", at("/dev/pmem0.1")))
	s.forgetUse(gone)
	assert.False(t, s.lost("web", at("/dev/pmem0.1")), "nothing is mounted from it, and so nothing remembered")

	// Mounted by a pmemctl that did not record uses, only volumes.
	assert.False(t, s.lost("web", at("/dev/pmem0.2")), "never seen")
	s.remember(Volume{UUID: host.namespace.UUID})
	assert.True(t, s.lost("web", at("/dev/pmem0.2")))
	assert.False(t, s.lost("web", at("/dev/pmem0.1")), "another namespace's device")

	assert.NoError(t, (&Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, NDCTL: host}).rememberUse(vol, gone, vol.Device))
	assert.False(t, (&Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, NDCTL: host}).lost("db", at("/dev/pmem0.1")), "nowhere to remember it")
}
