package csi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// fakeVolumes keeps volumes in memory; a mount is a file in a directory, and a publication a
// directory.
type fakeVolumes struct {
	mu         sync.Mutex
	volumes    map[string]volume.Volume
	sources    map[string]string
	at         map[string]map[string]bool // where each is
	free       uint64
	fail       error // of the next call
	failExpand error // of the next expansion
	failErase  map[string]error
	hidden     error // where a volume that is not found may be
	systems    map[string]string
	called     []string
	// spaceWanted: a create waits for space.
	spaceWanted atomic.Bool
	// changed: another process changed what is unerased.
	changed   chan struct{}
	failWatch error
}

func newFakeVolumes() *fakeVolumes {
	return &fakeVolumes{volumes: map[string]volume.Volume{}, sources: map[string]string{}, at: map[string]map[string]bool{}, free: 100 << 30}
}

func (f *fakeVolumes) begin(call string) (func(), error) {
	f.mu.Lock()
	f.called = append(f.called, call)
	err := f.fail
	f.fail = nil
	return f.mu.Unlock, err
}

func (f *fakeVolumes) timesCalled(call string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.called {
		if c == call {
			n++
		}
	}
	return n
}

func notFound(name string) error {
	return errs.New(errs.NotFound, "volume "+name, "does not exist", "")
}

// Create erases deleted volumes for a spec that waits for space.
func (f *fakeVolumes) Create(_ context.Context, spec volume.Spec) (volume.Volume, bool, error) {
	done, err := f.begin("create")
	defer done()
	if err != nil {
		return volume.Volume{}, false, err
	}
	if have, ok := f.volumes[spec.Name]; ok {
		if have.Type != spec.Type || have.Size < spec.Size || spec.Limit != 0 && have.Size > spec.Limit {
			return volume.Volume{}, false, errs.New(errs.Conflict, "volume "+spec.Name, "exists and differs", "")
		}
		return have, false, nil
	}
	for name, vol := range f.volumes {
		if spec.Size > f.free && spec.SpaceWait > 0 && vol.State == volume.Deleting {
			f.free += vol.Size
			delete(f.volumes, name)
		}
	}
	if spec.Size > f.free {
		return volume.Volume{}, false, errs.New(errs.NoSpace, "volume "+spec.Name, "does not fit", "")
	}
	f.free -= spec.Size
	vol := volume.Volume{Name: spec.Name, Type: spec.Type, Size: spec.Size, State: volume.Ready}
	f.volumes[spec.Name] = vol
	return vol, true, nil
}

func (f *fakeVolumes) Clone(ctx context.Context, source string, spec volume.Spec) (volume.Volume, error) {
	vol, created, err := f.Create(ctx, spec)
	if err == nil && !created && f.sources[spec.Name] != source {
		err = errs.New(errs.Conflict, "volume "+spec.Name, "already exists", "")
	}
	f.sources[spec.Name] = source
	return vol, err
}

func (f *fakeVolumes) DeleteAsCreated(_ context.Context, name string) error {
	done, err := f.begin("delete")
	defer done()
	vol, ok := f.volumes[name]
	switch {
	case err != nil:
		return err
	case !ok:
		return notFound(name)
	case len(f.at[name]) > 0:
		return errs.New(errs.InUse, "volume "+name, "is mounted", "")
	}
	f.free += vol.Size
	delete(f.volumes, name)
	return nil
}

func (f *fakeVolumes) Deleted(context.Context) (deleted []volume.Volume, err error) {
	done, err := f.begin("deleted")
	defer done()
	for _, vol := range f.volumes {
		if vol.State == volume.Deleting {
			deleted = append(deleted, vol)
		}
	}
	slices.SortFunc(deleted, func(a, b volume.Volume) int { return strings.Compare(a.Name, b.Name) })
	return deleted, err
}

func (f *fakeVolumes) SpaceWanted() bool { return f.spaceWanted.Load() }

func (f *fakeVolumes) MountedAt(volume.Volume) []mount.Point { return nil }

func (f *fakeVolumes) Unerased() (uuids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, vol := range f.volumes {
		if vol.State == volume.Deleting {
			uuids = append(uuids, vol.UUID)
		}
	}
	return uuids
}

func (f *fakeVolumes) WatchUnerased(context.Context) (<-chan struct{}, error) {
	return f.changed, f.failWatch
}

func (f *fakeVolumes) TryErase(_ context.Context, vol volume.Volume, _ volume.EraseRate) (bool, error) {
	done, err := f.begin("erase " + vol.Name)
	defer done()
	if err == nil {
		err = f.failErase[vol.Name]
	}
	if err == nil {
		delete(f.volumes, vol.Name)
	}
	return true, err
}

