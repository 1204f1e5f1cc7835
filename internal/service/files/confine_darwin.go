package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// confine does nothing: macOS has no Landlock, and what keeps the guest in its
// volumes is how they are walked. The process serves in its first life.
func confine(*description) error { return errServe }

// checkParent notices a parent that has died.
func checkParent(d *description) error {
	if os.Getppid() != d.Parent {
		return errors.New("the app that started this file server has ended")
	}
	return nil
}

func nameProcess() {}

// raiseLimits says how many descriptors the process may have; the Go runtime
// has raised the limit.
func raiseLimits() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return l.Cur
}
