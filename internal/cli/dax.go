package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/dax"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

func newDAXCommand(a *app) *cobra.Command {
	return group("dax", "Show and reconfigure dax devices", "pmemctl dax list", newDAXListCommand(a), newDAXReconfigureCommand(a))
}

func daxColumns() []column[dax.Device] {
	return []column[dax.Device]{
		{title: "DEVICE", cell: func(d dax.Device) string { return d.Chardev }},
		{title: "MODE", cell: func(d dax.Device) string { return string(d.Mode) }},
		{title: "SIZE", cell: func(d dax.Device) string { return pmem.FormatSize(d.Size) }},
		{title: "STATE", cell: func(d dax.Device) string { return d.State }},
		{title: "ONLINE", cell: func(d dax.Device) string {
			if d.OnlineMemblocks == nil || d.TotalMemblocks == nil {
				return "-"
			}
			return fmt.Sprintf("%d of %d blocks", *d.OnlineMemblocks, *d.TotalMemblocks)
		}},
		{title: "ALIGN", wide: true, cell: func(d dax.Device) string { return pmem.FormatSize(d.Align) }},
		{title: "TARGET NODE", wide: true, cell: func(d dax.Device) string { return nodeText(d.TargetNode) }},
		{title: "MOVABLE", wide: true, cell: func(d dax.Device) string { return valueOf(d.Movable, "%v") }},
	}
}

func newDAXListCommand(a *app) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the dax devices", Example: "  pmemctl dax list\n  pmemctl dax list -o wide", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			devices, err := a.dax.List()
			if err != nil {
				return err
			}
			return show(a, output, "devices", devices, daxColumns())
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func newDAXReconfigureCommand(a *app) *cobra.Command {
	var output outputFlag
	var r dax.Reconfigure
	var mode string
	cmd := &cobra.Command{
		Use:   "reconfigure DEVICE --mode devdax|system-ram",
		Short: "Switch a dax device between devdax and system-ram mode",
		Long: `Turns a devdax device into system memory (system-ram), or back. Its data is lost either
way. The memory is onlined as movable, so that it can be taken offline again; --offline
does this before the switch back to devdax. The mode does not survive a reboot.`,
		Example: `  pmemctl dax reconfigure dax0.0 --mode system-ram
  pmemctl dax reconfigure dax0.0 --mode devdax --offline`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDAX(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("reconfiguring a dax device"); err != nil {
				return err
			}
			if r.Mode = dax.Mode(mode); r.Mode != dax.ModeDevDAX && r.Mode != dax.ModeSystemRAM {
				return errs.New(errs.Invalid, "dax device "+args[0], fmt.Sprintf("%q is not a mode", mode), "use --mode devdax or --mode system-ram")
			}
			var d dax.Device
			err := a.service.ChangeHost(cmd.Context(), func() (err error) {
				d, err = a.dax.Reconfigure(args[0], r)
				return err
			})
			if err != nil {
				return err
			}
			return show(a, output, "devices", []dax.Device{d}, daxColumns())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&mode, "mode", "m", "", "`mode`: devdax or system-ram")
	f.BoolVarP(&r.NoOnline, "no-online", "N", false, "leave the new memory offline")
	f.BoolVar(&r.NoMovable, "no-movable", false, "online the new memory for the kernel too; it may then be impossible to take it offline")
	f.BoolVar(&r.Offline, "offline", false, "take the memory offline before switching back to devdax")
	f.BoolVarP(&r.Force, "force", "f", false, "accept that the kernel onlines new memory automatically")
	_ = cmd.MarkFlagRequired("mode")
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"devdax", "system-ram"}, cobra.ShellCompDirectiveNoFileComp))
	addOutputFlag(cmd, &output)
	return cmd
}
