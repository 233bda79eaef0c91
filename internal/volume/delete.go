package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Delete deletes a volume that is not in use: its name is free then. With erase its bytes are
// zeroed before its space is free, and it is for the caller to have the volumes erased that are
// returned; without, the bytes stay on the medium, where a volume made later does not show
// them. NotFound when there is none.
//
// Where what was deleted under the name is all there is, that is returned.
func (s *Service) Delete(ctx context.Context, name string, erase bool) (deleted []Volume, err error) {
	return s.delete(ctx, name, func(Volume) bool { return erase })
}

// DeleteAsCreated deletes a volume as its Spec said: to be erased, or not.
func (s *Service) DeleteAsCreated(ctx context.Context, name string) error {
	_, err := s.delete(ctx, name, func(vol Volume) bool { return !s.isNoErase(vol.UUID) })
	return err
}

// delete asks of the volume, or of none when only an erasing is to go on, whether
// its bytes are to be erased.
func (s *Service) delete(ctx context.Context, name string, erase func(Volume) bool) ([]Volume, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	lock, err := s.lockVolume(ctx, name)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	s, done := s.operation()
	defer done()
	var d deletion
	err = s.changing(ctx, func() error {
		d, err = s.beginDeleting(ctx, name, erase)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, vol := range slices.Concat(d.remove, d.mark) {
		s.kindOf(vol.Type).warm()
	}
	for _, vol := range d.remove {
		if err := s.remove(ctx, vol); err != nil {
			return nil, err
		}
		s.forgetEmptied(ctx, vol.Regions...)
	}
	for _, vol := range d.mark {
		marked, err := s.markDeleted(ctx, vol)
		if errors.Is(err, ndctl.ErrNoSlot) || errors.Is(err, lvm.ErrMetadataFull) {
			err = s.eraseUnmarked(ctx, marked)
		} else if err == nil {
			s.keepErasure(marked, Erasure{Since: time.Now()})
			d.erase = append(d.erase, marked)
		}
		if err != nil {
			return nil, err
		}
	}
	return d.erase, nil
}

// deletion is what is to be done with the volumes of a name: removed as they are,
// marked as deleted, and erased further.
type deletion struct{ remove, mark, erase []Volume }

// Absent fails when a volume that was not found may only be out of sight.
func (s *Service) Absent(ctx context.Context, name string) error {
	v, err := s.Look(ctx)
	if err != nil {
		return err
	}
	hidden := func(what, next string) error {
		return errs.New(errs.Unsupported, subject(name), "was not found, and may be in "+what, next)
	}
	if found := slices.DeleteFunc(v.find(name), func(vol Volume) bool { return vol.State == Deleting }); len(found) > 0 {
		return errs.New(errs.Internal, subject(name), "was not found, and is there as "+found[0].where(), "try again")
	}
	if len(v.PMEM.Regions) == 0 {
		return hidden("PMEM that is not there now", errs.NextStep(NoPMEM(v.PMEM)))
	}
	for _, r := range v.PMEM.Regions {
		if r.Type == "pmem" && !r.Enabled() {
			return hidden("region "+r.Dev+", which is disabled", "pmemctl region enable "+r.Dev)
		}
	}
	gone, err := s.goneRegions(v)
	if err != nil {
		return err
	}
	for _, r := range gone {
		return hidden("region "+r.Dev+", which "+r.damage().Reason, r.damage().Next)
	}
	for _, n := range v.PMEM.Namespaces {
		mark, vg := parseMark(n.Name)
		switch {
		case mark != markMember:
		case !n.Enabled():
			return hidden("volume group "+vg+", whose namespace "+n.Dev+" is disabled", "ndctl enable-namespace "+n.Dev)
		case len(v.LVM.Problems) > 0:
			return hidden("a volume group that cannot be read: "+v.LVM.Problems[0], "pmemctl vg check")
		case !v.inOwnVG(blockPath(n)):
			if d, damaged := v.memberDamage(n); damaged {
				return hidden("volume group "+vg+": "+d.Reason, d.Next)
			}
			return hidden("volume group "+vg+", which is not seen on "+n.Dev+" as one of pmemctl's", "see what is wrong: pvs -a; vgs -o +vg_tags; pmemctl vg list")
		}
	}
	for _, vg := range v.OwnVGs() {
		if err := v.whole(vg.Ref()); err != nil {
			return hidden("volume group "+vg.Name+", which has a device missing", errs.NextStep(err))
		}
	}
	return nil
}

func (v View) inOwnVG(device string) bool {
	return slices.ContainsFunc(v.OwnVGs(), func(vg lvm.VG) bool {
		return slices.ContainsFunc(vg.PVs, func(pv lvm.PV) bool { return pv.Name == device })
	})
}

// beginDeleting removes what is half made, and tells what to do with the rest. The
// host is locked.
func (s *Service) beginDeleting(ctx context.Context, name string, erase func(Volume) bool) (d deletion, err error) {
	v, err := s.lookFor(ctx, name)
	if err != nil {
		return d, err
	}
	found := v.find(name)
	if len(found) == 0 {
		return d, notFound(name)
	}
	if err := s.noneLost(name); err != nil {
		return d, err
	}
	live := slices.DeleteFunc(slices.Clone(found), func(vol Volume) bool { return vol.State == Deleting })
	for _, vol := range live {
		if err := v.present(vol.group()); err != nil {
			return d, errs.Wrap("", subject(name), "is not deleted", "", err)
		}
	}
	for _, vol := range live {
		if s.needsRefresh(vol) { // or what is done to it waits for ever, or fails
			if err := s.refresh(ctx, vol); err != nil {
				return d, err
			}
		}
	}
	if err := s.removeAllUnfinished(ctx, found); err != nil {
		return d, err
	}
	s.noteDeleted(v)
	d.erase = inState(found, Deleting)
	vol, err := finished(found)
	switch {
	case err != nil:
		return d, err
	case vol.Name != "" && erase(vol):
		d.mark = []Volume{vol}
	case vol.Name != "":
		d.remove = []Volume{vol}
	case !erase(Volume{}) && len(d.erase) > 0:
		return d, errs.New(errs.NotFound, subject(name), "is deleted already, and its bytes are to be erased", "to leave them on the medium: pmemctl gc --give-up "+d.erase[0].UUID)
	}
	return d, nil
}

// remove removes a volume as it is.
func (s *Service) remove(ctx context.Context, vol Volume) error {
	if err := s.notInUse(vol); err != nil {
		return err
	}
	s.forget(vol)
	k := s.kindOf(vol.Type)
	err := k.changing(ctx, func() error { return k.remove(ctx, vol) })
	return errs.Wrap("", subject(vol.Name), "could not be removed", "", err)
}

// markDeleted marks a volume as deleted: nobody is given it any more, and its name is free.
func (s *Service) markDeleted(ctx context.Context, vol Volume) (Volume, error) {
	if err := s.notInUse(vol); err != nil {
		return vol, err
	}
	s.forget(vol)
	k := s.kindOf(vol.Type)
	err := k.changing(ctx, func() (err error) {
		vol, err = k.markDeleted(ctx, vol)
		return err
	})
	return vol, errs.Wrap("", subject(vol.Name), "could not be deleted", "", err)
}

// eraseUnmarked erases and removes a volume for whose mark no label slot, or no byte of LVM's
// metadata, is free: to remove it needs none. Its head goes first: after a crash in between it
// is there again as what it was, damaged or without a filesystem, and is deleted again.
func (s *Service) eraseUnmarked(ctx context.Context, vol Volume) error {
	lock, err := s.Locks.Acquire(ctx, eraseLock(vol))
	if err != nil {
		return err
	}
	defer lock.Release()
	if vol, err = s.eraseHead(ctx, vol); err != nil {
		return err
	}
	return s.eraseAndRemove(ctx, vol, &erasureLog{})
}

// eraseHead erases what tells the kind of a volume: the info block of a namespace, or the
// superblock of a file system.
func (s *Service) eraseHead(ctx context.Context, vol Volume) (_ Volume, err error) {
	k := s.kindOf(vol.Type)
	err = s.changing(ctx, func() error {
		vol, err = k.bringUpToErase(ctx, vol)
		return err
	})
	if err != nil {
		return vol, err
	}
	if err := k.checkErasable(ctx, vol); err != nil {
		return vol, err
	}
	dev, err := s.Devices.Hold(vol.Device)
	if err != nil {
		return vol, err
	}
	return vol, errors.Join(dev.Zero(ctx, 0, min(dev.Size(), pmem.DefaultAlign), nil), dev.Close())
}

// notInUse fails when a volume is mounted, or held by anything at all.
func (s *Service) notInUse(vol Volume) error {
	if vol.Device == "" {
		return nil
	}
	dev, err := s.Devices.HoldToRead(vol.Device)
	if err == nil {
		if err := dev.Close(); err != nil {
			return err
		}
		if err := s.notPublished(vol); err != nil {
			return err
		}
		// Who reads and writes it as it is, holds nothing.
		if pids := s.openFor(s.Devices.Node(vol.Device)); len(pids) > 0 {
			return errs.New(errs.InUse, subject(vol.Name), fmt.Sprintf("is open in process %d", pids[0]), fmt.Sprintf("see what it is: ps %d", pids[0]))
		}
		return nil
	}
	if !errs.Is(err, errs.InUse) {
		return err
	}
	if n, numErr := s.Devices.Identify(vol.Device); numErr == nil {
		if points, _ := s.Mounts.Points(n); len(points) > 0 {
			var paths []string
			for _, p := range points {
				paths = append(paths, p.Path)
			}
			return errs.New(errs.InUse, subject(vol.Name), "is mounted on "+strings.Join(paths, ", "), "pmemctl volume unmount "+vol.Name)
		}
	}
	return errs.Wrap(errs.InUse, subject(vol.Name), "is in use", "see who has it: lsof "+vol.Device+"; a container may have it mounted", err)
}

// notPublished fails when the device of a volume is given to a container, which
// holds it as little as a program that has it open.
func (s *Service) notPublished(vol Volume) error {
	n, err := s.Devices.Identify(vol.Device)
	if err != nil {
		return err
	}
	paths, err := s.Mounts.BoundNodes(n)
	if err != nil || len(paths) == 0 {
		return err
	}
	return errs.New(errs.InUse, subject(vol.Name), "is published on "+paths[0], "unpublish it there first: umount "+paths[0])
}

// openFor is who has a device open all of the time: udevd looks into every device
// for a moment after each change.
func (s *Service) openFor(path string) []int {
	const poll, patience = 50 * time.Millisecond, 3 * time.Second
	for begun := time.Now(); ; time.Sleep(poll) {
		pids := s.Devices.Users(path)
		if len(pids) == 0 || time.Since(begun) > patience {
			return pids
		}
	}
}
