package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/report"
)

// outputFlag is the flag -o of commands that list or show.
type outputFlag string

const (
	outputTable outputFlag = "table"
	outputWide  outputFlag = "wide"
	outputJSON  outputFlag = "json"
	outputYAML  outputFlag = "yaml"
)

var outputs = []string{string(outputTable), string(outputWide), string(outputJSON), string(outputYAML)}

func (o *outputFlag) String() string { return string(*o) }
func (o *outputFlag) Type() string   { return "format" }
func (o *outputFlag) Set(s string) error {
	for _, known := range outputs {
		if s == known {
			*o = outputFlag(s)
			return nil
		}
	}
	return fmt.Errorf("use %s", strings.Join(outputs, ", "))
}

func addOutputFlag(cmd *cobra.Command, o *outputFlag) {
	*o = outputTable
	cmd.Flags().VarP(o, "output", "o", "output `format`: table, wide, json or yaml")
	completeValues(cmd, "output", outputs...)
}

// structured reports whether the output is JSON or YAML.
func (o outputFlag) structured() bool { return o == outputJSON || o == outputYAML }

// detailed returns the output for a single object, whose table has all columns.
func (o outputFlag) detailed() outputFlag {
	if o == outputTable {
		return outputWide
	}
	return o
}

// listing completes a command whose only option is -o: it adds the flag and runs work.
func listing(cmd *cobra.Command, work func(ctx context.Context, o outputFlag, args []string) error) *cobra.Command {
	var o outputFlag
	addOutputFlag(cmd, &o)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return work(cmd.Context(), o, args) }
	return cmd
}

// hostListing is listing for a command that shows the host, or that of an archive.
func hostListing(a *app, cmd *cobra.Command, work func(ctx context.Context, o outputFlag, args []string) error) *cobra.Command {
	return fromArchive(a, listing(cmd, work))
}

// fromArchive adds the flag --from to a command that changes nothing: it shows the host as an
// archive of pmemctl report has it.
func fromArchive(a *app, cmd *cobra.Command) *cobra.Command {
	var archive string
	cmd.Flags().StringVar(&archive, "from", "", "show the host of an `archive` that pmemctl report created")
	before, work := cmd.PreRunE, cmd.RunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if archive != "" || before == nil {
			return nil
		}
		return before(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if archive != "" {
			host, err := report.Open(archive)
			if err != nil {
				return err
			}
			a.ndctl, a.service = host, recorded{Host: host}
		}
		return work(cmd, args)
	}
	return cmd
}

// recorded is the service of an archive. Commands with --from change nothing, so that it needs no
// other methods.
type recorded struct {
	*report.Host
	changes
}

// changes are the methods of a service that an archive does not have.
type changes struct{ service }

// column is a column of a table; wide ones are shown only with -o wide.
type column[T any] struct {
	title string
	wide  bool
	cell  func(T) string
}

// show prints items as a table or, under their plural name, as one object.
func show[T any](a *app, o outputFlag, plural string, items []T, columns []column[T]) error {
	if items == nil {
		items = []T{}
	}
	if o.structured() {
		return showObject(a.stdout, o, map[string]any{plural: items})
	}
	titles, rows := cells(o, items, columns)
	return writeTable(a.stdout, titles, rows)
}

// cells returns the titles and rows of a table.
func cells[T any](o outputFlag, items []T, columns []column[T]) (titles []string, rows [][]string) {
	for _, c := range columns {
		if !c.wide || o == outputWide {
			titles = append(titles, c.title)
		}
	}
	for _, item := range items {
		var row []string
		for _, c := range columns {
			if !c.wide || o == outputWide {
				row = append(row, c.cell(item))
			}
		}
		rows = append(rows, row)
	}
	return titles, rows
}

func showObject(w io.Writer, o outputFlag, object any) error {
	data, err := json.MarshalIndent(object, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if o == outputYAML {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return err
		}
	}
	_, err = w.Write(data)
	return err
}

// printable replaces control characters, which a name from an archive or from another program may
// have, and which a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// writeTable prints a table like kubectl: no lines, columns separated by spaces.
func writeTable(w io.Writer, titles []string, rows [][]string) error {
	var text strings.Builder
	padding := tw.CellPadding{Global: tw.Padding{Right: "   ", Overwrite: true}}
	cells := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
		Alignment:  tw.CellAlignment{Global: tw.AlignLeft},
		Padding:    padding,
	}
	table := tablewriter.NewTable(&text,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
		})),
		tablewriter.WithConfig(tablewriter.Config{Header: cells, Row: cells, Behavior: tw.Behavior{TrimSpace: tw.Off}}),
	)
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
	}
	table.Header(titles)
	if err := table.Bulk(rows); err != nil {
		return err
	}
	if err := table.Render(); err != nil {
		return err
	}
	for _, line := range strings.Split(strings.TrimRight(text.String(), "\n"), "\n") {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// dash replaces an empty cell with "-", so that scripts can split columns.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func nodeText(n *int) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// usage wraps an error of cobra about arguments or flags.
func usage(cmd *cobra.Command, err error) error {
	return errs.Wrap(errs.Invalid, cmd.CommandPath(), "wrong usage", "see: "+cmd.CommandPath()+" --help", err)
}
