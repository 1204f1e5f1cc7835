package instance

import "errors"

var (
	// ErrNotFound is wrapped by the errors of searches that find nothing.
	ErrNotFound = errors.New("no such instance")
	// ErrKilled says that an instance's process died without a word.
	ErrKilled = errors.New("the instance was killed")
)
