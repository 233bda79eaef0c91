package volume

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// VGInitSpec describes how much of which regions to give to volume groups.
type VGInitSpec struct {
	// Regions by name; none means all usable ones.
	Regions []string
	// Percent of each region, 1 to 100, rounded down; 0 is 100 if Size is 0.
	Percent int
	// Size in bytes that the group gets from each region, rounded up.
	Size uint64
	// Span creates one volume group across all regions, named VG.
	Span bool
	// VG is the name with Span, or an existing volume group to extend; "" is pmemvg with Span, and
	// otherwise pmemvg followed by the region's name.
	VG string
	// Whole gives regions without labels to volume groups, undivided. The regions must be named.
	Whole bool
	// OnlyZeros reads all of a region without labels; otherwise its two ends are enough for
	// NothingFound.
	OnlyZeros bool
	// MayErase is the content by region, as the steps of PlanVGInit have it, that may be lost.
	MayErase map[string]string
}

// VGInitStep is the change of one region.
type VGInitStep struct {
	Region string `json:"region"`
	VG     string `json:"vg"`
	// Has is the raw bytes of the region that the group already has, Add what it gets in addition.
	Has    uint64 `json:"raw_had"`
	Add    uint64 `json:"raw_added"`
	Reason string `json:"reason"` // why it gets no more, or other than asked
	// Caveat is what the memory of a region that is given whole does not promise.
	Caveat string `json:"caveat,omitempty"`
	// Erases is what is in a region without labels and is lost; NothingFound if nothing is
	// recognized. "" if no such region is given to the group.
	Erases string `json:"erases,omitempty"`

	group     lvm.VGRef      // UUID "" is a group to be created
	namespace pmem.Namespace // of a region without labels
}

// NothingFound is the content of a region whose two ends are zero.
const NothingFound = "nothing"

// Changes reports whether the step changes anything.
func (i VGInitStep) Changes() bool { return i.Add > 0 }

// DefaultSpanVG is the name of a volume group over several regions.
const DefaultSpanVG = "pmemvg"

// minMemberAdd is the minimum extension of a volume group, so that rounding does not add tiny
// namespaces.
const minMemberAdd = 64 * pmem.MiB

// metadataSize is the space in bytes that LVM's metadata takes on a device: an extent at the
// beginning, and one at the end for the second copy.
const metadataSize = 2 * ExtentSize

func (spec VGInitSpec) validate() error {
	switch {
	case spec.Percent < 0 || spec.Percent > 100:
		return errs.New(errs.Invalid, "", fmt.Sprintf("%d percent is out of range", spec.Percent), "use --percent 1 to 100")
	case spec.Percent != 0 && spec.Size != 0:
		return errs.New(errs.Invalid, "", "--percent and --size exclude each other", "use one of them")
	case spec.Size > maxSize:
		return tooLarge("", spec.Size, "see what there is: pmemctl region list")
	}
	if spec.Whole && len(spec.Regions) == 0 {
		return errs.New(errs.Invalid, "", "--whole requires the names of the regions", "see which have no labels: pmemctl region list")
	}
	if spec.VG == "" {
		return nil
	}
	return ValidateName(spec.VG)
}

// planVGInit plans the steps for all regions. If no regions were named, full and damaged ones are
// skipped; the damage is returned beside the steps.
func (v View) planVGInit(spec VGInitSpec) (steps []VGInitStep, damage, err error) {
	if err := spec.validate(); err != nil {
		return nil, nil, err
	}
	if len(spec.Regions) == 0 {
		for _, r := range v.PMEM.Regions {
			if reason, next := v.lostOrder(r); reason != "" {
				damage = errors.Join(damage, errs.New(errs.Damaged, "region "+r.Dev, reason, next))
			}
		}
	}
	regions, err := v.regionsToInit(spec)
	if damage != nil && err != nil {
		return nil, nil, damage
	}
	if err != nil {
		return nil, nil, err
	}
	var full error
	for _, r := range regions {
		step, err := v.planRegion(r, spec)
		switch {
		case err == nil:
			steps = append(steps, step)
		case len(spec.Regions) == 0 && errs.Is(err, errs.Damaged):
			damage = errors.Join(damage, err)
		case len(spec.Regions) == 0 && (errs.Is(err, errs.NoSpace) || errs.Is(err, errs.OutOfRange)):
			full = errors.Join(full, err)
		default:
			return nil, nil, err
		}
	}
	if len(steps) == 0 {
		return nil, nil, errors.Join(damage, full)
	}
	if err := v.oneKind(steps); err != nil {
		return nil, nil, err
	}
	return steps, damage, nil
}

