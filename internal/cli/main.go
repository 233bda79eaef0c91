// Package cli is the command line: it parses flags, calls the services, and prints the results. It
// has no policy.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
)

// Main runs the command of the process's arguments and returns its exit code.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A second signal kills the process at once.
	context.AfterFunc(ctx, stop)
	app := newApp()
	defer app.close()
	if filepath.Base(os.Args[0]) == hostconf.MountHelper {
		return app.mountHelper(ctx, os.Args[1:])
	}
	err := newRootCommand(app).ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && !errs.Is(err, errs.Canceled) && errors.Is(err, context.Canceled) {
		err = errs.Wrap(errs.Canceled, "", "interrupted", "", err)
	}
	printError(app, err)
	return exitCode(err)
}

// printError prints errors with their next steps, each of several joined errors separately.
func printError(app *app, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			printError(app, e)
		}
		return
	}
	fmt.Fprintf(app.stderr, "pmemctl: %s\n", strings.TrimSpace(err.Error()))
	if next := errs.NextStep(err); next != "" {
		fmt.Fprintf(app.stderr, "  next: %s\n", next)
	}
}
