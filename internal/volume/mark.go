package volume

import "strings"

// The marks that pmemctl puts on what it makes.
//
// A direct volume is a namespace whose alt name is a mark and the volume's name;
// a namespace that belongs to a volume group has the group's name instead. A
// logical volume has the volume's name and the tag, with a second tag as long as
// it is not finished, and another if it was made for a file system, of which a direct
// volume has filesystemUUID in its info block; only the extension of a volume has a mark in its name.
// Volume groups have the tag.
const (
	tag         = "pmemctl"
	tagMaking   = "pmemctl.making"
	tagRemoving = "pmemctl.removing" // of earlier versions, in place of the mark
	tagCopyOf   = "pmemctl.copy-of." // and the UUID of the source
	tagForFS    = "pmemctl.filesystem"

	markVolume   = "pmemctl:"  // a direct volume
	markMaking   = "pmemctl+"  // a volume, or an extension of one, not yet cleared and formatted
	markRemoving = "pmemctl+-" // a deleted volume, which is being erased or waits for it
	markMember   = "pmemctl="  // belongs to a volume group
	markJoining  = "pmemctl*"  // not yet, or no longer, part of a volume group: no volume has an extent on it
)

// State is where a volume is in its life.
type State string

// The states of a volume. Only a ready volume has ever been shown as usable.
const (
	Ready    State = "ready"    // its device may still have to be brought up
	Creating State = "creating" // somebody is at work on it, or was killed
	Deleting State = "deleting" // it is no volume any more, and its space is not free yet
	Damaged  State = "damaged"  // was ready, and its device is not what it was
)

// parseMark splits a marked name; the mark is "" for a name that has none.
func parseMark(s string) (mark, name string) {
	// Only logical volumes have the end that keeps two deleted ones of a name apart.
	if deleted, ok := strings.CutPrefix(s, markRemoving); ok {
		s, _, _ = strings.Cut(deleted, "+")
		s = markRemoving + s
	}
	// No volume's name begins with a hyphen, so that the longer mark goes first.
	for _, m := range []string{markRemoving, markVolume, markMaking, markMember, markJoining} {
		if name, ok := strings.CutPrefix(s, m); ok && ValidateName(name) == nil {
			return m, name
		}
	}
	return "", s
}

// Owned reports whether the alt name of a namespace has a mark of pmemctl, and
// what it is for: "volume db" or "volume group pmemvgregion0".
func Owned(altName string) (owner string, ok bool) {
	switch mark, name := parseMark(altName); mark {
	case markVolume, markMaking, markRemoving:
		return "volume " + name, true
	case markMember, markJoining:
		return "volume group " + name, true
	}
	return "", false
}
