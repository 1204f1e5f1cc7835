package rootfs

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const noXattr = unix.ENODATA

func changeTime(st *syscall.Stat_t) int64 { return int64(st.Ctim.Sec)*1e9 + int64(st.Ctim.Nsec) }
