package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/ndctl"
)

func TestEveryKindOfErrorHasAnExitCode(t *testing.T) {
	kinds := []errs.Kind{errs.Internal, errs.Invalid, errs.OutOfRange, errs.NotFound, errs.Conflict, errs.NoSpace, errs.InUse,
		errs.Unsupported, errs.FixedSize, errs.Damaged, errs.Permission, errs.Busy, errs.Aborted, errs.Deadline, errs.Canceled}
	for _, kind := range kinds {
		code, ok := exitCodes[kind]
		assert.True(t, ok, kind)
		assert.NotZero(t, code, kind)
	}
	assert.Len(t, exitCodes, len(kinds))
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("anything"), 1},
		{errs.New(errs.NoSpace, "volume db", "does not fit", ""), 5},
		{fmt.Errorf("more: %w", errs.New(errs.InUse, "", "x", "")), 6},
		{&ndctl.Error{Op: "find", Dev: "region9", Err: ndctl.ErrNotFound}, 3},
		{&ndctl.Error{Op: "disable", Dev: "region0", Err: syscall.EBUSY}, 6},
		{os.ErrPermission, 8},
		{context.DeadlineExceeded, 124},
		{context.Canceled, 130},
		{errors.Join(errs.New(errs.Conflict, "", "x", ""), errors.New("undo failed")), 4},
	} {
		assert.Equal(t, c.want, exitCode(c.err), c.err)
	}
}
