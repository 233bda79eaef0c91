package model_test

import (
	"path/filepath"
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
	requests := []volume.AdoptRequest{{Object: "theirs"}, {Object: "disk"}}
	plan, err := s.PlanAdopt(ctx, requests...)
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
			if plan, err = s.PlanAdopt(ctx, requests...); err != nil {
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
	plan, err := s.PlanAdopt(ctx, volume.AdoptRequest{Object: "theirs"}, volume.AdoptRequest{Object: "disk"})
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

// TestAdoptRaw: with --raw a volume with a file system can be used as a raw one.
func TestAdoptRaw(t *testing.T) {
	h := newHost(t)
	s := h.Service()
	require.NoError(t, theirs(h, s))
	plan, err := s.PlanAdopt(ctx, volume.AdoptRequest{Object: "theirs", Raw: true}, volume.AdoptRequest{Object: "disk", Name: "vm", Raw: true})
	require.NoError(t, err)
	_, err = s.Adopt(ctx, plan)
	require.NoError(t, err)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for _, name := range []string{"data", "raw", "vm"} {
		require.NoError(t, s.Publish(ctx, volume.PublishSpec{Name: name, Target: filepath.Join(dir, name)}), name)
	}
}

// TestAdoptPartly: a group of which only one device is adopted says how to continue.
func TestAdoptPartly(t *testing.T) {
	names := 0
	for i := 1; names < 1; i++ { // until the first namespace has its name
		h := newHost(t)
		s := h.Service()
		require.NoError(t, theirs(h, s))
		plan, err := s.PlanAdopt(ctx, volume.AdoptRequest{Object: "theirs"})
		require.NoError(t, err)
		h.DieAt(i)
		_, err = s.Adopt(ctx, plan)
		require.Error(t, err)
		v, err := h.Service().Look(ctx)
		require.NoError(t, err)
		if names = len(v.OwnVGs()); names == 0 {
			continue
		}
		damage := v.Damage()
		require.Len(t, damage, 1)
		if v.PMEM.Namespaces[0].Enabled() && v.PMEM.Namespaces[1].Enabled() {
			assert.Equal(t, "is only partly adopted", damage[0].Reason)
			assert.Equal(t, "continue: pmemctl adopt theirs", damage[0].Next)
		}
	}
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
		{"a group on what is named like a volume is not read", func(t *testing.T, h *model.Host, s *volume.Service) {
			n, err := foreignNamespace(s, "region0", csiName, 32*pmem.MiB)
			require.NoError(t, err)
			require.NoError(t, h.CreateForeignVG("trap", nil, "/dev/"+n.Blockdev))
		}, volume.AdoptRequest{Object: "trap"}, errs.NotFound, "is neither a volume group on PMEM nor a namespace"},
		{"the UUID of a group is on another device too", func(t *testing.T, h *model.Host, s *volume.Service) {
			n, err := foreignNamespace(s, "region1", "vm", 64*pmem.MiB)
			require.NoError(t, err)
			label, err := h.ReadDevice("/dev/pmem0", 0, 2*pmem.MiB)
			require.NoError(t, err)
			require.NoError(t, h.WriteDevice("/dev/"+n.Blockdev, 0, label))
		}, volume.AdoptRequest{Object: "theirs"}, errs.Conflict, "has the UUID of another group, which is on namespace1.1"},
		{"a raw volume, not named", nil, volume.AdoptRequest{}, errs.Unsupported, "has the logical volume raw with nothing that is recognized, not ext4 or xfs"},
		{"a volume that is not active, not named", func(t *testing.T, h *model.Host, s *volume.Service) {
			require.NoError(t, s.All.Deactivate(ctx, lvm.VGRef{Name: "theirs"}, "data"))
		}, volume.AdoptRequest{}, errs.Unsupported, "has the logical volume data, which is not active"},
		{"a volume with the mark of an unfinished one", func(t *testing.T, h *model.Host, s *volume.Service) {
			require.NoError(t, s.All.AddLVTags(ctx, lvm.VGRef{Name: "theirs"}, "data", "pmemctl.removing"))
		}, volume.AdoptRequest{Object: "theirs"}, errs.Conflict, "with a mark that a pmemctl made"},
		{"a volume with the name of a deleted one", func(t *testing.T, h *model.Host, s *volume.Service) {
			require.NoError(t, s.All.RenameLV(ctx, lvm.VGRef{Name: "theirs"}, "data", "pmemctl+-data+1"))
			require.NoError(t, s.All.AddLVTags(ctx, lvm.VGRef{Name: "theirs"}, "pmemctl+-data+1", "pmemctl"))
		}, volume.AdoptRequest{Object: "theirs"}, errs.Conflict, "with a mark that a pmemctl made"},
		{"a tagged volume with a name that is taken", func(t *testing.T, h *model.Host, s *volume.Service) {
			spec := volumetest.Spec("data", volume.TypeDirect, 16*pmem.MiB)
			spec.Region = "region1"
			require.NoError(t, volumetest.Create(spec)(h, s))
			require.NoError(t, s.All.AddLVTags(ctx, lvm.VGRef{Name: "theirs"}, "data", "pmemctl"))
		}, volume.AdoptRequest{Object: "theirs"}, errs.Conflict, "there is already a volume data"},
		{"a process has a namespace open", func(_ *testing.T, h *model.Host, _ *volume.Service) { h.SetUsers("/dev/pmem0.1", 17) },
			volume.AdoptRequest{Object: "disk"}, errs.InUse, "is open in process 17"},
		{"a process has a volume open", func(_ *testing.T, h *model.Host, _ *volume.Service) { h.SetUsers("/dev/mapper/theirs-raw", 17) },
			volume.AdoptRequest{Object: "theirs"}, errs.InUse, "has the logical volume raw, which is in use: volume theirs: is open in process 17"},
		{"a name that two things have", func(t *testing.T, h *model.Host, s *volume.Service) {
			_, err := foreignNamespace(s, "region1", "theirs", 32*pmem.MiB)
			require.NoError(t, err)
		}, volume.AdoptRequest{Object: "theirs"}, errs.Invalid, "is the name of several volume groups or namespaces"},
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
		}, volume.AdoptRequest{}, errs.Conflict, "has the name of another volume group"},
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
