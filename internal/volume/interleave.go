package volume

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// A CXL region is created again after each boot. With another interleave granularity its content is
// scrambled, and the kernel cannot tell: the interleave set has the same cookie, labels are valid,
// and an info block or metadata that happens to lie within one granule is, too. So pmemctl records
// the granularity in the one field of the info block that it may choose and that is visible while
// the namespace is enabled: its UUID.

// infoUUID returns the UUID in the info block of a namespace with a UUID: it records whether it was
// created for a file system, and the interleave granularity in bytes, 0 for none. It is "" if there
// is nothing to record.
func infoUUID(namespace string, forFS bool, granularity uint64) string {
	what := ""
	switch {
	case forFS && granularity != 0:
		what = fmt.Sprintf("filesystem-interleave-%d", granularity)
	case forFS:
		what = "filesystem"
	case granularity != 0:
		what = fmt.Sprintf("interleave-%d", granularity)
	default:
		return ""
	}
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("pmemctl:"+what+"/"+namespace)).String()
}

// recordedOf returns the interleave granularity that is recorded for a namespace: in its info block,
// or else for its region; 0 for none.
func recordedOf(n pmem.Namespace) uint64 {
	if _, granularity := recordedIn(n); granularity != 0 {
		return granularity
	}
	return n.RecordedGranularity
}

// recordedIn returns what the UUID in the info block of a namespace records; granularity is 0 if it
// records none.
func recordedIn(n pmem.Namespace) (forFS bool, granularity uint64) {
	if id, err := uuid.Parse(n.InfoUUID); err != nil || id.Version() != 5 {
		return false, 0
	}
	if n.InfoUUID == infoUUID(n.UUID, true, 0) {
		return true, 0
	}
	for g := uint64(pmem.MinGranularity); g <= pmem.MaxGranularity; g *= 2 {
		for _, forFS := range []bool{true, false} {
			if n.InfoUUID == infoUUID(n.UUID, forFS, g) {
				return forFS, g
			}
		}
	}
	return false, 0
}

// hiddenSpace says what is wrong with a CXL region in which others' labels take space.
func hiddenSpace(r pmem.Region) (reason, next string) {
	return fmt.Sprintf("has %s in namespaces that are not visible: it was created with other devices than before, or in another order", pmem.FormatSize(r.HiddenSize)),
		fmt.Sprintf("create it as it was: cxl disable-region %[1]s; cxl destroy-region %[1]s; pmemctl region restore; if they are no longer needed: pmemctl region init-labels %[1]s (destroys what is in it)", r.Dev)
}

// notUp says why a namespace that is a volume, or for a volume group, does not show its
// content although it is enabled; "" if it does, or if it is anything else.
func notUp(n pmem.Namespace) (reason, next string) {
	switch mark, _ := parseMark(n.Name); mark {
	case markVolume, markAdopted, markMember, markJoining:
		if n.Enabled() {
			return whyNotUp(n)
		}
	}
	return "", ""
}

// CheckSavable returns an error if a CXL region is not what it was when it got its content, as far as that
// shows. With force, what only seems so is saved.
func CheckSavable(s pmem.System, force bool) error {
	for _, n := range s.Namespaces {
		reason, next := notUp(n)
		if isScrambled(n) && reason != "" || reason != "" && n.Granularity != 0 && !force {
			return errs.New(errs.Damaged, "region "+n.Region, "is not saved: "+reason, next)
		}
	}
	for _, r := range s.Regions {
		if reason, next := hiddenSpace(r); r.HiddenSize > 0 && !force {
			return errs.New(errs.Damaged, "region "+r.Dev, "is not saved: it "+reason, next)
		}
	}
	return nil
}

// lostOrder says what is wrong with a CXL region, as far as its namespaces show it. What is created in
// it now would be scrambled once the region is what it was.
func (v View) lostOrder(r pmem.Region) (reason, next string) {
	if r.HiddenSize > 0 {
		return hiddenSpace(r)
	}
	for _, n := range v.PMEM.InRegion(r.Dev) {
		if reason, next := notUp(n); reason != "" && (r.Granularity != 0 || isScrambled(n)) {
			return reason, next
		}
	}
	return "", ""
}

// isScrambled reports whether the region of a namespace has another interleave granularity than
// when the namespace was created.
func isScrambled(n pmem.Namespace) bool {
	granularity := recordedOf(n)
	return granularity != 0 && granularity != n.Granularity
}

// whyNotUp says why a finished namespace of pmemctl's does not show its content; "" if it does.
func whyNotUp(n pmem.Namespace) (reason, next string) {
	had := recordedOf(n)
	switch {
	case isScrambled(n):
		return fmt.Sprintf("its namespace %s is scrambled: the interleave granularity of %s was %d bytes when it was created, and is %d now", n.Dev, n.Region, had, n.Granularity),
			fmt.Sprintf("write nothing to it; create the region as it was: cxl disable-region %[1]s; cxl destroy-region %[1]s; pmemctl region restore, or cxl create-region -g %[2]d with the same devices in the same order", n.Region, had)
	case n.Mode == pmem.ModeFSDAX:
		return "", ""
	}
	reason, next = "its namespace "+n.Dev+" did not come up as fsdax: its info block is lost", "look for media errors: pmemctl namespace show "+n.Dev
	if n.Granularity != 0 {
		next = fmt.Sprintf("if the interleave granularity of %s is not what it was (now %d bytes), create the region as it was: pmemctl region restore; else %s", n.Region, n.Granularity, next)
	}
	return reason, next
}
