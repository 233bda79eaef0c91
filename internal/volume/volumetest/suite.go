// Package volumetest is a suite of what the volume service promises, for any host: go test runs
// it on a model of one, and the guest on a real one, which shows that the model is true.
package volumetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Host is a host with two empty regions of at least 2 GiB each, both of a size.
type Host interface {
	// Service is a volume service as a process has it that was started just now.
	Service() *volume.Service
	// ReadDevice reads from a device as root does who opens its node.
	ReadDevice(path string, offset, count uint64) ([]byte, error)
	// WriteDevice writes to a device as a tenant does who has it.
	WriteDevice(path string, offset uint64, data []byte) error
	// FreeHolds reports whether some bytes are on a medium outside of all volumes.
	FreeHolds(data []byte) bool
}

// rebooter is a host that a test can reboot.
type rebooter interface{ Reboot() error }

// Secret is what a tenant writes.
var Secret = []byte("A TENANT'S BYTES")

var secret = Secret

type suite struct{ new func(*testing.T) Host }

// Run runs the suite on hosts that a function makes: an empty one for each test.
func Run(t *testing.T, host func(*testing.T) Host) {
	t.Helper()
	su := suite{host}
	for name, test := range map[string]func(*testing.T){
		"life": su.life, "conflicts": su.conflicts, "no space": su.noSpace, "expand and clone": su.expandAndClone, "publish": su.publish,
		"mount refusals": su.mountRefusals, "no erase": su.noErase, "give up": su.giveUp, "regions and groups": su.regionsAndGroups,
		"span and stripes": su.spanAndStripes, "unmount all": su.unmountAll, "both ends": su.bothEnds,
	} {
		t.Run(name, test)
	}
}

// reboot cuts the power of a host that can be rebooted; another one only has the process start again.
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
	for _, vol := range mustList(t, s) {
		if len(s.MountedAt(vol)) > 0 {
			require.NoError(t, second(s.Unmount(ctx, vol.Name, "")))
		}
	}
}

type action func(s *volume.Service) error

var ctx = context.Background()

func create(spec volume.Spec) action {
	return func(s *volume.Service) error { return second2(s.Create(ctx, spec)) }
}

// initVGs makes groups that are small beside what direct volumes have.
func initVGs() action {
	return func(s *volume.Service) error { return second(s.InitVGs(ctx, volume.VGInitSpec{Size: 512 * pmem.MiB})) }
}

// secretAt is where a tenant's bytes are written: file systems have nothing there.
func secretAt(vol volume.Volume) uint64 { return vol.Size - 3*pmem.MiB }

func fill(h Host, name string) action {
	return func(s *volume.Service) error {
		vol, err := s.Get(ctx, name)
		if err != nil {
			return err
		}
		return h.WriteDevice(vol.Device, secretAt(vol), secret)
	}
}

func erased(name string) action {
	return func(s *volume.Service) error {
		deleted, err := s.Delete(ctx, name, true)
		for _, vol := range deleted {
			if err := s.Erase(ctx, vol, volume.EraseRate{}); err != nil {
				return err
			}
		}
		return err
	}
}

func expand(name string, size uint64) action {
	return func(s *volume.Service) error { return second(s.Expand(ctx, name, size)) }
}

func mounted(name, path string) action {
	return func(s *volume.Service) error { return second(s.Mount(ctx, volume.MountSpec{Name: name, Path: path})) }
}

func second[T any](_ T, err error) error          { return err }
func second2[T, U any](_ T, _ U, err error) error { return err }

// state is what of a host is to be the same after a kill and a repetition.
func state(t *testing.T, s *volume.Service) []string {
	t.Helper()
	volumes, err := s.List(ctx)
	require.NoError(t, err)
	var all []string
	for _, v := range volumes {
		all = append(all, fmt.Sprintf("%s %s %d %s %d", v.Name, v.Type, v.Size, v.State, len(s.MountedAt(v))))
	}
	capacities, err := s.Capacity(ctx)
	require.NoError(t, err)
	for _, c := range capacities {
		all = append(all, fmt.Sprintf("%s %s%s free %d", c.Type, c.Region, c.VG, c.Free))
	}
	return all
}

// bothEnds: what was there before shows at neither end of a new volume, and nowhere of a raw one.
func (su suite) bothEnds(t *testing.T) {
	su.forKinds(t, func(t *testing.T, h Host, s *volume.Service, kind volume.Type) {
		zeros := make([]byte, 4096)
		for _, fs := range []string{mount.Ext4, mount.None} {
			c := spec("old", kind, 64*pmem.MiB)
			c.FS = mount.None
			require.NoError(t, create(c)(s))
			old, err := s.Get(ctx, "old")
			require.NoError(t, err)
			at := []uint64{old.Size - 4096, old.Size / 2}
			for _, offset := range at {
				require.NoError(t, h.WriteDevice(old.Device, offset, append(Secret, zeros[len(Secret):]...)))
			}
			require.NoError(t, second(s.Delete(ctx, "old", false)))
			c = spec("new", kind, 64*pmem.MiB)
			c.FS, c.Region = fs, old.Regions[0]
			require.NoError(t, create(c)(s))
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
			require.NoError(t, erased("new")(s))
		}
	})
}

// isKind requires an error of a kind that has a reason and a next step.
func isKind(t *testing.T, kind errs.Kind, err error, reason string) {
	t.Helper()
	require.ErrorContains(t, err, reason)
	require.Equal(t, kind, errs.KindOf(err), "%v", err)
	require.NotEmpty(t, errs.NextStep(err), "%v", err)
}
