package model_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

var ctx = context.Background()

// operation is killed at each of its steps, on a prepared host.
type operation struct {
	name    string
	prepare []volumetest.Action
	do      volumetest.Action
	// keeps are the volumes that have the secret before, and must have it afterwards.
	keeps []string
}

func clone(spec volume.Spec) volumetest.Action {
	spec.OrExisting, spec.SpaceWait = true, volume.AsLongAsItTakes
	return func(_ volumetest.Host, s *volume.Service) error { return volumetest.Second(s.Clone(ctx, "a", spec)) }
}

// orGone accepts that a repeated deletion finds nothing.
func orGone(do volumetest.Action) volumetest.Action {
	return func(h volumetest.Host, s *volume.Service) error {
		err := do(h, s)
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		return err
	}
}

// enabling does what is told if a namespace is disabled, and if it is raw then.
func enabling(do volumetest.Action) volumetest.Action {
	return func(h volumetest.Host, s *volume.Service) error {
		err := do(h, s)
		if errs.Is(err, errs.Conflict) {
			_ = h.(*model.Host).Bind("namespace0.0")
			err = do(h, s)
		}
		if errs.Is(err, errs.Conflict) {
			_, _ = s.InitVGs(ctx, volume.VGInitSpec{Regions: []string{"region0"}})
			err = do(h, s)
		}
		return err
	}
}

func removeVG(_ volumetest.Host, s *volume.Service) error {
	return s.RemoveVG(ctx, "pmemvgregion0", false)
}

func decommission(regions ...string) volumetest.Action {
	return func(_ volumetest.Host, s *volume.Service) error {
		plan, err := s.PlanDecommission(ctx, regions...)
		if err != nil {
			return err
		}
		return volumetest.Second(s.Decommission(ctx, plan))
	}
}

func createNamespace(q volume.NamespaceRequest) volumetest.Action {
	return func(_ volumetest.Host, s *volume.Service) error { return volumetest.Second(s.CreateNamespace(ctx, q)) }
}

// publish stages and publishes a volume, and unpublish does the reverse.
func publish(dir, fs string) volumetest.Action {
	return func(_ volumetest.Host, s *volume.Service) error {
		spec := volume.PublishSpec{Name: "a", Target: filepath.Join(dir, "target-"+fs)}
		if fs != mount.None {
			spec.From = filepath.Join(dir, "staging")
			if _, err := s.Stage(ctx, volume.MountSpec{Name: "a", Path: spec.From}); err != nil {
				return err
			}
		}
		return s.Publish(ctx, spec)
	}
}

func unpublish(dir, fs string) volumetest.Action {
	return func(_ volumetest.Host, s *volume.Service) error {
		if err := s.Unpublish(ctx, "a", filepath.Join(dir, "target-"+fs)); err != nil {
			return err
		}
		return s.Unstage(ctx, "a", filepath.Join(dir, "staging"))
	}
}

