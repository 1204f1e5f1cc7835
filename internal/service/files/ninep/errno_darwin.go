package ninep

import "syscall"

// linuxErrno is the number that the guest knows an error by. What Linux has no
// number for, or has none here, is EIO.
func linuxErrno(e syscall.Errno) uint32 {
	if e < 35 && e != syscall.EDEADLK {
		return uint32(e) // those of Version 7 are the same (EAGAIN is 35 here)
	}
	if n, ok := linuxNumbers[e]; ok {
		return n
	}
	return 5
}

var linuxNumbers = map[syscall.Errno]uint32{
	syscall.EDEADLK:      35,
	syscall.EAGAIN:       11,
	syscall.ENAMETOOLONG: 36,
	syscall.ENOLCK:       37,
	syscall.ENOSYS:       38,
	syscall.ENOTEMPTY:    39,
	syscall.ELOOP:        40,
	syscall.EOVERFLOW:    75,
	syscall.EILSEQ:       84,
	syscall.EOPNOTSUPP:   95,
	syscall.ENOTSUP:      95,
	syscall.ENOBUFS:      105,
	syscall.ETIMEDOUT:    110,
	syscall.ESTALE:       116,
	syscall.EDQUOT:       122,
	syscall.ECANCELED:    125,
	syscall.ENOATTR:      61, // ENODATA
	syscall.ENODATA:      61,
}
