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

func newVGCommand(a *app) *cobra.Command {
	return group("vg", "Give PMEM to volume groups, for lvm volumes",
		newVGInitCommand(a), newVGListCommand(a), newVGShowCommand(a), newVGExtendCommand(a), newVGRemoveCommand(a), newVGCheckCommand(a), newVGRepairCommand(a))
}

type vgInitOptions struct {
	spec   volume.VGInitSpec
	size   sizeFlag
	name   string
	dryRun bool
	output outputFlag
}

func (o *vgInitOptions) addFlags(a *app, cmd *cobra.Command) {
	cmd.Flags().IntVar(&o.spec.Percent, "percent", 0, "`share` of each region, 1 to 100 (default 100)")
	cmd.Flags().Var(&o.size, "size", "bytes that each region is to give its group in all, such as 512Gi")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be done, and do nothing")
	cmd.ValidArgsFunction = a.completeRegions(0)
	addOutputFlag(cmd, &o.output)
}

func newVGInitCommand(a *app) *cobra.Command {
	var o vgInitOptions
	cmd := &cobra.Command{
		Use:   "init [REGION...]",
		Short: "Make a volume group on each region, or one over all",
		Long: `Makes an fsdax namespace in each region, and a volume group pmemvgREGION on it, or
one volume group over all of them with --span. Without a region, all that can be
divided are used. What is left of a region is for direct volumes and for others.

Run again it changes nothing; with a larger share it adds to the groups. A group
never shrinks. Namespaces and groups of others are left as they are.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("name") {
				if !o.spec.Span {
					return usage(cmd, fmt.Errorf("--name goes with --span"))
				}
				if o.spec.VG = o.name; o.name == "" {
					return volume.ValidateName("")
				}
			}
			o.spec.Regions = args
			return a.initVGs(cmd, &o)
		},
	}
	o.addFlags(a, cmd)
	cmd.Flags().BoolVar(&o.spec.Span, "span", false, "one volume group over all the regions")
	cmd.Flags().StringVar(&o.name, "name", volume.DefaultSpanVG, "`name` of the volume group with --span")
	return cmd
}

func newVGExtendCommand(a *app) *cobra.Command {
	var o vgInitOptions
	cmd := &cobra.Command{
		Use:   "extend VG [REGION...]",
		Short: "Give a volume group a larger share, or more regions",
		Long: `Adds PMEM to a volume group: of the regions named, or of those it is on. The share
is what the group has of each region when it is done.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("extending a volume group"); err != nil {
				return err
			}
			if !cmd.Flags().Changed("percent") && !cmd.Flags().Changed("size") {
				return usage(cmd, fmt.Errorf("give the share it is to have: --percent or --size"))
			}
			regions, err := a.service.VGRegions(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if len(args) > 1 {
				regions = args[1:]
			}
			o.spec.VG, o.spec.Regions = args[0], regions
			return a.initVGs(cmd, &o)
		},
	}
	o.addFlags(a, cmd)
	cmd.ValidArgsFunction = a.completeVGs(1)
	return cmd
}

func (a *app) initVGs(cmd *cobra.Command, o *vgInitOptions) error {
	if err := a.needRoot("making a volume group"); err != nil {
		return err
	}
	if cmd.Flags().Changed("size") && o.size == 0 {
		return usage(cmd, fmt.Errorf("the size must be greater than 0"))
	}
	if cmd.Flags().Changed("percent") && o.spec.Percent == 0 {
		return usage(cmd, fmt.Errorf("0 percent is out of range"))
	}
	o.spec.Size = uint64(o.size)
	do := a.service.InitVGs
	if o.dryRun {
		do = a.service.PlanVGInit
	}
	steps, err := do(cmd.Context(), o.spec)
	if err != nil && !errs.Is(err, errs.Damaged) {
		return err
	}
	return errors.Join(err, show(a, o.output, "steps", steps, []column[volume.VGInitStep]{
		{title: "REGION", cell: func(s volume.VGInitStep) string { return s.Region }},
		{title: "VG", cell: func(s volume.VGInitStep) string { return s.VG }},
		{title: "HAD", cell: func(s volume.VGInitStep) string { return pmem.FormatSize(s.Has) }},
		{title: "ADDED", cell: func(s volume.VGInitStep) string { return pmem.FormatSize(s.Add) }},
		{title: "NOTE", cell: func(s volume.VGInitStep) string {
			if s.Reason == "" && s.Add == 0 {
				return "unchanged"
			}
			return dash(s.Reason)
		}},
	}))
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
	var output outputFlag
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the volume groups on PMEM", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.showVGs(cmd.Context(), output, "")
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func newVGShowCommand(a *app) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use: "show VG", Short: "Show a volume group", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVGs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == outputTable {
				output = outputWide
			}
			return a.showVGs(cmd.Context(), output, args[0])
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

// showVGs shows all volume groups, or the one of a name.
func (a *app) showVGs(ctx context.Context, output outputFlag, name string) error {
	if err := a.needRoot("reading volume groups"); err != nil {
		return err
	}
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
	return errors.Join(show(a, output, "vgs", vgs, vgColumns()), a.damage(v, name))
}

// damage is what is damaged, of all volume groups or of the one of a name, as an error: a
// list that is shorter than it should be is no success.
func (a *app) damage(v volume.View, vg string) (err error) {
	for _, d := range a.service.Damage(v) {
		if vg == "" || d.VG == vg {
			err = errors.Join(err, d.Error())
		}
	}
	return err
}

func newVGRemoveCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "remove VG", Aliases: []string{"rm"}, Short: "Remove a volume group without volumes, and give its space back",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVGs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("removing a volume group"); err != nil {
				return err
			}
			err := a.service.RemoveVG(cmd.Context(), args[0], force)
			if errs.Is(err, errs.Damaged) && !force && a.interactive {
				v, looked := a.service.Look(cmd.Context())
				if looked != nil || a.service.Lost(v, args[0]) == nil {
					return err
				}
				if err := a.confirm(false, a.service.Lost(v, args[0]).Error()+". Remove it all the same?"); err != nil {
					return err
				}
				err = a.service.RemoveVG(cmd.Context(), args[0], true)
			}
			if err != nil {
				return err
			}
			a.say("volume group %s removed", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove also a group that cannot be read, with every volume in it")
	return cmd
}