// oneKind returns an error if a volume group would be on memory of different kinds: where in it a
// volume grows is not for its user to choose.
func (v View) oneKind(steps []VGInitStep) error {
	regions := map[string][]string{}
	for _, step := range steps {
		if !step.Changes() {
			continue
		}
		if vg, ok := v.LVM.Find(step.group); ok && regions[step.VG] == nil {
			regions[step.VG] = v.VGRegions(vg)
		}
		regions[step.VG] = append(regions[step.VG], step.Region)
	}
	for vg, in := range regions {
		for _, r := range in {
			if caveat, other := v.PMEM.BusOf(r).Caveat(), v.PMEM.BusOf(in[0]).Caveat(); caveat != other {
				return errs.New(errs.Unsupported, "volume group "+vg, fmt.Sprintf("would be on memory of different kinds: region %s (%s) and region %s (%s)", in[0], cmp.Or(other, "persistent"), r, cmp.Or(caveat, "persistent")), "create a group on each: omit --span, or name regions of one kind")
			}
		}
	}
	return nil
}

// regionsToInit returns the named regions, which must all be usable, or else all usable regions.
func (v View) regionsToInit(spec VGInitSpec) ([]pmem.Region, error) {
	names := spec.Regions
	var regions []pmem.Region
	for _, name := range names {
		r, ok := v.PMEM.Region(name)
		if !ok {
			return nil, v.noRegion(name)
		}
		if reason, next := v.unusableWhole(r, spec.Whole); reason != "" {
			return nil, errs.New(errs.Unsupported, "region "+r.Dev, reason, next)
		}
		if !slices.ContainsFunc(regions, func(have pmem.Region) bool { return have.Dev == name }) {
			regions = append(regions, r)
		}
	}
	if len(names) > 0 {
		return regions, nil
	}
	for _, r := range v.PMEM.Regions {
		if reason, _ := v.unusableWhole(r, false); reason == "" {
			regions = append(regions, r)
		}
	}
	if len(regions) == 0 {
		return nil, v.noRegion("")
	}
	return regions, nil
}

// UnusableForGroups is Unusable for volume groups.
func (v View) UnusableForGroups(r pmem.Region) (reason, next string) {
	return v.unusableWhole(r, false)
}

// unusableWhole is Unusable for a volume group, which may have a region without labels whole.
func (v View) unusableWhole(r pmem.Region, whole bool) (reason, next string) {
	switch {
	case r.Labels && whole:
		return "has labels and can be divided", "omit --whole: pmemctl vg init " + r.Dev
	case !r.Labels && (whole || v.WholeOwner(r) != ""):
		r.Labels = true // what else may be wrong with it
	}
	return v.Unusable(r)
}

// WholeOwner returns the volume group to which a region without labels belongs; "" if there is none.
func (v View) WholeOwner(r pmem.Region) (vg string) {
	for _, n := range v.PMEM.InRegion(r.Dev) {
		if mark, name := parseMark(n.Name); !r.Labels && !n.Labels && (mark == markMember || mark == markJoining) {
			vg = name
		}
	}
	return vg
}

