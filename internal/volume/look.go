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

// Look reads the host. It takes no lock and changes nothing.
func (s *Service) Look(ctx context.Context) (View, error) {
	return s.look(ctx, ndctl.Select{Namespaces: true})
}

// LookAtEverything also asks the DIMMs for their health and for bad blocks.
func (s *Service) LookAtEverything(ctx context.Context) (View, error) {
	v, err := s.look(ctx, ndctl.Everything)
	if err == nil {
		v.examined = s.examine(v.Volumes())
	}
	return v, err
}

func (s *Service) look(ctx context.Context, sel ndctl.Select) (View, error) {
	// Without a block device of PMEM there is nothing that LVM could know of, and
	// its start takes longer than all the rest. What is known to be there already
	// lets it start while libndctl reads.
	type answer struct {
		state lvm.State
		err   error
	}
	var early chan answer
	known := s.NDCTL.EnabledFSDAX()
	if slices.ContainsFunc(known, mayBeMember) {
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
	// Libndctl waits for the kernel to bring up all there is.
	came := func(n pmem.Namespace) bool {
		return mayBeMember(n) && !slices.ContainsFunc(known, func(k pmem.Namespace) bool { return k.Blockdev == n.Blockdev })
	}
	if err == nil && slices.ContainsFunc(v.PMEM.Namespaces, came) {
		v.LVM, err = s.LVM.Report(ctx)
	}
	if err == nil && slices.ContainsFunc(v.PMEM.Namespaces, s.isForeignPV) {
		// What others have is shown as far as it can be read.
		if v.Foreign, err = s.Foreign.Report(ctx); err != nil && ctx.Err() == nil {
			v.Foreign, err = lvm.State{Problems: []string{err.Error()}}, nil
		}
	}
	return v, err
}

// isForeignPV reports whether a namespace that is not pmemctl's has LVM's label.
func (s *Service) isForeignPV(n pmem.Namespace) bool {
	mark, _ := parseMark(n.Name)
	return n.Blockdev != "" && mark == "" && s.LVM.HasLabel("/dev/"+n.Blockdev)
}

// MemberDevices names the block devices of pmemctl's volume groups, and of those that are
// being made: all that its own LVM may look at.
func MemberDevices(from NDCTL) ([]string, error) {
	var names []string
	for _, n := range from.EnabledFSDAX() {
		if mayBeMember(n) {
			names = append(names, n.Blockdev)
		}
	}
	return names, nil
}

// ForeignPMEM names the block devices of PMEM that are not pmemctl's.
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

// OtherDisks names the block devices of the host that are not pmemctl's: neither its
// volumes and their partitions, which are a tenant's, nor the devices of its groups.
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

// Show is Get with what is wrong with the volume where it is used. It finds one too of
// which nothing else is left.
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

// Examine lists the volumes of a view, with what is wrong with each where it is used here.
func (s *Service) Examine(v View) []Volume { return s.examine(v.Volumes()) }

// Get returns a volume that is finished.
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

// CapacityFor tells what volumes like that of the spec, of any name and size, can
// be made: one of Largest bytes can. Where none can, all of it is 0.
func (s *Service) CapacityFor(ctx context.Context, spec Spec) (Capacity, error) {
	v, err := s.Look(ctx)
	if err != nil {
		return Capacity{}, err
	}
	return v.capacityFor(spec), nil
}
