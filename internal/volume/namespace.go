package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// NamespaceRequest describes a namespace to create that is not a volume.
type NamespaceRequest struct {
	Region string // "" is the first with enough room
	Mode   pmem.Mode
	Map    pmem.Map // "" is dev
	// Size is the minimum usable size, RawSize what the namespace takes of the region, in bytes.
	// At most one may be set; with neither, the largest free extent is used.
	Size, RawSize uint64
	Align         uint64 // bytes, for fsdax and devdax; 0 is 2 MiB
	SectorSize    uint   // bytes, for sector mode; 0 is 4096
	Name, UUID    string
	// Force changes the single namespace of a region without labels to the mode.
	Force bool
}

const (
	bttInfoAndLog = 4 * pmem.MiB // upper bound for info blocks, log and spare blocks of an arena
	bttMapEntry   = 4            // bytes for each sector
	bttArena      = 512 * pmem.GiB
)

// rawFor returns the raw size in bytes for a request in a region, a multiple of the region's
// alignment.
func (q NamespaceRequest) rawFor(r pmem.Region) (uint64, error) {
	align := q.sizeAlign(r)
	switch {
	case q.RawSize != 0 && q.RawSize%align != 0:
		return 0, errs.New(errs.Invalid, "region "+r.Dev, fmt.Sprintf(
			"raw size %d is not a multiple of %s, which its alignment and %d-way interleaving require", q.RawSize, pmem.FormatSize(align), max(r.InterleaveWays, 1)), fmt.Sprintf("use --raw-size %d or %d", pmem.RoundDown(q.RawSize, align), pmem.RoundUp(q.RawSize, align)))

	case q.RawSize != 0:
		return q.RawSize, nil
	case q.Size == 0:
		return pmem.RoundDown(min(r.MaxAvailableExtent, r.AvailableSize), align), nil
	case q.Size > maxSize:
		return 0, tooLarge("namespace", q.Size, "see what fits: pmemctl capacity")
	case q.Mode == pmem.ModeRaw:
		return pmem.RoundUp(max(q.Size, pmem.MinNamespace), align), nil
	case q.Mode == pmem.ModeSector:
		arenas := q.Size/bttArena + 1
		raw := q.Size + q.Size/uint64(q.SectorSize)*bttMapEntry + arenas*bttInfoAndLog
		return pmem.RoundUp(max(raw, pmem.MinNamespace), align), nil
	}
	return pmem.RawFor(q.Size, q.Map, q.Align, align)
}

func (q NamespaceRequest) sizeAlign(r pmem.Region) uint64 {
	if q.Mode == pmem.ModeRaw || q.Mode == pmem.ModeSector {
		return r.SizeAlign(4 * pmem.KiB)
	}
	return r.SizeAlign(q.Align)
}

func (q *NamespaceRequest) validate() error {
	if q.Map == "" {
		q.Map = pmem.MapDev
	}
	if q.Align == 0 {
		q.Align = pmem.DefaultAlign
	}
	if q.SectorSize == 0 {
		q.SectorSize = 4096
	}
	switch q.Mode {
	case pmem.ModeRaw, pmem.ModeSector, pmem.ModeFSDAX, pmem.ModeDevDAX:
	default:
		return errs.New(errs.Invalid, "namespace", fmt.Sprintf("%s is not a mode", quote(string(q.Mode))), "use fsdax, devdax, sector or raw")
	}
	if q.Map != pmem.MapDev && q.Map != pmem.MapMem {
		return errs.New(errs.Invalid, "namespace", fmt.Sprintf("%s is not a location for the page map", quote(string(q.Map))), "use dev or mem")
	}
	switch q.Align {
	case 4 * pmem.KiB, 2 * pmem.MiB, pmem.GiB:
	default:
		return errs.New(errs.Invalid, "namespace", fmt.Sprintf("alignment %d is not supported", q.Align), "use 4Ki, 2Mi or 1Gi")
	}
	switch q.SectorSize {
	case 512, 520, 528, 4096, 4104, 4160, 4224:
	default:
		return errs.New(errs.Invalid, "namespace", fmt.Sprintf("sector size %d is not supported", q.SectorSize), "use 512 or 4096")
	}
	if q.Size != 0 && q.RawSize != 0 {
		return errs.New(errs.Invalid, "namespace", "--size and --raw-size exclude each other", "use one of them")
	}
	if len(q.Name) > pmem.MaxAltName {
		return errs.New(errs.Invalid, "namespace", fmt.Sprintf("name is %d bytes long; the maximum is %d", len(q.Name), pmem.MaxAltName), "use a shorter name")
	}
	if owner, ours := Owned(q.Name); ours {
		return errs.New(errs.Invalid, "namespace", fmt.Sprintf("name %s is the mark of %s", quote(q.Name), owner), "use another name")
	}
	if q.UUID != "" {
		if _, err := uuid.Parse(q.UUID); err != nil {
			return errs.New(errs.Invalid, "namespace", fmt.Sprintf("%s is not a UUID", quote(q.UUID)), "omit --uuid to generate one")
		}
	}
	return nil
}

