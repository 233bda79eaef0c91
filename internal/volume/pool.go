package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// InitSpec says how much of which regions is for lvm volumes.
type InitSpec struct {
	// Regions by name; none means all that can be used.
	Regions []string
	// Percent of each region, 1 to 100, rounded down; 0 is 100 when Size is 0.
	Percent int
	// Size in bytes that each region adds to its volume group, rounded up.
	Size uint64
	// Span makes one volume group over all regions, named VG.
	Span bool
	// VG is the name with Span, or an existing volume group to extend; "" is
	// pmemvg with Span, and otherwise pmemvg and the region's name for each.
	VG string
}

// InitStep is what Init does to one region.
type InitStep struct {
	Region string `json:"region"`
	VG     string `json:"vg"`
	// Has is the raw bytes of the region that the group has already, Add what it
	// gets in addition.
	Has    uint64 `json:"raw_had"`
	Add    uint64 `json:"raw_added"`
	Reason string `json:"reason"` // why it gets no more, or other than asked

	// devices of the region that are the group's, but not in it yet.
	pending []string
	create  bool
}

// Changes tells whether the step changes anything.
func (i InitStep) Changes() bool { return i.Add > 0 || len(i.pending) > 0 }

// DefaultSpanVG is the name of a volume group over several regions.
const DefaultSpanVG = "pmemvg"

// minPoolAdd is the least that a volume group is enlarged by, so that no crumbs
// are added for a rounding.
const minPoolAdd = 64 * pmem.MiB

// metadataSize is what LVM takes of a device for its metadata: an extent at the
// beginning, and one at the end for the second copy.
const metadataSize = 2 * ExtentSize

// endSize is how much of both ends of a namespace is cleared of what blkid, LVM,
// MD or GPT could find there.
const endSize = 4 * pmem.MiB

// PlanInit tells what Init would do, and changes nothing.
func (s *Service) PlanInit(ctx context.Context, spec InitSpec) ([]InitStep, error) {
	v, err := s.LookAtEverything(ctx)
	if err != nil {
		return nil, err
	}
	return s.planInit(ctx, v, spec)
}

// Init gives regions, or a share of them, to volume groups. A region whose group
// has its share already is left as it is; a share that is raised is added; one
// that is lowered changes nothing.
func (s *Service) Init(ctx context.Context, spec InitSpec) (steps []InitStep, err error) {
	err = s.changing(ctx, func() error {
		v, err := s.LookAtEverything(ctx)
		if err != nil {
			return err
		}
		if v, err = s.removeNewPools(ctx, v); err != nil {
			return err
		}
		if v, err = s.removeAbandoned(ctx, v, ""); err != nil {
			return err
		}
		if v, err = s.enablePools(ctx, v); err != nil {
			return err
		}
		steps, err = s.initAll(ctx, v, spec)
		return err
	})
	return steps, err
}

// initAll plans and does it until there is nothing left to do: only the largest
// free extent of a region is known, so that each round adds one namespace to it.
func (s *Service) initAll(ctx context.Context, v View, spec InitSpec) ([]InitStep, error) {
	done, err := s.planInit(ctx, v, spec)
	for steps := done; err == nil && slices.ContainsFunc(steps, InitStep.Changes); {
		for _, step := range steps {
			if err := s.initRegion(ctx, step); err != nil {
				return nil, errs.Wrap("", "region "+step.Region, "is not all in volume group "+step.VG+" yet", "try again: it goes on where it was", err)
			}
		}
		if v, err = s.LookAtEverything(ctx); err != nil {
			return nil, err
		}
		if steps, err = s.planInit(ctx, v, spec); err != nil {
			return nil, err
		}
		for i := range steps {
			done[i].Add += steps[i].Add
			done[i].Reason = steps[i].Reason
		}
	}
	return done, err
}

// removeNewPools removes namespaces that a killed Init did not get to the end
// of: no volume group has them. The host is locked, so nobody is at work on them.
func (s *Service) removeNewPools(ctx context.Context, v View) (View, error) {
	removed := false
	for _, n := range v.PMEM.Namespaces {
		if mark, _ := parseMark(n.Name); mark != markPoolNew {
			continue
		}
		if err := s.NDCTL.DestroyNamespace(n.UUID); err != nil {
			return v, errs.Wrap("", "namespace "+n.Dev, "left by an interrupted vg init, could not be removed", "", err)
		}
		removed = true
	}
	if !removed {
		return v, nil
	}
	return s.LookAtEverything(ctx)
}

