package tree

import "golang.org/x/sys/unix"

func accessFlags(f OpenFlags) int {
	var h int
	switch f & (OpenRead | OpenWrite) {
	case OpenRead | OpenWrite:
		h = unix.O_RDWR
	case OpenWrite:
		h = unix.O_WRONLY
	}
	if f&OpenAppend != 0 {
		h |= unix.O_APPEND
	}
	if f&OpenTruncate != 0 {
		h |= unix.O_TRUNC
	}
	if f&OpenDirectory != 0 {
		h |= unix.O_DIRECTORY
	}
	return h
}
