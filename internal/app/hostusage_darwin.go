package app

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hostUsage counts what this process has used: CPU time in nanoseconds, and the
// most memory that it had at a time in bytes (getrusage(2)). The VMM is in this
// process, as Virtualization.framework has it; its service process is the
// system's and is not counted.
func hostUsage() (cpu, memory uint64, err error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, 0, fmt.Errorf("count what the app uses: %w", err)
	}
	return uint64(u.Utime.Nano() + u.Stime.Nano()), uint64(u.Maxrss), nil
}
