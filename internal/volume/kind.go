package volume

import "context"

// kind has the operations that differ between the types of volumes.
type kind interface {
	// prepare reads the state that is required before a volume of a name is created, and frees the
	// name. The host is locked.
	prepare(ctx context.Context, name string) (View, error)
	// lookForDeleted reads the deleted volumes of the kind.
	lookForDeleted(ctx context.Context) (View, error)
	// warm starts loading what a change requires, and returns at once.
	warm()
	// changing runs do, which changes one volume whose lock is held, with the host locked if
	// necessary.
	changing(ctx context.Context, do func() error) error

	// make creates the device of a volume, marked as unfinished. The host is locked.
	make(ctx context.Context, plan Plan) (Volume, error)
	// commit turns a finished device into the volume.
	commit(ctx context.Context, vol Volume) (Volume, error)
	// isUnfinished reports whether a device that was unfinished before still is. The volume's lock
	// is held.
	isUnfinished(vol Volume) bool
	// activate brings up the device of a finished volume. The host is locked.
	activate(ctx context.Context, vol Volume) (Volume, error)
	// reserveExtension creates a device with the additional space that a volume needs; nil if it is
	// large enough. FixedSize if the kind cannot grow. The host is locked.
	reserveExtension(ctx context.Context, v View, vol Volume, want growth) (*Volume, error)

	// markDeleted marks a volume that is not in use as deleted; ndctl.ErrNoSlot or
	// lvm.ErrMetadataFull if there is no room for the mark.
	markDeleted(ctx context.Context, vol Volume) (Volume, error)
	// bringUpToErase brings up the device of a deleted volume, with all of its bytes. The host is
	// locked.
	bringUpToErase(ctx context.Context, vol Volume) (Volume, error)
	// checkErasable waits for the device that bringUpToErase brought up, and returns an error if
	// it is not that of the volume.
	checkErasable(ctx context.Context, vol Volume) error
	// remove frees the space of a volume, whatever it contains.
	remove(ctx context.Context, vol Volume) error
}

// kindOf returns the kind for a type.
func (s *Service) kindOf(t Type) kind {
	if t == TypeDirect {
		return direct{s}
	}
	return logical{s}
}
