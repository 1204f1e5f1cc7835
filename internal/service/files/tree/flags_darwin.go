package tree

import "golang.org/x/sys/unix"

// Values of utimensat(2), sys/stat.h.
const (
	utimeNow  = -1
	utimeOmit = -2
)

// hostFlags are the flags of open(2).
func hostFlags(f OpenFlags) int {
	h := accessFlags(f)
	if f&(OpenDataSync|OpenSync) != 0 {
		h |= unix.O_SYNC
	}
	return h
}
