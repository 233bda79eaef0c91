// Package bench measures what the volumes of this node can do: latency and throughput with fio, and
// what else distinguishes the types of volumes.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Volumes is what is used of the volume service; *volume.Service implements it.
type Volumes interface {
	Look(context.Context) (volume.View, error)
	Create(context.Context, volume.Spec) (vol volume.Volume, created bool, err error)
	Expand(ctx context.Context, name string, size, limit uint64) (volume.Volume, error)
	Mount(context.Context, volume.MountSpec) (volume.Volume, error)
	Unmount(ctx context.Context, name, path string) ([]string, error)
	Delete(ctx context.Context, name string, erase bool) ([]volume.Volume, error)
	MapFile(path string) (mount.Mapped, error)
}

// Access is how a file is read and written.
type Access string

// The ways to access a file: with O_DIRECT, as a program that was written for a disk does; or
// mapped with MAP_SYNC, where loads and stores reach the memory without the kernel.
const (
	Block  Access = "read, write"
	Mapped Access = "load, store"
)

// Measure is the result of random accesses of 4 KiB.
type Measure struct {
	MedianNS     uint64  `json:"median_ns"`
	P99NS        uint64  `json:"p99_ns"`
	PerSecond    float64 `json:"per_second"`
	BytesASecond uint64  `json:"bytes_per_second"`
}

// Measurement is what was measured of one target.
type Measurement struct {
	Target string  `json:"target"` // lvm, direct, or a directory
	Access Access  `json:"access"`
	Read   Measure `json:"read"`
	Write  Measure `json:"write"`
}

// Property is what distinguishes a type of volume on this node now. Sizes are bytes.
type Property struct {
	Target string `json:"target"`
	// Fragmentation is 1 minus the share of the largest free extent in the free space.
	Fragmentation float64 `json:"fragmentation"`
	// ExpandedIn is how long an expansion of the mounted volume took; 0 if it cannot grow.
	ExpandedIn  time.Duration `json:"expanded_in_ns,omitempty"`
	Persistence string        `json:"persistence"`
	Free        uint64        `json:"free"`
	Largest     uint64        `json:"largest_possible"`
}

// Result is the result of Measure.
type Result struct {
	Measurements []Measurement `json:"measurements"`
	Properties   []Property    `json:"properties"`
	// Warnings say what makes the figures doubtful.
	Warnings []string `json:"warnings"`
}

// Bench measures volumes.
type Bench struct {
	Volumes Volumes
	// Run runs a program and returns its output.
	Run     func(ctx context.Context, name string, args ...string) ([]byte, error)
	Machine Machine
	// Records is a directory that persists across reboots, for the names of volumes to be removed;
	// Mounts is the directory below which they are mounted.
	Records, Mounts string
	// Step is called before each measurement; it may be nil.
	Step func(done, total int, what string)

	Types   []volume.Type
	Size    uint64        // of each volume, in bytes
	Time    time.Duration // of each measurement
	Against []string      // directories to measure as well

	done, total int
}

// MinSize is the minimum size of a volume in bytes: a file that is smaller is in the caches.
const MinSize = 64 * pmem.MiB

func (b *Bench) step(what string) {
	if b.Step != nil {
		b.Step(b.done, b.total, what)
	}
	b.done++
}

// Measure creates a volume of each type, measures, and removes the volumes, also after an error.
// The error is joined with those of the removal.
func (b *Bench) Measure(ctx context.Context) (Result, error) {
	r := Result{Measurements: []Measurement{}, Properties: []Property{}, Warnings: b.Machine.warnings()}
	if err := b.RemoveLeftovers(ctx); err != nil {
		return r, err
	}
	engines, err := b.Run(ctx, "fio", "--enghelp")
	if err != nil {
		return r, err
	}
	canMap := hasEngine(engines)
	if !canMap {
		r.Warnings = append(r.Warnings, "this fio has no engine libpmem: loads and stores are not measured")
	}
	b.done, b.total = 0, 4*len(b.Types)+2*len(b.Against)
	// First, because they may have no room.
	var others []Measurement
	for _, dir := range b.Against {
		m, err := b.against(ctx, dir)
		if err != nil {
			return r, err
		}
		others = append(others, m)
	}
	for _, kind := range b.Types {
		if err := b.volume(ctx, kind, canMap, &r); err != nil {
			return r, err
		}
	}
	r.Measurements = append(r.Measurements, others...)
	return r, nil
}

