package csi

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pmemctl/pmemctl/internal/errs"
)

func TestStatusOfEachKindOfError(t *testing.T) {
	want := map[errs.Kind]codes.Code{
		errs.Internal: codes.Internal, errs.Invalid: codes.InvalidArgument, errs.OutOfRange: codes.OutOfRange,
		errs.NotFound: codes.NotFound, errs.Conflict: codes.AlreadyExists, errs.NoSpace: codes.ResourceExhausted,
		errs.InUse: codes.FailedPrecondition, errs.Unsupported: codes.FailedPrecondition, errs.FixedSize: codes.OutOfRange, errs.Damaged: codes.FailedPrecondition, errs.Permission: codes.PermissionDenied,
		errs.Busy: codes.Aborted, errs.Aborted: codes.Aborted, errs.Deadline: codes.DeadlineExceeded, errs.Canceled: codes.Canceled,
	}
	assert.Equal(t, want, statusCodes)
	for kind, code := range want {
		err := toStatus(fmt.Errorf("outside: %w", errs.New(kind, "volume a", "reason", "do this")))
		assert.Equal(t, code, status.Code(err), kind)
		assert.Equal(t, "outside: volume a: reason; next: do this", status.Convert(err).Message())
	}
}

func TestStatusOfOtherErrors(t *testing.T) {
	for err, code := range map[error]codes.Code{
		context.DeadlineExceeded: codes.DeadlineExceeded, context.Canceled: codes.Canceled, syscall.ENOSPC: codes.ResourceExhausted,
		syscall.EBUSY: codes.FailedPrecondition, syscall.EPERM: codes.PermissionDenied, errors.New("odd"): codes.Internal,
	} {
		assert.Equal(t, code, status.Code(toStatus(err)), err)
	}
	assert.NoError(t, toStatus(nil))
	assert.Equal(t, codes.Aborted, status.Code(toStatus(status.Error(codes.Aborted, "x"))), "a status stays as it is")
}
