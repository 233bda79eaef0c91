package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/dax"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// daxDevices are the dax devices of the host; dax.Lib implements it.
type daxDevices interface {
	List() ([]dax.Device, error)
	Reconfigure(chardev string, r dax.Reconfigure) (dax.Device, error)
}

func newDAXCommand(a *app) *cobra.Command {
	return group("dax", "Show and reconfigure dax devices", "pmemctl dax list", newDAXListCommand(a), newDAXReconfigureCommand(a, nil))
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
	return listing(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the dax devices", Example: "  pmemctl dax list\n  pmemctl dax list -o wide", Args: cobra.NoArgs,
	}, func(_ context.Context, o outputFlag, _ []string) error {
		devices, err := a.dax.List()
		if err != nil {
			return err
		}
		return show(a, o, "devices", devices, daxColumns())
	})
}

type daxReconfigureOptions struct {
	device string
	dax.Reconfigure
	output outputFlag
}

func newDAXReconfigureCommand(a *app, runF runFunc[daxReconfigureOptions]) *cobra.Command {
	var o daxReconfigureOptions
	cmd := &cobra.Command{
		Use:   "reconfigure DEVICE --mode devdax|system-ram",
		Short: "Switch a dax device between devdax and system-ram mode",
		Long: `Turns a devdax device into system memory (system-ram), or back. Its data is lost either
way. The memory is onlined as movable, so that it can be taken offline again; --offline
does this before the switch back to devdax. The mode does not survive a reboot.`,
		Example: `  pmemctl dax reconfigure dax0.0 --mode system-ram
  pmemctl dax reconfigure dax0.0 --mode devdax --offline`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDAX(1), PreRunE: a.asRoot("reconfiguring a dax device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.device = args[0]; o.Mode != dax.ModeDevDAX && o.Mode != dax.ModeSystemRAM {
				return errs.New(errs.Invalid, "dax device "+o.device, fmt.Sprintf("%q is not a mode", o.Mode), "use --mode devdax or --mode system-ram")
			}
			return runF.or(a.reconfigureDAX)(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.StringVarP((*string)(&o.Mode), "mode", "m", "", "`mode`: devdax or system-ram")
	f.BoolVarP(&o.NoOnline, "no-online", "N", false, "leave the new memory offline")
	f.BoolVar(&o.NoMovable, "no-movable", false, "online the new memory for the kernel too; it may then be impossible to take it offline")
	f.BoolVar(&o.Offline, "offline", false, "take the memory offline before switching back to devdax")
	f.BoolVarP(&o.Force, "force", "f", false, "accept that the kernel onlines new memory automatically")
	_ = cmd.MarkFlagRequired("mode")
	completeValues(cmd, "mode", "devdax", "system-ram")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) reconfigureDAX(ctx context.Context, o *daxReconfigureOptions) error {
	var d dax.Device
	err := a.service.ChangeHost(ctx, func() (err error) {
		d, err = a.dax.Reconfigure(o.device, o.Reconfigure)
		return err
	})
	if err != nil {
		return err
	}
	return show(a, o.output, "devices", []dax.Device{d}, daxColumns())
}
