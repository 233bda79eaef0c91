package volume

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
)

// examine sets the health of each volume where it is used here. A volume whose device is gone, or
// whose file system the kernel shut down, is damaged. It adds volumes of which nothing but stale
// mounts is left.
func (s *Service) examine(volumes []Volume) []Volume {
	uses, _ := s.Mounts.Uses()
	lostUses, owners := s.lostUses("")
	for i, u := range lostUses {
		was := func(vol Volume) bool { return vol.UUID == owners[i].UUID && vol.UUID != "" }
		at := slices.IndexFunc(volumes, was)
		if at < 0 {
			volumes = append(volumes, Volume{Name: owners[i].Name, Type: owners[i].Type, UUID: owners[i].UUID, Regions: []string{}})
			at = len(volumes) - 1
		}
		volumes[at].State, volumes[at].Health = Damaged, "its device was removed, and possibly added again, since it was used on "+u.Path
	}
	for i, vol := range volumes {
		if vol.State == Deleting {
			volumes[i].Erasing = s.erasure(vol)
			volumes[i].Health = volumes[i].Erasing.text(vol.RawSize)
		}
		if vol.State != Ready || vol.Device == "" || s.isSuspended(vol) {
			continue
		}
		volumes[i] = s.examineMounted(vol, uses)
		if volumes[i].Health == "" {
			volumes[i].Health = s.badblocks(vol)
		}
	}
	slices.SortStableFunc(volumes, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return volumes
}

func (s *Service) examineMounted(vol Volume, uses []mount.Use) Volume {
	n, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return vol
	}
	points := pointsOf(n, uses)
	if len(points) == 0 {
		return vol
	}
	switch fault := s.Mounts.FaultOf(n, points[0], points); fault {
	case "":
		vol.Health = s.notGrown(vol, points[0])
	case mount.Erred:
		vol.Health = "its file system " + string(fault)
	default:
		vol.State, vol.Health = Damaged, "its file system "+string(fault)
	}
	return vol
}

// pointsOf returns the mount points of a device among some uses.
func pointsOf(n blockdev.Number, uses []mount.Use) (points []mount.Point) {
	for _, u := range uses {
		if u.Number == n && !u.Node {
			points = append(points, u.Point)
		}
	}
	return points
}

// Damage lists what is damaged on the host, with the volumes that are not visible because of it.
func (s *Service) Damage(v View) []Damage {
	all := v.Damage()
	for i, d := range all {
		if d.VG == "" || d.Namespace == "" {
			continue
		}
		g := s.onceOn(v, d.VG, d.Namespace)
		if g == nil {
			continue
		}
		if vg, readable := v.LVM.Find(lvm.VGRef{Name: d.VG, UUID: g.uuid()}); readable && v.present(vg.Ref()) == nil {
			if d.Device != "" {
				all[i].Reason = "is complete without " + d.Device + ", which has its mark"
			}
			continue
		}
		all[i].Volumes = volumesOf(g.source.group)
		if n := len(all[i].Volumes); n > 0 {
			all[i].Reason += fmt.Sprintf("; it had %d: %s", n, someOf(all[i].Volumes))
		}
	}
	gone, err := s.goneRegions(v)
	if err != nil {
		s.note(errs.Wrap("", "regions", "cannot determine which ones are missing", "", err))
	}
	for _, r := range gone {
		all = append(all, r.damage())
	}
	for _, r := range v.PMEM.Regions {
		if r.Type == "pmem" && !r.Enabled() && s.seen(r) {
			all = append(all, Damage{Region: r.Dev, Reason: "is disabled: the volumes that it had are not visible", Next: "pmemctl region enable " + r.Dev})
		}
	}
	for _, vol := range inState(v.Volumes(), Deleting) {
		if e := s.erasure(vol); e.Failed != "" {
			all = append(all, Damage{Volume: vol.Name, Namespace: vol.Namespace, Region: first(vol.Regions), Reason: e.Failed, Next: giveUpNext(vol)})
		}
	}
	return all
}

// onceOn returns the group of a namespace, from the metadata left on the devices or from the
// archive; nil if nothing is left.
func (s *Service) onceOn(v View, vg, namespace string) *groupOnDisk {
	for _, g := range s.readGroups(vg, v.PMEM.Namespaces) {
		if g.source != nil && slices.ContainsFunc(g.members, func(m *member) bool { return m.Dev == namespace }) {
			return g
		}
	}
	return nil
}
