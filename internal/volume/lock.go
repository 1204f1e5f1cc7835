package volume

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrInUse is what the errors of a lock that another user holds are.
var ErrInUse = errors.New("in use")

// A useError says who uses a file. It is [ErrInUse].
type useError struct {
	by      holder
	reading bool // this user wanted to read
}

func (e *useError) Error() string {
	switch {
	case e.by.pid == os.Getpid():
		return "it is in use by another volume of this app: a disk that is written can be used once only"
	case e.by.pid == 0 && e.reading:
		return "it is in use by another app, which writes it: stop that, or give it :ro too"
	case e.by.pid == 0:
		return "it is in use by another app: stop that first, or have both use it with :ro"
	case e.reading:
		return fmt.Sprintf("it is in use by %s, which writes it: stop that, or give it :ro too", e.by)
	}
	return fmt.Sprintf("it is in use by %s: stop that first, or have both use it with :ro", e.by)
}

func (e *useError) Is(target error) bool { return target == ErrInUse }

// A holder is a process that has a lock; the zero value is one that is not
// known.
type holder struct {
	pid  int
	name string // of what it runs, or empty
}

func (h holder) String() string {
	if h.name == "" {
		return fmt.Sprintf("process %d", h.pid)
	}
	return fmt.Sprintf("%s (process %d)", h.name, h.pid)
}

// lock takes the lock of f, or says who has it.
func lock(f *os.File, shared bool) error {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	err := flock(f, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return &useError{lockHolder(f), shared}
	}
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	return nil
}

// flock is flock(2), again when a signal came.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func isBusy(err error) bool { return errors.Is(err, unix.EBUSY) }
