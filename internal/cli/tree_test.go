package cli

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// fakeEverything is a service that shows a view.
type fakeEverything struct {
	fakeLook
	view volume.View
}

func (f fakeEverything) LookAtEverything(context.Context) (volume.View, error) { return f.view, nil }

func TestTree(t *testing.T) {
	enabled := pmem.StateEnabled
	view := volume.View{PMEM: pmem.System{
		Buses: []pmem.Bus{{Dev: "ndbus0", Provider: "ACPI.NFIT"}, {Dev: "ndbus1"}},
		DIMMs: []pmem.DIMM{{Dev: "nmem0", Bus: "ndbus0", State: enabled, Health: &pmem.Health{State: "ok"}}, {Dev: "nmem1", Bus: "ndbus0", State: "disabled", Flags: []string{"smart_notify"}}},
		Regions: []pmem.Region{
			{Dev: "region0", Bus: "ndbus0", State: enabled, Labels: true, Size: 8 * pmem.GiB, AvailableSize: pmem.GiB, BadblockCount: 3, Align: 16 * pmem.MiB, Mappings: []pmem.Mapping{{DIMM: "nmem0"}}},
			{Dev: "region1", Bus: "ndbus1", State: enabled, Size: 4 * pmem.GiB, Align: 16 * pmem.MiB},
		},
		Namespaces: []pmem.Namespace{
			{Dev: "namespace0.0", Region: "region0", Mode: pmem.ModeFSDAX, State: enabled, Size: 2 * pmem.GiB, RawSize: 3 * pmem.GiB, Blockdev: "pmem0-none", Name: "pmemctl=pmemvg"},
			{Dev: "namespace0.1", Region: "region0", Mode: pmem.ModeDevDAX, State: enabled, Size: pmem.GiB, RawSize: pmem.GiB, Chardev: "dax0.1", BadblockCount: 1},
			{Dev: "namespace0.2", Region: "region0", Mode: pmem.ModeFSDAX, State: enabled, Size: pmem.GiB, RawSize: pmem.GiB, Blockdev: "pmem2-none", Name: "pmemctl+db", UUID: "u"},
			{Dev: "namespace0.3", Region: "region0", Mode: pmem.ModeRaw, State: "disabled", RawSize: pmem.GiB},
			{Dev: "namespace1.0", Region: "region1", Mode: pmem.ModeFSDAX, State: enabled, Size: pmem.GiB, RawSize: pmem.GiB, Blockdev: "pmem1-none"},
		},
	}, LVM: lvm.State{VGs: []lvm.VG{{
		Name: "pmemvg", Size: 2 * pmem.GiB, Free: pmem.GiB, Tags: []string{"pmemctl"}, PVs: []lvm.PV{{Name: "/dev/pmem0-none", Size: 2*pmem.GiB - 2*pmem.MiB}},
		LVs: []lvm.LV{
			{Name: "web", VG: "pmemvg", Size: pmem.MiB, Tags: []string{"pmemctl"}, Active: true, Ranges: []string{"/dev/pmem0-none:0-1"}},
			{Name: "other", VG: "pmemvg", Size: pmem.MiB, Ranges: []string{"/dev/pmem0-none:2-3"}},
			{Name: "elsewhere", VG: "pmemvg", Ranges: []string{"/dev/pmem9:0-1"}},
		},
	}}}, Foreign: lvm.State{VGs: []lvm.VG{{Name: "theirs", Size: pmem.GiB, PVs: []lvm.PV{{Name: "/dev/pmem1-none", Size: pmem.GiB}}}}}}
	sh := newShell(fakeEverything{view: view})
	sh.ok(t, "tree")
	assert.Equal(t, `bus ndbus0  (ACPI.NFIT)
├─ dimm nmem0  (health ok)
├─ dimm nmem1  (disabled, smart_notify)
└─ region region0  (8 GiB, 1 GiB free, bad blocks: 3, on nmem0)
   ├─ namespace namespace0.0  (3 GiB, takes 1 GiB, fsdax, volume group pmemvg)
   │  └─ pv /dev/pmem0-none  (2 GiB, takes 2 MiB)
   │     └─ vg pmemvg  (2 GiB, 1 GiB free)
   │        ├─ lv web  (1 MiB)
   │        └─ lv other  (1 MiB, inactive, foreign)
   ├─ namespace namespace0.1  (1 GiB, devdax, bad blocks: 1, foreign)
   │  └─ chardev /dev/dax0.1  (1 GiB)
   ├─ namespace namespace0.2  (1 GiB, fsdax, volume db, creating)
   │  └─ device /dev/pmem2-none  (1 GiB)
   └─ namespace namespace0.3  (1 GiB, raw, disabled, foreign)
bus ndbus1
└─ region region1  (4 GiB, 0 B free, enabled,label-less)
   └─ namespace namespace1.0  (1 GiB, fsdax, foreign)
      └─ pv /dev/pmem1-none  (1 GiB, foreign)
         └─ vg theirs  (1 GiB, 0 B free, foreign)
`, sh.stdout.String())
	sh.ok(t, "tree -o yaml")
	assert.Contains(t, sh.stdout.String(), "tree:\n- children:\n")

	sh.service = fakeEverything{view: view, fakeLook: fakeLook{damage: []volume.Damage{{Volume: "db", Reason: "is gone"}}}}
	for _, o := range []string{"table", "json"} {
		assert.Equal(t, exitDamaged, sh.run("tree -o "+o))
		assert.Contains(t, sh.stdout.String(), "namespace0.0")
		assert.Equal(t, "pmemctl: volume db: is gone\n", sh.stderr.String())
	}
	sh.service = fakeEverything{}
	assert.Equal(t, exitNotFound, sh.run("tree"))
}