func operations(t *testing.T) []operation {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	init := initVGs(50)
	foreign := volume.NamespaceRequest{Region: "region0", Mode: pmem.ModeFSDAX, Size: 64 * pmem.MiB, UUID: "6d1cd3f0-33bf-4c86-9e32-8a9b0a1b8e5d"}
	direct := volumetest.Spec("a", volume.TypeDirect, 16*pmem.MiB)
	direct.Region = "region1"
	lvm := volumetest.Spec("b", volume.TypeLVM, 16*pmem.MiB)
	all := []operation{
		{name: "namespace destroy", prepare: []volumetest.Action{createNamespace(foreign), volumetest.Create(direct), volumetest.Fill("a")}, keeps: []string{"a"},
			do: orGone(func(_ volumetest.Host, s *volume.Service) error { return s.DestroyNamespace(ctx, foreign.UUID) })},
		{name: "region init-labels", prepare: []volumetest.Action{createNamespace(foreign), volumetest.Create(direct), volumetest.Fill("a")}, keeps: []string{"a"},
			do: func(_ volumetest.Host, s *volume.Service) error {
				plan, err := s.PlanInitLabels("region0")
				if err != nil {
					return err
				}
				return s.InitLabels(ctx, plan)
			}},
		{name: "region disable", prepare: []volumetest.Action{createNamespace(foreign), volumetest.Create(direct), volumetest.Fill("a")}, keeps: []string{"a"},
			do: func(_ volumetest.Host, s *volume.Service) error { return s.DisableRegion(ctx, "region0") }},
		{name: "vg init", do: init},
		{name: "vg init with more", prepare: []volumetest.Action{initVGs(20)}, do: init},
		{name: "vg remove", prepare: []volumetest.Action{init}, do: orGone(removeVG)},
		{name: "vg init whole", prepare: []volumetest.Action{withoutLabels}, do: initWhole},
		{name: "vg remove whole", prepare: []volumetest.Action{withoutLabels, initWhole}, do: orGone(removeVG)},
		{name: "create in a whole region", prepare: []volumetest.Action{withoutLabels, initWhole}, do: volumetest.Create(lvm)},
		{name: "decommission a whole region", prepare: []volumetest.Action{withoutLabels, initWhole}, do: enabling(decommission("region0"))},
		{name: "decommission", prepare: []volumetest.Action{init, volumetest.Create(lvm), volumetest.Fill("b"), volumetest.Erased("b")}, do: decommission()},
		{name: "decommission a region", prepare: []volumetest.Action{init, createNamespace(foreign), volumetest.Create(direct), volumetest.Fill("a")}, keeps: []string{"a"},
			do: decommission("region0")},
		{name: "decommission a group of several regions", prepare: []volumetest.Action{volumetest.InitVGs(volume.VGInitSpec{Percent: 20, Span: true}), volumetest.InitVGs(volume.VGInitSpec{Percent: 50, Span: true})},
			do: decommission()},
	}
	all = append(all, operation{name: "adopt", prepare: []volumetest.Action{theirs}, do: adoptAll, keeps: []string{"data", "raw", "disk"}})
	other := map[volume.Type]volume.Type{volume.TypeLVM: volume.TypeDirect, volume.TypeDirect: volume.TypeLVM}
	for _, kind := range volumetest.Kinds {
		for _, fs := range []string{mount.Ext4, mount.XFS, mount.None} {
			size := uint64(16 * pmem.MiB)
			if fs == mount.XFS {
				size = mount.MinXFS
			}
			spec := volumetest.Spec("a", kind, size)
			spec.FS = fs
			filled := []volumetest.Action{init, volumetest.Create(spec), volumetest.Fill("a")}
			of := func(name string, do volumetest.Action, keeps ...string) operation {
				return operation{name + " " + string(kind) + " " + fs, filled, do, keeps}
			}
			all = append(all,
				operation{name: "create " + string(kind) + " " + fs, prepare: []volumetest.Action{init}, do: volumetest.Create(spec)},
				of("delete", orGone(volumetest.Erased("a"))),
				of("clone", clone(volume.Spec{Name: "b"}), "a", "b"),
				of("clone to the other type", clone(volume.Spec{Name: "b", Type: other[kind]}), "a", "b"),
				of("publish", publish(dir, fs), "a"),
			)
			unmounted := of("unmount", func(_ volumetest.Host, s *volume.Service) error { return volumetest.Second(s.Unmount(ctx, "a", "")) }, "a")
			if fs == mount.Ext4 {
				unmounted.prepare = append(slices.Clone(filled), volumetest.Mounted("a", filepath.Join(dir, "mnt")))
				all = append(all, unmounted)
			}
			published := of("unpublish", unpublish(dir, fs), "a")
			published.prepare = append(slices.Clone(filled), publish(dir, fs))
			all = append(all, published)
			if fs != mount.None {
				all = append(all, of("mount", volumetest.Mounted("a", filepath.Join(dir, "mnt")), "a"))
			}
			if kind == volume.TypeLVM {
				all = append(all, of("expand", volumetest.Expand("a", 2*size)), of("expand to the maximum", volumetest.ExpandMax("a")))
			}
			largest := spec
			largest.Max, largest.Size = true, 0
			all = append(all, operation{name: "create the largest " + string(kind) + " " + fs, prepare: []volumetest.Action{init}, do: volumetest.Create(largest)})
		}
	}
	return all
}

func newHost(t *testing.T) *model.Host {
	return model.New(t.TempDir(), 2*pmem.GiB, 2*pmem.GiB)
}