func (v View) planRegion(r pmem.Region, spec VGInitSpec) (VGInitStep, error) {
	step := VGInitStep{Region: r.Dev, VG: spec.vgFor(r.Dev)}
	for _, n := range v.PMEM.InRegion(r.Dev) {
		mark, vg := parseMark(n.Name)
		if mark != markMember && mark != markJoining {
			continue
		}
		if d, damaged := v.memberDamage(n); damaged {
			return step, d.Error()
		}
		if _, in := v.groupOf(blockPath(n)); mark == markJoining && in { // and could not be settled
			return step, errs.New(errs.Damaged, "region "+r.Dev, "has "+n.Dev+", left by an interrupted vg init or vg remove of volume group "+vg, "see what it is: pmemctl tree")
		}
		if vg != step.VG {
			if spec.Span || spec.VG != "" {
				return step, errs.New(errs.Conflict, "region "+r.Dev, "already belongs to volume group "+vg, "remove that one first: pmemctl vg remove "+vg+"; or omit the region")
			}
			// The group keeps its name if the region's number changes.
			step.VG = vg
		}
		if mark == markMember {
			if in, ok := v.groupOf(blockPath(n)); ok {
				step.group = in.Ref()
				if in.Name != vg {
					return step, errs.New(errs.Conflict, "region "+r.Dev, "its namespace "+n.Dev+" is in volume group "+in.Name+", but was created for "+vg, "if the group was renamed: vgrename "+in.UUID+" "+vg)
				}
			}
			step.Has += n.RawSize
		}
	}
	if !spec.Span && spec.VG == "" && step.Has == 0 {
		step.VG = v.freeName(step.VG)
	}
	// An unreadable group may be the one that is about to be created.
	for _, n := range v.membersOf(step.VG) {
		if d, damaged := v.memberDamage(n); damaged {
			return step, d.Error()
		}
	}
	if vg, ok := v.group(step.VG); ok {
		if !v.Owns(vg) {
			return step, errs.New(errs.Conflict, "volume group "+vg.Name, "exists and was not created by pmemctl", "take it over (pmemctl adopt "+vg.Name+"), rename it (vgrename "+vg.Name+" NEWNAME), or choose a name: pmemctl vg init --span --name NAME "+r.Dev)
		}
		if step.group.UUID == "" {
			if vg, err := v.ownGroup(step.VG); err != nil {
				return step, err
			} else {
				step.group = vg.Ref()
			}
		}
		if err := v.whole(step.group); err != nil {
			return step, err
		}
	}
	if !r.Labels {
		return step, v.planWhole(r, spec, &step)
	}
	return step, v.planShare(r, spec, &step)
}

// planWhole plans to give a region without labels to a volume group.
func (v View) planWhole(r pmem.Region, spec VGInitSpec, step *VGInitStep) error {
	if step.Has > 0 {
		return nil
	}
	if !spec.Whole {
		return errs.New(errs.Damaged, "region "+r.Dev, "has a namespace without a label that an interrupted vg init or vg remove left", "continue it: pmemctl vg init "+r.Dev+" --whole; or: pmemctl vg remove "+step.VG)
	}
	if spec.Percent%100 != 0 || spec.Size != 0 {
		return errs.New(errs.Unsupported, "region "+r.Dev, "has no labels and cannot be divided", "omit --percent and --size")
	}
	in := v.PMEM.InRegion(r.Dev)
	if len(in) != 1 || !in[0].Enabled() {
		return errs.New(errs.Unsupported, "region "+r.Dev, "its namespace is disabled, so what it contains is not known", "ndctl enable-namespace -r "+r.Dev+" all")
	}
	step.Add, step.namespace = in[0].RawSize, in[0]
	return nil
}

// freeName returns a name for a region's volume group if the group of the usual name is on another
// region: region numbers may change at a reboot.
func (v View) freeName(name string) string {
	for candidate, i := name, 2; ; i++ {
		vg, ok := v.LVM.VG(candidate)
		if !ok || !v.Owns(vg) {
			return candidate
		}
		candidate = fmt.Sprintf("%s-%d", name, i)
	}
}

func (spec VGInitSpec) vgFor(region string) string {
	switch {
	case spec.VG != "":
		return spec.VG
	case spec.Span:
		return DefaultSpanVG
	}
	return DefaultSpanVG + region
}

