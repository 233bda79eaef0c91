package model_test

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

var secret = []byte("A TENANT'S BYTES")

// operation is what is killed at each step, on a host that was prepared.
type operation struct {
	name    string
	prepare []action
	do      action
}

type action func(s *volume.Service) error

var ctx = context.Background()

func create(spec volume.Spec) action {
	return func(s *volume.Service) error {
		_, _, err := s.Create(ctx, spec)
		return err
	}
}

func initVGs(percent int) action {
	return func(s *volume.Service) error {
		_, err := s.InitVGs(ctx, volume.VGInitSpec{Percent: percent})
		return err
	}
}

// fill writes a tenant's bytes to a volume, in its middle and at its end.
func fill(h **model.Host, name string) action {
	return func(s *volume.Service) error {
		vol, err := s.Get(ctx, name)
		if err != nil {
			return err
		}
		for _, at := range []uint64{vol.Size / 2, vol.Size - 2*pmem.MiB - 4096} {
			if err := (*h).WriteDevice(vol.Device, at, secret); err != nil {
				return err
			}
		}
		return nil
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

func clone(from, to string) action {
	return func(s *volume.Service) error {
		_, err := s.Clone(ctx, from, volume.Spec{Name: to, OrExisting: true, SpaceWait: volume.AsLongAsItTakes})
		return err
	}
}

func expand(name string, size uint64) action {
	return func(s *volume.Service) error {
		_, err := s.Expand(ctx, name, size)
		return err
	}
}

func mounted(name, path string) action {
	return func(s *volume.Service) error {
		_, err := s.Mount(ctx, volume.MountSpec{Name: name, Path: path})
		return err
	}
}

// orGone lets a repeated deletion find nothing any more.
func orGone(do action) action {
	return func(s *volume.Service) error {
		err := do(s)
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		return err
	}
}

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

func operations(dir string, h **model.Host) []operation {
	var all []operation
	all = append(all,
		operation{"vg init", nil, initVGs(50)},
		operation{"vg init with more", []action{initVGs(20)}, initVGs(50)},
	)
	for _, kind := range []volume.Type{volume.TypeLVM, volume.TypeDirect} {
		for _, fs := range []string{mount.Ext4, mount.XFS, mount.None} {
			size := uint64(16 * pmem.MiB)
			if fs == mount.XFS {
				size = mount.MinXFS
			}
			spec := volume.Spec{Name: "a", Type: kind, Size: size, FS: fs}
			made := []action{initVGs(50), create(spec)}
			kindFS := string(kind) + " " + fs
			all = append(all,
				operation{"create " + kindFS, []action{initVGs(50)}, create(spec)},
				operation{"delete " + kindFS, append(made, fill(h, "a")), orGone(erased("a"))},
				operation{"clone " + kindFS, append(made, fill(h, "a")), clone("a", "b")},
			)
			if fs != mount.None {
				all = append(all, operation{"mount " + kindFS, made, mounted("a", filepath.Join(dir, "mnt"))})
			}
			if kind == volume.TypeLVM {
				all = append(all, operation{"expand " + kindFS, append(made, fill(h, "a")), expand("a", 2*size)})
			}
		}
	}
	return all
}

func newHost(t *testing.T) *model.Host {
	return model.New(t.TempDir(), 2*pmem.GiB, 2*pmem.GiB)
}

func prepared(t *testing.T, h *model.Host, op operation) *volume.Service {
	t.Helper()
	s := h.Service()
	for _, do := range op.prepare {
		require.NoError(t, do(s))
	}
	return s
}

// TestKill kills each operation before and after each of its steps, with and without a power
// cut then: what is ready is whole, and the same operation again leads to where it leads when
// nobody kills it.
func TestKill(t *testing.T) {
	var h *model.Host
	for _, op := range operations(t.TempDir(), &h) {
		t.Run(op.name, func(t *testing.T) {
			h = newHost(t)
			s := prepared(t, h, op)
			h.DieAt(0)
			require.NoError(t, op.do(s))
			steps := h.Steps()
			require.NotEmpty(t, steps)
			want := state(t, s)
			for n := range len(steps) {
				for _, powerCut := range []bool{false, true} {
					where := fmt.Sprintf("killed at %d of %d, %s, power cut: %v", n+1, len(steps), steps[n], powerCut)
					h = newHost(t)
					s := prepared(t, h, op)
					h.DieAt(n + 1)
					err := op.do(s)
					require.True(t, h.Died(), where)
					require.Error(t, err, where)
					if powerCut {
						require.NoError(t, h.Reboot())
					}
					s = h.Service()
					readyIsWhole(t, h, s, where)
					require.NoError(t, op.do(s), where)
					_, err = s.EraseAll(ctx, volume.EraseRate{}, true)
					require.NoError(t, err, where)
					require.Equal(t, want, state(t, s), where)
					assert.False(t, h.FreeHolds(secret), where)
				}
			}
			t.Logf("%d steps", len(steps))
		})
	}
}

// TestFail has each change of each operation fail once: nothing is lost or shown as ready that is
// half made, and the same operation again leads to where it leads without a failure.
func TestFail(t *testing.T) {
	var h *model.Host
	for _, op := range operations(t.TempDir(), &h) {
		t.Run(op.name, func(t *testing.T) {
			h = newHost(t)
			s := prepared(t, h, op)
			h.DieAt(0)
			require.NoError(t, op.do(s))
			steps := h.Steps()
			want := state(t, s)
			for n := range len(steps) / 2 {
				where := fmt.Sprintf("%d of %d fails, %s", n+1, len(steps)/2, steps[2*n])
				h = newHost(t)
				s := prepared(t, h, op)
				h.FailAt(n+1, syscall.EIO)
				err := op.do(s)
				h.FailAt(0, nil)
				readyIsWhole(t, h, s, where)
				if err == nil { // it did without
					require.Equal(t, want, state(t, s), where)
				}
				require.NoError(t, op.do(s), where)
				_, err = s.EraseAll(ctx, volume.EraseRate{}, true)
				require.NoError(t, err, where)
				require.Equal(t, want, state(t, s), where)
				assert.False(t, h.FreeHolds(secret), where)
			}
		})
	}
}

// readyIsWhole checks that no volume that is shown as ready is half made.
func readyIsWhole(t *testing.T, h *model.Host, s *volume.Service, where string) {
	t.Helper()
	volumes, err := s.List(ctx)
	require.NoError(t, err, where)
	for _, v := range volumes {
		if v.State != volume.Ready || v.Device == "" {
			continue
		}
		head, err := h.ReadDevice(v.Device, 0, 64)
		require.NoError(t, err, where)
		assert.NotEqual(t, byte(0xA5), head[0], "%s: %s shows what was there before", where, v.Name)
	}
}
