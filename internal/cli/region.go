package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// regions is what the commands use of the volume service for regions.
type regions interface {
	PlanInitLabels(names ...string) (volume.LabelsPlan, error)
	InitLabels(context.Context, volume.LabelsPlan) error
	EnableRegion(ctx context.Context, dev string) error
	DisableRegion(ctx context.Context, dev string) error
	ForgetRegion(ctx context.Context, id string, force bool) error
	RememberRegions(context.Context) error
}

func newRegionCommand(a *app) *cobra.Command {
	return group("region", "Show and prepare PMEM regions", "pmemctl region list",
		newRegionListCommand(a), newRegionShowCommand(a), newRegionInitLabelsCommand(a, nil),
		newRegionSaveCommand(a, nil), newRegionRestoreCommand(a, nil),
		newRegionSwitchCommand(a, "enable", "Enable regions"), newRegionForgetCommand(a, nil), newRegionSwitchCommand(a, "disable", "Disable regions that are not in use"))
}

func regionColumns() []column[pmem.Region] {
	return []column[pmem.Region]{
		{title: "REGION", cell: func(r pmem.Region) string { return r.Dev }},
		{title: "TYPE", cell: func(r pmem.Region) string { return r.Type }},
		{title: "SIZE", cell: func(r pmem.Region) string { return pmem.FormatSize(r.Size) }},
		{title: "FREE", cell: func(r pmem.Region) string { return pmem.FormatSize(r.AvailableSize) }},
		{title: "LARGEST", cell: func(r pmem.Region) string { return pmem.FormatSize(r.MaxAvailableExtent) }},
		{title: "STATE", cell: regionState},
		{title: "BUS", wide: true, cell: func(r pmem.Region) string { return r.Bus }},
		{title: "ALIGN", wide: true, cell: func(r pmem.Region) string { return pmem.FormatSize(r.Align) }},
		{title: "WAYS", wide: true, cell: func(r pmem.Region) string { return fmt.Sprint(r.InterleaveWays) }},
		{title: "PERSISTENCE", wide: true, cell: func(r pmem.Region) string { return r.PersistenceDomain }},
		{title: "NUMA", wide: true, cell: func(r pmem.Region) string { return nodeText(r.NUMANode) }},
		{title: "DIMMS", wide: true, cell: func(r pmem.Region) string { return dash(strings.Join(dimmsOf(r), ",")) }},
		{title: "BADBLOCKS", wide: true, cell: func(r pmem.Region) string { return fmt.Sprint(r.BadblockCount) }},
	}
}

func dimmsOf(r pmem.Region) []string {
	var names []string
	for _, m := range r.Mappings {
		names = append(names, m.DIMM)
	}
	return names
}

// regionState returns the state with the conditions that keep volumes from being created.
func regionState(r pmem.Region) string {
	words := []string{r.State}
	if r.ReadOnly {
		words = append(words, "read-only")
	}
	if !r.Labels {
		words = append(words, "label-less")
	}
	if r.Misaligned() > 0 {
		words = append(words, "misaligned")
	}
	return strings.Join(words, ",")
}

func newRegionListCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the regions", Example: "  pmemctl region list\n  pmemctl region list -o wide", Args: cobra.NoArgs,
	}, func(_ context.Context, o outputFlag, _ []string) error {
		s, err := a.ndctl.Snapshot(ndctl.Select{Badblocks: true})
		if err != nil {
			return err
		}
		if len(s.Regions) == 0 && !o.structured() {
			return volume.NoPMEM(s)
		}
		return show(a, o, "regions", s.Regions, regionColumns())
	})
}

func newRegionShowCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "show REGION", Short: "Show a region with its DIMMs, namespaces and bad blocks",
		Example: "  pmemctl region show region0",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeRegions(1),
	}, func(_ context.Context, o outputFlag, args []string) error {
		s, err := a.ndctl.Snapshot(ndctl.Everything)
		if err != nil {
			return err
		}
		r, ok := s.Region(args[0])
		if !ok {
			return errs.New(errs.NotFound, fmt.Sprintf("region %q", args[0]), "does not exist", "see what there is: pmemctl region list")
		}
		if o.structured() {
			return show(a, o, "regions", []pmem.Region{r}, nil)
		}
		return a.printRegion(s, r)
	})
}

