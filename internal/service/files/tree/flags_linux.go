package tree

import "golang.org/x/sys/unix"

// Values of utimensat(2).
const (
	utimeNow  = unix.UTIME_NOW
	utimeOmit = unix.UTIME_OMIT
)

// hostFlags are the flags of open(2).
func hostFlags(f OpenFlags) int {
	h := accessFlags(f)
	if f&OpenDataSync != 0 {
		h |= unix.O_DSYNC
	}
	if f&OpenSync != 0 {
		h |= unix.O_SYNC
	}
	return h
}
