// Package cli is the command line: it decodes flags, calls the services, and
// shows what they answer. It has no policy of its own.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// Main runs the command of the process's arguments and returns its exit code.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A second signal ends the process at once, in place of the orderly way.
	context.AfterFunc(ctx, stop)
	app := newApp()
	defer app.close()
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

// printError shows what failed, and what to do about it. Of several errors each
// has lines of its own.
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
