package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// direct is the kind of volumes that are namespaces.
type direct struct{ *Service }

func (k direct) warm() { k.NDCTL.Warm() }

// changing does not lock the host: the kernel serializes writes to a DIMM's labels
// (nvdimm_bus_lock), and disabling a device waits for every CPU.
func (k direct) changing(_ context.Context, do func() error) error { return do() }

// prepare does not query LVM if LVM has nothing of that name: only regions matter.
func (k direct) prepare(ctx context.Context, name string) (View, error) {
	return k.lookOutsideLVM(ctx, name)
}

// lookForDeleted does not query LVM, which may be stuck.
func (k direct) lookForDeleted(context.Context) (View, error) {
	sys, err := k.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	return View{PMEM: sys}, err
}

func (k direct) make(_ context.Context, plan Plan) (Volume, error) {
	id := cmp.Or(plan.uuid, uuid.NewString())
	spec := pmem.NamespaceSpec{
		Region: plan.Region, Mode: pmem.ModeFSDAX, Map: pmem.MapDev, RawSize: plan.Raw, Align: pmem.DefaultAlign, Name: markMaking + plan.Name,
		UUID: id, Raw: ownInfoBlocks,
	}
	spec.InfoUUID = infoUUID(id, plan.forFS, k.NDCTL.Granularity(plan.Region))
	n, err := k.createNamespace(spec)
	if err != nil {
		return Volume{}, errs.Wrap("", subject(plan.Name), "its namespace could not be created in "+plan.Region, "see why: dmesg | tail", err)
	}
	vol, _ := directVolume(n)
	vol.forFS = plan.forFS
	if ownInfoBlocks {
		vol.Size, vol.offset = plan.Usable, n.RawSize-pmem.Usable(n.RawSize, pmem.MapDev, pmem.DefaultAlign)
	}
	if vol.Size < plan.Asked || n.RawSize != plan.Raw {
		err := errs.New(errs.Internal, subject(plan.Name), fmt.Sprintf("the namespace provides %d bytes, fewer than planned (%d)", vol.Size, plan.Usable), "report this, with: pmemctl region show "+plan.Region+" -o json")
		return Volume{}, errors.Join(err, k.NDCTL.DestroyNamespace(n.UUID))
	}
	return vol, nil
}

func (k direct) commit(_ context.Context, vol Volume) (Volume, error) {
	n, err := k.NDCTL.RenameNamespace(vol.UUID, markVolume+vol.Name)
	if err != nil && !k.isUnfinished(vol) { // it has its final name, but does not come up
		err = errors.Join(err, k.NDCTL.DestroyNamespace(vol.UUID))
	}
	if err != nil {
		return Volume{}, err
	}
	ready, _ := directVolume(n)
	if ready.State != Ready || ready.Size != vol.Size {
		err := errs.New(errs.Internal, subject(vol.Name), fmt.Sprintf("its namespace did not come up as fsdax with %d bytes", vol.Size), "see why: dmesg | tail")
		return Volume{}, errors.Join(err, k.NDCTL.DestroyNamespace(n.UUID)) // nobody has used it yet
	}
	k.remember(ready)
	return ready, nil
}

// isUnfinished reads the namespaces again: a direct volume is finished without the host's lock.
func (k direct) isUnfinished(vol Volume) bool {
	sys, err := k.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return false
	}
	n, ok := sys.Namespace(vol.UUID)
	mark, name := parseMark(n.Name)
	return ok && mark == markMaking && name == vol.Name
}

func (k direct) activate(_ context.Context, vol Volume) (Volume, error) {
	n, err := k.NDCTL.EnableNamespace(vol.UUID)
	if err != nil {
		return vol, errs.Wrap("", subject(vol.Name), "its namespace "+vol.Namespace+" does not come up", "see why: dmesg | tail", err)
	}
	up, ok := directVolume(n)
	if !ok || up.Device == "" || up.State == Damaged {
		if up.damage == "" {
			up.damage, up.next = "its namespace "+vol.Namespace+" has no block device", "see why: dmesg | tail"
		}
		vol.damage, vol.next = up.damage, up.next
		return vol, layoutOf(vol.Type).damaged(vol)
	}
	return up, nil
}

func (k direct) markDeleted(_ context.Context, vol Volume) (Volume, error) {
	vol.State, vol.Device = Deleting, ""
	return vol, k.NDCTL.RenameDisabled(vol.UUID, markRemoving+vol.Name)
}

// bringUpToErase enables it in raw mode, which exposes the info block and requires no struct
// pages.
func (k direct) bringUpToErase(_ context.Context, vol Volume) (Volume, error) {
	blockdev, err := k.NDCTL.EnableRaw(vol.UUID)
	vol.Device = "/dev/" + blockdev
	return vol, err
}

func (k direct) checkErasable(context.Context, Volume) error { return nil }

func (k direct) remove(_ context.Context, vol Volume) error {
	return k.NDCTL.DestroyNamespace(vol.UUID)
}

// reserveExtension fails unless the volume is large enough.
func (k direct) reserveExtension(_ context.Context, _ View, vol Volume, want growth) (*Volume, error) {
	if !want.max && want.size <= vol.Size {
		return nil, nil
	}
	size := "SIZE"
	if !want.max {
		size = fmt.Sprint(want.size)
	}
	return nil, errs.New(errs.FixedSize, subject(vol.Name), "is a direct volume, which cannot grow in place: its namespace would have to be created again, and its data would be lost",
		fmt.Sprintf("copy it to a larger one: pmemctl volume clone %s NEWNAME --size %s", vol.Name, size))
}
