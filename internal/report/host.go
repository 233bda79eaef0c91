package report

import (
	"context"
	"errors"
	"slices"

	"github.com/pmemctl/pmemctl/internal/doctor"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Host answers as the host of an archive did. It has the methods of *volume.Service that change
// nothing.
type Host struct{ state State }

// NewHost returns the host of a state.
func NewHost(s State) *Host {
	for i, r := range s.PMEM.Regions {
		s.PMEM.Regions[i].LabelsFull = slices.Contains(s.Hidden.LabelsFull, r.Dev)
	}
	for i, n := range s.PMEM.Namespaces {
		s.PMEM.Namespaces[i].InfoUUID = s.Hidden.InfoUUIDs[n.Dev]
	}
	return &Host{s}
}

// Snapshot returns all that was recorded of buses, DIMMs, regions and namespaces.
func (h *Host) Snapshot(ndctl.Select) (pmem.System, error) { return h.state.PMEM, h.lookErr() }

func (h *Host) lookErr() error {
	if h.state.LookErr == "" {
		return nil
	}
	return errs.New(errs.Internal, "archive", "the host could not be read: "+h.state.LookErr, "")
}

// Look is that of the service.
func (h *Host) Look(context.Context) (volume.View, error) {
	return volume.Recorded(h.state.PMEM, h.state.LVM, h.state.Foreign, h.state.Volumes), h.lookErr()
}

// LookAtEverything is that of the service.
func (h *Host) LookAtEverything(ctx context.Context) (volume.View, error) { return h.Look(ctx) }

// Findings are the results of doctor when the archive was made.
func (h *Host) Findings() []doctor.Finding { return h.state.Findings }

// Damage is that of the service.
func (h *Host) Damage(volume.View) []volume.Damage { return h.state.Damage }

// DeletedIn is that of the service.
func (h *Host) DeletedIn(volume.View) []volume.Volume { return h.state.Deleted }

// Conditions is that of the service.
func (h *Host) Conditions(context.Context, volume.View, bool) ([]volume.Condition, error) {
	if h.state.ConditionsErr != "" {
		return nil, errors.New(h.state.ConditionsErr)
	}
	return h.state.Conditions, nil
}

// Stranded is that of the service.
func (h *Host) Stranded() ([]volume.Stranded, error) { return h.state.Stranded, nil }

// HeldLocks is that of the service.
func (h *Host) HeldLocks() ([]hostlock.Held, error) { return h.state.Locks, nil }

// CheckVGs is that of the service.
func (h *Host) CheckVGs(_ context.Context, name string) ([]volume.VGPart, error) {
	return slices.DeleteFunc(slices.Clone(h.state.Parts), func(p volume.VGPart) bool { return name != "" && p.VG != name }), nil
}

// MapFile fails: an archive has no file.
func (h *Host) MapFile(string) (mount.Mapped, error) {
	return mount.Mapped{}, errors.New("an archive cannot be written to")
}

// MountsOn is that of the service.
func (h *Host) MountsOn(device string) []volume.Mounted { return h.state.Mounted[device] }

// MountedAt is that of the service.
func (h *Host) MountedAt(vol volume.Volume) (points []mount.Point) {
	for _, m := range h.state.Mounted[vol.Device] {
		points = append(points, m.Point)
	}
	return points
}

// Examine is that of the service.
func (h *Host) Examine(volume.View) []volume.Volume { return h.state.Volumes }

// List is that of the service.
func (h *Host) List(context.Context) ([]volume.Volume, error) { return h.state.Volumes, h.lookErr() }

// Show is that of the service.
func (h *Host) Show(_ context.Context, name string) (volume.Volume, error) {
	for _, vol := range h.state.Volumes {
		if vol.Name == name {
			return vol, nil
		}
	}
	return volume.Volume{}, errs.New(errs.NotFound, "volume "+name, "does not exist in the archive", "pmemctl volume list --from ARCHIVE")
}

// Capacity is that of the service.
func (h *Host) Capacity(ctx context.Context) ([]volume.Capacity, error) {
	v, err := h.Look(ctx)
	return v.Capacities(), err
}

// GetNamespace is that of the service.
func (h *Host) GetNamespace(key string) (pmem.Namespace, error) {
	n, ok := h.state.PMEM.Namespace(key)
	if !ok {
		return n, errs.New(errs.NotFound, "namespace "+key, "does not exist in the archive", "pmemctl namespace list --from ARCHIVE")
	}
	return n, h.lookErr()
}
