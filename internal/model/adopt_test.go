package model_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
	"github.com/pmemctl/pmemctl/internal/volume/volumetest"
)

// foreignNamespace creates an fsdax namespace that is not pmemctl's.
func foreignNamespace(s *volume.Service, region, name string, size uint64) (pmem.Namespace, error) {
	return s.CreateNamespace(ctx, volume.NamespaceRequest{Region: region, Mode: pmem.ModeFSDAX, Size: size, Name: name})
}

// theirs creates a volume group on two namespaces, with a file system and a raw volume in it, and a
// namespace with a file system.
func theirs(host volumetest.Host, s *volume.Service) error {
	h := host.(*model.Host)
	const size = 64 * pmem.MiB
	var devices []string
	for _, region := range []string{"region0", "region1"} {
		n, err := foreignNamespace(s, region, "pmem-csi", size)
		if err != nil {
			return err
		}
		devices = append(devices, "/dev/"+n.Blockdev)
	}
	n, err := foreignNamespace(s, "region0", "disk", size)
	if err != nil {
		return err
	}
	// So large that it is on both.
	if err := h.CreateForeignVG("theirs", map[string]uint64{"data": 80 * pmem.MiB, "raw": 16 * pmem.MiB}, devices...); err != nil {
		return err
	}
	for device, bytes := range map[string]uint64{"/dev/mapper/theirs-data": 80 * pmem.MiB, "/dev/mapper/theirs-raw": 16 * pmem.MiB, "/dev/" + n.Blockdev: n.Size} {
		// What readyIsWhole takes for the bytes of others.
		for _, at := range []uint64{0, bytes - 64} {
			if err := h.WriteDevice(device, at, make([]byte, 64)); err != nil {
				return err
			}
		}
		if !strings.HasSuffix(device, "raw") {
			if err := s.Mounts.Format(ctx, mount.Space{Device: device, Size: bytes}, mount.Ext4); err != nil {
				return err
			}
		}
		if err := h.WriteDevice(device, volumetest.SecretAt(volume.Volume{Size: bytes}), volumetest.Secret); err != nil {
			return err
		}
	}
	return nil
}

// adoptAll adopts all that there is. A kill while a namespace is renamed leaves it disabled, and
// the plan says so.
func adoptAll(_ volumetest.Host, s *volume.Service) error {
	plan, err := s.PlanAdopt(ctx)
	if err != nil {
		return err
	}
	for _, a := range plan {
		if strings.Contains(a.Reason, "is disabled") || strings.Contains(a.Reason, "missing a device") {
			v, err := s.Look(ctx)
			if err != nil {
				return err
			}
			for _, n := range v.PMEM.Namespaces {
				if _, err := s.NDCTL.EnableNamespace(n.UUID); err != nil {
					return err
				}
			}
			if plan, err = s.PlanAdopt(ctx); err != nil {
				return err
			}
		}
	}
	if _, err := s.Adopt(ctx, plan); err != nil {
		return err
	}
	return s.UsableAs(ctx, "disk", mount.Ext4) // which brings it up after a kill
}

// TestAdopt: a group of two devices and a namespace become pmemctl's, with all of their data, and
// are then as any other.
func TestAdopt(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, theirs(h, s))
	before, steps := volumetest.State(t, s), h.Steps()
	plan, err := s.PlanAdopt(ctx)
	require.NoError(t, err)
	require.Len(t, plan, 2)
	assert.Equal(t, "theirs", plan[0].Object)
	assert.Equal(t, "pmem-csi", plan[0].MadeBy)
	assert.Equal(t, []string{"region0", "region1"}, plan[0].Regions)
	assert.Equal(t, []string{"data ext4", "raw "}, named(plan[0]))
	assert.Equal(t, []string{"disk ext4"}, named(plan[1]))
	assert.Equal(t, before, volumetest.State(t, s))
	assert.Equal(t, steps, h.Steps())

	done, err := s.Adopt(ctx, plan)
	require.NoError(t, err)
	assert.Len(t, done, 2)
	h2, s2 := h, h.Service()
	keeps(t, h2, s2, operation{keeps: []string{"data", "raw", "disk"}}, "adopted")
	v, err := s.Look(ctx)
	require.NoError(t, err)
	assert.Empty(t, v.Damage())
	require.Len(t, v.OwnVGs(), 1)
	assert.Empty(t, v.Foreign.VGs)
	again, err := s.PlanAdopt(ctx)
	require.NoError(t, err)
	assert.Empty(t, again, "nothing is left to adopt")
	again, err = s.PlanAdopt(ctx, volume.AdoptRequest{Object: "theirs"})
	require.NoError(t, err)
	assert.Empty(t, again)

	// What has a file system may have old data below it.
	for _, name := range []string{"data", "disk"} {
		volumetest.IsKind(t, errs.Conflict, s.UsableAs(ctx, name, mount.None), "was created for a file system")
	}
	require.NoError(t, s.UsableAs(ctx, "raw", mount.None))
	require.NoError(t, volumetest.Create(volumetest.Spec("new", volume.TypeLVM, 16*pmem.MiB))(h, s))
	require.NoError(t, volumetest.Expand("raw", 20*pmem.MiB)(h, s))
	for _, name := range []string{"data", "raw", "disk", "new"} {
		require.NoError(t, volumetest.Erased(name)(h, s))
	}
	assert.False(t, h.FreeHolds(volumetest.Secret))
	require.NoError(t, s.RemoveVG(ctx, "theirs", false))
}

