package cli

import (
	"errors"

	"github.com/pmemctl/pmemctl/internal/dax"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
)

// The exit codes. They are documented in docs/exit-codes.md and must not change.
const (
	exitOK          = 0
	exitInternal    = 1
	exitInvalid     = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitNoSpace     = 5
	exitInUse       = 6
	exitUnsupported = 7
	exitPermission  = 8
	exitBusy        = 9
	exitAborted     = 10
	exitDamaged     = 11
	exitDeadline    = 124 // as timeout(1)
	exitCanceled    = 130 // as the shell after SIGINT
)

var exitCodes = map[errs.Kind]int{
	errs.Internal:    exitInternal,
	errs.Invalid:     exitInvalid,
	errs.OutOfRange:  exitInvalid,
	errs.NotFound:    exitNotFound,
	errs.Conflict:    exitConflict,
	errs.NoSpace:     exitNoSpace,
	errs.InUse:       exitInUse,
	errs.Unsupported: exitUnsupported,
	errs.FixedSize:   exitUnsupported,
	errs.Damaged:     exitDamaged,
	errs.Permission:  exitPermission,
	errs.Busy:        exitBusy,
	errs.Aborted:     exitAborted,
	errs.Deadline:    exitDeadline,
	errs.Canceled:    exitCanceled,
}

func exitCode(err error) int {
	kind := errs.KindOf(err)
	if kind == errs.Internal {
		switch {
		case errors.Is(err, ndctl.ErrNotFound), errors.Is(err, dax.ErrNotFound):
			kind = errs.NotFound
		case errors.Is(err, ndctl.ErrUnsupported), errors.Is(err, dax.ErrUnsupported), errors.Is(err, dax.ErrAutoOnline),
			errors.Is(err, dax.ErrNoDriver), errors.Is(err, dax.ErrNoNode), errors.Is(err, dax.ErrClassModel):
			kind = errs.Unsupported
		case errors.Is(err, dax.ErrInUse), errors.Is(err, dax.ErrMemoryOnline):
			kind = errs.InUse
		}
	}
	return exitCodes[kind]
}
