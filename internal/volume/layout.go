package volume

// layout has what differs between the types of volumes when nothing is changed: where a volume can
// go, how large it becomes, and what it is called.
type layout interface {
	// validate checks what a spec requests of this type alone.
	validate(spec Spec) error
	// places returns where a volume could be created.
	places(v View, spec Spec) ([]place, error)
	// sizeForCapacity is the requested size, in bytes, for which places finds the largest volume.
	sizeForCapacity() uint64
	// sizeFor returns the size in bytes that a spec would give a volume in the place where it is.
	sizeFor(v View, vol Volume, spec Spec) uint64
	// free returns the free and the total raw bytes in the place of a volume.
	free(v View, vol Volume) (free, total uint64)

	// place names the region or volume group of a volume.
	place(vol Volume) string
	// where names the namespace or logical volume of a volume.
	where(vol Volume) string
	// damaged is the error for the use of a damaged volume.
	damaged(vol Volume) error
	// isCopy reports whether an unfinished volume may hold the data of another one, isCopyOf
	// whether it is a copy of the volume with a UUID.
	isCopy(vol Volume) bool
	isCopyOf(vol Volume, source string) bool
}

// layoutOf returns the layout for a type.
func layoutOf(t Type) layout {
	if t == TypeDirect {
		return directLayout{}
	}
	return lvmLayout{}
}

// Place returns where the space of a volume is: its volume group, or its region.
func (vol Volume) Place() string { return layoutOf(vol.Type).place(vol) }

func (vol Volume) where() string { return layoutOf(vol.Type).where(vol) }

// isScarce reports whether little space is free where a deleted volume is. The Kubernetes
// scheduler relies on the reported free space and then makes no request, so nothing waits for the
// space although it is needed.
func (v View) isScarce(vol Volume) bool {
	const little = 8 // one in so many bytes
	free, total := layoutOf(vol.Type).free(v, vol)
	return free < total/little
}

func (vol Volume) isCopy() bool { return layoutOf(vol.Type).isCopy(vol) }

func (vol Volume) isCopyOf(source string) bool { return layoutOf(vol.Type).isCopyOf(vol, source) }
