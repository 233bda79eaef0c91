package cli

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// decommissioner is what the command uses of the volume service to give back regions.
type decommissioner interface {
	PlanDecommission(ctx context.Context, regions ...string) ([]volume.RegionReturn, error)
	Decommission(context.Context, []volume.RegionReturn) ([]volume.RegionReturn, error)
}

type decommissionOptions struct {
	regions       []string // none means all that have something of pmemctl's
	dryRun, force bool
	output        outputFlag
}

func newDecommissionCommand(a *app, runF runFunc[decommissionOptions]) *cobra.Command {
	var o decommissionOptions
	cmd := &cobra.Command{
		Use:   "decommission [REGION...]",
		Short: "Remove the volume groups of regions without volumes, and give back their space",
		Long: `Removes everything that pmemctl has in the regions, the reverse of "vg init": its volume
groups, and their namespaces. Without REGION, these are all regions that have something
of pmemctl's. Labels stay, and so do namespaces that pmemctl did not create: they are
listed as left alone.

As long as the regions or groups have volumes, nothing is changed, and each volume is
listed with the command that deletes it. That includes unfinished volumes, deleted ones
that are not yet erased, and logical volumes that pmemctl did not create. A group that
is also in a region that is not named is refused.

First stop a "serve-csi --init" on this host: it would create the groups again. If the
command is interrupted, run it again: it continues.`,
		Example: `  pmemctl decommission --dry-run
  pmemctl decommission
  pmemctl decommission region0 --force`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: a.completeRegions(0), PreRunE: a.asRoot("giving back regions"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.regions = args
			return runF.or(a.decommission)(cmd.Context(), &o)
		},
	}
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be removed, and change nothing")
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) decommission(ctx context.Context, o *decommissionOptions) error {
	plan, err := a.service.PlanDecommission(ctx, o.regions...)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(plan, volume.RegionReturn.Changes) {
		a.note("nothing to do: nothing of pmemctl's is in %s", cmp.Or(strings.Join(o.regions, ", "), "any region"))
		if len(plan) == 0 && !o.output.structured() {
			return nil
		}
		return a.showReturns(o.output, plan)
	}
	if !o.dryRun {
		if err := a.confirm(o.force, lossOfGroups(plan)); err != nil {
			return err
		}
		if plan, err = a.service.Decommission(ctx, plan); err != nil {
			return err
		}
	}
	return a.showReturns(o.output, plan)
}

func lossOfGroups(plan []volume.RegionReturn) string {
	var parts []string
	for _, r := range plan {
		if r.Changes() {
			parts = append(parts, strings.Join(r.VGs, ", ")+" in "+r.Region)
		}
	}
	return "These volume groups have no volumes and will be removed: " + strings.Join(parts, "; ") + "."
}

func (a *app) showReturns(o outputFlag, plan []volume.RegionReturn) error {
	return show(a, o, "regions", plan, []column[volume.RegionReturn]{
		{title: "REGION", cell: func(r volume.RegionReturn) string { return r.Region }},
		{title: "REMOVED", cell: func(r volume.RegionReturn) string { return dash(strings.Join(r.VGs, ",")) }},
		{title: "RETURNED", cell: func(r volume.RegionReturn) string { return pmem.FormatSize(r.Returned) }},
		{title: "SIZE", cell: func(r volume.RegionReturn) string { return pmem.FormatSize(r.Size) }},
		{title: "FREE", cell: func(r volume.RegionReturn) string { return pmem.FormatSize(r.Free) }},
		{title: "LEFT ALONE", cell: func(r volume.RegionReturn) string { return dash(strings.Join(r.Kept, ",")) }},
		{title: "NAMESPACES", wide: true, cell: func(r volume.RegionReturn) string { return dash(strings.Join(r.Namespaces, ",")) }},
	})
}
