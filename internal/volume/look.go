package volume

import (
	"context"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Look reads the state of the host. It takes no lock, and changes nothing on it.
func (s *Service) Look(ctx context.Context) (View, error) {
	return s.look(ctx, ndctl.Select{Namespaces: true})
}

// LookAtEverything also reads the health of the DIMMs, and bad blocks.
func (s *Service) LookAtEverything(ctx context.Context) (View, error) {
	v, err := s.look(ctx, ndctl.Everything)
	if err == nil {
		v.examined = s.examine(v.Volumes())
	}
	return v, err
}

func (s *Service) look(ctx context.Context, sel ndctl.Select) (View, error) {
	// Without a PMEM block device there is nothing that LVM could know, and starting it takes
	// longer than everything else. If a member is already known to exist, LVM runs while libndctl
	// reads.
	type answer struct {
		state lvm.State
		err   error
	}
	var early chan answer
	known := s.NDCTL.EnabledFSDAX()
	if slices.ContainsFunc(known, MayBeMember) {
		early = make(chan answer, 1)
		go func() {
			state, err := s.LVM.Report(ctx)
			early <- answer{state, err}
		}()
	}
	var v View
	var err error
	if v.PMEM, err = s.NDCTL.Snapshot(sel); early != nil {
		a := <-early
		if err == nil {
			v.LVM, err = a.state, a.err
		}
	}
	// libndctl waits for the kernel to bring up all devices, so some may be new.
	came := func(n pmem.Namespace) bool {
		return MayBeMember(n) && !slices.ContainsFunc(known, func(k pmem.Namespace) bool { return k.Blockdev == n.Blockdev })
	}
	if err == nil && slices.ContainsFunc(v.PMEM.Namespaces, came) {
		v.LVM, err = s.LVM.Report(ctx)
	}
	s.nameUnlabelled(v)
	if err == nil && slices.ContainsFunc(v.PMEM.Namespaces, s.isForeignPV) {
		// Foreign volume groups are shown as far as they can be read.
		if v.Foreign, err = s.Foreign.Report(ctx); err != nil && ctx.Err() == nil {
			v.Foreign, err = lvm.State{Problems: []string{err.Error()}}, nil
		}
	}
	return v, err
}

// isForeignPV reports whether a namespace that is not pmemctl's has an LVM label.
func (s *Service) isForeignPV(n pmem.Namespace) bool {
	mark, _ := parseMark(n.Name)
	return n.Blockdev != "" && mark == "" && s.LVM.HasLabel("/dev/"+n.Blockdev)
}

// MemberDevices returns the names of the block devices of pmemctl's volume groups, including
// unfinished ones: the only devices that pmemctl's LVM may scan.
func MemberDevices(from NDCTL) ([]string, error) {
	var names []string
	for _, n := range from.EnabledFSDAX() {
		if MayBeMember(n) {
			names = append(names, n.Blockdev)
		}
	}
	return names, nil
}

// ForeignPMEM returns the names of the PMEM block devices that are not pmemctl's.
func ForeignPMEM(from NDCTL) ([]string, error) {
	sys, err := from.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range sys.Namespaces {
		if _, own := Owned(n.Name); n.Blockdev != "" && !own {
			names = append(names, n.Blockdev)
		}
	}
	return names, nil
}

// OtherDisks returns the names of the host's block devices that are not pmemctl's: neither volumes
// and their partitions, which belong to tenants, nor the devices of its groups.
func OtherDisks(from NDCTL) ([]string, error) {
	foreign, err := ForeignPMEM(from)
	if err != nil {
		return nil, err
	}
	names, err := blockdev.Names()
	if err != nil {
		return nil, err
	}
	mapped, err := blockdev.MappedDevices()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool {
		if strings.HasPrefix(name, "pmem") {
			return !slices.ContainsFunc(foreign, func(f string) bool { return name == f || strings.HasPrefix(name, f+"p") })
		}
		return strings.HasPrefix(name, "ram") || slices.ContainsFunc(mapped, func(m blockdev.Mapped) bool {
			return m.Node() == "/dev/"+name && strings.HasPrefix(m.UUID, "LVM-")
		})
	}), nil
}

// List lists the volumes.
func (s *Service) List(ctx context.Context) ([]Volume, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	return s.examine(v.Volumes()), nil
}

// Show is Get with the health of the volume where it is used. It also finds a volume of which only
// a stale mount is left.
func (s *Service) Show(ctx context.Context, name string) (Volume, error) {
	vol, err := s.Get(ctx, name)
	var found []Volume
	if err == nil {
		found = []Volume{vol}
	}
	for _, vol := range s.examine(found) {
		if vol.Name == name && (err == nil || errs.Is(err, errs.NotFound)) {
			return vol, nil
		}
	}
	return vol, err
}

// Examine lists the volumes of a view, with the health of each where it is used here.
func (s *Service) Examine(v View) []Volume { return s.examine(v.Volumes()) }

// Get returns a finished volume; NotFound if there is none of that name.
func (s *Service) Get(ctx context.Context, name string) (Volume, error) {
	if err := ValidateName(name); err != nil {
		return Volume{}, err
	}
	v, err := s.Look(ctx)
	if err != nil {
		return Volume{}, err
	}
	return v.get(name)
}

// Capacity reads the host and lists its capacities.
func (s *Service) Capacity(ctx context.Context) ([]Capacity, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return nil, err
	}
	if len(v.PMEM.Regions) == 0 {
		return nil, NoPMEM(v.PMEM)
	}
	return v.Capacities(), nil
}

// CapacityFor returns the capacity for volumes like that of the spec, of any name and size. It is
// zero if none can be created.
func (s *Service) CapacityFor(ctx context.Context, spec Spec) (Capacity, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return Capacity{}, err
	}
	return v.capacityFor(spec), nil
}
