package volume

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// logical is the kind of volumes that are logical volumes.
type logical struct{ *Service }

func (k logical) warm() {}

func (k logical) changing(ctx context.Context, do func() error) error {
	return k.Service.changing(ctx, do)
}

// prepare renames deleted volumes that an earlier version only tagged, because the new
// volume needs their name.
func (k logical) prepare(ctx context.Context, name string) (View, error) {
	v, err := k.Look(ctx)
	if err != nil {
		return v, err
	}
	for _, vol := range inState(v.find(name), Deleting) {
		if vol.Type == TypeLVM && vol.lv == name && v.present(vol.group()) == nil {
			if _, err := k.markDeleted(ctx, vol); err != nil {
				return v, err
			}
		}
	}
	return v, nil
}

func (k logical) lookForDeleted(ctx context.Context) (View, error) { return k.Look(ctx) }

func (k logical) make(ctx context.Context, plan Plan) (Volume, error) {
	tags := []string{tagMaking}
	if plan.copyOf != "" {
		tags = append(tags, tagCopyOf+plan.copyOf)
	}
	if plan.forFS {
		tags = append(tags, tagForFS)
	}
	return k.makeLV(ctx, plan.Name, plan, tags...)
}

// makeLV creates a logical volume for a volume, whose name has a mark or which has a tag to show
// that it is unfinished.
func (k logical) makeLV(ctx context.Context, name string, plan Plan, tags ...string) (Volume, error) {
	lv := lvm.NewLV{VG: lvm.VGRef{Name: plan.VG, UUID: plan.vgUUID}, Name: name, Size: plan.Raw, Tags: append(tags, tag), Stripes: plan.Stripes, StripeSize: ExtentSize, Devices: plan.devices}
	if err := k.LVM.CreateLV(ctx, lv); err != nil {
		if !errs.Is(err, errs.Deadline) { // otherwise lvm is still running
			undo, cancel := undoing(ctx)
			defer cancel()
			err = errors.Join(err, k.removeAbandonedNow(undo, plan.Name))
		}
		return Volume{}, errs.Wrap("", subject(plan.Name), "its logical volume could not be created in "+plan.VG, "", err)
	}
	vol := Volume{Name: plan.Name, Type: TypeLVM, State: Creating, Size: plan.Usable, RawSize: plan.Raw, VG: plan.VG, vgUUID: plan.vgUUID, Device: lvm.MapperPath(plan.VG, name), Stripes: plan.Stripes, lv: name, forFS: plan.forFS}
	return vol, nil
}

func (k logical) commit(ctx context.Context, vol Volume) (Volume, error) {
	if err := k.LVM.UnmarkLV(ctx, vol.group(), vol.lv, tagMaking); err != nil {
		return Volume{}, err
	}
	vol.State = Ready
	if up, ok := k.mapped(vol); ok {
		_, _, vol.UUID, _ = lvm.ParseMapper(up.Name, up.UUID)
		vol.Regions = k.regionsBelow(up)
		k.remember(vol)
	}
	return vol, nil
}

// isUnfinished returns true: a logical volume is never finished without the host's lock.
func (k logical) isUnfinished(Volume) bool { return true }

func (k logical) activate(ctx context.Context, vol Volume) (Volume, error) {
	if err := k.LVM.Activate(ctx, vol.group(), vol.lv); err != nil {
		return vol, err
	}
	vol.Device = lvm.MapperPath(vol.VG, vol.lv)
	return vol, k.waitForNode(ctx, vol)
}

// markDeleted renames the logical volume. The host is locked. Its device is removed first: LVM
// suspends an existing device to rename it, and a crash would leave it suspended. The kernel
// refuses the removal if the device is open.
func (k logical) markDeleted(ctx context.Context, vol Volume) (Volume, error) {
	if up, there := k.mapped(vol); there {
		if err := isStill(vol, up); err != nil {
			return vol, err
		}
	}
	if vol.Device != "" {
		// Done by LVM, which also removes the nodes that it created where there is no udev.
		if err := k.LVM.Deactivate(ctx, vol.group(), vol.lv); err != nil {
			return vol, err
		}
		k.unlinkNode(vol)
		vol.Device = ""
	}
	name := deletedLV(vol)
	if err := k.LVM.RenameLV(ctx, vol.group(), vol.lv, name); err != nil {
		return vol, err
	}
	vol.lv, vol.State = name, Deleting
	return vol, nil
}

// isStill returns an error if the device of a volume now belongs to something else, because LVM is
// called by name.
func isStill(vol Volume, up blockdev.Mapped) error {
	_, _, id, ok := lvm.ParseMapper(up.Name, up.UUID)
	switch {
	case !ok:
		return errs.New(errs.Busy, subject(vol.Name), "is not deleted: "+vol.Device+" is not a logical volume", "see what it is: dmsetup info "+up.Name)
	case vol.UUID != "" && id != vol.UUID:
		return errs.New(errs.Busy, subject(vol.Name), "was renamed in the meantime: "+vol.Device+" is the logical volume with the UUID "+id+", not "+vol.UUID, "see what there is: lvs -o +lv_uuid "+vol.VG)
	}
	return nil
}

