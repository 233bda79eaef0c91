package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
)

func newHostCommand(a *app) *cobra.Command {
	return group("host", "Keep this host's udev, LVM and boot from reading tenants' data", "pmemctl host check",
		newHostCheckCommand(a), newHostSetupCommand(a))
}

func addRootFlag(cmd *cobra.Command, h *hostconf.Host) {
	cmd.Flags().StringVar(&h.Root, "root", "", "`directory` that contains the host's /etc, in a container (default /)")
}

func newHostCheckCommand(a *app) *cobra.Command {
	var h hostconf.Host
	var output outputFlag
	cmd := &cobra.Command{
		Use: "check", Short: "Check whether the host reads the volumes", Args: cobra.NoArgs,
		Long: `Checks whether udevd reads pmemctl's devices, whether the host's LVM sees them, and
whether the initramfs includes the udev rule. Changes nothing.`,
		Example: `  pmemctl host check
  pmemctl host check --root /host`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRoot("checking the host's configuration"); err != nil {
				return err
			}
			findings, err := h.Check(cmd.Context())
			if err != nil {
				return err
			}
			err = show(a, output, "checks", findings, []column[hostconf.Finding]{
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
					if next == "" {
						next = f.Next
					}
				}
			}
			if len(checks) > 0 {
				return errs.New(errs.Internal, "host", "data written by a tenant can change it: "+strings.Join(checks, ", "), next)
			}
			return nil
		},
	}
	addRootFlag(cmd, &h)
	addOutputFlag(cmd, &output)
	return cmd
}

func newHostSetupCommand(a *app) *cobra.Command {
	var h hostconf.Host
	var force, remove bool
	var output outputFlag
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRoot("setting up the host"); err != nil {
				return err
			}
			question := "Files for udev and LVM will be written to " + hostEtc(h) + "."
			if remove {
				question = "Without the udev rule and the LVM filter, data written by a tenant can change this host."
			}
			if err := a.confirm(force, question); err != nil {
				return err
			}
			do := func() ([]hostconf.Change, error) { return h.Setup(cmd.Context(), force) }
			if remove {
				do = func() ([]hostconf.Change, error) { return h.Remove(cmd.Context()) }
			}
			changes, err := do()
			if len(changes) > 0 || err == nil {
				if shown := show(a, output, "changes", changes, []column[hostconf.Change]{
					{title: "FILE", cell: func(c hostconf.Change) string { return c.File }},
					{title: "DONE", cell: func(c hostconf.Change) string { return c.Done }},
					{title: "NEXT", cell: func(c hostconf.Change) string { return dash(c.Next) }},
				}); err == nil {
					err = shown
				}
			}
			return err
		},
	}
	addRootFlag(cmd, &h)
	cmd.Flags().BoolVar(&force, "force", false, "do not ask, and continue if /etc/fstab names a volume by its content")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove what host setup installed")
	addOutputFlag(cmd, &output)
	return cmd
}

func hostEtc(h hostconf.Host) string { return fmt.Sprintf("%s/etc", strings.TrimSuffix(h.Root, "/")) }