func prepared(t *testing.T, op operation) (*model.Host, *volume.Service) {
	t.Helper()
	h := newHost(t)
	s := h.Service()
	for _, do := range op.prepare {
		require.NoError(t, do(h, s))
	}
	return h, s
}

// undisturbed returns the steps and the result of an operation without a failure.
func undisturbed(t *testing.T, op operation) (steps, want []string) {
	t.Helper()
	h, s := prepared(t, op)
	h.DieAt(0)
	require.NoError(t, op.do(h, s))
	steps = h.Steps()
	require.NotEmpty(t, steps)
	keeps(t, h, s, op, op.name)
	return steps, volumetest.State(t, s)
}

// again repeats an interrupted operation: the result is the same as without the interruption, and
// no tenant's data is lost or left outside of the volumes.
func again(t *testing.T, h *model.Host, s *volume.Service, op operation, want []string, where string) {
	t.Helper()
	require.NoError(t, op.do(h, s), where)
	_, err := s.EraseAll(ctx, volume.EraseRate{}, true)
	require.NoError(t, err, where)
	require.Equal(t, want, volumetest.State(t, s), where)
	keeps(t, h, s, op, where)
	assert.False(t, h.FreeHolds(volumetest.Secret), where)
}

// keeps checks the volumes that must have the secret.
func keeps(t *testing.T, h *model.Host, s *volume.Service, op operation, where string) {
	t.Helper()
	for _, name := range op.keeps {
		_ = s.UsableAs(ctx, name, mount.None) // which brings it up
		vol, err := s.Get(ctx, name)
		require.NoError(t, err, where)
		data, err := h.ReadDevice(vol.Device, volumetest.SecretAt(vol), uint64(len(volumetest.Secret)))
		require.NoError(t, err, where)
		require.Equal(t, volumetest.Secret, data, "%s: %s", where, name)
	}
}

// TestKill kills each operation before and after each of its steps, with and without a power
// failure: a ready volume is complete, and repeating the operation has the same result as without
// the kill.
func TestKill(t *testing.T) {
	for _, op := range operations(t) {
		t.Run(op.name, func(t *testing.T) {
			steps, want := undisturbed(t, op)
			for n := range len(steps) {
				for _, powerCut := range []bool{false, true} {
					where := fmt.Sprintf("killed at %d of %d, %s, power cut: %v", n+1, len(steps), steps[n], powerCut)
					h, s := prepared(t, op)
					h.DieAt(n + 1)
					require.Error(t, op.do(h, s), where)
					require.True(t, h.Died(), where)
					if powerCut {
						require.NoError(t, h.Reboot())
					}
					s = h.Service()
					readyIsWhole(t, h, s, where)
					again(t, h, s, op, want, where)
				}
			}
			t.Logf("%d steps", len(steps))
		})
	}
}

// TestFail makes each change of each operation fail once: nothing is lost, no unfinished volume is
// shown as ready, and repeating the operation has the same result as without the failure.
func TestFail(t *testing.T) {
	for _, op := range operations(t) {
		t.Run(op.name, func(t *testing.T) {
			steps, want := undisturbed(t, op)
			for n := range len(steps) / 2 {
				where := fmt.Sprintf("%d of %d fails, %s", n+1, len(steps)/2, steps[2*n])
				h, s := prepared(t, op)
				h.FailAt(n+1, syscall.EIO)
				err := op.do(h, s)
				h.FailAt(0, nil)
				readyIsWhole(t, h, s, where)
				if err == nil { // it did without
					require.Equal(t, want, volumetest.State(t, s), where)
				}
				again(t, h, s, op, want, where)
			}
		})
	}
}

// readyIsWhole checks that no unfinished volume is shown as ready: one without the secret is
// formatted, or zero.
func readyIsWhole(t *testing.T, h *model.Host, s *volume.Service, where string) {
	t.Helper()
	for _, v := range volumetest.List(t, s) {
		if v.State != volume.Ready || v.Device == "" {
			continue
		}
		for _, at := range []uint64{0, v.Size - 64} {
			data, err := h.ReadDevice(v.Device, at, 64)
			require.NoError(t, err, where)
			assert.NotContains(t, data, byte(0xA5), "%s: %s shows what was there before", where, v.Name)
		}
	}
}
