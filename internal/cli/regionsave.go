package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// cxlRegions creates CXL regions; cxl.Host implements it.
type cxlRegions interface {
	Regions() []cxl.Region
	Await(ctx context.Context, regions []cxl.Region)
	Restore(ctx context.Context, regions []cxl.Region, dry bool) []cxl.Restored
}

type regionSaveOptions struct {
	host   hostconf.Host
	file   string
	force  bool
	output outputFlag
}

func newRegionSaveCommand(a *app, runF runFunc[regionSaveOptions]) *cobra.Command {
	o := regionSaveOptions{file: cxl.SavedFile}
	cmd := &cobra.Command{
		Use: "save", Short: "Save the CXL regions, so that they are created again at boot", Args: cobra.NoArgs,
		Long: `Saves the CXL regions of the host: the serial numbers of their memory devices in order,
interleave granularity, size, and offset on the devices. Linux does not keep CXL regions
over a reboot, and with any other value their content is scrambled. A systemd unit is
installed that creates them at boot, before LVM starts: see "pmemctl region restore".

A saved region that is missing, or exists with other values, is an error; with --force,
what exists now replaces what was saved.`,
		Example: "  pmemctl region save",
		PreRunE: a.asRoot("saving regions"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runF.or(a.saveRegions)(cmd.Context(), &o) },
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "forget saved regions that are missing or that have changed")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) saveRegions(ctx context.Context, o *regionSaveOptions) error {
	now := a.cxl.Regions()
	saved, err := cxl.Load(o.file)
	if err != nil && !o.force {
		return err
	}
	if len(now) == 0 && len(saved) == 0 {
		return errs.New(errs.NotFound, "CXL regions", "there are none to save", "create one: cxl create-region; see the memory devices: pmemctl dimm list")
	}
	if !o.force {
		if err := cxl.Changed(now, saved); err != nil {
			return err
		}
	}
	s, err := a.ndctl.Snapshot(ndctl.Select{Namespaces: true})
	if err != nil {
		return err
	}
	if err := volume.CheckSavable(s, o.force); err != nil {
		return err
	}
	if err := a.service.ChangeHost(ctx, func() error { return cxl.Save(o.file, now) }); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	unit, err := o.host.SetupRegions(program)
	if err != nil {
		return err
	}
	switch {
	case len(now) == 0:
		a.note("there is no region, so none is created at boot")
	case unit:
		a.note("they are created at boot by pmemctl-regions.service")
	default:
		a.note("at boot, before LVM starts, run: pmemctl region restore")
	}
	return show(a, o.output, "regions", now, savedColumns())
}

// cxlRegions returns the CXL regions that exist, and those that are saved.
func (a *app) cxlRegions() (now, saved []cxl.Region, err error) {
	saved, err = cxl.Load(cxl.SavedFile)
	return a.cxl.Regions(), saved, err
}

func savedColumns() []column[cxl.Region] {
	return []column[cxl.Region]{
		{title: "REGION", cell: func(r cxl.Region) string { return r.Dev }},
		{title: "DECODER", cell: func(r cxl.Region) string { return r.Decoder }},
		{title: "SIZE", cell: func(r cxl.Region) string { return pmem.FormatSize(r.Size) }},
		{title: "SERIALS", cell: func(r cxl.Region) string { return r.Serials() }},
		{title: "GRANULARITY", cell: func(r cxl.Region) string { return fmt.Sprint(r.Granularity) }},
	}
}

type regionRestoreOptions struct {
	file   string
	dry    bool
	wait   time.Duration
	output outputFlag
}

func newRegionRestoreCommand(a *app, runF runFunc[regionRestoreOptions]) *cobra.Command {
	o := regionRestoreOptions{file: cxl.SavedFile}
	cmd := &cobra.Command{
		Use: "restore", Short: "Create the saved CXL regions that are missing", Args: cobra.NoArgs,
		Long: `Creates the regions of "pmemctl region save" that are missing, with the command cxl.
Devices are found by serial number, since their names change over a reboot. A region that
exists with other values is left unchanged, and one that does not come up as it was is
destroyed again: no data is lost by that, and its volumes are not visible.`,
		Example: `  pmemctl region restore --dry-run
  pmemctl region restore`,
		PreRunE: a.asRoot("creating regions"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runF.or(a.restoreRegions)(cmd.Context(), &o) },
	}
	cmd.Flags().BoolVar(&o.dry, "dry-run", false, "only show what would be done")
	cmd.Flags().DurationVar(&o.wait, "wait", 0, "wait for the memory devices for at most this `time`")
	addOutputFlag(cmd, &o.output)
	return cmd
}

// restoredRow is a row of the output.
type restoredRow struct {
	Region  string `json:"region,omitempty"`
	Serials string `json:"serials"`
	Done    string `json:"done"`
	Command string `json:"command,omitempty"`
}

func (a *app) restoreRegions(ctx context.Context, o *regionRestoreOptions) error {
	saved, err := cxl.Load(o.file)
	if err != nil {
		return err
	}
	if len(saved) == 0 {
		return errs.New(errs.NotFound, "CXL regions", "none are saved", "create them, then: pmemctl region save")
	}
	waiting, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	a.cxl.Await(waiting, saved)
	var restored []cxl.Restored
	restore := func() error { restored = a.cxl.Restore(ctx, saved, o.dry); return nil }
	for {
		if o.dry {
			err = restore()
		} else {
			err = a.service.ChangeHost(ctx, restore)
		}
		// At boot, a device can be there before its ports are.
		isFailed := func(r cxl.Restored) bool { return r.Err != nil && !errs.Is(r.Err, errs.Conflict) }
		if err != nil || waiting.Err() != nil || !slices.ContainsFunc(restored, isFailed) {
			break
		}
		select {
		case <-waiting.Done():
		case <-time.After(time.Second):
		}
	}
	if err != nil {
		return err
	}
	var rows []restoredRow
	var failed []error
	for _, r := range restored {
		row := restoredRow{Region: r.Dev, Serials: r.Serials(), Done: "created"}
		if r.Command != nil {
			row.Command = "cxl " + strings.Join(r.Command, " ")
		}
		switch {
		case r.Err != nil:
			row.Done = "failed"
			failed = append(failed, r.Err)
		case r.Exists:
			row.Done = "exists"
		case o.dry:
			row.Done = "would be created"
		}
		rows = append(rows, row)
	}
	err = show(a, o.output, "regions", rows, []column[restoredRow]{
		{title: "REGION", cell: func(r restoredRow) string { return dash(r.Region) }},
		{title: "SERIALS", cell: func(r restoredRow) string { return r.Serials }},
		{title: "DONE", cell: func(r restoredRow) string { return r.Done }},
		{title: "COMMAND", wide: !o.dry, cell: func(r restoredRow) string { return dash(r.Command) }},
	})
	return errors.Join(append(failed, err)...)
}
