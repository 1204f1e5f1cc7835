package tree

import "golang.org/x/sys/unix"

// statX is statx(2), which knows the birth time.
func statX(fd int, name string, flags int) (Attr, error) {
	var x unix.Statx_t
	if err := unix.Statx(fd, name, flags|unix.AT_STATX_SYNC_AS_STAT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return Attr{}, err
	}
	a := Attr{
		ID:        ID{unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino},
		Mode:      uint32(x.Mode),
		Nlink:     x.Nlink,
		UID:       x.Uid,
		GID:       x.Gid,
		Major:     x.Rdev_major,
		Minor:     x.Rdev_minor,
		Size:      int64(x.Size),
		Blocks:    x.Blocks,
		BlockSize: x.Blksize,
		Atime:     Timespec{x.Atime.Sec, x.Atime.Nsec},
		Mtime:     Timespec{x.Mtime.Sec, x.Mtime.Nsec},
		Ctime:     Timespec{x.Ctime.Sec, x.Ctime.Nsec},
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		a.Btime = Timespec{x.Btime.Sec, x.Btime.Nsec}
	}
	return a, nil
}

func statfsFD(fd int) (StatFS, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(fd, &s); err != nil {
		return StatFS{}, err
	}
	return StatFS{
		Type:      uint32(s.Type),
		BlockSize: uint32(s.Bsize),
		Blocks:    s.Blocks,
		Free:      s.Bfree,
		Avail:     s.Bavail,
		Files:     s.Files,
		FilesFree: s.Ffree,
		FSID:      uint64(uint32(s.Fsid.Val[0])) | uint64(uint32(s.Fsid.Val[1]))<<32,
		NameLen:   uint32(s.Namelen),
	}, nil
}
