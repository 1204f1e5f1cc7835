package volume

import (
	"errors"
	"fmt"
	"os"
	"time"

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

// patience is how long a lock is waited for whose holder is not to be found, and
// retryAfter is how often it is tried. A VM that was killed with its app keeps
// its disks for the moment that its memory takes to be freed, and a service
// manager starts the app again at once.
const (
	patience   = 10 * time.Second
	retryAfter = 10 * time.Millisecond
)

// lock takes the lock of f, or says who has it.
func lock(f *os.File, shared bool) error {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	for began := time.Now(); ; time.Sleep(retryAfter) {
		err := flock(f, how|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock it: %w", err)
		}
		if by := lockHolder(f); by.pid != 0 || time.Since(began) > patience {
			return &useError{by, shared}
		}
	}
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
