package volume

import "strings"

// The marks on pmemctl's objects.
//
// A direct volume is a namespace whose alt name is a mark and the volume's name; a member of a
// volume group has a mark and the group's name. A logical volume has the volume's name and a tag,
// a second tag while it is unfinished, and another one if it was created for a file system, which
// a direct volume shows by the UUID in its info block (infoUUID). Only the extension of a volume has a
// mark in its name. Volume groups have the tag.
const (
	tag         = "pmemctl"
	tagMaking   = "pmemctl.making"
	tagRemoving = "pmemctl.removing" // of earlier versions, in place of the mark
	tagCopyOf   = "pmemctl.copy-of." // and the UUID of the source
	tagForFS    = "pmemctl.filesystem"

	markVolume   = "pmemctl:"  // a direct volume
	markAdopted  = "pmemctl:@" // a direct volume with a file system that another program created; the host's udev rule knows the colon
	markMaking   = "pmemctl+"  // a volume, or an extension of one, not yet cleared and formatted
	markRemoving = "pmemctl+-" // a deleted volume, which is being erased or waits for it
	markMember   = "pmemctl="  // belongs to a volume group
	markJoining  = "pmemctl*"  // not yet, or no longer, part of a volume group: no volume has an extent on it
)

// State is the lifecycle state of a volume.
type State string

// The states of a volume. Only a ready volume can be used.
const (
	Ready    State = "ready"    // its device may still have to be brought up
	Creating State = "creating" // somebody is at work on it, or was killed
	Deleting State = "deleting" // it is no volume any more, and its space is not free yet
	Damaged  State = "damaged"  // was ready, and its device is not what it was
)

// parseMark splits a name into its mark and the rest; the mark is "" if there is none.
func parseMark(s string) (mark, name string) {
	// Only logical volumes have a suffix that distinguishes deleted volumes of the same name.
	if deleted, ok := strings.CutPrefix(s, markRemoving); ok {
		s, _, _ = strings.Cut(deleted, "+")
		s = markRemoving + s
	}
	// No volume name begins with a hyphen, so the longer mark is tried first.
	for _, m := range []string{markRemoving, markAdopted, markVolume, markMaking, markMember, markJoining} {
		if name, ok := strings.CutPrefix(s, m); ok && ValidateName(name) == nil {
			return m, name
		}
	}
	return "", s
}

// Owned reports whether the alt name of a namespace has a mark of pmemctl, and returns the owner,
// for example "volume db" or "volume group pmemvgregion0".
func Owned(altName string) (owner string, ok bool) {
	switch mark, name := parseMark(altName); mark {
	case markVolume, markAdopted, markMaking, markRemoving:
		return "volume " + name, true
	case markMember, markJoining:
		return "volume group " + name, true
	}
	return "", false
}
