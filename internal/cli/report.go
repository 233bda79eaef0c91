package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/report"
)

type reportOptions struct {
	file      string
	hashNames bool
}

func newReportCommand(a *app, runF runFunc[reportOptions]) *cobra.Command {
	var o reportOptions
	cmd := &cobra.Command{
		Use: "report", Short: "Write an archive for a maintainer", Args: cobra.NoArgs,
		Long: `Writes the state of this host to an archive (tar, gzip): what pmemctl, the kernel, LVM
and ndctl say of its PMEM, the results of doctor, messages of the kernel, versions,
configuration, and the log of serve-csi. It contains no content of a volume, and no
secret. It prints the files and what they are.

The commands that list or show have --from ARCHIVE, which shows the host as it was.`,
		Example: `  pmemctl report
  pmemctl report --file node1.tar.gz --hash-names
  pmemctl tree --from node1.tar.gz`,
		PreRunE: a.asRoot("reading all layers"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runF.or(a.report)(cmd.Context(), &o) },
	}
	cmd.Flags().StringVar(&o.file, "file", "", "`archive` to create (default pmemctl-report-TIME.tar.gz)")
	cmd.Flags().BoolVar(&o.hashNames, "hash-names", false, "replace the names of volumes, mount points and this host")
	return cmd
}

func (a *app) report(ctx context.Context, o *reportOptions) error {
	checker := a.checker(hostconf.Host{})
	checker.Server = csiServer(defaultKubeletDir, defaultDriver)
	state := report.Read(ctx, a.service, checker, Version)
	files := a.collect.Collect(ctx)
	if o.hashNames {
		hostname, _ := os.Hostname()
		var err error
		if state, files, err = report.HashNames(state, files, hostname); err != nil {
			return err
		}
	}
	file, err := state.File()
	if err != nil {
		return err
	}
	files = append([]report.File{file}, files...)
	path := cmp.Or(o.file, report.DefaultName(time.Now()))
	if err := report.Create(path, files); err != nil {
		return err
	}
	if err := show(a, outputTable, "files", files, []column[report.File]{
		{title: "FILE", cell: func(f report.File) string { return f.Name }},
		{title: "SIZE", cell: func(f report.File) string { return pmem.FormatSize(uint64(len(f.Data))) }},
		{title: "CONTENT", cell: func(f report.File) string { return f.What }},
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "\nwritten to %s\n", path)
	return err
}
