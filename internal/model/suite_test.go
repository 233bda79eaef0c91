package model_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// TestSuite runs the suite that the guest runs on a real host.
func TestSuite(t *testing.T) {
	volumetest.Run(t, func(t *testing.T) volumetest.Host { return newHost(t) })
}

// forKinds runs a test for each type of volume, on a host with volume groups on half of each
// region.
func forKinds(t *testing.T, test func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type)) {
	t.Helper()
	for _, kind := range volumetest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			h := newHost(t)
			s := h.Service()
			require.NoError(t, initVGs(50)(h, s))
			test(t, h, s, kind)
		})
	}
}

func initVGs(percent int) volumetest.Action {
	return volumetest.InitVGs(volume.VGInitSpec{Percent: percent})
}
