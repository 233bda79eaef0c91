package errs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestKindOf(t *testing.T) {
	for want, err := range map[Kind]error{
		NotFound:   fmt.Errorf("list: %w", New(NotFound, "volume db", "does not exist", "")),
		Canceled:   fmt.Errorf("wait: %w", context.Canceled),
		Deadline:   fmt.Errorf("wait: %w", context.DeadlineExceeded),
		Permission: &fs.PathError{Op: "open", Path: "/dev/pmem0", Err: syscall.EACCES},
		InUse:      &fs.PathError{Op: "open", Path: "/dev/pmem0", Err: syscall.EBUSY},
		NoSpace:    syscall.ENOSPC,
		Internal:   errors.New("anything"),
		Conflict:   errors.Join(New(Conflict, "", "first", ""), New(NotFound, "", "second", "")),
	} {
		assert.Equal(t, want, KindOf(err), "%v", err)
		assert.True(t, Is(err, want))
	}
	assert.False(t, Is(nil, Internal), "no error is of a kind")
}

func TestWrap(t *testing.T) {
	assert.NoError(t, Wrap(InUse, "volume db", "is in use", "wait", nil))
	cause := New(NotFound, "device", "is gone", "look")
	inherits := Wrap("", "volume db", "cannot be mounted", "", cause)
	assert.EqualError(t, inherits, "volume db: cannot be mounted: device: is gone")
	assert.Equal(t, NotFound, KindOf(inherits))
	assert.Equal(t, "look", NextStep(inherits))
	assert.ErrorIs(t, inherits, cause)
	own := Wrap(Busy, "", "is at work", "wait", cause)
	assert.EqualError(t, own, "is at work: device: is gone")
	assert.Equal(t, Busy, KindOf(own))
	assert.Equal(t, "wait", NextStep(own))
	assert.Empty(t, NextStep(errors.New("plain")))
	invalid := New(Invalid, "volume db", "size 7 is too large", "use less")
	assert.EqualError(t, invalid, "volume db: size 7 is too large")
	assert.Equal(t, Invalid, KindOf(invalid))
}
