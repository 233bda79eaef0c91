package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/csi"
	"github.com/pmemctl/pmemctl/internal/doctor"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/run"
)

type doctorOptions struct {
	host               hostconf.Host
	touch              bool
	kubeletDir, driver string
	output             outputFlag
}

func newDoctorCommand(a *app, runF runFunc[doctorOptions]) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check everything between the kernel and the volumes", Args: cobra.NoArgs,
		Long: `Checks the kernel and its drivers, the programs that pmemctl starts, DIMMs, regions,
namespaces, volume groups, volumes and their mounts, the device mapper, locks, the
host's udev and LVM, and the CSI server if there is one. Prints one line for each
check: ok, note, warning or fault, with the reason and the next step.

A warning is something that will or may fail, a fault something that does not work or
data that is not reachable. The exit code is 0 if there is neither, 12 if the worst is
a warning, and 13 if it is a fault.

Nothing is changed on the devices; --touch writes a temporary file.`,
		Example: `  pmemctl doctor
  pmemctl doctor --touch
  pmemctl doctor -o json`,
		PreRunE: a.asRoot("checking the host"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runF.or(a.examine)(cmd.Context(), &o) },
	}
	addRootFlag(cmd, &o.host)
	fl := cmd.Flags()
	fl.BoolVar(&o.touch, "touch", false, "also map a temporary file of 8 MiB on each mounted volume, to show that loads and stores reach the memory in pages of 2 MiB")
	fl.StringVar(&o.kubeletDir, "kubelet-dir", defaultKubeletDir, "kubelet's root `directory`")
	fl.StringVar(&o.driver, "driver", defaultDriver, "`name` of the CSI driver")
	addOutputFlag(cmd, &o.output)
	return fromArchive(a, cmd)
}

func (a *app) examine(ctx context.Context, o *doctorOptions) error {
	if host, ok := a.service.(recorded); ok {
		return a.showFindings(o.output, doctor.CheckAgain(ctx, host, host.Findings()))
	}
	checker := a.checker(o.host)
	checker.Content, checker.Touch, checker.Server = true, o.touch, csiServer(o.kubeletDir, o.driver)
	return a.showFindings(o.output, checker.Check(ctx))
}

// checker checks this host, except its CSI server.
func (a *app) checker(host hostconf.Host) doctor.Checker {
	return doctor.Checker{
		Host: a.service, Kernel: func() doctor.Kernel { return doctor.ThisKernel("") }, Installed: run.Installed, RunDir: a.host.RunDir,
		CheckHost: a.host.CheckHost, HostConf: host.CheckVisible, CXLRegions: a.cxlRegions,
	}
}

func csiServer(kubeletDir, driver string) *doctor.Server {
	return &doctor.Server{KubeletDir: kubeletDir, Driver: driver, Ask: csi.Ask, Propagates: mount.Propagates}
}

// showFindings prints the findings; the error says the worst.
func (a *app) showFindings(o outputFlag, findings []doctor.Finding) error {
	err := show(a, o, "findings", findings, []column[doctor.Finding]{
		{title: "STATE", cell: func(f doctor.Finding) string { return string(f.State) }},
		{title: "CHECK", cell: func(f doctor.Finding) string { return strings.TrimSpace(f.Check + " " + f.Object) }},
		{title: "DETAIL", cell: func(f doctor.Finding) string { return f.Detail }},
		{title: "NEXT", cell: func(f doctor.Finding) string { return dash(f.Next) }},
	})
	worst := doctor.Worst(findings)
	if err != nil || worst.Rank() <= doctor.Note.Rank() {
		return err
	}
	var faults, warnings int
	for _, f := range findings {
		switch f.State {
		case doctor.Fault:
			faults++
		case doctor.Warning:
			warnings++
		}
	}
	d := diagnosis{exitWarning, fmt.Sprintf("warnings: %d", warnings)}
	if worst == doctor.Fault {
		d = diagnosis{exitFault, fmt.Sprintf("faults: %d, warnings: %d", faults, warnings)}
	}
	return d
}
