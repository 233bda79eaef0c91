package model_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// TestSuite runs what the guest runs on a real host.
func TestSuite(t *testing.T) {
	volumetest.Run(t, func(t *testing.T) volumetest.Host { return newHost(t) })
}

var kinds = []volume.Type{volume.TypeLVM, volume.TypeDirect}

// forKinds runs a test for each kind of volume, on a host with volume groups over half of it.
func forKinds(t *testing.T, test func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			h := newHost(t)
			s := h.Service()
			require.NoError(t, initVGs(50)(s))
			test(t, h, s, kind)
		})
	}
}

func spec(name string, kind volume.Type, size uint64) volume.Spec {
	return volume.Spec{Name: name, Type: kind, Size: size, FS: mount.Ext4}
}

// isKind requires an error of a kind that has a reason and a next step.
func isKind(t *testing.T, kind errs.Kind, err error, reason string) {
	t.Helper()
	require.ErrorContains(t, err, reason)
	assert.Equal(t, kind, errs.KindOf(err), "%v", err)
	assert.NotEmpty(t, errs.NextStep(err), "%v", err)
}

func second[T any](_ T, err error) error { return err }

func mustList(t *testing.T, s *volume.Service) []volume.Volume {
	t.Helper()
	volumes, err := s.List(ctx)
	require.NoError(t, err)
	return volumes
}