// CreateNamespace creates a namespace that is not a volume.
func (s *Service) CreateNamespace(ctx context.Context, q NamespaceRequest) (n pmem.Namespace, err error) {
	if err := q.validate(); err != nil {
		return n, err
	}
	err = s.changing(ctx, func() error {
		sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
		if err != nil {
			return err
		}
		v := View{PMEM: sys}
		r, raw, err := v.placeNamespace(q)
		if err != nil {
			return err
		}
		if !r.Labels { // the namespace that it has is replaced
			for _, n := range sys.InRegion(r.Dev) {
				if err := errors.Join(s.mayBeHidden(n), s.notMapped(n)); err != nil {
					return err
				}
			}
		}
		spec := pmem.NamespaceSpec{Region: r.Dev, Mode: q.Mode, Map: q.Map, RawSize: raw, Align: q.Align, Sector: q.SectorSize, Name: q.Name, UUID: q.UUID}
		if n, err = s.createNamespace(spec); err != nil {
			return errs.Wrap("", "region "+r.Dev, "the namespace could not be created", "see why: dmesg | tail", err)
		}
		if n.Size < q.Size {
			err := errs.New(errs.Unsupported, "region "+r.Dev, fmt.Sprintf("the namespace provides only %d bytes", n.Size), fmt.Sprintf("try a larger --raw-size than %d", raw))
			return errors.Join(err, s.NDCTL.DestroyNamespace(n.Dev))
		}
		if q.Mode == pmem.ModeDevDAX && !sys.MapSync(r.Dev) {
			s.note(errs.New(errs.Unsupported, "namespace "+n.Dev, "a crash of the hypervisor's host may lose its data: a devdax device has no fsync, which virtio-pmem requires, although the kernel permits MAP_SYNC", "use fsdax for data that must persist: pmemctl vg init "+r.Dev+" --whole"))
		}
		return nil
	})
	return n, err
}

func (v View) placeNamespace(q NamespaceRequest) (pmem.Region, uint64, error) {
	var lastErr error
	for _, r := range v.PMEM.Regions {
		if q.Region != "" && r.Dev != q.Region {
			continue
		}
		raw, err := v.fitNamespace(r, q)
		if err == nil {
			return r, raw, nil
		}
		lastErr = err
		if errs.Is(err, errs.Invalid) || errs.Is(err, errs.OutOfRange) {
			break
		}
	}
	if lastErr == nil {
		lastErr = v.noRegion(q.Region)
	}
	return pmem.Region{}, 0, lastErr
}