// deletedLV returns the name of the logical volume of a deleted volume. Its suffix keeps names
// unique; the volume's name is shortened if it is too long for the device mapper.
func deletedLV(vol Volume) string {
	end := "+" + strings.ReplaceAll(vol.UUID, "-", "")
	end = end[:min(len(end), 7)]
	name := vol.Name
	for len(name) > 1 && len(filepath.Base(lvm.MapperPath(vol.VG, markRemoving+name+end))) > maxMapper {
		name = strings.TrimRight(name[:len(name)-1], "-")
	}
	return markRemoving + name + end
}

// maxMapper is the maximum length in bytes of a device mapper's name (DM_NAME_LEN,
// linux/dm-ioctl.h).
const maxMapper = 127

func (k logical) bringUpToErase(ctx context.Context, vol Volume) (_ Volume, err error) {
	if mark, _ := parseMark(vol.lv); vol.State == Deleting && mark != markRemoving {
		// An earlier version deleted it without renaming it, and a new volume may need the name.
		if vol, err = k.markDeleted(ctx, vol); err != nil {
			return vol, err
		}
	}
	if k.needsRefresh(vol) { // otherwise erasing would block or fail
		if err := k.refresh(ctx, vol); err != nil {
			return vol, err
		}
	}
	if vol.Device == "" {
		err = k.LVM.Activate(ctx, vol.group(), vol.lv)
	}
	vol.Device = lvm.MapperPath(vol.VG, vol.lv)
	return vol, err
}

func (k logical) checkErasable(ctx context.Context, vol Volume) error {
	// pmemctl's own link is not used: if this process is killed after lvremove, nothing would
	// remove it.
	if _, err := k.anyNode(ctx, vol); err != nil {
		return err
	}
	m, ok := k.mapped(vol)
	if _, _, uuid, _ := lvm.ParseMapper(m.Name, m.UUID); !ok || uuid != vol.UUID {
		return errs.New(errs.Internal, subject(vol.Name), vol.Device+" is not its device and was not touched", "check what else changes volumes on this host")
	}
	return nil
}

func (k logical) remove(ctx context.Context, vol Volume) error {
	err := k.LVM.RemoveLV(ctx, vol.group(), vol.lv, vol.UUID)
	if err == nil {
		k.unlinkNode(vol)
	}
	return err
}

func (k logical) reserveExtension(ctx context.Context, v View, vol Volume, want growth) (*Volume, error) {
	if err := v.whole(vol.group()); err != nil {
		return nil, err
	}
	size := uint64(maxSize)
	if !want.max {
		size = layoutOf(vol.Type).sizeFor(v, vol, Spec{Size: want.size})
	}
	if size <= vol.Size {
		return nil, k.removeAllUnfinished(ctx, v.find(vol.Name))
	}
	if want.limit != 0 && size > want.limit {
		return nil, errs.New(errs.OutOfRange, subject(vol.Name), fmt.Sprintf("the smallest possible size of at least %d bytes is %d, above the limit of %d", want.size, size, want.limit), fmt.Sprintf("raise the limit to %d bytes", size))
	}
	v, err := k.removeAbandoned(ctx, v, vol.Name)
	if err != nil {
		return nil, err
	}
	k.noteDeleted(v)
	vg, _ := v.LVM.Find(vol.group())
	by := size - vol.Size
	devices, most := v.roomToGrow(vg, vol, by)
	switch {
	case want.max && most == 0:
		return nil, nil
	case want.max:
		by = most
	case by > most:
		err := errs.New(errs.NoSpace, subject(vol.Name), fmt.Sprintf("cannot grow to %s: volume group %s has room for %s", pmem.FormatSize(want.size), vg.Name, pmem.FormatSize(vol.Size+most)),
			fmt.Sprintf("use --size %d or less, or enlarge the group: pmemctl vg extend %s --percent N", vol.Size+most, vg.Name))
		// It does not wait for erasing, because it holds the lock of a volume that is in use.
		if erasing := v.erasingIn(vol.group(), by, k.eraseFailed); len(erasing) > 0 {
			k.want(erasing[0])
			err = k.noSpaceYet(err, erasing)
		}
		return nil, err
	}
	made, err := k.makeLV(ctx, markMaking+vol.Name, Plan{Name: vol.Name, Type: TypeLVM, VG: vol.VG, vgUUID: vol.vgUUID, Usable: by, Raw: by, Stripes: vol.Stripes, devices: devices, forFS: vol.forFS})
	return &made, err
}
