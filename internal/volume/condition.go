package volume

import (
	"cmp"
	"context"
	"slices"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
)

// Condition is a volume with what the kernel makes of it, for a diagnosis.
type Condition struct {
	Volume
	// Suspended: all I/O waits. Gone: the device below was removed.
	Suspended, Gone bool
	Mounts          []MountCondition
	// Content is what a volume that is not mounted contains, or "". Unreadable is why it cannot be
	// read.
	Content, Unreadable string
	// Busy: a process changes the volume.
	Busy bool
}

// MountCondition is a mount point of a volume.
type MountCondition struct {
	mount.Point
	Fault mount.Fault
	// DAX as the mount options say it. WhyNoDAX is the reason if it is off and the reason is known.
	DAX      bool
	WhyNoDAX string
}

// ReadOnly reports whether nothing can be written at the mount point.
func (m MountCondition) ReadOnly() bool { return slices.Contains(m.Options, "ro") }

// Conditions returns the condition of each volume of a view that was read with LookAtEverything;
// with content, also the content of those that are not mounted. It writes nothing to a device.
func (s *Service) Conditions(ctx context.Context, v View, content bool) ([]Condition, error) {
	uses, err := s.Mounts.Uses()
	if err != nil {
		return nil, err
	}
	all := []Condition{}
	for _, vol := range v.Examined() {
		c := Condition{Volume: vol, Suspended: s.isSuspended(vol), Gone: vol.Type == TypeLVM && s.hasGone(vol)}
		if vol.State == Creating || c.Suspended {
			if c, err = s.settled(ctx, c); err != nil {
				return nil, err
			}
			if vol = c.Volume; vol.Name == "" {
				continue // it is gone
			}
		}
		if n, err := s.Devices.Identify(vol.Device); vol.Device != "" && err == nil && !c.Suspended && !c.Gone {
			c.Mounts = s.mountConditions(vol, n, uses)
			if content && len(c.Mounts) == 0 && vol.State == Ready {
				content, err := s.Mounts.Probe(ctx, vol.Device)
				if c.Content = content.Type; err != nil {
					c.Unreadable = err.Error()
				}
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// settled returns the condition of a volume that may only have been in the middle of a change: Busy
// if its lock is held, or else what it is now, with a Name of "" if there is none any more.
func (s *Service) settled(ctx context.Context, c Condition) (Condition, error) {
	lock, err := s.Locks.Try(volumeLock(c.Name))
	if err != nil {
		return c, err
	}
	if lock == nil {
		c.Busy = true
		return c, nil
	}
	defer lock.Release()
	v, err := s.Look(ctx)
	if err != nil {
		return c, err
	}
	for _, vol := range v.Volumes() {
		if vol.UUID == c.UUID {
			return Condition{Volume: vol, Suspended: s.isSuspended(vol), Gone: vol.Type == TypeLVM && s.hasGone(vol)}, nil
		}
	}
	return Condition{}, nil
}

func (s *Service) mountConditions(vol Volume, n blockdev.Number, uses []mount.Use) []MountCondition {
	points := pointsOf(n, uses)
	var found []MountCondition
	for _, p := range points {
		m := MountCondition{Point: p, Fault: s.Mounts.FaultOf(n, p, points), DAX: mount.HasDAXOption(p)}
		if !m.DAX {
			m.WhyNoDAX = s.Mounts.WhyNoDAX(vol.Device, n, p)
		}
		found = append(found, m)
	}
	return found
}

// Stranded is a device of the device mapper on PMEM that was removed.
type Stranded struct {
	Name, Node string
	VG, LV     string // "" if it is not LVM's
}

// Stranded lists the mapped devices whose underlying device was removed.
func (s *Service) Stranded() ([]Stranded, error) {
	mapped, err := s.Devices.Mapped()
	if err != nil {
		return nil, err
	}
	var all []Stranded
	for _, m := range mapped {
		if s.Devices.Gone(m.Number) {
			vg, lv, _, _ := lvm.ParseMapper(m.Name, m.UUID)
			all = append(all, Stranded{Name: m.Name, Node: m.Node(), VG: vg, LV: lv})
		}
	}
	slices.SortFunc(all, func(a, b Stranded) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// HeldLocks lists the locks that processes hold.
func (s *Service) HeldLocks() ([]hostlock.Held, error) { return s.Locks.Held() }

// MapFile shows how the kernel maps a file of a mounted volume. It writes a temporary file.
func (s *Service) MapFile(path string) (mount.Mapped, error) { return s.Mounts.MapFile(path) }
