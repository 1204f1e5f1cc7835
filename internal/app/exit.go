package app

import (
	"errors"
	"fmt"
	"strings"
)

// Exit codes of bake itself, the ones that docker-run(1) uses, so that they
// differ from what most programs return.
const (
	// CodeFailed: bake or the VM failed, the container's command never ran or
	// its end is not known.
	CodeFailed = 125
	// CodeNotExecutable: the command was found and cannot be executed.
	CodeNotExecutable = 126
	// CodeNotFound: the command was not found.
	CodeNotFound = 127
	// codeSignal + n: the container, or bake before the container ran, was
	// ended by signal n.
	codeSignal = 128
)

// An Error is a failure with the exit code that goes with it.
type Error struct {
	Code int
	Err  error
}

// Error is the sentence for the user.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func failf(format string, args ...any) error {
	return &Error{Code: CodeFailed, Err: fmt.Errorf(format, args...)}
}

// Sentence is err as one line: errors.Join, and errors of other programs,
// have more.
func Sentence(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// Failures is what a command returns that did a part of what it was to do: an
// error with exit code 1, as docker's commands have it, or nil if nothing failed.
func Failures(errs []error) error {
	if err := errors.Join(errs...); err != nil {
		return &Error{Code: 1, Err: err}
	}
	return nil
}
