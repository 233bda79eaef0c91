package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
)

func newHostCommand(a *app) *cobra.Command {
	return group("host", "Keep this host's udev, LVM and boot from reading tenants' data", "pmemctl host check",
		newHostCheckCommand(a, nil), newHostSetupCommand(a, nil))
}

func addRootFlag(cmd *cobra.Command, h *hostconf.Host) {
	cmd.Flags().StringVar(&h.Root, "root", "", "`directory` that contains the host's /etc, in a container (default /)")
}

type hostCheckOptions struct {
	host   hostconf.Host
	output outputFlag
}

func newHostCheckCommand(a *app, runF runFunc[hostCheckOptions]) *cobra.Command {
	var o hostCheckOptions
	cmd := &cobra.Command{
		Use: "check", Short: "Check whether the host reads the volumes", Args: cobra.NoArgs,
		Long: `Checks whether udevd reads pmemctl's devices, whether the host's LVM sees them, and
whether the initramfs includes the udev rule. Changes nothing.`,
		Example: `  pmemctl host check
  pmemctl host check --root /host`,
		PreRunE: a.asRoot("checking the host's configuration"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runF.or(a.checkHost)(cmd.Context(), &o) },
	}
	addRootFlag(cmd, &o.host)
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) checkHost(ctx context.Context, o *hostCheckOptions) error {
	findings, err := o.host.Check(ctx)
	if err != nil {
		return err
	}
	err = show(a, o.output, "checks", findings, []column[hostconf.Finding]{
		{title: "CHECK", cell: func(f hostconf.Finding) string { return f.Check }},
		{title: "STATE", cell: func(f hostconf.Finding) string { return string(f.State) }},
		{title: "DETAIL", cell: func(f hostconf.Finding) string { return f.Detail }},
		{title: "NEXT", cell: func(f hostconf.Finding) string { return dash(f.Next) }},
	})
	if err != nil {
		return err
	}
	var checks []string
	next := ""
	for _, f := range findings {
		if f.State == hostconf.Problem {
			checks = append(checks, f.Check)
			next = cmp.Or(next, f.Next)
		}
	}
	if len(checks) > 0 {
		return errs.New(errs.Internal, "host", "data written by a tenant can change it: "+strings.Join(checks, ", "), next)
	}
	return nil
}

type hostSetupOptions struct {
	host          hostconf.Host
	force, remove bool
	output        outputFlag
}

func newHostSetupCommand(a *app, runF runFunc[hostSetupOptions]) *cobra.Command {
	var o hostSetupOptions
	cmd := &cobra.Command{
		Use: "setup", Short: "Install the udev rule and the LVM filter", Args: cobra.NoArgs,
		Long: `Installs a udev rule that keeps udevd from reading pmemctl's devices, and a filter that
hides them from the host's LVM. Files that are already installed, for example by a
package, are kept, and so is a filter of your own; the line to add to it is shown.

Afterwards /dev/disk/by-uuid and by-label have no links to volumes, and lvs and vgs do
not show pmemctl's groups.`,
		Example: `  pmemctl host setup
  pmemctl host setup --root /host --force
  pmemctl host setup --remove`,
		PreRunE: a.asRoot("setting up the host"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runF.or(a.setUpHost)(cmd.Context(), &o) },
	}
	addRootFlag(cmd, &o.host)
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask, and continue if /etc/fstab names a volume by its content")
	cmd.Flags().BoolVar(&o.remove, "remove", false, "remove what host setup installed")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) setUpHost(ctx context.Context, o *hostSetupOptions) error {
	question := fmt.Sprintf("Files for udev and LVM will be written to %s/etc.", strings.TrimSuffix(o.host.Root, "/"))
	if o.remove {
		question = "Without the udev rule and the LVM filter, data written by a tenant can change this host."
	}
	if err := a.confirm(o.force, question); err != nil {
		return err
	}
	var changes []hostconf.Change
	var err error
	if o.remove {
		changes, err = o.host.Remove(ctx)
	} else {
		changes, err = o.host.Setup(ctx, o.force)
	}
	if len(changes) > 0 || err == nil {
		if shown := show(a, o.output, "changes", changes, []column[hostconf.Change]{
			{title: "FILE", cell: func(c hostconf.Change) string { return c.File }},
			{title: "DONE", cell: func(c hostconf.Change) string { return c.Done }},
			{title: "NEXT", cell: func(c hostconf.Change) string { return dash(c.Next) }},
		}); err == nil {
			err = shown
		}
	}
	return err
}