// enablePools brings up the namespaces of volume groups that a crash left
// disabled.
func (s *Service) enablePools(ctx context.Context, v View) (View, error) {
	enabled := false
	for _, n := range v.PMEM.Namespaces {
		if mark, vg := parseMark(n.Name); mark == markPool && !n.Enabled() {
			if _, err := s.NDCTL.EnableNamespace(n.UUID); err != nil {
				return v, errs.Wrap("", "namespace "+n.Dev, "of volume group "+vg+" does not come up", "see why: dmesg | tail", err)
			}
			enabled = true
		}
	}
	if !enabled {
		return v, nil
	}
	return s.LookAtEverything(ctx)
}

func (spec InitSpec) validate() error {
	switch {
	case spec.Percent < 0 || spec.Percent > 100:
		return errs.Invalidf("", "use --percent 1 to 100", "%d percent is not possible", spec.Percent)
	case spec.Percent != 0 && spec.Size != 0:
		return errs.Invalidf("", "use one of them", "--percent and --size exclude each other")
	case spec.Size > maxSize:
		return errs.New(errs.OutOfRange, "", pmem.FormatSize(spec.Size)+" are more than any machine has", "see what there is: pmemctl region list")
	}
	if spec.VG == "" {
		return nil
	}
	return ValidateName(spec.VG)
}

func (s *Service) planInit(ctx context.Context, v View, spec InitSpec) ([]InitStep, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	regions, err := v.regionsToInit(spec.Regions)
	if err != nil {
		return nil, err
	}
	var steps []InitStep
	var full error
	for _, r := range regions {
		step, err := v.planRegion(r, spec)
		switch {
		case err == nil:
			steps = append(steps, step)
		case len(spec.Regions) == 0 && (errs.Is(err, errs.NoSpace) || errs.Is(err, errs.OutOfRange)):
			full = errors.Join(full, err) // of all regions, those that can are used
		default:
			return nil, err
		}
	}
	if len(steps) == 0 {
		return nil, full
	}
	return steps, s.checkNamesakes(ctx, v, steps)
}

