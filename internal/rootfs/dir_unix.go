//go:build linux || darwin

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lstat returns the metadata of name in dir, without following a link.
func lstat(dir *os.Root, name string) (fileStat, error) {
	fi, err := dir.Lstat(name)
	if err != nil {
		return fileStat{}, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileStat{}, errors.ErrUnsupported
	}
	s := fileStat{
		mode:  uint32(st.Mode) & (ModeType | ModePerm),
		uid:   st.Uid,
		gid:   st.Gid,
		size:  st.Size,
		mtime: fi.ModTime(),
		nlink: uint64(st.Nlink),
		stamp: stamp{ino: st.Ino, device: uint64(st.Dev), ctime: changeTime(st)},
	}
	if t := s.mode & ModeType; t == ModeBlock || t == ModeChar {
		s.major, s.minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	if s.mtime.IsZero() {
		s.mtime = time.Unix(0, 0)
	}
	return s, nil
}

// openRegular opens a file for reading. O_NONBLOCK keeps a FIFO that took the
// file's place from blocking; a link in its place is refused.
func openRegular(dir *os.Root, name string) (*os.File, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it was replaced while the directory was packed")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readXattrs returns the attributes to keep of the file at path. Those that
// the caller may not read, and file systems without any, are no error.
func readXattrs(path string) ([]Xattr, error) {
	buf := make([]byte, 1024)
	var n int
	for {
		var err error
		n, err = unix.Llistxattr(path, buf)
		if errors.Is(err, unix.ERANGE) && len(buf) < maxXattrs {
			buf = make([]byte, maxXattrs)
			continue
		}
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if n == 0 {
		return nil, nil
	}
	var xattrs []Xattr
	total := 0
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !keepXattr(name) {
			continue
		}
		value := make([]byte, maxXattrs)
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, noXattr) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if total += len(name) + n; total > maxXattrs {
			return nil, fmt.Errorf("they are larger than %d bytes", maxXattrs)
		}
		xattrs = append(xattrs, Xattr{name, string(value[:n])})
	}
	sortXattrs(xattrs)
	return xattrs, nil
}
