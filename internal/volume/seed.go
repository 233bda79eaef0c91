package volume

import (
	"errors"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// createNamespace creates a namespace, also if a pmemctl was killed between creating and enabling
// the last one: until that is enabled once, the kernel offers no other. The host is locked, and
// nothing that was never enabled is changed without that lock.
func (s *Service) createNamespace(spec pmem.NamespaceSpec) (pmem.Namespace, error) {
	n, err := s.NDCTL.CreateNamespace(spec)
	if !errors.Is(err, ndctl.ErrNoSeed) {
		return n, err
	}
	// A finished volume or a member that did not come up at boot is not enabled raw.
	unfinished := func(name string) bool {
		mark, _ := parseMark(name)
		return mark == markMaking || mark == markJoining || mark == markRemoving
	}
	switch failed := s.NDCTL.AdvanceSeed(spec.Region, unfinished); {
	case errors.Is(failed, ndctl.ErrNoSeed):
		return n, errs.Wrap(errs.Busy, "region "+spec.Region, "its last namespace has not been enabled, and the kernel offers no other before that", "if no ndctl is running, see why, and enable it, or destroy it if it is not needed: ndctl list -Ni -r "+spec.Region, failed)
	case failed != nil:
		return n, failed
	}
	return s.NDCTL.CreateNamespace(spec)
}
