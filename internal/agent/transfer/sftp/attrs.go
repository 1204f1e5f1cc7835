//go:build linux

package sftp

import (
	"golang.org/x/sys/unix"
)

// What attributes a packet has, section 5.
const (
	attrSize        = 1 << 0
	attrOwner       = 1 << 1
	attrPermissions = 1 << 2
	attrTimes       = 1 << 3
	attrExtended    = 1 << 31
)

// attrs are a file's attributes.
type attrs struct {
	flags        uint32
	size         uint64
	uid, gid     uint32
	mode         uint32 // st_mode
	atime, mtime uint32 // seconds since 1970
}

func (a *attrs) has(flag uint32) bool { return a.flags&flag != 0 }

func (d *decoder) attrs() (a attrs) {
	a.flags = d.uint32()
	if a.has(attrSize) {
		a.size = d.uint64()
	}
	if a.has(attrOwner) {
		a.uid, a.gid = d.uint32(), d.uint32()
	}
	if a.has(attrPermissions) {
		a.mode = d.uint32()
	}
	if a.has(attrTimes) {
		a.atime, a.mtime = d.uint32(), d.uint32()
	}
	if a.has(attrExtended) {
		for n := d.uint32(); n > 0 && !d.short; n-- {
			d.bytes()
			d.bytes()
		}
	}
	return a
}

func (e *encoder) attrs(st *unix.Stat_t) {
	e.uint32(attrSize | attrOwner | attrPermissions | attrTimes)
	e.uint64(uint64(st.Size))
	e.uint32(st.Uid)
	e.uint32(st.Gid)
	e.uint32(st.Mode)
	e.uint32(uint32(st.Atim.Sec))
	e.uint32(uint32(st.Mtim.Sec))
}

func (s *server) stat(kind uint8, id uint32, d *decoder) error {
	var st unix.Stat_t
	var err error
	if kind == typeFstat {
		var h *handle
		if h, _, err = s.handle(d); err == nil {
			err = unix.Fstat(h.fd, &st)
		}
	} else {
		name := d.string()
		switch {
		case d.short:
			err = errMalformed
		case kind == typeStat:
			err = unix.Stat(name, &st)
		default:
			err = unix.Lstat(name, &st)
		}
	}
	if err != nil {
		return err
	}
	s.begin(typeAttrs, id).attrs(&st)
	return nil
}

func (s *server) setstat(kind uint8, d *decoder) error {
	if kind == typeFsetstat {
		h, _, err := s.handle(d)
		a := d.attrs()
		switch {
		case d.short:
			return errMalformed
		case err != nil:
			return err
		}
		return a.set(byHandle{h.fd})
	}
	name, a := d.string(), d.attrs()
	if d.short {
		return errMalformed
	}
	return a.set(byName{name, 0})
}

// A settable is a file whose attributes are set.
type settable interface {
	truncate(size int64) error
	chown(uid, gid int) error
	chmod(mode uint32) error
	utimes(times []unix.Timespec) error
}

// set sets what there is, the owner before the permissions: chown(2) takes
// set-user-ID away.
func (a *attrs) set(f settable) error {
	if a.has(attrSize) {
		if a.size > 1<<63-1 {
			return unix.EFBIG
		}
		if err := f.truncate(int64(a.size)); err != nil {
			return err
		}
	}
	if a.has(attrOwner) {
		if err := f.chown(int(a.uid), int(a.gid)); err != nil {
			return err
		}
	}
	if a.has(attrPermissions) {
		if err := f.chmod(a.mode & 0o7777); err != nil {
			return err
		}
	}
	if a.has(attrTimes) {
		return f.utimes([]unix.Timespec{unix.NsecToTimespec(int64(a.atime) * 1e9), unix.NsecToTimespec(int64(a.mtime) * 1e9)})
	}
	return nil
}

type byHandle struct{ fd int }

func (f byHandle) truncate(size int64) error { return unix.Ftruncate(f.fd, size) }
func (f byHandle) chown(uid, gid int) error  { return unix.Fchown(f.fd, uid, gid) }
func (f byHandle) chmod(mode uint32) error   { return unix.Fchmod(f.fd, mode) }
func (f byHandle) utimes(times []unix.Timespec) error {
	return unix.UtimesNanoAt(f.fd, "", times, unix.AT_EMPTY_PATH)
}

// byName follows a symbolic link unless flags are AT_SYMLINK_NOFOLLOW.
type byName struct {
	name  string
	flags int
}

func (f byName) truncate(size int64) error {
	if f.flags != 0 {
		return unix.EINVAL // a link's size is that of what it holds
	}
	return unix.Truncate(f.name, size)
}
func (f byName) chown(uid, gid int) error {
	return unix.Fchownat(unix.AT_FDCWD, f.name, uid, gid, f.flags)
}
func (f byName) chmod(mode uint32) error {
	return unix.Fchmodat(unix.AT_FDCWD, f.name, mode, f.flags)
}
func (f byName) utimes(times []unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, f.name, times, f.flags)
}
