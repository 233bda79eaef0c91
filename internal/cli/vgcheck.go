package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func newVGCheckCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "check [VG]", Short: "Check the labels and metadata copies of volume groups",
		Long: `Reads the LVM data on the devices of pmemctl's volume groups, byte for byte: the label
and each copy of the metadata. Changes nothing. The exit code is 11 if something is
damaged or missing; "pmemctl vg repair" restores it.`,
		Example: `  pmemctl vg check
  pmemctl vg check pmemvgregion0 -o wide`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeVGs(1), PreRunE: a.asRoot("reading the devices of volume groups"),
	}, func(ctx context.Context, o outputFlag, args []string) error {
		parts, err := a.service.CheckVGs(ctx, append(args, "")[0])
		if err != nil {
			return err
		}
		if err := show(a, o, "parts", parts, vgPartColumns()); err != nil {
			return err
		}
		if i := slices.IndexFunc(parts, volume.VGPart.Damaged); i >= 0 {
			return errs.New(errs.Damaged, "volume group "+parts[i].VG, fmt.Sprintf("is damaged: %s: %s", partName(parts[i]), parts[i].Reason), parts[i].Next)
		}
		return nil
	})
}

func partName(p volume.VGPart) string {
	if p.Device == "" || p.Part == "device" {
		return p.Part + " " + dash(p.Device)
	}
	return p.Part + " on " + p.Device
}

func vgPartColumns() []column[volume.VGPart] {
	return []column[volume.VGPart]{
		{title: "VG", cell: func(p volume.VGPart) string { return p.VG }},
		{title: "DEVICE", cell: func(p volume.VGPart) string { return dash(p.Device) }},
		{title: "PART", cell: func(p volume.VGPart) string { return p.Part }},
		{title: "STATE", cell: func(p volume.VGPart) string { return string(p.State) }},
		{title: "CHANGE", cell: func(p volume.VGPart) string {
			if p.Change == 0 {
				return "-"
			}
			return fmt.Sprint(p.Change)
		}},
		{title: "OFFSET", wide: true, cell: func(p volume.VGPart) string { return fmt.Sprint(p.Offset) }},
		{title: "SIZE", wide: true, cell: func(p volume.VGPart) string { return pmem.FormatSize(p.Size) }},
		{title: "NAMESPACE", wide: true, cell: func(p volume.VGPart) string { return dash(p.Namespace) }},
		{title: "PV UUID", wide: true, cell: func(p volume.VGPart) string { return dash(p.PVUUID) }},
		{title: "VG UUID", wide: true, cell: func(p volume.VGPart) string { return dash(p.VGUUID) }},
		{title: "REASON", cell: func(p volume.VGPart) string { return dash(p.Reason) }},
		{title: "NEXT", wide: true, cell: func(p volume.VGPart) string { return dash(p.Next) }},
	}
}

type vgRepairOptions struct {
	vg    string // name or UUID
	force bool
}

func newVGRepairCommand(a *app, runF runFunc[vgRepairOptions]) *cobra.Command {
	var o vgRepairOptions
	cmd := &cobra.Command{
		Use: "repair VG|UUID", Short: "Restore the labels and the metadata of a volume group",
		Long: `Restores what "pmemctl vg check" shows as damaged: from the second copy on the device
or on another device of the group, or else from the archive of this host,
` + volume.ArchiveDir + `. It shows what the group will contain, and asks. The data that it
overwrites is saved in that directory. The data of volumes is neither read nor written.
If several groups have the name, the damaged one is repaired; if several of them are
damaged, specify one by its UUID.`,
		Example: `  pmemctl vg repair pmemvgregion0`,
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeVGs(1), PreRunE: a.asRoot("repairing a volume group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vg = args[0]
			return runF.or(a.repairVG)(cmd.Context(), &o)
		},
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask")
	return cmd
}

func (a *app) repairVG(ctx context.Context, o *vgRepairOptions) error {
	plan, err := a.service.PlanRepair(ctx, o.vg)
	if err != nil {
		return err
	}
	if len(plan.Writes) == 0 {
		a.note("volume group %s: its labels and metadata are not damaged", o.vg)
		return nil
	}
	a.note("volume group %s will be restored from %s", o.vg, plan.Source)
	a.note("  change %d of %s, with %d volumes%s", plan.Change, plan.Time.UTC().Format(time.DateTime+" MST"), len(plan.Volumes), colon(plan.Volumes))
	for _, w := range plan.Writes {
		a.note("  to be written: %s", w)
	}
	if plan.Doubt != "" {
		a.note("  %s", plan.Doubt)
	}
	if err := a.confirm(o.force, "The damaged parts will be overwritten, and later changes of the group will be lost."); err != nil {
		return err
	}
	kept, err := a.service.RepairVG(ctx, plan)
	for _, file := range kept {
		a.note("  overwritten data: %s", file)
	}
	if err != nil {
		return err
	}
	a.note("volume group %s restored", o.vg)
	return nil
}

// colon formats names as a list after a colon.
func colon(names []string) string {
	const most = 20
	text := ""
	for i, name := range names {
		switch {
		case i == most:
			return text + fmt.Sprintf(" and %d more", len(names)-most)
		case i == 0:
			text = ": " + name
		default:
			text += ", " + name
		}
	}
	return text
}
