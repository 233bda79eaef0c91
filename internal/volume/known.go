package volume

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// findUp finds, from sysfs alone, a finished volume whose device is up and which Look has found since
// the last boot. It sets neither regions nor raw sizes. False means that Look must be called.
func (s *Service) findUp(name string) (Volume, bool) {
	var found []Volume
	for _, n := range s.NDCTL.EnabledFSDAX() {
		if vol, ok := directVolume(n); ok && vol.Name == name && vol.State == Ready && s.isKnown(n.UUID) {
			found = append(found, vol)
		}
	}
	mapped, err := s.Devices.Mapped()
	if err != nil {
		return Volume{}, false
	}
	for _, m := range mapped {
		vg, lv, uuid, ok := lvm.ParseMapper(m.Name, m.UUID)
		if ok && lv == name && !s.Devices.Suspended(m) && s.isKnown(uuid) && s.onlyOnMembers(m) && !s.Devices.Gone(m.Number) {
			found = append(found, Volume{lv: lv, Name: name, Type: TypeLVM, State: Ready, Size: s.Devices.SizeOf(m), VG: vg, vgUUID: lvm.MapperGroupUUID(m.UUID), UUID: uuid, Device: lvm.MapperPath(vg, lv)})
		}
	}
	if len(found) != 1 {
		return Volume{}, false
	}
	return found[0], true
}

// lookFor is Look for one volume, without what cannot matter for it: regions and disabled
// namespaces if it is an lvm volume that is up, and LVM if LVM has nothing of that name.
func (s *Service) lookFor(ctx context.Context, name string) (View, error) {
	namespaces := s.NDCTL.EnabledFSDAX()
	hasName := func(n pmem.Namespace) bool { vol, ok := directVolume(n); return ok && vol.Name == name }
	if vol, ok := s.findUp(name); ok && vol.Type == TypeLVM && !slices.ContainsFunc(namespaces, hasName) {
		state, err := s.LVM.Report(ctx)
		return View{PMEM: pmem.System{Namespaces: namespaces}, LVM: state}, err
	}
	return s.lookOutsideLVM(ctx, name)
}

func (s *Service) onlyOnMembers(m blockdev.Mapped) bool {
	enabled := s.NDCTL.EnabledFSDAX()
	return !slices.ContainsFunc(s.Devices.Below(m), func(device string) bool {
		return !slices.ContainsFunc(enabled, func(n pmem.Namespace) bool {
			mark, _ := parseMark(n.Name)
			return n.Blockdev == device && mark == markMember && MayBeMember(n)
		})
	})
}

// regionsBelow returns the regions that a mapped device is on.
func (s *Service) regionsBelow(m blockdev.Mapped) []string {
	regions, below := []string{}, s.Devices.Below(m)
	for _, n := range s.NDCTL.EnabledFSDAX() {
		if slices.Contains(below, n.Blockdev) && !slices.Contains(regions, n.Region) {
			regions = append(regions, n.Region)
		}
	}
	return regions
}

// Sysfs shows the names and UUIDs of logical volumes, but no tags, and nothing of what is down. To
// avoid taking a foreign logical volume in pmemctl's group, or one of two with the same name, for
// the volume, the volumes found by Look are recorded until the next boot. A UUID is never reused.
// After removing a tag by hand, the record must be removed too.

func (s *Service) knownFile(uuid string) string {
	return filepath.Join(s.RunDir, "volumes", filepath.Base(uuid))
}

func (s *Service) isKnown(uuid string) bool {
	_, err := os.Lstat(s.knownFile(uuid))
	return err == nil && s.RunDir != ""
}

// Errors are ignored in remember: without the file, Look does the work.
func (s *Service) remember(vol Volume) {
	if s.RunDir == "" || vol.UUID == "" || s.isKnown(vol.UUID) {
		return
	}
	file := s.knownFile(vol.UUID)
	if os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = os.WriteFile(file, nil, 0o600)
	}
}

func (s *Service) forget(vol Volume) {
	if s.RunDir != "" && vol.UUID != "" {
		_ = os.Remove(s.knownFile(vol.UUID))
		_ = os.Remove(s.noEraseFile(vol.UUID))
	}
}

// forgetAll is called when volumes may have appeared that did not exist before.
func (s *Service) forgetAll() {
	if s.RunDir != "" {
		_ = os.RemoveAll(filepath.Dir(s.knownFile("any")))
	}
}

// NoErase does not fit on the device. If it is lost at a reboot, the volume is erased.

func (s *Service) noEraseFile(uuid string) string {
	return filepath.Join(s.RunDir, "no-erase", filepath.Base(uuid))
}

func (s *Service) isNoErase(uuid string) bool {
	_, err := os.Lstat(s.noEraseFile(uuid))
	return err == nil && s.RunDir != "" && uuid != ""
}

func (s *Service) setNoErase(uuid string) {
	file := s.noEraseFile(uuid)
	if s.RunDir != "" && uuid != "" && os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = os.WriteFile(file, nil, 0o600)
	}
}

// lookOutsideLVM is Look for one volume; it queries LVM only if LVM may know that volume.
func (s *Service) lookOutsideLVM(ctx context.Context, name string) (View, error) {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	inLVM := func(n pmem.Namespace) bool {
		return MayBeMember(n) && s.LVM.MayKnow("/dev/"+n.Blockdev, name+" {", markRemoving+name+"+")
	}
	if err == nil && !slices.ContainsFunc(sys.Namespaces, inLVM) {
		return View{PMEM: sys}, nil
	}
	return s.Look(ctx)
}

// IsUp reports whether a volume exists with its device up, as far as sysfs shows this: false does
// not mean that it does not exist.
func (s *Service) IsUp(name string) bool {
	_, up := s.findUp(name)
	return up
}
