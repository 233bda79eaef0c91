// Package volumetest is a test suite of the volume service's guarantees, for any host: go test
// runs it on a model, and the guest on a real host, which verifies the model.
package volumetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Host is a host with two empty regions of equal size, at least 2 GiB.
type Host interface {
	// Service returns a volume service as in a newly started process.
	Service() *volume.Service
	// ReadDevice reads from a device as root, by opening its node.
	ReadDevice(path string, offset, count uint64) ([]byte, error)
	// WriteDevice writes to a device as its tenant does.
	WriteDevice(path string, offset uint64, data []byte) error
	// FreeHolds reports whether a medium contains the bytes outside of all volumes.
	FreeHolds(data []byte) bool
}

// rebooter is a host that a test can reboot.
type rebooter interface{ Reboot() error }

// smallVGs are small compared with direct volumes.
var smallVGs = volume.VGInitSpec{Size: 512 * pmem.MiB}

type suite struct{ new func(*testing.T) Host }

// Run runs the suite. host returns an empty host for each test.
func Run(t *testing.T, host func(*testing.T) Host) {
	t.Helper()
	su := suite{host}
	for name, test := range map[string]func(*testing.T){
		"life": su.life, "conflicts": su.conflicts, "no space": su.noSpace, "expand and clone": su.expandAndClone, "publish": su.publish,
		"mount refusals": su.mountRefusals, "no erase": su.noErase, "give up": su.giveUp, "regions and groups": su.regionsAndGroups,
		"span and stripes": su.spanAndStripes, "unmount all": su.unmountAll, "both ends": su.bothEnds, "largest": su.largest,
		"decommission": su.decommission,
	} {
		t.Run(name, test)
	}
}

// reboot cuts the power of a host that supports it; otherwise only the process restarts.
func reboot(t *testing.T, h Host, s *volume.Service) *volume.Service {
	t.Helper()
	if r, ok := h.(rebooter); ok {
		require.NoError(t, r.Reboot())
		return h.Service()
	}
	unmountAll(t, s)
	return h.Service()
}

func unmountAll(t *testing.T, s *volume.Service) {
	t.Helper()
	for _, vol := range List(t, s) {
		if len(s.MountedAt(vol)) > 0 {
			require.NoError(t, Second(s.Unmount(ctx, vol.Name, "")))
		}
	}
}

// bothEnds: old data is not visible at either end of a new volume, and nowhere on a raw one.
func (su suite) bothEnds(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		zeros := make([]byte, 4096)
		for _, fs := range []string{mount.Ext4, mount.None} {
			c := Spec("old", kind, 64*pmem.MiB)
			c.FS = mount.None
			require.NoError(t, Create(c)(h, s))
			old, err := s.Get(ctx, "old")
			require.NoError(t, err)
			at := []uint64{old.Size - 4096, old.Size / 2}
			for _, offset := range at {
				require.NoError(t, h.WriteDevice(old.Device, offset, append(Secret, zeros[len(Secret):]...)))
			}
			require.NoError(t, Second(s.Delete(ctx, "old", false)))
			c = Spec("new", kind, 64*pmem.MiB)
			c.FS, c.Region = fs, old.Regions[0]
			require.NoError(t, Create(c)(h, s))
			made, err := s.Get(ctx, "new")
			require.NoError(t, err)
			if fs != mount.None {
				at = at[:1]
			}
			for _, offset := range at {
				data, err := h.ReadDevice(made.Device, offset, 4096)
				require.NoError(t, err)
				require.Equal(t, zeros, data, "%s, at %d", fs, offset)
			}
			require.NoError(t, Erased("new")(h, s))
		}
	})
}
