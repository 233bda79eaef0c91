package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/bench"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

type benchOptions struct {
	kind    string
	size    uint64
	time    time.Duration
	against []string
	output  benchOutput
}

// benchOutput is an output flag that also knows markdown.
type benchOutput struct {
	outputFlag
	markdown bool
}

func (o *benchOutput) Set(s string) error {
	if o.markdown = s == "markdown"; o.markdown {
		o.outputFlag = outputWide
		return nil
	}
	if o.outputFlag.Set(s) != nil {
		return fmt.Errorf("use %s or markdown", strings.Join(outputs, ", "))
	}
	return nil
}

func newBenchCommand(a *app, runF runFunc[benchOptions]) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure what the volumes of this node can do", Args: cobra.NoArgs,
		Long: `Measures random reads and writes of 4 KiB with fio, on a new lvm volume and a new direct
volume: their latency (median and 99th percentile) and how many there are per second,
with O_DIRECT as a program for disks does, and with loads and stores to a file mapped
with MAP_SYNC. --against measures a file in another directory too, for example on an SSD.
Then it shows fragmentation, how long an online expansion takes, what the firmware says
of persistence, and the largest volume that is possible now.

It creates its own volumes, touches no others, and removes them at the end, also after an
error or a signal. After a kill, the next bench or "pmemctl gc" removes them.`,
		Example: `  pmemctl bench
  pmemctl bench --against /var/lib --time 10s
  pmemctl bench --type lvm --size 1Gi -o markdown`,
		PreRunE: a.asRoot("creating volumes"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.size < bench.MinSize {
				return errs.New(errs.Invalid, "--size", "must be at least "+pmem.FormatSize(bench.MinSize), "omit it: the default is 256Mi")
			}
			if o.time < time.Second {
				return errs.New(errs.Invalid, "--time", "must be at least 1s", "omit it: the default is 5s")
			}
			return runF.or(a.bench)(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	o.size = 256 * pmem.MiB
	f.StringVarP(&o.kind, "type", "t", "all", "`type` of volumes to measure: lvm, direct or all")
	f.VarP((*sizeFlag)(&o.size), "size", "s", "size of each volume, and of the file in --against")
	f.DurationVar(&o.time, "time", 5*time.Second, "`duration` of each measurement")
	f.StringArrayVar(&o.against, "against", nil, "also measure a file in this `directory`; may be repeated")
	o.output.outputFlag = outputTable
	f.VarP(&o.output, "output", "o", "output `format`: table, wide, json, yaml or markdown")
	completeValues(cmd, "output", append(outputs[:len(outputs):len(outputs)], "markdown")...)
	completeValues(cmd, "type", "lvm", "direct", "all")
	_ = cmd.MarkFlagDirname("against")
	return cmd
}

// benchLock is held while a bench runs.
const benchLock = "bench"

// newBench returns a bench without parameters.
func (a *app) newBench() *bench.Bench {
	return &bench.Bench{Volumes: a.service, Run: a.collect.Run, Records: filepath.Join(a.host.StateDir, "bench"), Mounts: filepath.Join(a.host.RunDir, "bench")}
}

func (a *app) bench(ctx context.Context, o *benchOptions) error {
	b := a.newBench()
	b.Size, b.Time, b.Against = o.size, o.time, o.against
	b.Types = []volume.Type{volume.TypeLVM, volume.TypeDirect}
	if o.kind != "all" {
		kind, err := volume.ParseType(o.kind)
		if err != nil {
			return err
		}
		b.Types = []volume.Type{kind}
	}
	lock, err := a.host.Locks.Try(benchLock)
	if err != nil {
		return err
	}
	if lock == nil {
		return errs.New(errs.Busy, "bench", "another one is running, and would change the figures", "wait for it to finish")
	}
	defer lock.Release()
	var done func()
	b.Step, done = a.benchProgress()
	result, err := b.Measure(ctx)
	done()
	if err != nil {
		return err
	}
	return a.showBench(o.output, result)
}

// removeBenchLeftovers removes what a killed bench left.
func (a *app) removeBenchLeftovers(ctx context.Context) error {
	if len(bench.Leftovers(a.newBench().Records)) == 0 {
		return nil
	}
	lock, err := a.host.Locks.Try(benchLock)
	if lock == nil || err != nil {
		return err
	}
	defer lock.Release()
	return a.newBench().RemoveLeftovers(ctx)
}

// benchProgress shows a bar on a terminal.
func (a *app) benchProgress() (step func(done, total int, what string), finish func()) {
	if !a.bars {
		return nil, func() {}
	}
	var bar *progressbar.ProgressBar
	return func(done, total int, what string) {
			if bar == nil {
				bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(a.stderr), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(20))
			}
			bar.Describe(what)
			_ = bar.Set(done)
		}, func() {
			if bar != nil {
				_ = bar.Finish()
			}
		}
}

