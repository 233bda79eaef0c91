package volume

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Type is the type of a volume.
type Type string

// The types of a volume.
const (
	TypeLVM    Type = "lvm"    // a logical volume
	TypeDirect Type = "direct" // an fsdax namespace
)

// ParseType parses a type.
func ParseType(s string) (Type, error) {
	switch t := Type(s); t {
	case TypeLVM, TypeDirect:
		return t, nil
	}
	return "", errs.New(errs.Invalid, "type "+quote(s), "is not a volume type", "use lvm or direct")
}

// Spec describes a volume to create.
type Spec struct {
	Name string
	Type Type
	// Size is the minimum size in bytes.
	Size uint64
	// Max requests the largest size that is possible now; an existing volume of any size has it.
	Max bool
	// Limit is the maximum size in bytes; 0 is no limit.
	Limit uint64
	// Region and VG are the place; "" leaves the choice to the service.
	Region, VG string
	// Within are the regions that the volume may be in; none means any.
	Within []string
	// FS is ext4, xfs or none.
	FS string
	// MkfsOptions are passed to mkfs.
	MkfsOptions []string
	// Stripe stripes an lvm volume across the devices of its volume group.
	Stripe bool
	// MapSync requires that files of the volume can be mapped with MAP_SYNC.
	MapSync bool
	// OrLarger accepts an existing volume that is larger than Size, up to Limit.
	OrLarger bool
	// OrExisting makes Clone accept an existing copy of the same source.
	OrExisting bool
	// NoErase makes DeleteAsCreated leave the volume's data on the medium.
	NoErase bool

	// SpaceWait is how long a create waits for the space of deleted volumes; 0 is not at all.
	SpaceWait time.Duration

	copyOf string // UUID of the source if it is a copy
	forFS  bool   // it is a copy of a volume that was created for a file system
}

// MaxName is the maximum length in bytes of a volume's name: with a mark in front of it, it must
// fit into the alt name of a namespace.
const MaxName = pmem.MaxAltName - len(markRemoving)

// maxMapperName leaves room for a mark and the name of the volume group in the 127 bytes of a
// device mapper's name.
const maxMapperName = 90

// maxSize exceeds the address space of any machine.
const maxSize = 1 << 57

// ExtentSize is the extent size of pmemctl's volume groups in bytes, and the alignment of their
// data, so that every logical volume is aligned to huge pages.
const ExtentSize = 2 * pmem.MiB

var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// Names that lvm reserves (lib/misc/lvm-string.c, lvm2).
var (
	lvmReservedPrefixes = []string{"snapshot", "pvmove"}
	lvmReservedParts    = []string{"_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_wcorig", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin"}
)

// ValidateName checks a volume's name against the rules of both LVM and namespaces, so that a name
// does not depend on the type.
func ValidateName(name string) error {
	const next = "use at most 54 letters, digits, '_', '.' and '-', beginning with a letter or digit"
	bad := func(reason string) error {
		return errs.New(errs.Invalid, "volume name "+quote(name), reason, next)
	}
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > MaxName:
		return bad(fmt.Sprintf("is %d bytes long; the maximum is %d", len(name), MaxName))
	case !nameSyntax.MatchString(name):
		return bad("has a character that is not allowed")
	case len(name)+strings.Count(name, "-") > maxMapperName:
		return bad("has too many hyphens: the device mapper writes each of them twice")
	}
	for _, p := range lvmReservedPrefixes {
		if strings.HasPrefix(name, p) {
			return bad("begins with " + p + ", which LVM reserves")
		}
	}
	for _, p := range lvmReservedParts {
		if strings.Contains(name, p) {
			return bad("contains " + p + ", which LVM reserves")
		}
	}
	return nil
}

// InlinePrefix is the prefix of the names of inline volumes, which have the lifecycle of their pod.
const InlinePrefix = "ephemeral-"

var inlineName = regexp.MustCompile("^" + InlinePrefix + "[0-9a-f]{32}$")

// IsInline reports whether a name is that of an inline volume, which the CSI server removes at
// startup if kubelet has no pod for it. A user's volume ephemeral-something is not an inline volume.
func IsInline(name string) bool { return inlineName.MatchString(name) }

// ValidateNotInline refuses the name of an inline volume for another volume, because the CSI server
// would delete it.
func ValidateNotInline(name string) error {
	if IsInline(name) {
		return errs.New(errs.Invalid, fmt.Sprintf("volume name %q", name), "is reserved for inline volumes, which serve-csi deletes", "choose another name")
	}
	return nil
}

// quote quotes and shortens user input for a message.
func quote(s string) string {
	const most = 40
	if len(s) > most {
		return fmt.Sprintf("%.40q…", s)
	}
	return fmt.Sprintf("%q", s)
}

// mayUse reports whether a new volume may be in a region.
func (v View) mayUse(region string, s Spec) bool {
	return (s.Region == "" || s.Region == region) && (len(s.Within) == 0 || slices.Contains(s.Within, region)) && (!s.MapSync || v.PMEM.MapSync(region))
}

