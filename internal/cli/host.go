package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
)

func newHostCommand(a *app) *cobra.Command {
	return group("host", "Keep this host's udev, LVM and boot off what tenants write",
		newHostCheckCommand(a), newHostSetupCommand(a))
}

func addRootFlag(cmd *cobra.Command, h *hostconf.Host) {
	cmd.Flags().StringVar(&h.Root, "root", "", "`directory` that has the host's /etc, for a container (default /)")
}

func newHostCheckCommand(a *app) *cobra.Command {
	var h hostconf.Host
	var output outputFlag
	cmd := &cobra.Command{
		Use: "check", Short: "Tell whether the host leaves the volumes alone", Args: cobra.NoArgs,
		Long: `Looks whether udevd reads pmemctl's devices, whether the host's LVM sees them, and
whether the initramfs knows of the rule. Changes nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRoot("looking at the host's configuration"); err != nil {
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
		Long: `Writes a udev rule, by which udevd reads none of pmemctl's devices, and a filter for
the host's LVM, by which it sees none. What is installed already, by a package for one,
stays, and so does a filter of your own; the line to add to it is shown.

After it, /dev/disk/by-uuid and by-label have no links to volumes; lvs and vgs
do not show pmemctl's groups.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRoot("setting up the host"); err != nil {
				return err
			}
			question := "Files for udev and LVM will be written to " + hostEtc(h) + "."
			if remove {
				question = "Without the udev rule and the LVM filter, what a tenant writes to its volume can change this host."
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
	cmd.Flags().BoolVar(&force, "force", false, "do not ask, and go on when /etc/fstab names a volume by what is written on it")
	cmd.Flags().BoolVar(&remove, "remove", false, "take away what host setup installed")
	addOutputFlag(cmd, &output)
	return cmd
}

func hostEtc(h hostconf.Host) string { return fmt.Sprintf("%s/etc", strings.TrimSuffix(h.Root, "/")) }
