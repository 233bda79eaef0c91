package volume

import (
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/mount"
)

// examine tells of each volume what is wrong with it where it is used here. One whose
// device is gone, or whose file system the kernel gave up, is damaged. Those are added of
// which nothing but what is left where they were used can be seen.
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
		volumes[at].State, volumes[at].Health = Damaged, "its device is gone, or went and came back, since it was used on "+u.Path
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
	var points []mount.Point
	for _, u := range uses {
		if u.Number == n && !u.Node {
			points = append(points, u.Point)
		}
	}
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