// planShare calculates the size to add for the share.
func (v View) planShare(r pmem.Region, spec VGInitSpec, step *VGInitStep) error {
	align := r.SizeAlign(pmem.DefaultAlign)
	var target uint64
	switch {
	case spec.Size != 0:
		raw, err := pmem.RawFor(pmem.RoundUp(spec.Size, ExtentSize)+metadataSize, pmem.MapDev, pmem.DefaultAlign, align)
		if err != nil {
			return errs.Wrap(errs.OutOfRange, "region "+r.Dev, "the size is too large", "", err)
		}
		target = raw
		// A group created by an older version, with one copy of the metadata, has the requested
		// size.
		if old, err := pmem.RawFor(pmem.RoundUp(spec.Size, ExtentSize)+ExtentSize, pmem.MapDev, pmem.DefaultAlign, align); err == nil && step.Has >= old {
			target = min(target, step.Has)
		}
	default:
		percent := uint64(spec.Percent)
		if percent == 0 {
			percent = 100
		}
		target = pmem.RoundDown(r.Size/100*percent+r.Size%100*percent/100, align)
	}
	if target <= step.Has && step.Has > 0 {
		if target < step.Has {
			step.Reason = fmt.Sprintf("has %s, more than requested; a volume group never shrinks", pmem.FormatSize(step.Has))
		}
		return nil
	}
	missing := target - step.Has
	raw := min(r.MaxRaw(pmem.DefaultAlign), missing)
	switch {
	case raw >= min(minMemberAdd, missing) && raw >= pmem.MinNamespace:
		step.Add = raw
	case step.Has == 0:
		return v.noRoom(r, target)
	case missing >= align:
		step.Reason = fmt.Sprintf("has %s, and there is no room for more", pmem.FormatSize(step.Has))
	}
	if spec.Size != 0 && step.Has+pmem.RoundDown(r.AvailableSize, align) < target {
		return v.shareTooLarge(r, spec, step)
	}
	return nil
}

func (v View) shareTooLarge(r pmem.Region, spec VGInitSpec, step *VGInitStep) error {
	most := pmem.Usable(step.Has+step.Add, pmem.MapDev, pmem.DefaultAlign)
	most -= min(most, metadataSize)
	return errs.New(errs.NoSpace, "region "+r.Dev, fmt.Sprintf("%s does not fit; there is room for %s", pmem.FormatSize(spec.Size), pmem.FormatSize(most)), fmt.Sprintf("use --size %d or less, or --percent", most))
}

// noRoom is the error for a region without any usable space.
func (v View) noRoom(r pmem.Region, target uint64) error {
	subject := "region " + r.Dev
	align := r.SizeAlign(pmem.DefaultAlign)
	var others []string
	next := "delete volumes, or destroy a namespace that is not needed: pmemctl namespace destroy NAME (its data is lost)"
	for _, n := range v.PMEM.InRegion(r.Dev) {
		owner, own := Owned(n.Name)
		if mark, _ := parseMark(n.Name); mark == markRemoving {
			next = "erase the deleted volumes: pmemctl gc"
		}
		if !own {
			owner = "not created by pmemctl"
		}
		others = append(others, fmt.Sprintf("%s (%s, %s, %s)", n.Dev, n.Mode, pmem.FormatSize(n.RawSize), owner))
	}
	switch {
	case len(others) > 0:
		return errs.New(errs.NoSpace, subject, "has no room: it is used by "+strings.Join(others, ", "), next)
	case target < pmem.MinNamespace && r.Size >= max(pmem.MinNamespace, align):
		return errs.New(errs.OutOfRange, subject, fmt.Sprintf("the share is smaller than the smallest namespace: %s, in steps of %s", pmem.FormatSize(pmem.MinNamespace), pmem.FormatSize(align)), "use a larger --percent or --size")
	case r.Size < pmem.MinNamespace || r.Size < align:
		return errs.New(errs.Unsupported, subject, fmt.Sprintf("is too small (%s) for a namespace", pmem.FormatSize(r.Size)), "use another region: pmemctl region list")
	}
	return errs.New(errs.NoSpace, subject, "has no room", "see why: pmemctl region show "+r.Dev)
}
