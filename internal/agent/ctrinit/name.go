//go:build linux

package ctrinit

import (
	"os"
	"unsafe"
)

// nameProcess makes ps(1) show name in place of the descriptor's path by which
// the init was run: its comm, and the first argument where the kernel keeps it.
func nameProcess(name string) {
	// prctl(PR_SET_NAME) would name the thread that this happens to run on.
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0)
	// The runtime's strings for arguments are the stack memory that the kernel
	// wrote them to, which is writable and what /proc/PID/cmdline shows.
	if len(os.Args) == 0 || os.Args[0] != Executable || len(name) > len(Executable) {
		return
	}
	arg := unsafe.Slice(unsafe.StringData(os.Args[0]), len(Executable))
	clear(arg[copy(arg, name):])
}