func (b *Bench) volume(ctx context.Context, kind volume.Type, canMap bool, r *Result) (err error) {
	name, err := b.newName(kind)
	if err != nil {
		return err
	}
	defer func() {
		// Also after a signal.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		err = errors.Join(err, b.remove(clean, name))
	}()
	vol, _, err := b.Volumes.Create(ctx, volume.Spec{Name: name, Type: kind, Size: b.Size, FS: mount.Ext4})
	if err != nil {
		return err
	}
	path := b.mountPoint(name)
	mounting := volume.MountSpec{Name: name, Path: path}
	if _, err := b.Volumes.Mount(ctx, mounting); errs.Is(err, errs.Unsupported) {
		r.Warnings = append(r.Warnings, string(kind)+": "+err.Error())
		mounting.NoDAX, canMap = true, false
		if _, err := b.Volumes.Mount(ctx, mounting); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	v, err := b.Volumes.Look(ctx)
	if err != nil {
		return err
	}
	cpus, far := b.Machine.near(regionOf(v, vol))
	if far != "" {
		r.Warnings = append(r.Warnings, string(kind)+": "+far)
	}
	if canMap {
		mapped, err := b.Volumes.MapFile(path)
		switch {
		case err != nil:
			return err
		case !mapped.Sync:
			r.Warnings = append(r.Warnings, string(kind)+": no file can be mapped with MAP_SYNC: loads and stores are not measured")
			canMap = false
		case !mapped.Huge:
			r.Warnings = append(r.Warnings, string(kind)+": faults map 4 KiB in place of 2 MiB")
		}
	}
	file := filepath.Join(path, "file")
	if err := b.layOut(ctx, file); err != nil {
		return err
	}
	accesses := []Access{Block}
	if canMap {
		accesses = append(accesses, Mapped)
	}
	for _, access := range accesses {
		m, err := b.accesses(ctx, string(kind), file, access, cpus)
		if err != nil {
			return err
		}
		r.Measurements = append(r.Measurements, m)
	}
	property, err := b.property(ctx, v, vol)
	r.Properties = append(r.Properties, property)
	return err
}

// property describes a type of volume, and expands one that can grow.
func (b *Bench) property(ctx context.Context, v volume.View, vol volume.Volume) (Property, error) {
	p := Property{Target: string(vol.Type), Persistence: "unknown"}
	if region := regionOf(v, vol); region.PersistenceDomain != "" {
		p.Persistence = region.PersistenceDomain
	}
	var longest uint64
	for _, c := range v.Capacities() {
		if c.Type == vol.Type {
			p.Free += c.Free
			p.Largest = max(p.Largest, c.Largest)
			longest += c.Largest
		}
	}
	if p.Free > 0 {
		p.Fragmentation = 1 - float64(min(longest, p.Free))/float64(p.Free)
	}
	if vol.Type != volume.TypeLVM {
		return p, nil
	}
	began := time.Now()
	switch _, err := b.Volumes.Expand(ctx, vol.Name, vol.Size+MinSize, 0); {
	case errs.Is(err, errs.NoSpace):
		return p, nil
	case err != nil:
		return p, err
	}
	p.ExpandedIn = time.Since(began)
	return p, nil
}

func regionOf(v volume.View, vol volume.Volume) pmem.Region {
	for _, dev := range vol.Regions {
		if r, ok := v.PMEM.Region(dev); ok {
			return r
		}
	}
	return pmem.Region{}
}

func (b *Bench) against(ctx context.Context, dir string) (m Measurement, err error) {
	fail := func(err error) (Measurement, error) {
		return m, errs.Wrap(errs.Invalid, "--against "+dir, "cannot be measured", "name a directory with space that can be written to", err)
	}
	f, err := os.CreateTemp(dir, "pmemctl-bench-*")
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Without a name it disappears with this process, and fio cannot take a colon in its path for
	// the end of the name. With its size, fio does not create it again.
	if err := os.Remove(f.Name()); err != nil {
		return fail(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(b.fileSize())); err != nil {
		return fail(err)
	}
	file := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	if err := b.layOut(ctx, file); err != nil {
		return m, err
	}
	return b.accesses(ctx, dir, file, Block, "")
}

func (b *Bench) accesses(ctx context.Context, target, file string, access Access, cpus string) (m Measurement, err error) {
	m = Measurement{Target: target, Access: access}
	b.step(fmt.Sprintf("%s: %s, random reads", target, access))
	if m.Read, err = b.fio(ctx, file, access, "randread", cpus); err != nil {
		return m, err
	}
	b.step(fmt.Sprintf("%s: %s, random writes", target, access))
	m.Write, err = b.fio(ctx, file, access, "randwrite", cpus)
	return m, err
}