func named(a volume.Adoption) (names []string) {
	for _, vol := range a.Volumes {
		names = append(names, vol.Name+" "+vol.Content)
	}
	return names
}

// TestAdoptRefuses: what does not fit is left as it is, with the reason.
func TestAdoptRefuses(t *testing.T) {
	const csiName = "pvc-ab-1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6"
	use := func(t *testing.T, h *model.Host, s *volume.Service, device string) {
		dev, err := s.Devices.HoldToRead(device)
		require.NoError(t, err)
		t.Cleanup(func() { dev.Close() })
	}
	tests := []struct {
		name   string
		change func(t *testing.T, h *model.Host, s *volume.Service)
		q      volume.AdoptRequest
		kind   errs.Kind
		reason string
	}{
		{"a volume is in use", func(t *testing.T, h *model.Host, s *volume.Service) { use(t, h, s, "/dev/mapper/theirs-data") },
			volume.AdoptRequest{Object: "theirs"}, errs.InUse, "has the logical volume data, which is in use"},
		{"a namespace is in use", func(t *testing.T, h *model.Host, s *volume.Service) { use(t, h, s, "/dev/pmem0.1") },
			volume.AdoptRequest{Object: "disk"}, errs.InUse, "namespace namespace0.1: is in use"},
		{"a name is taken", func(t *testing.T, h *model.Host, s *volume.Service) {
			spec := volumetest.Spec("data", volume.TypeDirect, 16*pmem.MiB)
			spec.Region = "region1"
			require.NoError(t, volumetest.Create(spec)(h, s))
		}, volume.AdoptRequest{Object: "theirs"}, errs.Conflict, "there is already a volume data"},
		{"a device is missing", func(t *testing.T, h *model.Host, _ *volume.Service) { h.LoseRegion("region1") },
			volume.AdoptRequest{Object: "theirs"}, errs.Damaged, "is missing a device"},
		{"a group on what is named like a volume", func(t *testing.T, h *model.Host, s *volume.Service) {
			n, err := foreignNamespace(s, "region0", csiName, 32*pmem.MiB)
			require.NoError(t, err)
			require.NoError(t, h.CreateForeignVG("trap", nil, "/dev/"+n.Blockdev))
		}, volume.AdoptRequest{}, errs.Conflict, "its user may have written the group"},
		{"a member has the mark of another group", func(t *testing.T, h *model.Host, s *volume.Service) {
			for _, lv := range []string{"data", "raw"} {
				require.NoError(t, s.All.Deactivate(ctx, lvm.VGRef{Name: "theirs"}, lv))
			}
			require.NoError(t, volumetest.Second(s.NDCTL.RenameNamespace("namespace1.0", "pmemctl=other")))
		}, volume.AdoptRequest{Object: "theirs"}, errs.Conflict, "which pmemctl created for other"},
		{"there is no such thing", nil, volume.AdoptRequest{Object: "nothing"}, errs.NotFound, "is neither a volume group on PMEM nor a namespace"},
		{"a group is to be renamed", nil, volume.AdoptRequest{Object: "theirs", Name: "ours"}, errs.Invalid, "keeps its name"},
		{"two groups of one name", func(t *testing.T, h *model.Host, s *volume.Service) {
			n, err := foreignNamespace(s, "region0", "", 32*pmem.MiB)
			require.NoError(t, err)
			require.NoError(t, h.CreateForeignVG("theirs", nil, "/dev/"+n.Blockdev))
		}, volume.AdoptRequest{Object: "theirs"}, errs.Conflict, "has the name of another volume group"},
		{"a namespace without a name", func(t *testing.T, h *model.Host, s *volume.Service) {
			_, err := foreignNamespace(s, "region1", "", 32*pmem.MiB)
			require.NoError(t, err)
		}, volume.AdoptRequest{Object: "namespace1.1"}, errs.Invalid, "has no name"},
		{"a namespace without a file system, not named", func(t *testing.T, h *model.Host, s *volume.Service) {
			_, err := foreignNamespace(s, "region1", "bytes", 32*pmem.MiB)
			require.NoError(t, err)
		}, volume.AdoptRequest{}, errs.Unsupported, "has nothing that is recognized, not ext4 or xfs"},
		{"a namespace of another mode", func(t *testing.T, h *model.Host, s *volume.Service) {
			require.NoError(t, h.LoseInfoBlock("namespace0.1"))
			require.NoError(t, h.Reboot())
		}, volume.AdoptRequest{Object: "disk"}, errs.Unsupported, "is in mode raw, not fsdax"},
		{"a device of a group alone", nil, volume.AdoptRequest{Object: "namespace0.0", Name: "x"}, errs.Conflict, "is a device of a volume group"},
		{"a name that cannot be", nil, volume.AdoptRequest{Object: "disk", Name: "a b"}, errs.Invalid, "has a character that is not allowed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			s := h.Service()
			require.NoError(t, theirs(h, s))
			if test.change != nil {
				test.change(t, h, s)
			}
			before := volumetest.State(t, s)
			var requests []volume.AdoptRequest
			if test.q.Object != "" {
				requests = append(requests, test.q)
			}
			plan, err := s.PlanAdopt(ctx, requests...)
			if err == nil {
				_, err = s.Adopt(ctx, plan)
			}
			volumetest.IsKind(t, test.kind, err, test.reason)
			assert.NotEmpty(t, errs.NextStep(err))
			assert.Equal(t, before, volumetest.State(t, s))
		})
	}
}
