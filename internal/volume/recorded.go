package volume

import (
	"path/filepath"
	"slices"

	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// recorded is an NDCTL in which namespaces of interleaved CXL regions also have the granularity that
// the host recorded for their region. The info blocks of adopted namespaces, and of those from
// earlier versions, have none.
type recorded struct {
	NDCTL
	stateDir string
}

// WithRecords returns an NDCTL that knows what the host recorded of its regions in a directory.
func WithRecords(inner NDCTL, stateDir string) NDCTL { return recorded{inner, stateDir} }

func (r recorded) Snapshot(sel ndctl.Select) (pmem.System, error) {
	sys, err := r.NDCTL.Snapshot(sel)
	r.describe(sys.Namespaces, sys)
	return sys, err
}

func (r recorded) EnabledFSDAX() []pmem.Namespace {
	all := r.NDCTL.EnabledFSDAX()
	if slices.ContainsFunc(all, func(n pmem.Namespace) bool { return n.Granularity != 0 }) {
		if sys, err := r.NDCTL.Snapshot(ndctl.Select{}); err == nil {
			r.describe(all, sys)
		}
	}
	return all
}

func (r recorded) describe(all []pmem.Namespace, sys pmem.System) {
	for i, n := range all {
		if region, ok := sys.Region(n.Region); ok && n.Granularity != 0 && region.ISetID != 0 {
			all[i].RecordedGranularity = RecordedGranularity(r.stateDir, region.ISetID)
		}
	}
}

// RecordedGranularity returns the interleave granularity in bytes that is recorded for the region of
// an interleave set; 0 if none is.
func RecordedGranularity(stateDir string, iset uint64) uint64 {
	seen, err := readSeen(filepath.Join(stateDir, seenRegions, SeenRegion{ISetID: iset}.ID()))
	if err != nil {
		return 0
	}
	return seen.Granularity
}
