package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC

// openDir opens a directory below the one that is unpacked into. With make, what is
// missing of it is made.
//
// The links on the way to it are followed as far as they stay below (os.Root), so
// that an archive finds /lib of a container where that is a link to /usr/lib. An
// untrusted archive has no such link: it could lead out of the part of the
// directory that the archive is for.
func (u *unpacker) openDir(name string, make bool) (*os.File, error) {
	if u.Untrusted {
		return u.walk(name, make)
	}
	f, err := u.root.OpenFile(name, dirFlags, 0)
	if make && errors.Is(err, fs.ErrNotExist) {
		if err := u.root.MkdirAll(name, 0o755); err != nil {
			return nil, err
		}
		return u.root.OpenFile(name, dirFlags, 0)
	}
	return f, err
}

// walk is openDir through directories alone.
func (u *unpacker) walk(name string, make bool) (*os.File, error) {
	f, err := u.root.Open(".")
	if err != nil || name == "." {
		return f, err
	}
	defer func() { f.Close() }()
	for part := range strings.SplitSeq(name, "/") {
		fd, err := unix.Openat(int(f.Fd()), part, dirFlags|unix.O_NOFOLLOW, 0)
		if make && errors.Is(err, unix.ENOENT) {
			if err = unix.Mkdirat(int(f.Fd()), part, 0o755); err == nil {
				fd, err = unix.Openat(int(f.Fd()), part, dirFlags|unix.O_NOFOLLOW, 0)
			}
		}
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return nil, fmt.Errorf("%q is a file or a symbolic link, which nothing is unpacked through", part)
		}
		if err != nil {
			return nil, err
		}
		f.Close()
		f = os.NewFile(uintptr(fd), part)
	}
	last := f
	f = nil // Close of a nil file is an error that nobody wants to know
	return last, nil
}

// failure is about one file. Its name is a stranger's, and quoted.
func failure(what, name string, err error) error {
	return fmt.Errorf("%s %q: %w", what, name, err)
}

// cause is err without the operation and the path.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
