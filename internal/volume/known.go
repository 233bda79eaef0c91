package volume

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/lvm"
)

// up finds a finished volume whose device is up from sysfs alone. Its answer is
// as good as that of Look, only quicker; it knows neither regions nor raw sizes.
// False when Look has to tell.
func (s *Service) up(name string) (Volume, bool) {
	var found []Volume
	for _, n := range s.NDCTL.EnabledFSDAX() {
		if vol, ok := directVolume(n); ok && vol.Name == name && vol.State == Ready {
			found = append(found, vol)
		}
	}
	for _, m := range blockdev.MappedDevices() {
		vg, lv, uuid, ok := lvm.ParseMapper(m.Name, m.UUID)
		if ok && lv == name && s.isKnown(uuid) {
			found = append(found, Volume{Name: name, Type: TypeLVM, State: Ready, Size: m.Size, VG: vg, UUID: uuid, Device: lvm.MapperPath(vg, lv)})
		}
	}
	if len(found) != 1 {
		return Volume{}, false
	}
	return found[0], true
}

// regionsBelow are the regions that a mapped device lies on.
func (s *Service) regionsBelow(m blockdev.Mapped) []string {
	regions := []string{}
	for _, n := range s.NDCTL.EnabledFSDAX() {
		if slices.Contains(m.Below, n.Blockdev) && !slices.Contains(regions, n.Region) {
			regions = append(regions, n.Region)
		}
	}
	return regions
}

// Sysfs shows the names and UUIDs of logical volumes, but no tags. So that a
// foreign one in a group of pmemctl's is not taken for a volume, it is remembered
// which ones lvm said are. A UUID is never used again: what is remembered cannot
// become wrong.

func (s *Service) knownFile(uuid string) string {
	return filepath.Join(s.RunDir, "volumes", filepath.Base(uuid))
}

func (s *Service) isKnown(uuid string) bool {
	_, err := os.Lstat(s.knownFile(uuid))
	return err == nil && s.RunDir != ""
}

// remember takes failures for granted: Look answers then.
func (s *Service) remember(vol Volume) {
	if s.RunDir == "" || vol.Type != TypeLVM || vol.UUID == "" || s.isKnown(vol.UUID) {
		return
	}
	file := s.knownFile(vol.UUID)
	if os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = os.WriteFile(file, nil, 0o600)
	}
}

func (s *Service) forget(vol Volume) {
	if s.RunDir != "" && vol.Type == TypeLVM && vol.UUID != "" {
		_ = os.Remove(s.knownFile(vol.UUID))
	}
}
