package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// vgs is what the commands use of the volume service for volume groups.
type vgs interface {
	PlanVGInit(context.Context, volume.VGInitSpec) ([]volume.VGInitStep, error)
	InitVGs(context.Context, volume.VGInitSpec) ([]volume.VGInitStep, error)
	VGRegions(ctx context.Context, name string) ([]string, error)
	RemoveVG(ctx context.Context, name string, force bool) error
	Lost(v volume.View, name string) error
	CheckVGs(ctx context.Context, name string) ([]volume.VGPart, error)
	PlanRepair(ctx context.Context, name string) (volume.RepairPlan, error)
	RepairVG(context.Context, volume.RepairPlan) (kept []string, err error)
}

func newVGCommand(a *app) *cobra.Command {
	return group("vg", "Manage the volume groups for lvm volumes", "pmemctl vg list",
		newVGInitCommand(a, nil), newVGListCommand(a), newVGShowCommand(a), newVGExtendCommand(a, nil), newVGRemoveCommand(a, nil), newVGCheckCommand(a), newVGRepairCommand(a, nil))
}

type vgInitOptions struct {
	spec          volume.VGInitSpec
	dryRun, force bool
	output        outputFlag
}

func (o *vgInitOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&o.spec.Percent, "percent", 0, "`percentage` of each region, 1 to 100 (default 100)")
	cmd.Flags().Var((*sizeFlag)(&o.spec.Size), "size", "total size that the group gets from each region, for example 512Gi")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be done, and change nothing")
	addOutputFlag(cmd, &o.output)
}

// checkShare checks the flags --size and --percent.
func checkShare(cmd *cobra.Command, percent int) error {
	if err := positive(cmd, "size"); err != nil {
		return err
	}
	if cmd.Flags().Changed("percent") && percent == 0 {
		return usage(cmd, fmt.Errorf("0 percent is out of range"))
	}
	return nil
}

func newVGInitCommand(a *app, runF runFunc[vgInitOptions]) *cobra.Command {
	var o vgInitOptions
	var name string
	cmd := &cobra.Command{
		Use:   "init [REGION...]",
		Short: "Create a volume group on each region, or one across all",
		Long: `Creates an fsdax namespace in each region, and a volume group pmemvgREGION on it or,
with --span, one volume group across all regions. Without REGION, all regions that can
be divided are used. The rest of a region is for direct volumes and other namespaces.

A region without labels cannot be divided. With --whole, the named regions are given to
volume groups entirely: what is in them is shown, and erased if you agree.

Running the command again changes nothing; with a larger share it extends the groups. A
group never shrinks. Namespaces and groups that pmemctl did not create are left
unchanged.`,
		Example: `  pmemctl vg init --percent 50
  pmemctl vg init --percent 50 --dry-run
  pmemctl vg init --size 512Gi region0
  pmemctl vg init --span --name pmemvg region0 region1
  pmemctl vg init region0 --whole      # without labels; asks before it erases`,
		ValidArgsFunction: a.completeRegions(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("name") {
				if !o.spec.Span {
					return usage(cmd, fmt.Errorf("--name requires --span"))
				}
				if o.spec.VG = name; name == "" {
					return volume.ValidateName("")
				}
			}
			if o.force && !o.spec.Whole {
				return usage(cmd, errors.New("--force requires --whole"))
			}
			if err := a.needRoot("creating a volume group"); err != nil {
				return err
			}
			if err := checkShare(cmd, o.spec.Percent); err != nil {
				return err
			}
			o.spec.Regions = args
			return runF.or(a.initVGs)(cmd.Context(), &o)
		},
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.spec.Whole, "whole", false, "give regions without labels to volume groups entirely, and erase what is in them")
	cmd.Flags().BoolVar(&o.force, "force", false, "with --whole: do not ask")
	cmd.Flags().BoolVar(&o.spec.Span, "span", false, "create one volume group across all the regions")
	cmd.Flags().StringVar(&name, "name", volume.DefaultSpanVG, "`name` of the volume group with --span")
	return cmd
}