func (f *fakeVolumes) IsUp(string) bool { return false }

func (f *fakeVolumes) Regions(context.Context) ([]pmem.Region, error) {
	near, far := 0, 1
	return []pmem.Region{{Dev: "region0", NUMANode: &near}, {Dev: "region1", NUMANode: &far}, {Dev: "region2", NUMANode: &far}}, nil
}

func (f *fakeVolumes) Absent(context.Context, string) error { return f.hidden }

// UsableAs knows the file systems of the volumes to which a test gave one.
func (f *fakeVolumes) UsableAs(_ context.Context, name, fs string) error {
	done, err := f.begin("usable")
	defer done()
	if has := f.systems[name]; err == nil && has != "" && fs != "" && fs != has {
		err = errs.New(errs.Conflict, "volume "+name, "has the file system "+has+", but "+fs+" was requested", "")
	}
	return err
}

func (f *fakeVolumes) Get(_ context.Context, name string) (volume.Volume, error) {
	done, err := f.begin("get")
	defer done()
	vol, ok := f.volumes[name]
	if err == nil && !ok {
		err = notFound(name)
	}
	return vol, err
}

func (f *fakeVolumes) List(context.Context) ([]volume.Volume, error) {
	done, err := f.begin("list")
	defer done()
	var all []volume.Volume
	for _, vol := range f.volumes {
		all = append(all, vol)
	}
	slices.SortFunc(all, func(a, b volume.Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

func (f *fakeVolumes) Expand(_ context.Context, name string, size, _ uint64) (volume.Volume, error) {
	done, err := f.begin("expand")
	defer done()
	vol, ok := f.volumes[name]
	switch {
	case err != nil:
		return vol, err
	case !ok:
		return vol, notFound(name)
	case f.failExpand != nil:
		err, f.failExpand = f.failExpand, nil
		return vol, err
	case vol.Type == volume.TypeDirect && size > vol.Size:
		return vol, errs.New(errs.FixedSize, "volume "+name, "is a direct volume", "clone it")
	}
	vol.Size = max(vol.Size, size)
	f.volumes[name] = vol
	return vol, nil
}

func (f *fakeVolumes) CapacityFor(_ context.Context, spec volume.Spec) (volume.Capacity, error) {
	done, err := f.begin("capacity")
	defer done()
	return volume.Capacity{Type: spec.Type, Free: f.free, Largest: f.free, Smallest: 2 << 20}, err
}

func (f *fakeVolumes) put(name, path string) error {
	if _, ok := f.volumes[name]; !ok {
		return notFound(name)
	}
	if f.at[name] == nil {
		f.at[name] = map[string]bool{}
	}
	f.at[name][path] = true
	return os.MkdirAll(path, 0o755)
}

func (f *fakeVolumes) Stage(_ context.Context, m volume.MountSpec) (volume.Volume, error) {
	done, err := f.begin("stage")
	defer done()
	if err == nil {
		err = f.put(m.Name, m.Path)
	}
	return f.volumes[m.Name], err
}

func (f *fakeVolumes) Unstage(_ context.Context, name, path string) error {
	done, err := f.begin("unstage")
	defer done()
	delete(f.at[name], path)
	return err
}

func (f *fakeVolumes) Publish(_ context.Context, p volume.PublishSpec) error {
	done, err := f.begin("publish")
	defer done()
	for path := range f.at[p.Name] {
		if p.Alone && path != p.From && path != p.Target {
			return errs.New(errs.InUse, "volume "+p.Name, "is published at "+path, "")
		}
	}
	if err == nil {
		err = f.put(p.Name, p.Target)
	}
	return err
}

func (f *fakeVolumes) Unpublish(_ context.Context, name, path string) error {
	done, err := f.begin("unpublish")
	defer done()
	delete(f.at[name], path)
	if remove := os.Remove(path); remove != nil && !errors.Is(remove, os.ErrNotExist) {
		err = remove
	}
	return err
}

func (f *fakeVolumes) Stats(_ context.Context, name, path string) (volume.Stats, error) {
	done, err := f.begin("stats")
	defer done()
	vol, ok := f.volumes[name]
	if err == nil && (!ok || !f.at[name][path]) {
		err = notFound(fmt.Sprintf("%s at %s", name, path))
	}
	return volume.Stats{Total: vol.Size, Available: vol.Size, Inodes: 10}, err
}

func (f *fakeVolumes) CheckHost(context.Context) error {
	done, err := f.begin("ready")
	defer done()
	return err
}
