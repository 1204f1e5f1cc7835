//go:build linux

package sftp

import (
	"os"
	"os/user"
	"strings"

	"golang.org/x/sys/unix"
)

// extensions are what we tell a client that we have beside the protocol.
var extensions = []struct{ name, version string }{
	{"posix-rename@openssh.com", "1"},
	{"statvfs@openssh.com", "2"},
	{"fstatvfs@openssh.com", "2"},
	{"hardlink@openssh.com", "1"},
	{"fsync@openssh.com", "1"},
	{"lsetstat@openssh.com", "1"},
	{"limits@openssh.com", "1"},
	{"expand-path@openssh.com", "1"},
	{"copy-data", "1"},
	{"home-directory", "1"},
	{"users-groups-by-id@openssh.com", "1"},
}

func (s *server) extended(id uint32, d *decoder) error {
	switch d.string() {
	case "posix-rename@openssh.com":
		return twoNames(d, unix.Rename)
	case "hardlink@openssh.com":
		return twoNames(d, func(from, to string) error { return unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0) })
	case "fsync@openssh.com":
		h, _, err := s.handle(d)
		if err != nil {
			return err
		}
		return unix.Fsync(h.fd)
	case "lsetstat@openssh.com":
		name, a := d.string(), d.attrs()
		if d.short {
			return errMalformed
		}
		return a.set(byName{name, unix.AT_SYMLINK_NOFOLLOW})
	case "statvfs@openssh.com":
		name := d.string()
		if d.short {
			return errMalformed
		}
		return s.statfs(id, func(st *unix.Statfs_t) error { return unix.Statfs(name, st) })
	case "fstatvfs@openssh.com":
		h, _, err := s.handle(d)
		if err != nil {
			return err
		}
		return s.statfs(id, func(st *unix.Statfs_t) error { return unix.Fstatfs(h.fd, st) })
	case "limits@openssh.com":
		e := s.begin(typeReply, id)
		for _, limit := range []uint64{maxPacket, maxData, maxData, maxHandles} {
			e.uint64(limit)
		}
		return nil
	case "expand-path@openssh.com":
		return s.expandPath(id, d.string(), d)
	case "home-directory":
		return s.expandPath(id, "~"+d.string(), d)
	case "copy-data":
		return s.copyData(d)
	case "users-groups-by-id@openssh.com":
		return s.accountNames(id, d)
	}
	return unix.ENOSYS
}

func twoNames(d *decoder, do func(from, to string) error) error {
	from, to := d.string(), d.string()
	if d.short {
		return errMalformed
	}
	return do(from, to)
}

// statfs answers with struct statvfs of POSIX in OpenSSH's order.
func (s *server) statfs(id uint32, call func(*unix.Statfs_t) error) error {
	var st unix.Statfs_t
	if err := call(&st); err != nil {
		return err
	}
	const readOnly, noSetUID = 1, 2
	flags := uint64(0)
	if st.Flags&unix.ST_RDONLY != 0 {
		flags |= readOnly
	}
	if st.Flags&unix.ST_NOSUID != 0 {
		flags |= noSetUID
	}
	e := s.begin(typeReply, id)
	for _, v := range []uint64{
		uint64(st.Bsize), uint64(st.Frsize), st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree, st.Ffree,
		uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32, flags, uint64(st.Namelen),
	} {
		e.uint64(v)
	}
	return nil
}

// expandPath answers with the absolute path of one that may begin with ~ or ~user.
func (s *server) expandPath(id uint32, name string, d *decoder) error {
	if d.short {
		return errMalformed
	}
	if tail, ok := strings.CutPrefix(name, "~"); ok {
		who, rest, _ := strings.Cut(tail, "/")
		home, err := homeOf(who)
		if err != nil {
			return err
		}
		name = home + "/" + rest
	}
	real, err := realPath(name)
	if err != nil {
		return err
	}
	s.nameReply(id, real)
	return nil
}

func homeOf(who string) (string, error) {
	if who == "" {
		if home := os.Getenv("HOME"); home != "" {
			return home, nil
		}
		return "/", nil
	}
	u, err := user.Lookup(who)
	if err != nil || u.HomeDir == "" {
		return "", unix.ENOENT
	}
	return u.HomeDir, nil
}

// copyData copies from one open file to another
// (draft-ietf-secsh-filexfer-extensions-00, section 7).
func (s *server) copyData(d *decoder) error {
	from, err := s.file(d)
	offset, length := d.uint64(), d.uint64()
	to, err2 := s.file(d)
	at := d.uint64()
	switch {
	case d.short:
		return errMalformed
	case err != nil:
		return err
	case err2 != nil:
		return err2
	case from == to:
		return unix.EINVAL
	}
	buf := make([]byte, 64<<10)
	for all := length == 0; all || length > 0; {
		n := uint64(len(buf))
		if !all {
			n = min(n, length)
		}
		got, err := retry(func() (int, error) { return unix.Pread(from.fd, buf[:n], int64(offset)) })
		if err != nil {
			return err
		}
		if got == 0 {
			return nil
		}
		if err := to.writeAt(buf[:got], int64(at)); err != nil {
			return err
		}
		offset, at = offset+uint64(got), at+uint64(got)
		if !all {
			length -= uint64(got)
		}
	}
	return nil
}

// accountNames answers with the names of users and groups, or their numbers where
// they have none.
func (s *server) accountNames(id uint32, d *decoder) error {
	users, groups := decoder{b: d.bytes()}, decoder{b: d.bytes()}
	if d.short {
		return errMalformed
	}
	e := s.begin(typeReply, id)
	for _, list := range []struct {
		ids  decoder
		name func(uint32) string
	}{{users, s.names.user}, {groups, s.names.group}} {
		var names encoder
		for len(list.ids.b) >= 4 && len(e.b)+len(names.b) < maxData {
			names.string(list.name(list.ids.uint32()))
		}
		e.string(string(names.b))
	}
	return nil
}
