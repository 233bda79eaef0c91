package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// A device may disappear while it is mounted or published: its namespace is unbound, or its DIMM
// or region is lost. What remains is a mount or a bound node with a device number that sysfs no
// longer has, or a mapped device whose table refers to such a number. The namespace or group, if
// visible at all, does not show this. So the volume that a number was used for is recorded until
// the next boot; for a logical volume, the device mapper's name and UUID show it too.

// use is the volume that a device number was used for.
type use struct {
	Name   string `json:"name"`
	UUID   string `json:"uuid"`
	Type   Type   `json:"type"`
	Source string `json:"source"` // the device as the table of mounts has it
}

func (s *Service) useFile(n blockdev.Number) string {
	return filepath.Join(s.RunDir, "used", n.String())
}

// rememberUse is called before a volume is mounted or published. A number has one user at a time:
// the kernel reuses it only when nothing holds it.
func (s *Service) rememberUse(vol Volume, n blockdev.Number, source string) error {
	if s.RunDir == "" {
		return nil
	}
	data, err := json.Marshal(use{vol.Name, vol.UUID, vol.Type, source})
	if err != nil {
		return err
	}
	file := s.useFile(n)
	if old, err := os.ReadFile(file); err == nil && string(old) == string(data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (s *Service) lastUse(n blockdev.Number) (u use, ok bool) {
	data, err := os.ReadFile(s.useFile(n))
	if s.RunDir == "" || err != nil || json.Unmarshal(data, &u) != nil {
		return use{}, false
	}
	return u, true
}

// forgetUse is called after a volume was unmounted from a path, and removes the record of a number
// that is no longer used.
func (s *Service) forgetUse(n blockdev.Number) {
	uses, err := s.Mounts.Uses()
	if s.RunDir != "" && err == nil && !slices.ContainsFunc(uses, func(u mount.Use) bool { return u.Number == n }) {
		_ = os.Remove(s.useFile(n))
	}
}

// lost reports whether a mount or a bound node is what remains of a volume whose device is gone.
// Anything not known to belong to this volume is foreign.
func (s *Service) lost(name string, u mount.Use) bool {
	owner, ok := s.lostOf(u)
	return ok && owner.Name == name
}

// lostOf returns the volume of which a mount or a bound node remains; false if the device exists.
func (s *Service) lostOf(u mount.Use) (use, bool) {
	remembered, ok := s.lastUse(u.Number)
	if !s.Devices.Gone(u.Number) {
		// A bound node does not hold the device, so another device may have the number by now.
		isAnother := func() bool {
			name := s.Devices.KernelName(u.Number)
			return !slices.ContainsFunc(s.NDCTL.EnabledFSDAX(), func(n pmem.Namespace) bool { return n.Blockdev == name && n.UUID == remembered.UUID })
		}
		return remembered, ok && u.Removed && remembered.Type == TypeDirect && remembered.Source == u.Source && isAnother()
	}
	if m, mapped := s.mappedNumber(u.Number); mapped {
		// The device mapper is more reliable than the record, which may be of an older device.
		_, lv, uuid, isLV := lvm.ParseMapper(m.Name, m.UUID)
		return use{lv, uuid, TypeLVM, u.Source}, isLV && (s.isKnown(uuid) || ok && remembered.UUID == uuid)
	}
	if ok {
		return remembered, remembered.Source == u.Source
	}
	// Mounted by a pmemctl that did not record it: the name of the device is derived from that of
	// its namespace (drivers/nvdimm/namespace_devs.c, nvdimm_namespace_disk_name).
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return use{}, false
	}
	for _, n := range sys.Namespaces {
		region, index, _ := strings.Cut(strings.TrimPrefix(n.Dev, "namespace"), ".")
		node := "/dev/pmem" + region
		if index != "0" {
			node += "." + index
		}
		if vol, ok := directVolume(n); ok && u.Source == node && s.isKnown(n.UUID) {
			return use{vol.Name, vol.UUID, TypeDirect, node}, true
		}
	}
	return use{}, false
}

// mappedNumber finds the device of the device mapper with a number.
func (s *Service) mappedNumber(n blockdev.Number) (blockdev.Mapped, bool) {
	if !s.Devices.Exists(n) {
		return blockdev.Mapped{}, false
	}
	all, _ := s.Devices.Mapped()
	for _, m := range all {
		if m.Number == n {
			return m, true
		}
	}
	return blockdev.Mapped{}, false
}

// lostUses returns the mounts and bound nodes of a volume whose device is gone, the topmost last.
// A name of "" is any volume.
func (s *Service) lostUses(name string) (uses []mount.Use, owners []use) {
	all, _ := s.Mounts.Uses()
	for _, u := range all {
		if owner, ok := s.lostOf(u); ok && (name == "" || owner.Name == name) {
			uses, owners = append(uses, u), append(owners, owner)
		}
	}
	return uses, owners
}

// takeOffLost detaches what remains of a volume from a path, so that the volume can be mounted
// there again. It leaves anything else.
func (s *Service) takeOffLost(name, path string) error {
	for {
		u, used, err := s.Mounts.UseAt(path)
		if err != nil || !used || !s.lost(name, u) {
			return err
		}
		if err := s.Mounts.Detach(path, u.Path); err != nil {
			return err
		}
		s.forgetUse(u.Number)
	}
}

// noneLost returns an error if a mount from before the removal of the volume's device remains.
func (s *Service) noneLost(name string) error {
	lost, _ := s.lostUses(name)
	if len(lost) == 0 {
		return nil
	}
	return errs.New(errs.InUse, subject(name), "is still in use at "+lost[0].Path+" from before its device was removed", "stop the processes that use it, and unmount it: pmemctl volume unmount "+name)
}

// hasGone reports whether the mapped device of a volume is on a device that is gone.
func (s *Service) hasGone(vol Volume) bool {
	m, ok := s.mapped(vol)
	return ok && s.Devices.Gone(m.Number)
}

// needsRefresh reports whether the mapped device of a volume cannot be used: a killed lvm left it
// suspended, or the device below it came back with another number.
func (s *Service) needsRefresh(vol Volume) bool { return s.isSuspended(vol) || s.hasGone(vol) }

// refresh repairs the mapped device of a logical volume. The host is locked.
func (s *Service) refresh(ctx context.Context, vol Volume) error {
	m, ok := s.mapped(vol)
	if !ok || !s.Devices.Gone(m.Number) {
		return s.LVM.Refresh(ctx, vol.group(), vol.lv)
	}
	// Its table cannot be replaced: the kernel still has the old device of the same name.
	// Processes that have it open have seen errors, and must not get a working device silently.
	if paths, err := s.Mounts.BoundNodes(m.Number); err != nil || len(paths) > 0 {
		return errors.Join(err, stillLost(vol, "unpublish it there first: umount "+strings.Join(paths, " ")))
	}
	err := s.Devices.RemoveMapped(m)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, os.ErrExist) {
		return stillLost(vol, fmt.Sprintf("unmount it (pmemctl volume unmount %s), and stop the processes that have files on it open (fuser -vm /dev/%s)", vol.Name, s.Devices.KernelName(m.Number)))
	}
	if err != nil {
		return errs.Wrap("", subject(vol.Name), "its device was removed and added again, but its old mapping cannot be removed", "", err)
	}
	if err := s.LVM.Activate(ctx, vol.group(), vol.lv); err != nil {
		return errs.Wrap("", subject(vol.Name), "its device was removed and added again, but the volume cannot be activated", "", err)
	}
	return s.waitForNode(ctx, vol)
}

