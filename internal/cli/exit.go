package cli

import (
	"errors"

	"github.com/pmemctl/pmemctl/internal/errs"
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
	exitWarning     = 12  // of doctor
	exitFault       = 13  // of doctor
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
	if diagnosed := (diagnosis{}); errors.As(err, &diagnosed) {
		return diagnosed.code
	}
	return exitCodes[errs.KindOf(err)]
}

// diagnosis is the error of a command that worked and found something wrong.
type diagnosis struct {
	code int
	text string
}

func (d diagnosis) Error() string { return d.text }