func (a *app) showBench(o benchOutput, r bench.Result) error {
	for _, w := range r.Warnings {
		a.note("pmemctl: warning: %s", w)
	}
	if o.structured() {
		return showObject(a.stdout, o.outputFlag, r)
	}
	if err := showTable(a.stdout, o, r.Measurements, []column[bench.Measurement]{
		{title: "VOLUME", cell: func(m bench.Measurement) string { return m.Target }},
		{title: "ACCESS (4 KiB, RANDOM)", cell: func(m bench.Measurement) string { return string(m.Access) }},
		{title: "READ", cell: func(m bench.Measurement) string { return latency(m.Read.MedianNS) }},
		{title: "READ P99", cell: func(m bench.Measurement) string { return latency(m.Read.P99NS) }},
		{title: "READS/S", cell: func(m bench.Measurement) string { return fmt.Sprintf("%.0f", m.Read.PerSecond) }},
		{title: "READ/S", wide: true, cell: func(m bench.Measurement) string { return pmem.FormatSize(m.Read.BytesASecond) }},
		{title: "WRITE", cell: func(m bench.Measurement) string { return latency(m.Write.MedianNS) }},
		{title: "WRITE P99", cell: func(m bench.Measurement) string { return latency(m.Write.P99NS) }},
		{title: "WRITES/S", cell: func(m bench.Measurement) string { return fmt.Sprintf("%.0f", m.Write.PerSecond) }},
		{title: "WRITTEN/S", wide: true, cell: func(m bench.Measurement) string { return pmem.FormatSize(m.Write.BytesASecond) }},
	}); err != nil || len(r.Properties) == 0 {
		return err
	}
	fmt.Fprintln(a.stdout)
	return showTable(a.stdout, o, r.Properties, []column[bench.Property]{
		{title: "VOLUME", cell: func(p bench.Property) string { return p.Target }},
		{title: "FRAGMENTATION", cell: func(p bench.Property) string { return fmt.Sprintf("%.0f%%", 100*p.Fragmentation) }},
		{title: "ONLINE EXPANSION", cell: func(p bench.Property) string {
			if p.ExpandedIn == 0 {
				return "no"
			}
			return p.ExpandedIn.Round(time.Millisecond).String()
		}},
		{title: "PERSISTENCE", cell: func(p bench.Property) string { return p.Persistence }},
		{title: "FREE", cell: func(p bench.Property) string { return pmem.FormatSize(p.Free) }},
		{title: "LARGEST VOLUME", cell: func(p bench.Property) string { return pmem.FormatSize(p.Largest) }},
	})
}

// showTable prints a table, or one in Markdown.
func showTable[T any](w io.Writer, o benchOutput, items []T, columns []column[T]) error {
	titles, rows := cells(o.outputFlag, items, columns)
	if !o.markdown {
		return writeTable(w, titles, rows)
	}
	line := func(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }
	text := line(titles) + strings.Repeat("|---", len(titles)) + "|\n"
	for _, row := range rows {
		text += line(row)
	}
	_, err := io.WriteString(w, text)
	return err
}

// latency formats nanoseconds.
func latency(ns uint64) string {
	switch {
	case ns < 1000:
		return fmt.Sprintf("%d ns", ns)
	case ns < 1000*1000:
		return fmt.Sprintf("%.1f us", float64(ns)/1000)
	}
	return fmt.Sprintf("%.1f ms", float64(ns)/1000/1000)
}
