package volume

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// fakePMEM has one namespace; other calls panic.
type fakePMEM struct {
	NDCTL
	namespace  pmem.Namespace
	destroyed  []string
	deleted    []string // renamed, and left disabled
	nameSticks bool     // when it is renamed, which fails
}

func (f *fakePMEM) EnabledFSDAX() []pmem.Namespace { return nil }
func (f *fakePMEM) Granularity(string) uint64      { return 0 }

func (f *fakePMEM) Snapshot(ndctl.Select) (pmem.System, error) {
	return pmem.System{Namespaces: []pmem.Namespace{f.namespace}}, nil
}

func (f *fakePMEM) DestroyNamespace(key string) error {
	f.destroyed = append(f.destroyed, key)
	return nil
}

func (f *fakePMEM) RenameDisabled(key, name string) error {
	f.deleted = append(f.deleted, key+" "+name)
	return nil
}

type fakeLVM struct{ LVM }

func (fakeLVM) Report(context.Context) (lvm.State, error) { return lvm.State{}, nil }

// A volume may be finished, and its lock released, after it was seen unfinished.
func TestRemoveAbandonedKeepsFinished(t *testing.T) {
	ctx := context.Background()
	ndctl := &fakePMEM{namespace: pmem.Namespace{Dev: "namespace0.1", UUID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", Name: markMaking + "db", Region: "region0", RawSize: 1, State: pmem.StateEnabled, Mode: pmem.ModeFSDAX}}
	s := &Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, NDCTL: ndctl, LVM: fakeLVM{}, Locks: hostlock.Locks{Dir: t.TempDir()}}
	seen, err := s.Look(ctx)
	require.NoError(t, err)

	ndctl.namespace.Name = markVolume + "db"
	_, err = s.removeAbandoned(ctx, seen, "web")
	require.NoError(t, err)
	assert.Empty(t, ndctl.destroyed)

	ndctl.namespace.Name = markMaking + "db"
	lock, err := s.Locks.Acquire(ctx, volumeLock("db"))
	require.NoError(t, err)
	_, err = s.removeAbandoned(ctx, seen, "web")
	require.NoError(t, err)
	assert.Empty(t, ndctl.destroyed, "somebody is at work on it")
	lock.Release()
	_, err = s.removeAbandoned(ctx, seen, "web")
	require.NoError(t, err)
	assert.Equal(t, []string{ndctl.namespace.UUID}, ndctl.destroyed)
}

func (f *fakePMEM) RenameNamespace(_, name string) (pmem.Namespace, error) {
	if f.nameSticks {
		f.namespace.Name = name
	}
	return pmem.Namespace{}, errors.New("does not come up")
}

// A device that does not come up under its final name was never used, and is destroyed.
func TestCommitWithoutDevice(t *testing.T) {
	for _, nameSticks := range []bool{true, false} {
		ndctl := &fakePMEM{nameSticks: nameSticks, namespace: pmem.Namespace{UUID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", Name: markMaking + "db"}}
		s := &Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, NDCTL: ndctl}
		_, err := (direct{s}).commit(context.Background(), Volume{Name: "db", Type: TypeDirect, UUID: ndctl.namespace.UUID})
		assert.ErrorContains(t, err, "does not come up")
		assert.Equal(t, nameSticks, len(ndctl.destroyed) == 1, "with its mark, it is removed as what is half made")
	}
}

// TestUnfinishedCopyIsErased: its data comes from its source, and must not be left in free space.
func TestUnfinishedCopyIsErased(t *testing.T) {
	ctx := context.Background()
	copied := slices.Collect(copyUUIDs("db", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"))[0]
	f := &fakePMEM{namespace: pmem.Namespace{Dev: "namespace0.1", UUID: copied, Name: markMaking + "db", Region: "region0", RawSize: 1, State: pmem.StateEnabled, Mode: pmem.ModeFSDAX}}
	s := &Service{Devices: KernelDevices{}, Mounts: KernelMounts{}, NDCTL: f, LVM: fakeLVM{}, Locks: hostlock.Locks{Dir: t.TempDir()}, RunDir: t.TempDir()}
	seen, err := s.Look(ctx)
	require.NoError(t, err)
	_, err = s.removeAbandoned(ctx, seen, "db")
	require.NoError(t, err)
	assert.Empty(t, f.destroyed)
	assert.Equal(t, []string{copied + " " + markRemoving + "db"}, f.deleted)
	assert.Equal(t, []string{copied}, s.Unerased())

	assert.True(t, Volume{Type: TypeLVM, copyOf: "x"}.isCopy())
	assert.False(t, Volume{Type: TypeLVM}.isCopy())
	assert.False(t, Volume{Type: TypeDirect, UUID: uuid.NewString()}.isCopy())
}

// TestLeaveChangesNothing: a group with a device that is not on a namespace is left unchanged.
func TestLeaveChangesNothing(t *testing.T) {
	pmem0 := pmem.Namespace{Dev: "namespace0.0", UUID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", Name: markMember + "vg", Blockdev: "pmem0"}
	v := View{PMEM: pmem.System{Namespaces: []pmem.Namespace{pmem0}}}
	s := &Service{NDCTL: &fakePMEM{}} // to rename a namespace panics
	_, err := s.leave(context.Background(), v, lvm.VG{Name: "vg", PVs: []lvm.PV{{Name: "/dev/pmem0"}, {Name: "/dev/pmem9"}}})
	assert.ErrorContains(t, err, "/dev/pmem9 is not on a namespace")
}