// confirmWhole asks whether what is in regions without labels may be erased.
func (a *app) confirmWhole(ctx context.Context, o *vgInitOptions) error {
	steps, err := a.service.PlanVGInit(ctx, o.spec)
	// What an interrupted call left is settled by InitVGs, which erases nothing without consent.
	if err != nil && !errs.Is(err, errs.Damaged) && !errs.Is(err, errs.Conflict) {
		return err
	}
	o.spec.MayErase = map[string]string{}
	var question []string
	for _, s := range steps {
		if s.Erases == "" {
			continue
		}
		o.spec.MayErase[s.Region] = s.Erases
		loss := ", which will be lost"
		if s.Erases == volume.NothingFound {
			loss = " that is recognized"
		}
		if s.Caveat != "" {
			question = append(question, fmt.Sprintf("Region %s: %s.", s.Region, s.Caveat))
		}
		question = append(question, fmt.Sprintf("Region %s (%s) contains %s%s. All of it is given to volume group %s.", s.Region, pmem.FormatSize(s.Add), s.Erases, loss, s.VG))
	}
	if len(question) == 0 {
		return nil
	}
	return a.confirm(o.force, strings.Join(question, "\n"))
}

func (a *app) initVGs(ctx context.Context, o *vgInitOptions) error {
	if o.spec.Whole && !o.dryRun {
		if err := a.confirmWhole(ctx, o); err != nil {
			return err
		}
	}
	do := a.service.InitVGs
	if o.dryRun {
		do = a.service.PlanVGInit
	}
	steps, err := do(ctx, o.spec)
	if err != nil && !errs.Is(err, errs.Damaged) {
		return err
	}
	return errors.Join(err, show(a, o.output, "steps", steps, []column[volume.VGInitStep]{
		{title: "REGION", cell: func(s volume.VGInitStep) string { return s.Region }},
		{title: "VG", cell: func(s volume.VGInitStep) string { return s.VG }},
		{title: "HAD", cell: func(s volume.VGInitStep) string { return pmem.FormatSize(s.Has) }},
		{title: "ADDED", cell: func(s volume.VGInitStep) string { return pmem.FormatSize(s.Add) }},
		{title: "NOTE", cell: func(s volume.VGInitStep) string {
			if s.Erases != "" && o.dryRun {
				note := "erases what it contains: " + s.Erases
				if s.Erases == volume.NothingFound {
					note = "contains nothing that is recognized"
				}
				return strings.TrimPrefix(s.Caveat+"; "+note, "; ")
			}
			if s.Reason == "" && s.Add == 0 {
				return "unchanged"
			}
			return dash(s.Reason)
		}},
	}))
}

func newVGExtendCommand(a *app, runF runFunc[vgInitOptions]) *cobra.Command {
	var o vgInitOptions
	cmd := &cobra.Command{
		Use:   "extend VG [REGION...]",
		Short: "Give a volume group a larger share, or more regions",
		Long: `Adds PMEM to a volume group: from the given regions, or from those it is on. The
share is what the group has of each region afterwards.`,
		Example: `  pmemctl vg extend pmemvgregion0 --percent 75
  pmemctl vg extend pmemvg region1 --size 512Gi`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVGs(1), PreRunE: a.asRoot("extending a volume group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("percent") && !cmd.Flags().Changed("size") {
				return usage(cmd, fmt.Errorf("specify the new share: --percent or --size"))
			}
			regions, err := a.service.VGRegions(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := checkShare(cmd, o.spec.Percent); err != nil {
				return err
			}
			if len(args) > 1 {
				regions = args[1:]
			}
			o.spec.VG, o.spec.Regions = args[0], regions
			return runF.or(a.initVGs)(cmd.Context(), &o)
		},
	}
	o.addFlags(cmd)
	return cmd
}