// noMapSync is the error for a volume that requires MAP_SYNC if, of some regions that have space for
// its type, it may be in one that refuses it and in none that permits it.
func (v View) noMapSync(spec Spec, regions []string) error {
	if !spec.MapSync {
		return nil
	}
	others := spec
	others.MapSync = false
	refusing := slices.DeleteFunc(slices.Clone(regions), func(r string) bool { return !v.mayUse(r, others) })
	if len(refusing) == 0 || slices.ContainsFunc(refusing, v.PMEM.MapSync) {
		return nil
	}
	return errs.New(errs.Unsupported, subject(spec.Name), "requires MAP_SYNC, which the kernel refuses on region "+refusing[0]+" (virtio-pmem)", "create it where there is other PMEM, or do not require it")
}

func (s *Spec) validate() error {
	if err := ValidateName(s.Name); err != nil {
		return err
	}
	if _, err := ParseType(string(s.Type)); err != nil {
		return err
	}
	switch s.FS {
	case mount.Ext4, mount.XFS, mount.None:
	default:
		return errs.New(errs.Invalid, subject(s.Name), fmt.Sprintf("file system %s is not supported", quote(s.FS)), "use ext4, xfs or none")
	}
	least, most := s.Size, s.Size
	if s.Max {
		least, most = max(s.Size, 1), cmp.Or(s.Limit, maxSize)
	}
	if err := validateSize(s.Name, least, s.Limit); err != nil {
		return err
	}
	if err := validateMkfsOptions(s.FS, s.MkfsOptions); err != nil {
		return err
	}
	if s.FS == mount.XFS && most < mount.MinXFS {
		return errs.New(errs.OutOfRange, subject(s.Name), "XFS needs at least 300 MiB", "use --size 300Mi or more, or --fs ext4")
	}
	return layoutOf(s.Type).validate(*s)
}

// validateSize checks a minimum size and a limit in bytes; a limit of 0 is none.
func validateSize(name string, size, limit uint64) error {
	switch {
	case size == 0:
		return errs.New(errs.Invalid, subject(name), "the size must be greater than 0", "specify a size, for example --size 10Gi")
	case size > maxSize:
		return tooLarge(subject(name), size, "see what fits: pmemctl capacity")
	case limit != 0 && limit < size:
		return errs.New(errs.Invalid, subject(name), fmt.Sprintf("the limit of %s is less than the size of %s", pmem.FormatSize(limit), pmem.FormatSize(size)), "raise the limit, or request less")
	}
	return nil
}

// tooLarge is the error for a size in bytes above maxSize.
func tooLarge(subject string, size uint64, next string) error {
	return errs.New(errs.OutOfRange, subject, pmem.FormatSize(size)+" exceeds the address space of any machine", next)
}

// mkfsFlags are the flags of mkfs.ext4 and mkfs.xfs that define the layout of a file system, each
// with a value. Labels and UUIDs are excluded, because they could be those of a file system of the
// host.
var mkfsFlags = map[string][]string{
	mount.Ext4: {"-b", "-C", "-E", "-g", "-G", "-i", "-I", "-m", "-N", "-O"},
	mount.XFS:  {"-b", "-d", "-i", "-l", "-m", "-n", "-s"},
}

// mkfsElsewhere are the suboptions that name another device or file, or another place on the
// device.
var mkfsElsewhere = []string{"device", "name", "logdev", "rtdev", "dev", "root_owner", "offset", "fd", "uuid"}

// hidesOldBytes reports whether the file system of a volume shows nothing of old data below it,
// even after a power failure. ext4 without a journal may write a block of metadata before the
// block that it points to, and without checksums takes old data there for metadata.
func (s Spec) hidesOldBytes() bool {
	if s.FS == mount.None {
		return s.forFS
	}
	for i, o := range s.MkfsOptions {
		if s.FS == mount.Ext4 && i > 0 && s.MkfsOptions[i-1] == "-O" && (strings.Contains(o, "^") || slices.Contains(strings.Split(o, ","), "none")) {
			return false
		}
	}
	return true
}

// validateMkfsOptions rejects options that name a file or another device: a user who may choose
// the layout of a volume must not be able to read the host or write to it.
func validateMkfsOptions(fs string, options []string) error {
	bad := func(o, reason string) error {
		return errs.New(errs.Invalid, "mkfs option "+quote(o), reason, "use mkfs flags with values, for example -i 65536")
	}
	value := false
	for _, o := range options {
		switch {
		case strings.ContainsAny(o, "/\\") || strings.ContainsFunc(o, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			return bad(o, "names a file or a device")
		case value:
			for _, part := range strings.Split(o, ",") {
				name, _, given := strings.Cut(part, "=")
				if name == "file" || given && slices.Contains(mkfsElsewhere, name) {
					return bad(o, "refers to another device or file")
				}
				if name == "assume_storage_prezeroed" || name == "lazy_journal_init" {
					return bad(o, "makes mkfs rely on zeros where old data may be")
				}
			}
			value = false
		case !strings.HasPrefix(o, "-"):
			return bad(o, "is not a flag of mkfs")
		case !slices.Contains(mkfsFlags[fs], o):
			return bad(o, "is not allowed for "+fs)
		default:
			value = true
		}
	}
	if value {
		return bad(options[len(options)-1], "has no value")
	}
	return nil
}

// quoteIfOdd quotes a name unless it is a usual one.
func quoteIfOdd(s string) string {
	if nameSyntax.MatchString(s) && len(s) <= 40 {
		return s
	}
	return quote(s)
}
