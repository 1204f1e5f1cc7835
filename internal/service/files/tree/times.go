package tree

import "golang.org/x/sys/unix"

// times are those of utimensat(2).
func (s *SetAttr) times() [2]unix.Timespec {
	one := func(now, set SetMask, t Timespec) unix.Timespec {
		switch {
		case s.Valid&now != 0:
			return unix.Timespec{Nsec: utimeNow}
		case s.Valid&set != 0:
			return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
		}
		return unix.Timespec{Nsec: utimeOmit}
	}
	return [2]unix.Timespec{
		one(SetAtimeNow, SetAtime, s.Atime),
		one(SetMtimeNow, SetMtime, s.Mtime),
	}
}