func vgColumns() []column[volume.VGInfo] {
	return []column[volume.VGInfo]{
		{title: "VG", cell: func(v volume.VGInfo) string { return v.Name }},
		{title: "SIZE", cell: func(v volume.VGInfo) string { return pmem.FormatSize(v.Size) }},
		{title: "FREE", cell: func(v volume.VGInfo) string { return pmem.FormatSize(v.Free) }},
		{title: "VOLUMES", cell: func(v volume.VGInfo) string { return fmt.Sprint(v.Volumes) }},
		{title: "REGIONS", cell: func(v volume.VGInfo) string { return dash(strings.Join(v.Regions, ",")) }},
		{title: "STATE", cell: func(v volume.VGInfo) string { return string(v.State) }},
		{title: "OWNER", cell: func(v volume.VGInfo) string { return v.Owner }},
		{title: "DEVICES", wide: true, cell: func(v volume.VGInfo) string { return strings.Join(v.Devices, ",") }},
		{title: "UUID", wide: true, cell: func(v volume.VGInfo) string { return v.UUID }},
	}
}

func newVGListCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the volume groups on PMEM", Example: "  pmemctl vg list\n  pmemctl vg list -o wide", Args: cobra.NoArgs,
		PreRunE: a.asRoot("reading volume groups"),
	}, func(ctx context.Context, o outputFlag, _ []string) error {
		return a.showVGs(ctx, o, "")
	})
}

func newVGShowCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "show VG", Short: "Show a volume group", Example: "  pmemctl vg show pmemvgregion0", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVGs(1),
		PreRunE: a.asRoot("reading volume groups"),
	}, func(ctx context.Context, o outputFlag, args []string) error {
		return a.showVGs(ctx, o.detailed(), args[0])
	})
}

// showVGs shows all volume groups, or the one of that name.
func (a *app) showVGs(ctx context.Context, o outputFlag, name string) error {
	v, err := a.service.Look(ctx)
	if err != nil {
		return err
	}
	vgs := v.VGs()
	if name != "" {
		vg, err := v.FindVG(name)
		if err != nil {
			return err
		}
		vgs = []volume.VGInfo{vg}
	}
	return errors.Join(show(a, o, "vgs", vgs, vgColumns()), a.damage(v, name))
}

// damage returns the damage of all volume groups, or of the one of that name, as an error, because
// an incomplete list is not a success.
func (a *app) damage(v volume.View, vg string) (err error) {
	for _, d := range a.service.Damage(v) {
		if vg == "" || d.VG == vg {
			err = errors.Join(err, d.Error())
		}
	}
	return err
}

type vgRemoveOptions struct {
	vg    string
	force bool
}

func newVGRemoveCommand(a *app, runF runFunc[vgRemoveOptions]) *cobra.Command {
	var o vgRemoveOptions
	cmd := &cobra.Command{
		Use: "remove VG", Aliases: []string{"rm"}, Short: "Remove a volume group without volumes, and free its space",
		Example: "  pmemctl vg remove pmemvgregion0",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeVGs(1), PreRunE: a.asRoot("removing a volume group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vg = args[0]
			return runF.or(a.removeVG)(cmd.Context(), &o)
		},
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "remove even a group that cannot be read, with all volumes in it")
	return cmd
}

func (a *app) removeVG(ctx context.Context, o *vgRemoveOptions) error {
	err := a.service.RemoveVG(ctx, o.vg, o.force)
	if errs.Is(err, errs.Damaged) && !o.force && a.interactive {
		v, looked := a.service.Look(ctx)
		if looked != nil || a.service.Lost(v, o.vg) == nil {
			return err
		}
		if err := a.confirm(false, a.service.Lost(v, o.vg).Error()+". Remove it anyway?"); err != nil {
			return err
		}
		err = a.service.RemoveVG(ctx, o.vg, true)
	}
	if err != nil {
		return err
	}
	a.say("volume group %s removed", o.vg)
	return nil
}