func (v View) fitNamespace(r pmem.Region, q NamespaceRequest) (uint64, error) {
	if !r.Labels && r.Type == "pmem" && r.Enabled() && !r.ReadOnly && q.Force && q.Region != "" && v.WholeOwner(r) == "" {
		if q.Size != 0 || q.RawSize != 0 || q.Name != "" || q.UUID != "" {
			return 0, errs.New(errs.Unsupported, "region "+r.Dev, "has no labels: its single namespace cannot be given a size, name or UUID", "omit them")
		}
		return 0, nil
	}
	if reason, next := v.Unusable(r); reason != "" {
		return 0, errs.New(errs.Unsupported, "region "+r.Dev, reason, next)
	}
	if r.LabelsFull {
		return 0, errs.New(errs.NoSpace, "region "+r.Dev, capacityOf(r).Reason, "destroy one that is not needed: pmemctl namespace list; or use another region: pmemctl capacity")
	}
	raw, err := q.rawFor(r)
	if err != nil {
		return 0, err
	}
	most := pmem.RoundDown(min(r.MaxAvailableExtent, r.AvailableSize), q.sizeAlign(r))
	if raw < pmem.MinNamespace || raw > most {
		return 0, errs.New(errs.NoSpace, "region "+r.Dev, fmt.Sprintf("requires %s, but the largest free extent is %s", pmem.FormatSize(max(raw, pmem.MinNamespace)), pmem.FormatSize(most)), "see what is free: pmemctl region list -o wide")
	}
	return raw, nil
}

// GetNamespace finds a namespace by device name or UUID.
func (s *Service) GetNamespace(key string) (pmem.Namespace, error) {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true, Badblocks: true})
	if err != nil {
		return pmem.Namespace{}, err
	}
	n, ok := sys.Namespace(key)
	if !ok {
		return pmem.Namespace{}, errs.New(errs.NotFound, "namespace "+quoteIfOdd(key), "does not exist", "see what there is: pmemctl namespace list")
	}
	return n, nil
}

// DestroyNamespace wipes the beginning of a namespace that is not in use, so that no later
// namespace finds a file system there, and destroys it. Namespaces of volumes and of pmemctl's
// volume groups are refused.
func (s *Service) DestroyNamespace(ctx context.Context, key string) error {
	return s.changing(ctx, func() error {
		n, err := s.GetNamespace(key)
		if err != nil {
			return err
		}
		subject := "namespace " + n.Dev
		switch mark, name := parseMark(n.Name); mark {
		case markRemoving:
			return errs.New(errs.Conflict, subject, "belongs to deleted volume "+name+", and is being erased", "pmemctl gc")
		case markVolume, markAdopted, markMaking:
			return errs.New(errs.Conflict, subject, "belongs to volume "+name, "pmemctl volume delete "+name)
		case markMember, markJoining:
			return errs.New(errs.Conflict, subject, "belongs to volume group "+name, "pmemctl vg remove "+name)
		}
		if err := errors.Join(s.mayBeHidden(n), s.notMapped(n)); err != nil {
			return err
		}
		device, err := s.NDCTL.EnableRaw(n.Dev)
		if err != nil {
			if errs.Is(err, errs.InUse) {
				return s.namespaceInUse(n, err)
			}
			return errs.Wrap("", subject, "cannot be destroyed", "", err)
		}
		if err := zeroEnds(ctx, s.Devices, "/dev/"+device, endSize, 0); err != nil {
			back := s.NDCTL.DisableRaw(n.Dev)
			if n.Enabled() && back == nil {
				_, back = s.NDCTL.EnableNamespace(n.Dev)
			}
			return errors.Join(errs.Wrap("", subject, "cannot be wiped", "", err), back)
		}
		if err := s.NDCTL.DisableRaw(n.Dev); err != nil {
			return errs.Wrap("", subject, "was wiped, but not destroyed", "try again", err)
		}
		err = s.NDCTL.DestroyNamespace(n.Dev)
		return errs.Wrap("", subject, "was wiped, but not destroyed", "try again", err)
	})
}

// zeroEnds zeroes so many bytes at the beginning and at the end of a device.
func zeroEnds(ctx context.Context, devices Devices, path string, head, tail uint64) error {
	dev, err := devices.Hold(path)
	if err != nil {
		return err
	}
	size := dev.Size()
	err = dev.Zero(ctx, 0, min(head, size), nil)
	if err == nil && tail > 0 {
		err = dev.Zero(ctx, size-min(tail, size), size, nil)
	}
	return errors.Join(err, dev.Close())
}
