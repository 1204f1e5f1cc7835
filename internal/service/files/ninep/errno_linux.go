package ninep

import "syscall"

// linuxErrno is the number that the guest knows an error by.
func linuxErrno(e syscall.Errno) uint32 { return uint32(e) }
