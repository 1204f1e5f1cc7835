package rootfs

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const noXattr = unix.ENOATTR

func changeTime(st *syscall.Stat_t) int64 { return st.Ctimespec.Sec*1e9 + st.Ctimespec.Nsec }
