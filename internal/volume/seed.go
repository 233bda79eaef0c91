package volume

import (
	"errors"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// createNamespace creates a namespace, also if a pmemctl was killed between creating and enabling
// the last one: until that is enabled once, the kernel offers no other. The host is locked, so
// nothing of pmemctl's is at work on it.
func (s *Service) createNamespace(spec pmem.NamespaceSpec) (pmem.Namespace, error) {
	n, err := s.NDCTL.CreateNamespace(spec)
	if !errors.Is(err, ndctl.ErrNoSeed) {
		return n, err
	}
	owned := func(name string) bool { _, own := Owned(name); return own }
	switch failed := s.NDCTL.AdvanceSeed(spec.Region, owned); {
	case errors.Is(failed, ndctl.ErrNoSeed):
		return n, errs.Wrap(errs.Busy, "region "+spec.Region, "another program created a namespace in it and has not enabled it, and the kernel offers no other before that", "if no ndctl is running, look at it and enable or destroy it: ndctl list -Ni -r "+spec.Region, failed)
	case failed != nil:
		return n, failed
	}
	return s.NDCTL.CreateNamespace(spec)
}