// regionsToInit are the regions named, each of which must be usable, or else
// all that are usable.
func (v View) regionsToInit(names []string) ([]pmem.Region, error) {
	var regions []pmem.Region
	for _, name := range names {
		r, ok := v.PMEM.Region(name)
		if !ok {
			return nil, v.noRegion(name)
		}
		if reason, next := unusable(r, v); reason != "" {
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
		if reason, _ := unusable(r, v); reason == "" {
			regions = append(regions, r)
		}
	}
	if len(regions) == 0 {
		return nil, v.noRegion("")
	}
	return regions, nil
}

func (v View) planRegion(r pmem.Region, spec InitSpec) (InitStep, error) {
	step := InitStep{Region: r.Dev, VG: spec.vgFor(r.Dev)}
	for _, n := range v.PMEM.InRegion(r.Dev) {
		mark, vg := parseMark(n.Name)
		if mark != markPool {
			continue
		}
		if vg != step.VG {
			if spec.Span || spec.VG != "" {
				return step, errs.New(errs.Conflict, "region "+r.Dev, "has its share in volume group "+vg+" already", "remove that one first: pmemctl vg remove "+vg+"; or leave the region out")
			}
			// The group keeps its name when the region's number changes.
			step.VG = vg
		}
		step.Has += n.RawSize
		if !v.inVG(n, step.VG) {
			step.pending = append(step.pending, "/dev/"+n.Blockdev)
		}
	}
	if !spec.Span && spec.VG == "" && step.Has == 0 {
		step.VG = v.freeName(step.VG)
	}
	if vg, ok := v.LVM.VG(step.VG); ok {
		if !v.Owns(vg) {
			return step, errs.New(errs.Conflict, "volume group "+vg.Name, "exists and was not made by pmemctl", "rename it (vgrename "+vg.Name+" NEWNAME), or choose a name: pmemctl vg init --span --name NAME "+r.Dev)
		}
		if err := v.whole(vg.Name); err != nil {
			return step, err
		}
	} else {
		step.create = true
	}
	return step, v.planShare(r, spec, &step)
}

// freeName is a name for a region's own volume group, when the group of that name
// is on another region: regions may change numbers over a reboot.
func (v View) freeName(name string) string {
	for candidate, i := name, 2; ; i++ {
		vg, ok := v.LVM.VG(candidate)
		if !ok || !v.Owns(vg) {
			return candidate
		}
		candidate = fmt.Sprintf("%s-%d", name, i)
	}
}

func (spec InitSpec) vgFor(region string) string {
	switch {
	case spec.VG != "":
		return spec.VG
	case spec.Span:
		return DefaultSpanVG
	}
	return DefaultSpanVG + region
}

func (v View) inVG(n pmem.Namespace, name string) bool {
	vg, ok := v.LVM.VG(name)
	return ok && slices.ContainsFunc(vg.PVs, func(pv lvm.PV) bool { return pv.Name == "/dev/"+n.Blockdev })
}

// planShare works out what namespaces are to be added for the share.
func (v View) planShare(r pmem.Region, spec InitSpec, step *InitStep) error {
	align := r.SizeAlign(pmem.DefaultAlign)
	var target uint64
	switch {
	case spec.Size != 0:
		raw, err := pmem.RawFor(pmem.RoundUp(spec.Size, ExtentSize)+metadataSize, pmem.MapDev, pmem.DefaultAlign, align)
		if err != nil {
			return errs.Wrap(errs.OutOfRange, "region "+r.Dev, "the size is too large", "", err)
		}
		target = raw
	default:
		percent := uint64(spec.Percent)
		if percent == 0 {
			percent = 100
		}
		target = pmem.RoundDown(r.Size/100*percent+r.Size%100*percent/100, align)
	}
	if target <= step.Has {
		if target < step.Has {
			step.Reason = fmt.Sprintf("has %s, more than asked; a volume group never shrinks", pmem.FormatSize(step.Has))
		}
		return nil
	}
	missing := target - step.Has
	raw := min(r.MaxRaw(pmem.DefaultAlign), missing)
	switch {
	case raw >= min(minPoolAdd, missing) && raw >= pmem.MinNamespace:
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

func (v View) shareTooLarge(r pmem.Region, spec InitSpec, step *InitStep) error {
	most := pmem.Usable(step.Has+step.Add, pmem.MapDev, pmem.DefaultAlign)
	most -= min(most, metadataSize)
	return errs.New(errs.NoSpace, "region "+r.Dev, fmt.Sprintf("%s do not fit; there is room for %s", pmem.FormatSize(spec.Size), pmem.FormatSize(most)), fmt.Sprintf("use --size %d or less, or --percent", most))
}

// noRoom says why a region can give nothing at all.
func (v View) noRoom(r pmem.Region, target uint64) error {
	subject := "region " + r.Dev
	align := r.SizeAlign(pmem.DefaultAlign)
	var others []string
	for _, n := range v.PMEM.InRegion(r.Dev) {
		owner, own := Owned(n.Name)
		if !own {
			owner = "not made by pmemctl"
		}
		others = append(others, fmt.Sprintf("%s (%s, %s, %s)", n.Dev, n.Mode, pmem.FormatSize(n.RawSize), owner))
	}
	switch {
	case len(others) > 0:
		return errs.New(errs.NoSpace, subject, "has no room: it is taken by "+strings.Join(others, ", "), "delete volumes, or destroy a namespace that is not needed: pmemctl namespace destroy NAME (its data is lost)")
	case target < pmem.MinNamespace:
		return errs.New(errs.OutOfRange, subject, fmt.Sprintf("the share comes to less than the smallest namespace, %s, in steps of %s", pmem.FormatSize(pmem.MinNamespace), pmem.FormatSize(align)), "use a larger --percent or --size")
	case r.Size < pmem.MinNamespace || r.Size < align:
		return errs.New(errs.Unsupported, subject, fmt.Sprintf("is too small (%s) for a namespace", pmem.FormatSize(r.Size)), "use another region: pmemctl region list")
	}
	return errs.New(errs.NoSpace, subject, "has no room", "see why: pmemctl region show "+r.Dev)
}

// checkNamesakes looks for other volume groups of the names that are to be made,
// on disks of every kind.
func (s *Service) checkNamesakes(ctx context.Context, v View, steps []InitStep) error {
	var names []string
	for _, step := range steps {
		if step.create && step.Changes() {
			names = append(names, step.VG)
		}
	}
	if len(names) == 0 {
		return nil
	}
	all, err := s.AllDisks.Report(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if vg, ok := all.VG(name); ok {
			where := ""
			if len(vg.PVs) > 0 {
				where = " on " + vg.PVs[0].Name
			}
			return errs.New(errs.Conflict, "volume group "+name, "exists"+where+" and was not made by pmemctl", "rename it (vgrename "+name+" NEWNAME), or choose a name: pmemctl vg init --span --name NAME")
		}
	}
	return nil
}

// initRegion makes the namespaces of a step and puts them, and those pending,
// into the group. The host is locked.
func (s *Service) initRegion(ctx context.Context, step InitStep) error {
	devices := slices.Clone(step.pending)
	if step.Add > 0 {
		device, err := s.makePool(ctx, step.Region, step.VG, step.Add)
		if err != nil {
			return err
		}
		devices = append(devices, device)
	}
	if len(devices) == 0 {
		return nil
	}
	state, err := s.LVM.Report(ctx)
	if err != nil {
		return err
	}
	// With Span the region before this one may have made it.
	if _, exists := state.VG(step.VG); exists {
		return s.LVM.ExtendVG(ctx, step.VG, ExtentSize, devices...)
	}
	if err := waitUntilGone(ctx, "/dev/"+step.VG); err != nil {
		return err
	}
	return s.LVM.CreateVG(ctx, step.VG, tag, ExtentSize, ExtentSize, devices...)
}

// waitUntilGone waits for udevd, which may still be at the removal of what had
// the name before.
func waitUntilGone(ctx context.Context, path string) error {
	const patience, poll = 5 * time.Second, 20 * time.Millisecond
	for begun := time.Now(); ; time.Sleep(poll) {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(begun) > patience {
			return errs.New(errs.Conflict, path, "exists, and a volume group would need that name in /dev", "see what it is: ls -l "+path+"; remove it if it is left over")
		}
	}
}

// makePool makes a namespace for a volume group and clears its ends.
func (s *Service) makePool(ctx context.Context, region, vg string, raw uint64) (device string, err error) {
	n, err := s.NDCTL.CreateNamespace(pmem.NamespaceSpec{
		Region: region, Mode: pmem.ModeFSDAX, Map: pmem.MapDev, Size: raw, Align: pmem.DefaultAlign, Name: markPoolNew + vg,
	})
	if err != nil {
		return "", err
	}
	id := n.UUID // n is empty when the rename fails
	undo := func(cause error) error { return errors.Join(cause, s.NDCTL.DestroyNamespace(id)) }
	if err := s.wipeEnds(ctx, n); err != nil {
		return "", undo(err)
	}
	if n, err = s.NDCTL.RenameNamespace(n.UUID, markPool+vg); err != nil {
		return "", undo(err)
	}
	return "/dev/" + n.Blockdev, nil
}

// wipeEnds clears both ends of a namespace that is no volume.
func (s *Service) wipeEnds(ctx context.Context, n pmem.Namespace) error {
	if n.Blockdev == "" {
		var err error
		if n, err = s.NDCTL.EnableNamespace(n.UUID); err != nil {
			return err
		}
	}
	dev, err := blockdev.Hold("/dev/" + n.Blockdev)
	if err != nil {
		return err
	}
	end := min(endSize, dev.Size)
	return errors.Join(dev.Zero(ctx, 0, end, nil), dev.Zero(ctx, dev.Size-end, dev.Size, nil), dev.Close())
}

// VGInfo is a volume group as pmemctl shows it. Sizes are bytes.
type VGInfo struct {
	Name    string   `json:"name"`
	Owner   string   `json:"owner"` // pmemctl or foreign
	Size    uint64   `json:"size"`
	Free    uint64   `json:"free"`
	Regions []string `json:"regions"`
	Devices []string `json:"devices"`
	Volumes int      `json:"volumes"`
	UUID    string   `json:"uuid"`
	// Missing says that a device of the group is not there.
	Missing bool `json:"missing_devices"`
}

// Owners of things.
const (
	OwnerPmemctl = "pmemctl"
	OwnerForeign = "foreign"
)

// VGs lists the volume groups on PMEM, foreign ones too.
func (v View) VGs() []VGInfo {
	infos := []VGInfo{}
	for _, vg := range v.LVM.VGs {
		info := VGInfo{Name: vg.Name, Owner: OwnerForeign, Size: vg.Size, Free: vg.Free, Regions: v.VGRegions(vg), Devices: []string{}, Volumes: len(vg.LVs), UUID: vg.UUID, Missing: vg.PartialPVMissing}
		if v.Owns(vg) {
			info.Owner = OwnerPmemctl
		}
		for _, pv := range vg.PVs {
			info.Devices = append(info.Devices, pv.Name)
		}
		infos = append(infos, info)
	}
	return infos
}

// RemoveVG removes a volume group without volumes and gives its space back to
// the regions. What an interrupted call left is removed too.
func (s *Service) RemoveVG(ctx context.Context, name string) error {
	if err := ValidateName(name); err != nil {
		return err
	}
	return s.changing(ctx, func() error {
		v, err := s.Look(ctx)
		if err != nil {
			return err
		}
		if v, err = s.removeAbandoned(ctx, v, ""); err != nil {
			return err
		}
		vg, exists := v.LVM.VG(name)
		pools := v.poolsOf(name)
		switch {
		case !exists && len(pools) == 0:
			return errs.New(errs.NotFound, "volume group "+name, "does not exist", "see what there is: pmemctl vg list")
		case exists && !v.Owns(vg):
			return errs.New(errs.Conflict, "volume group "+name, "was not made by pmemctl and is left alone", "see those it made: pmemctl vg list")
		case v.whole(name) != nil:
			return v.whole(name)
		case exists && len(vg.LVs) > 0:
			return errs.New(errs.InUse, "volume group "+name, fmt.Sprintf("has %d logical volumes, such as %s", len(vg.LVs), vg.LVs[0].Name), "delete them first: pmemctl volume delete NAME (a foreign one: lvremove)")
		case exists:
			var devices []string
			for _, pv := range vg.PVs {
				devices = append(devices, pv.Name)
			}
			if err := s.LVM.RemoveVG(ctx, name, devices...); err != nil {
				return errs.Wrap("", "volume group "+name, "could not be removed", "", err)
			}
		}
		if err := v.notElsewhere(name, pools); err != nil {
			return err
		}
		for _, n := range pools {
			if err := s.wipeEnds(ctx, n); err != nil {
				return errs.Wrap("", "volume group "+name, "is gone, but its namespace "+n.Dev+" could not be wiped", "try again: pmemctl vg remove "+name, err)
			}
			if err := s.NDCTL.DestroyNamespace(n.UUID); err != nil {
				return errs.Wrap("", "volume group "+name, "is gone, but its namespace "+n.Dev+" is not", "try again: pmemctl vg remove "+name, err)
			}
		}
		return nil
	})
}

// notElsewhere fails when a namespace that was made for a volume group is in another
// one by now: somebody may have renamed the group.
func (v View) notElsewhere(name string, pools []pmem.Namespace) error {
	for _, vg := range v.LVM.VGs {
		for _, pv := range vg.PVs {
			if n, ok := v.namespaceOf(pv.Name); ok && vg.Name != name && slices.ContainsFunc(pools, func(p pmem.Namespace) bool { return p.UUID == n.UUID }) {
				return errs.New(errs.Conflict, "volume group "+name, "its namespace "+n.Dev+" is in volume group "+vg.Name+", and is left alone", "if the group was renamed: vgrename "+vg.Name+" "+name)
			}
		}
	}
	return nil
}

func (v View) poolsOf(vg string) []pmem.Namespace {
	var pools []pmem.Namespace
	for _, n := range v.PMEM.Namespaces {
		if mark, name := parseMark(n.Name); (mark == markPool || mark == markPoolNew) && name == vg {
			pools = append(pools, n)
		}
	}
	return pools
}

// FindVG finds a volume group by name.
func (v View) FindVG(name string) (VGInfo, error) {
	for _, vg := range v.VGs() {
		if vg.Name == name {
			return vg, nil
		}
	}
	return VGInfo{}, errs.New(errs.NotFound, "volume group "+quoteIfOdd(name), "does not exist", "see what there is: pmemctl vg list")
}

// VGRegions are the regions of a volume group that pmemctl made.
func (s *Service) VGRegions(ctx context.Context, name string) ([]string, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	vg, err := v.FindVG(name)
	if err != nil {
		return nil, err
	}
	if vg.Owner != OwnerPmemctl {
		return nil, errs.New(errs.Conflict, "volume group "+name, "was not made by pmemctl and is left alone", "see those it made: pmemctl vg list")
	}
	return vg.Regions, nil
}
