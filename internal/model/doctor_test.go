package model_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/doctor"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// diagnose returns the findings that are worse than ok, and fails if it changed anything.
func diagnose(t *testing.T, h *model.Host, s *volume.Service, touch bool) []doctor.Finding {
	t.Helper()
	steps := len(h.Steps())
	checker := doctor.Checker{
		Host: s, Kernel: func() doctor.Kernel {
			return doctor.Kernel{Release: "6.1.0", Bus: true, Drivers: []string{"nd_pmem", "nd_region", "nvdimm"}, Mapper: true}
		}, Content: true,
		Installed: func(string) error { return nil }, CheckHost: s.CheckHost, RunDir: filepath.Join(t.TempDir(), "missing"), Touch: touch,
	}
	var bad []doctor.Finding
	for _, f := range checker.Check(ctx) {
		if f.State != doctor.OK {
			bad = append(bad, f)
		}
	}
	assert.Len(t, h.Steps(), steps, "nothing is changed")
	return bad
}

// TestDoctor: what happens to a host is found, and nothing else; a healthy host has no finding.
func TestDoctor(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(t *testing.T, h *model.Host, s *volume.Service, path string)
		touch  bool
		want   map[volume.Type][]string // "state check object", in order; "" is for both types
	}{
		"healthy": {breaks: func(*testing.T, *model.Host, *volume.Service, string) {}, touch: true},
		"the device disappears": {
			breaks: func(t *testing.T, h *model.Host, s *volume.Service, _ string) {
				require.NoError(t, h.Unbind(namespaceOf(t, s, "db")))
			},
			want: map[volume.Type][]string{
				volume.TypeLVM:    {"fault volume group pmemvgregion0", "fault volume db", "fault device mapper pmemvgregion0-db"},
				volume.TypeDirect: {"fault volume db"},
			},
		},
		"the file system is shut down": {
			breaks: func(t *testing.T, h *model.Host, s *volume.Service, _ string) {
				vol, err := s.Get(ctx, "db")
				require.NoError(t, err)
				require.NoError(t, h.SetFault(vol.Device, mount.ShutDown))
			},
			want: map[volume.Type][]string{"": {"fault volume db"}},
		},
		"media errors": {
			breaks: func(t *testing.T, h *model.Host, s *volume.Service, _ string) {
				vol, err := s.Get(ctx, "db")
				require.NoError(t, err)
				require.NoError(t, h.SetBad(vol.Device, 8*pmem.MiB, 8*pmem.MiB+512, true))
			},
			want: map[volume.Type][]string{"": {"warning volume db"}},
		},
		"small faults": {
			breaks: func(_ *testing.T, h *model.Host, _ *volume.Service, _ string) { h.SmallFaults() }, touch: true,
			want: map[volume.Type][]string{"": {"warning volume db"}},
		},
		"a deleted volume is to be erased": {
			breaks: func(t *testing.T, _ *model.Host, s *volume.Service, path string) {
				require.NoError(t, volumetest.Second(s.Unmount(ctx, "db", path)))
				require.NoError(t, volumetest.Second(s.Delete(ctx, "db", true)))
			},
			want: map[volume.Type][]string{"": {"note erasing "}},
		},
		"a region is lost": {
			breaks: func(t *testing.T, h *model.Host, _ *volume.Service, _ string) { h.LoseRegion("region1") },
			want:   map[volume.Type][]string{"": {"fault region region1"}},
		},
		"suspended": {
			breaks: func(_ *testing.T, h *model.Host, _ *volume.Service, _ string) { h.Suspend("pmemvgregion0", "db") },
			want:   map[volume.Type][]string{volume.TypeLVM: {"fault volume db"}},
		},
		"killed while it is created": {
			breaks: func(t *testing.T, h *model.Host, s *volume.Service, _ string) {
				kind := volume.TypeLVM
				if vol, err := s.Get(ctx, "db"); err == nil {
					kind = vol.Type
				}
				h.DieAt(2)
				require.ErrorIs(t, volumetest.Create(volumetest.Spec("half", kind, 64*pmem.MiB))(h, s), model.ErrDead)
			},
			want: map[volume.Type][]string{"": {"warning volume half"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			forKinds(t, func(t *testing.T, h *model.Host, s *volume.Service, kind volume.Type) {
				require.NoError(t, volumetest.Create(volumetest.Spec("db", kind, 64*pmem.MiB))(h, s))
				path := filepath.Join(t.TempDir(), "db")
				require.NoError(t, volumetest.Mounted("db", path)(h, s))
				c.breaks(t, h, s, path)
				if h.Died() {
					s = h.Service()
				}
				want := c.want[kind]
				if both, ok := c.want[""]; ok {
					want = both
				}
				var got []string
				found := diagnose(t, h, s, c.touch)
				for _, f := range found {
					got = append(got, string(f.State)+" "+f.Check+" "+f.Object)
				}
				assert.Equal(t, want, got, found)
			})
		})
	}
}
