//go:build linux

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// defaultAction sets SIG_DFL behind the Go runtime's back: a zero struct
// kernel_sigaction, 32 bytes on amd64 and arm64, for rt_sigaction(2).
func defaultAction(sig unix.Signal) error {
	var action [32]byte
	const sizeofSigset = 8
	if sig == unix.SIGKILL || sig == unix.SIGSTOP {
		return nil
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, sizeofSigset, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
