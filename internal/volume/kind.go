package volume

import "context"

// kind is how the volumes of one type are made, brought up, marked and removed on the host. What
// else there is to a volume is the same for both.
type kind interface {
	// lookBeforeMaking reads what has to be known before a volume of a name is made.
	lookBeforeMaking(ctx context.Context, name string) (View, error)
	// lookForDeleted reads what is deleted of the kind.
	lookForDeleted(ctx context.Context) (View, error)
	// warm begins to load what a change needs; it does not wait for it.
	warm()
	// changing runs do, which changes one volume whose lock is held, with the host locked if it
	// must be.
	changing(ctx context.Context, do func() error) error

	// make makes the device of a volume, marked as not finished. The host is locked.
	make(ctx context.Context, plan Plan) (Volume, error)
	// commit makes a finished device the volume.
	commit(ctx context.Context, vol Volume) (Volume, error)
	// isUnfinished reports whether a device that was seen unfinished still is. The volume's lock
	// is held.
	isUnfinished(vol Volume) bool
	// activate brings up the device of a finished volume that is down. The host is locked.
	activate(ctx context.Context, vol Volume) (Volume, error)

	// markDeleted gives a volume that is not in use the mark of a deleted one; ndctl.ErrNoSlot
	// or lvm.ErrMetadataFull when there is no room for it.
	markDeleted(ctx context.Context, vol Volume) (Volume, error)
	// bringUpToErase brings up the device of a deleted volume with all of its bytes. The host
	// is locked.
	bringUpToErase(ctx context.Context, vol Volume) (Volume, error)
	// checkErasable waits for the device that bringUpToErase brought up, and fails when it is
	// not that of the volume.
	checkErasable(ctx context.Context, vol Volume) error
	// remove gives the space of a volume back, whatever is in it.
	remove(ctx context.Context, vol Volume) error
}

// kindOf is the kind of volumes of a type.
func (s *Service) kindOf(t Type) kind {
	if t == TypeDirect {
		return direct{s}
	}
	return logical{s}
}