func stillLost(vol Volume, next string) error {
	return errs.New(errs.InUse, subject(vol.Name), "its device was removed and added again, but the old one is still in use", next)
}

// goneError is the error for a volume whose device is gone.
func goneError(name, path string) error {
	return errs.New(errs.Unsupported, subject(name), "its device was removed, and possibly added again, since it was mounted on "+path, "unmount it, and mount it again: pmemctl volume unmount "+name+"; see what is there: pmemctl tree")
}

// faultError is the error for a file system that the kernel shut down.
func (s *Service) faultError(vol Volume, fault mount.Fault, path string) error {
	return errs.New(errs.Unsupported, subject(vol.Name), "is mounted on "+path+", and its file system "+string(fault),
		"see why: dmesg | grep "+filepath.Base(s.Devices.Node(vol.Device))+"; stop the processes that use it, unmount it everywhere (pmemctl volume unmount "+vol.Name+"), and mount it again: it is checked then")
}

// faultAt returns the fault of a mounted file system; "" if it can still be used.
func (s *Service) faultAt(n blockdev.Number, p mount.Point) (mount.Fault, error) {
	points, err := s.Mounts.Points(n)
	if err != nil {
		return "", err
	}
	fault := s.Mounts.FaultOf(n, p, points)
	if fault == mount.Erred {
		fault = ""
	}
	return fault, nil
}
