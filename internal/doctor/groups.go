package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func checkGroups(r *report, v volume.View) {
	names := map[string]int{}
	for _, vg := range v.OwnVGs() {
		names[vg.Name]++
	}
	for _, vg := range v.OwnVGs() {
		switch {
		case names[vg.Name] > 1:
			r.add("volume group", vg.Name, Fault, "there are several of that name; this one has UUID "+vg.UUID, "rename one by its UUID: vgrename "+vg.UUID+" NEWNAME")
		case volume.MetadataFull(vg) != "":
			r.add("volume group", vg.Name, Warning, volume.MetadataFull(vg), "delete volumes that are not needed, or create a second group: pmemctl vg init")
		}
	}
	for _, vg := range v.OwnVGs() {
		if !r.has("volume group", vg.Name) {
			r.ok("volume group", vg.Name, groupText(vg))
		}
	}
	for _, vg := range v.Foreign.VGs {
		r.add("volume group", vg.Name, Note, "is on PMEM, was not created by pmemctl and is left alone", "")
	}
	for _, p := range v.Foreign.Problems {
		r.add("volume group", "", Note, "lvm could not read everything that is not pmemctl's: "+p, "")
	}
}

// checkDamage adds what the service finds damaged. The other checks add nothing to it.
func checkDamage(r *report, damage []volume.Damage) {
	for _, d := range damage {
		switch {
		case d.VG != "":
			r.add("volume group", d.VG, Fault, d.Reason, d.Next)
		case d.Volume != "":
			r.add("volume", d.Volume, Fault, d.Reason, d.Next)
		default:
			r.add("region", d.Region, Fault, d.Reason, d.Next)
		}
	}
}

func groupText(vg lvm.VG) string {
	devices := []string{}
	for _, pv := range vg.PVs {
		devices = append(devices, pv.Name)
	}
	slices.Sort(devices)
	return fmt.Sprintf("%s, %s free, on %s", pmem.FormatSize(vg.Size), pmem.FormatSize(vg.Free), strings.Join(devices, ", "))
}
