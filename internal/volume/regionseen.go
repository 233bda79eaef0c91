package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// A region that is missing shows nothing of its volumes: a DIMM was removed, or a region of CXL
// memory is not created yet. So the host records, across reboots, which regions contained
// something of pmemctl's, by the cookie of their interleave set, or by the mark of one without
// labels. If the record is lost, the volumes of such a region count as deleted.

// SeenRegion is the record of a region that contained something of pmemctl's.
type SeenRegion struct {
	ISetID uint64   `json:"iset_id"` // set_cookie of sysfs, or part of the mark
	Dev    string   `json:"dev"`     // as it was called then
	Size   uint64   `json:"size"`    // bytes
	DIMMs  []string `json:"dimms"`
	// Unlabelled says that it has no labels.
	Unlabelled bool `json:"unlabelled,omitempty"`
	// CXL says that it is created again after each boot.
	CXL bool `json:"cxl,omitempty"`
	// Granularity is that of its interleaving in bytes, of CXL.
	Granularity uint64 `json:"interleave_granularity,omitempty"`
}

// ID is the name of the region for the user.
func (r SeenRegion) ID() string { return fmt.Sprintf("%016x", r.ISetID) }

// mayBe reports whether a missing region may be one that shows no labels now: they, or its mark, may
// be lost or not visible.
func (r SeenRegion) mayBe(now pmem.Region) bool {
	return r.Size == 0 || r.Size == now.Size && (r.Unlabelled || len(now.Mappings) > 0)
}

// seenRegions is the directory of the records, below StateDir.
const seenRegions = "regions"

func (s *Service) seenDir() string { return filepath.Join(s.StateDir, seenRegions) }

// identity returns what identifies a region across reboots; 0 is nothing. One without labels is
// only the same while it has its mark: its content is lost otherwise, or not visible.
func identity(sys pmem.System, r pmem.Region) uint64 {
	if r.Labels {
		return r.ISetID
	}
	for _, n := range sys.InRegion(r.Dev) {
		if id := identityOf(n.InfoUUID); id != 0 {
			return id
		}
	}
	return 0
}

// ownsAny reports whether a region has a mark of pmemctl's.
func ownsAny(sys pmem.System, r pmem.Region) bool {
	return slices.ContainsFunc(sys.InRegion(r.Dev), func(n pmem.Namespace) bool { _, own := Owned(n.Name); return own })
}

// rememberRegions records those regions of a view that are named or have a mark of pmemctl's.
// Errors are only noted.
func (s *Service) rememberRegions(v View, some ...string) {
	if s.StateDir == "" {
		return
	}
	for _, r := range v.PMEM.Regions {
		id := identity(v.PMEM, r)
		if id == 0 || !ownsAny(v.PMEM, r) && !slices.Contains(some, r.Dev) {
			continue
		}
		seen := SeenRegion{ISetID: id, Dev: r.Dev, Size: r.Size, DIMMs: []string{}, Unlabelled: !r.Labels, CXL: v.PMEM.BusOf(r.Dev).Provider == pmem.ProviderCXL}
		for _, m := range r.Mappings {
			seen.DIMMs = append(seen.DIMMs, m.DIMM)
		}
		file := filepath.Join(s.seenDir(), seen.ID())
		if reason, _ := v.lostOrder(r); reason == "" {
			seen.Granularity = r.Granularity
		}
		if known, err := readSeen(file); err == nil {
			// What an info block says is more recent than the record.
			proven := slices.ContainsFunc(v.PMEM.InRegion(r.Dev), func(n pmem.Namespace) bool { _, g := recordedIn(n); return g != 0 && g == r.Granularity })
			if known.Granularity != 0 && !proven {
				seen.Granularity = known.Granularity
			}
			seen.Size = max(seen.Size, known.Size)
			if known.Size == seen.Size && known.Granularity == seen.Granularity {
				continue
			}
		}
		data, err := json.Marshal(seen)
		if err == nil {
			err = os.MkdirAll(s.seenDir(), 0o700)
		}
		if err == nil {
			err = os.WriteFile(file, data, 0o600)
		}
		if err != nil {
			s.note(errs.Wrap("", "region "+r.Dev, "cannot be recorded, so its volumes would count as deleted if it disappeared", "", err))
		}
	}
}

// forgetEmptied deletes the records of regions from which pmemctl removed the last object. A
// region that only looks empty may have lost its labels.
func (s *Service) forgetEmptied(ctx context.Context, regions ...string) {
	if len(s.emptied(regions)) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = s.changing(ctx, func() error { // the process with the host lock may be creating something there
		s.forgetEmptiedNow(regions...)
		return nil
	})
}

// forgetEmptiedNow is forgetEmptied with the host locked.
func (s *Service) forgetEmptiedNow(regions ...string) {
	for _, r := range s.emptied(regions) {
		_ = os.Remove(filepath.Join(s.seenDir(), SeenRegion{ISetID: r.ISetID}.ID()))
	}
}

// emptied returns the recorded regions among some that contain nothing of pmemctl's.
func (s *Service) emptied(regions []string) []pmem.Region {
	if s.StateDir == "" || len(regions) == 0 {
		return nil
	}
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(sys.Regions, func(r pmem.Region) bool {
		return !slices.Contains(regions, r.Dev) || !r.Enabled() || ownsAny(sys, r) || !s.seen(r)
	})
}

