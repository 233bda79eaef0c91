// Package errs is the error that pmemctl shows to users and programs: the subject, the reason, the
// cause and the next step. It knows neither exit codes nor gRPC codes; the callers map a Kind to
// theirs.
package errs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
)

// Kind classifies an error for callers.
type Kind string

// The kinds of failure.
const (
	Internal    Kind = "internal"     // anything else
	Invalid     Kind = "invalid"      // the request makes no sense
	OutOfRange  Kind = "out-of-range" // a size that can never be
	NotFound    Kind = "not-found"
	Conflict    Kind = "conflict" // something else has that name
	NoSpace     Kind = "no-space"
	InUse       Kind = "in-use"
	Unsupported Kind = "unsupported" // cannot be done with this device or type
	FixedSize   Kind = "fixed-size"  // of a type that cannot grow
	Damaged     Kind = "damaged"     // what is on the device cannot be read
	Permission  Kind = "permission"
	Busy        Kind = "busy"    // somebody else is at work on it
	Aborted     Kind = "aborted" // a person said no
	Deadline    Kind = "deadline"
	Canceled    Kind = "canceled"
)

// Error is an error with its subject, reason, next step and cause.
type Error struct {
	Kind    Kind
	Subject string // "volume db", "region region0"; may be ""
	Reason  string
	Next    string // a command or a sentence; may be ""
	Err     error  // the cause; may be nil
}

func (e *Error) Error() string {
	text := e.Reason
	if e.Subject != "" {
		text = e.Subject + ": " + text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// New returns an error without a cause.
func New(kind Kind, subject, reason, next string) error {
	return &Error{Kind: kind, Subject: subject, Reason: reason, Next: next}
}

// Wrap returns an error with a cause. If kind or next is "", that of the cause is used. It returns
// nil if the cause is nil.
func Wrap(kind Kind, subject, reason, next string, cause error) error {
	if cause == nil {
		return nil
	}
	if kind == "" {
		kind = KindOf(cause)
	}
	if next == "" {
		next = NextStep(cause)
	}
	return &Error{Kind: kind, Subject: subject, Reason: reason, Next: next, Err: cause}
}

// sentinel is an error that errors.Is finds, and that has a kind.
type sentinel struct {
	kind Kind
	text string
}

func (s *sentinel) Error() string { return s.text }

// Sentinel returns an error of a kind for comparison with errors.Is.
func Sentinel(kind Kind, text string) error { return &sentinel{kind, text} }

// KindOf returns the kind of any error, including sentinels and errors of the kernel and of
// contexts.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var s *sentinel
	switch {
	case errors.As(err, &s):
		return s.kind
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Deadline
	case errors.Is(err, fs.ErrPermission):
		return Permission
	case errors.Is(err, syscall.EBUSY):
		return InUse
	case errors.Is(err, syscall.ENOSPC):
		return NoSpace
	}
	return Internal
}

// Is reports whether an error is of a kind; false for nil.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// NextStep returns the next step of an error; "" if there is none.
func NextStep(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Next
	}
	return ""
}
