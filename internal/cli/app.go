package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/dax"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/report"
	"github.com/pmemctl/pmemctl/internal/run"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// app is the shared state of all commands: their input and output, and the services. It is the
// only place that combines concrete types.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	// interactive: standard input and standard error are terminals, so prompts are possible.
	interactive bool
	// bars: standard error is a terminal, so progress is shown.
	bars bool

	// detach starts a pmemctl that outlives this one.
	detach func(args ...string)
	// root reports whether the process may change the host.
	root    func() bool
	ndctl   reader
	dax     daxDevices
	cxl     cxlRegions
	service service
	host    *volume.Service  // the same service: serve-csi configures it, and gc uses its locks
	collect report.Collector // of the files for a report
	etc     hostconf.Host    // for /etc/fstab
	close   func()           // stops what the service started
}

// reader reads the PMEM of the host; ndctl.Lib implements it.
type reader interface {
	Snapshot(ndctl.Select) (pmem.System, error)
}

// service is what the commands use of *volume.Service. Its parts are declared beside the commands.
type service interface {
	Look(context.Context) (volume.View, error)
	LookAtEverything(context.Context) (volume.View, error)
	Damage(volume.View) []volume.Damage
	MountsOn(device string) []volume.Mounted
	ChangeHost(ctx context.Context, do func() error) error
	regions
	namespaces
	vgs
	volumes
	decommissioner
	adopter
	eraser
	report.Source
}

func newApp() *app {
	a := &app{
		root: func() bool { return os.Geteuid() == 0 }, ndctl: volume.OfThisHost(ndctl.Lib{}), dax: dax.Lib{}, cxl: cxl.ThisHost(), detach: detach, collect: report.Collector{Run: run.Command},
		stdin: bufio.NewReader(os.Stdin), stdout: os.Stdout, stderr: os.Stderr,
		interactive: term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())),
		bars:        term.IsTerminal(int(os.Stderr.Fd())),
	}
	a.host, a.close = volume.OnThisHost()
	a.host.Locks.Waiting = a.waiting
	a.host.Progress = a.progress
	a.host.Note = once(func(err error) { a.note("pmemctl: note: %v", err) })
	a.service = a.host
	return a
}

// waiting tells the user which lock delays the command.
func (a *app) waiting(name, holder string) {
	if a.bars {
		fmt.Fprintf(a.stderr, "waiting for the lock of the %s, held by %s\n", name, holder)
	}
}

// progress shows a bar on a terminal.
func (a *app) progress(what string) (blockdev.Progress, func()) {
	if !a.bars {
		return nil, func() {}
	}
	var bar *progressbar.ProgressBar
	step := func(done, total uint64) {
		if bar == nil {
			bar = progressbar.NewOptions64(int64(total), progressbar.OptionSetWriter(a.stderr), progressbar.OptionSetDescription(what),
				progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
		}
		_ = bar.Set64(int64(done))
	}
	return step, func() {
		if bar != nil {
			_ = bar.Finish()
		}
	}
}

// say prints a message if standard error is a terminal; programs read the exit code.
func (a *app) say(format string, args ...any) {
	if a.bars {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// note prints a message for users and logs.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }

// confirm prompts before data is lost.
func (a *app) confirm(force bool, question string) error {
	if force {
		return nil
	}
	if !a.interactive {
		return errs.New(errs.Aborted, "", question+" Cannot prompt: standard input or standard error is not a terminal", "confirm with --force")
	}
	fmt.Fprintf(a.stderr, "%s Type yes to continue: ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errs.New(errs.Aborted, "", "nothing was changed", "")
	}
	return nil
}

// once passes on each distinct error once.
func once(tell func(error)) func(error) {
	var told sync.Map
	return func(err error) {
		if _, again := told.LoadOrStore(err.Error(), true); !again {
			tell(err)
		}
	}
}

// needRoot returns an error unless the user is root.
func (a *app) needRoot(what string) error {
	if a.root() {
		return nil
	}
	return errs.New(errs.Permission, "", what+" requires root", "run it again with sudo")
}

// asRoot returns a PreRunE that requires root.
func (a *app) asRoot(what string) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error { return a.needRoot(what) }
}
