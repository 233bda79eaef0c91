package volumetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Action is an operation on a host.
type Action func(Host, *volume.Service) error

var ctx = context.Background()

// Kinds are the types of volumes.
var Kinds = []volume.Type{volume.TypeLVM, volume.TypeDirect}

// Spec returns the spec of a volume with ext4.
func Spec(name string, kind volume.Type, size uint64) volume.Spec {
	return volume.Spec{Name: name, Type: kind, Size: size, FS: mount.Ext4}
}

// Create creates a volume.
func Create(spec volume.Spec) Action {
	return func(_ Host, s *volume.Service) error {
		_, _, err := s.Create(ctx, spec)
		return err
	}
}

// InitVGs creates volume groups.
func InitVGs(spec volume.VGInitSpec) Action {
	return func(_ Host, s *volume.Service) error { return Second(s.InitVGs(ctx, spec)) }
}

// Secret is data that a tenant writes.
var Secret = []byte("A TENANT'S BYTES")

// SecretAt is the offset at which it is written, which file systems do not use.
func SecretAt(vol volume.Volume) uint64 { return vol.Size - 3*pmem.MiB }

// Fill writes Secret to a volume.
func Fill(name string) Action {
	return func(h Host, s *volume.Service) error {
		vol, err := s.Get(ctx, name)
		if err != nil {
			return err
		}
		return h.WriteDevice(vol.Device, SecretAt(vol), Secret)
	}
}

// Erased deletes a volume and erases it.
func Erased(name string) Action {
	return func(_ Host, s *volume.Service) error {
		deleted, err := s.Delete(ctx, name, true)
		for _, vol := range deleted {
			if err := s.Erase(ctx, vol, volume.EraseRate{}); err != nil {
				return err
			}
		}
		return err
	}
}

// Expand expands a volume.
func Expand(name string, size uint64) Action {
	return func(_ Host, s *volume.Service) error { return Second(s.Expand(ctx, name, size, 0)) }
}

// ExpandMax expands a volume as far as possible.
func ExpandMax(name string) Action {
	return func(_ Host, s *volume.Service) error { return Second(s.ExpandMax(ctx, name)) }
}

// Mounted mounts a volume.
func Mounted(name, path string) Action {
	return func(_ Host, s *volume.Service) error {
		return Second(s.Mount(ctx, volume.MountSpec{Name: name, Path: path}))
	}
}

// Second returns the error of a call that also returns a value.
func Second[T any](_ T, err error) error { return err }

// List lists the volumes.
func List(t *testing.T, s *volume.Service) []volume.Volume {
	t.Helper()
	volumes, err := s.List(ctx)
	require.NoError(t, err)
	return volumes
}

// State is the visible state of a host: volumes, mount points and free space.
func State(t *testing.T, s *volume.Service) []string {
	t.Helper()
	var all []string
	for _, v := range List(t, s) {
		all = append(all, fmt.Sprintf("%s %s %d %s %d", v.Name, v.Type, v.Size, v.State, len(s.MountedAt(v))))
	}
	capacities, err := s.Capacity(ctx)
	require.NoError(t, err)
	for _, c := range capacities {
		all = append(all, fmt.Sprintf("%s %s%s free %d", c.Type, c.Region, c.VG, c.Free))
	}
	return all
}

// IsKind requires an error of a kind, with a reason and a next step.
func IsKind(t *testing.T, kind errs.Kind, err error, reason string) {
	t.Helper()
	require.ErrorContains(t, err, reason)
	assert.Equal(t, kind, errs.KindOf(err), "%v", err)
	assert.NotEmpty(t, errs.NextStep(err), "%v", err)
}