// rememberUnlabelled records a region without labels when its namespace gets its mark.
func (s *Service) rememberUnlabelled(region string, n pmem.Namespace) {
	if !n.Labels && identityOf(n.InfoUUID) != 0 {
		s.rememberRegions(View{PMEM: pmem.System{Regions: []pmem.Region{{Dev: region, Size: n.RawSize}}, Namespaces: []pmem.Namespace{n}}})
	}
}

// forgetUnlabelled deletes the record of a region without labels whose namespace is about to be
// emptied.
func (s *Service) forgetUnlabelled(n pmem.Namespace) {
	if id := identityOf(n.InfoUUID); id != 0 && s.StateDir != "" {
		_ = os.Remove(filepath.Join(s.seenDir(), SeenRegion{ISetID: id}.ID()))
	}
}

// destroyMember destroys a namespace that is in no volume group, and has no volume.
func (s *Service) destroyMember(n pmem.Namespace) error {
	s.forgetUnlabelled(n)
	return s.NDCTL.DestroyNamespace(n.UUID)
}

// seen reports whether a region is recorded.
func (s *Service) seen(r pmem.Region) bool {
	_, err := os.Lstat(filepath.Join(s.seenDir(), SeenRegion{ISetID: r.ISetID}.ID()))
	return err == nil && s.StateDir != "" && r.ISetID != 0
}

// RememberRegions records the regions that contain something of pmemctl's now.
func (s *Service) RememberRegions(ctx context.Context) error {
	sys, err := s.NDCTL.Snapshot(ndctl.Select{Namespaces: true})
	if err == nil {
		s.rememberRegions(View{PMEM: sys})
	}
	return err
}

func readSeen(file string) (seen SeenRegion, err error) {
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &seen)
	}
	return seen, err
}

// goneRegions returns the recorded regions that are missing.
func (s *Service) goneRegions(v View) ([]SeenRegion, error) {
	if s.StateDir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.seenDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var gone []SeenRegion
	for _, e := range entries {
		seen, readErr := readSeen(filepath.Join(s.seenDir(), e.Name()))
		if readErr != nil || seen.ID() != e.Name() {
			if _, scanErr := fmt.Sscanf(e.Name(), "%016x", &seen.ISetID); scanErr != nil {
				continue
			}
			seen.Dev = "of unknown name" // a power cut took the content
		}
		// A CXL region that was created again with a smaller size does not show what is behind its end.
		if !slices.ContainsFunc(v.PMEM.Regions, func(r pmem.Region) bool {
			return identity(v.PMEM, r) == seen.ISetID && (!seen.CXL || r.Size >= seen.Size)
		}) {
			gone = append(gone, seen)
		}
	}
	return gone, err
}

func (r SeenRegion) damage() Damage {
	where := ""
	if len(r.DIMMs) > 0 {
		where = " on " + strings.Join(r.DIMMs, ", ")
	}
	if r.Unlabelled {
		return Damage{Region: r.Dev,
			Reason: fmt.Sprintf("is missing: it has no labels, and its mark %s is not visible now", r.ID()),
			Next:   "look at regions without labels: pmemctl tree; if one is disabled: pmemctl region enable REGION; if its namespace is: ndctl enable-namespace NAMESPACE; if its content is lost for good: pmemctl region forget " + r.ID()}
	}
	next := "bring its DIMMs back; if they are lost for good"
	if r.CXL {
		next = "create it as it was: pmemctl region restore, or cxl create-region; if its content is lost for good"
	}
	return Damage{Region: r.Dev,
		Reason: fmt.Sprintf("is missing: its interleave set %s%s had volumes, which are not visible now", r.ID(), where),
		Next:   next + ": pmemctl region forget " + r.ID()}
}

// ForgetRegion deletes the record of a region that is lost for good: its volumes then count as
// deleted. Without force, it fails if the region may only be disabled.
func (s *Service) ForgetRegion(ctx context.Context, id string, force bool) error {
	what := "region " + quoteIfOdd(id)
	v, err := s.Look(ctx)
	if err != nil {
		return err
	}
	gone, err := s.goneRegions(v)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(gone, func(r SeenRegion) bool { return r.ID() == id })
	if i < 0 {
		return errs.New(errs.NotFound, what, "is not a recorded region that is missing", "see which are: pmemctl volume list")
	}
	if err := s.mayBeDown(v, gone[i]); err != nil && !force {
		return errs.Wrap("", what, "is not forgotten", errs.NextStep(err)+"; to forget it all the same: --force", err)
	}
	return errs.Wrap("", what, "cannot be forgotten", "", os.Remove(filepath.Join(s.seenDir(), id)))
}

// mayBeDown returns an error if a missing region may be one that is disabled, or whose namespace is
// or does not show its mark.
func (s *Service) mayBeDown(v View, seen SeenRegion) error {
	for _, r := range v.PMEM.Regions {
		if r.Labels || r.Type != "pmem" || !seen.mayBe(r) {
			continue
		}
		if !r.Enabled() {
			return errs.New(errs.Conflict, "region "+r.Dev, "has no labels and is disabled, and may be that one", "pmemctl region enable "+r.Dev)
		}
		for _, n := range v.PMEM.InRegion(r.Dev) {
			marked, err := s.leftRaw(n)
			switch {
			case err != nil:
				return err
			case identityOf(marked) == seen.ISetID:
				return errs.New(errs.Conflict, "namespace "+n.Dev, "has the mark of a volume group of pmemctl, but is enabled without it", howToEnable(n, marked, []SeenRegion{seen}))
			case !n.Enabled():
				return errs.New(errs.Conflict, "namespace "+n.Dev, "is disabled, and may be that one", "ndctl enable-namespace "+n.Dev)
			}
		}
	}
	return nil
}