func (a *app) printRegion(s pmem.System, r pmem.Region) error {
	lines := [][2]string{
		{"Region", r.Dev}, {"Bus", r.Bus}, {"Type", r.Type}, {"State", regionState(r)},
		{"Size", exact(r.Size)}, {"Free", exact(r.AvailableSize)}, {"Largest extent", exact(r.MaxAvailableExtent)},
		{"Align", exact(r.Align)}, {"Interleave ways", fmt.Sprint(r.InterleaveWays)},
		{"Namespaces are multiples of", exact(r.SizeAlign(pmem.DefaultAlign))},
		{"Persistence domain", r.PersistenceDomain}, {"NUMA node", nodeText(r.NUMANode)}, {"Target node", nodeText(r.TargetNode)},
		{"Bad blocks", fmt.Sprintf("%d of 512 bytes", r.BadblockCount)},
	}
	if caveat := s.BusOf(r.Dev).Caveat(); caveat != "" {
		lines = append(lines, [2]string{"Caveat", caveat})
	}
	if off := r.Misaligned(); off > 0 {
		lines = append(lines, [2]string{"Misaligned", exact(off) + " at its end cannot be used"})
	}
	for _, l := range lines {
		fmt.Fprintf(a.stdout, "%-29s%s\n", l[0]+":", l[1])
	}
	for _, b := range r.Badblocks {
		fmt.Fprintf(a.stdout, "  bad: %d blocks at block %d\n", b.Length, b.Offset)
	}
	fmt.Fprintln(a.stdout, "\nMappings:")
	var rows [][]string
	for _, m := range r.Mappings {
		health := "-"
		for _, d := range s.DIMMs {
			if d.Dev == m.DIMM && d.Health != nil {
				health = d.Health.State
			}
		}
		rows = append(rows, []string{m.DIMM, fmt.Sprint(m.Position), pmem.FormatSize(m.Length), fmt.Sprintf("%#x", m.Offset), health})
	}
	if err := writeTable(a.stdout, []string{"DIMM", "POSITION", "LENGTH", "OFFSET", "HEALTH"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "\nNamespaces:")
	return show(a, outputTable, "", s.InRegion(r.Dev), namespaceColumns())
}

// exact formats a size with its number of bytes.
func exact(n uint64) string { return fmt.Sprintf("%s (%d bytes)", pmem.FormatSize(n), n) }

type initLabelsOptions struct {
	regions []string // none means all
	force   bool
}

func newRegionInitLabelsCommand(a *app, runF runFunc[initLabelsOptions]) *cobra.Command {
	var o initLabelsOptions
	var all bool
	cmd := &cobra.Command{
		Use:   "init-labels REGION...|--all",
		Short: "Initialize the labels of regions; destroys all data in them",
		Long: `Writes empty label areas to the DIMMs of the regions. A region without labels is a
single namespace; with labels it can be divided into volumes.

All data in the regions is lost, and in every region that shares a DIMM with one of
them. If anything in them is in use, nothing is changed.`,
		Example: `  pmemctl region init-labels region0
  pmemctl region init-labels --all`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: a.completeRegions(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.regions = args; all == (len(args) > 0) {
				return usage(cmd, fmt.Errorf("specify regions, or use --all"))
			}
			return runF.or(a.initLabels)(cmd.Context(), &o)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all regions that have no labels and can have them")
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask")
	return cmd
}

func (a *app) initLabels(ctx context.Context, o *initLabelsOptions) error {
	if err := a.needRoot("initializing labels"); err != nil {
		return err
	}
	plan, err := a.service.PlanInitLabels(o.regions...)
	if err != nil {
		return err
	}
	if len(plan.Regions) == 0 {
		a.note("nothing to do: all regions that can have labels have them")
		return nil
	}
	if err := a.confirm(o.force, lossOf(plan)); err != nil {
		return err
	}
	if err := a.service.InitLabels(ctx, plan); err != nil {
		return err
	}
	for _, r := range plan.Regions {
		a.say("%s has labels and is empty", r.Dev)
	}
	return nil
}

func lossOf(plan volume.LabelsPlan) string {
	var regions, namespaces []string
	for _, r := range plan.Regions {
		regions = append(regions, r.Dev)
		if r.HiddenSize > 0 {
			namespaces = append(namespaces, pmem.FormatSize(r.HiddenSize)+" in "+r.Dev+" that are not visible")
		}
	}
	for _, n := range plan.Namespaces {
		namespaces = append(namespaces, strings.TrimSpace(n.Dev+" "+n.Name))
	}
	text := "All data in " + strings.Join(regions, ", ") + " will be lost"
	if len(namespaces) > 0 {
		text += ", including the namespaces " + strings.Join(namespaces, ", ")
	}
	return text + "."
}

func newRegionSwitchCommand(a *app, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " REGION...", Short: short, Example: "  pmemctl region " + verb + " region0", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeRegions(0),
		PreRunE: a.asRoot("changing a region"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change := a.service.EnableRegion
			if verb == "disable" {
				change = a.service.DisableRegion
			}
			for _, dev := range args {
				if err := change(cmd.Context(), dev); err != nil {
					return err
				}
				a.say("%s %sd", dev, verb)
			}
			return nil
		},
	}
}

type regionForgetOptions struct {
	id    string
	force bool
}

func newRegionForgetCommand(a *app, runF runFunc[regionForgetOptions]) *cobra.Command {
	var o regionForgetOptions
	cmd := &cobra.Command{
		Use: "forget ID", Short: "Forget a missing region and the volumes in it",
		Long: `Forgets a region whose DIMMs or content are lost for good. The host records which
regions have had volumes: while one of them is missing, a volume that is not found does
not count as deleted. ID is what "pmemctl volume list" shows for the region: its
interleave set or, if it has no labels, its mark.`,
		Example: `  pmemctl region forget 7a3d9f0c51e28b46`,
		Args:    cobra.ExactArgs(1), PreRunE: a.asRoot("forgetting a region"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runF.or(a.forgetRegion)(cmd.Context(), &o)
		},
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask, and forget it even if it may only be disabled")
	return cmd
}

func (a *app) forgetRegion(ctx context.Context, o *regionForgetOptions) error {
	if err := a.confirm(o.force, "The volumes in region "+o.id+" will count as deleted."); err != nil {
		return err
	}
	return a.service.ForgetRegion(ctx, o.id, o.force)
}
