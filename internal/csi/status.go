package csi

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/errs"
)

// statusCodes are the gRPC codes of the kinds of errors, according to the CSI spec (see
// docs/exit-codes.md).
var statusCodes = map[errs.Kind]codes.Code{
	errs.Internal:    codes.Internal,
	errs.Invalid:     codes.InvalidArgument,
	errs.OutOfRange:  codes.OutOfRange,
	errs.NotFound:    codes.NotFound,
	errs.Conflict:    codes.AlreadyExists,
	errs.NoSpace:     codes.ResourceExhausted,
	errs.InUse:       codes.FailedPrecondition,
	errs.Unsupported: codes.FailedPrecondition,
	errs.FixedSize:   codes.OutOfRange,
	errs.Damaged:     codes.FailedPrecondition,
	errs.Permission:  codes.PermissionDenied,
	errs.Busy:        codes.Aborted,
	errs.Aborted:     codes.Aborted,
	errs.Deadline:    codes.DeadlineExceeded,
	errs.Canceled:    codes.Canceled,
}

// toStatus converts an error to a status whose message includes the next step.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, is := status.FromError(err); is {
		return err
	}
	text := err.Error()
	if next := errs.NextStep(err); next != "" {
		text += "; next: " + next
	}
	return status.Error(statusCodes[errs.KindOf(err)], text)
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// asPrecondition converts an error to FAILED_PRECONDITION, which Probe returns for a node that is
// not ready.
func asPrecondition(err error) error {
	st, _ := status.FromError(toStatus(err))
	return status.Error(codes.FailedPrecondition, st.Message())
}
