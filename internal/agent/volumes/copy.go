//go:build linux

package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// copyImage makes the directory dst, which must not exist, with what the root
// filesystem has at target, or empty if there is nothing. Links on the way to
// target lead nowhere but into the root filesystem.
func copyImage(rootfs, target, dst string, progress func()) error {
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the container's root filesystem: %w", err)
	}
	defer unix.Close(root)
	src, err := unix.Openat2(root, target, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		if err := os.Mkdir(dst, 0o755); err != nil {
			return fmt.Errorf("make its directory: %w", err)
		}
		return nil
	case errors.Is(err, unix.ENOTDIR):
		return errors.New("the image has a file there, and this volume is a directory")
	case err != nil:
		return fmt.Errorf("open what the image has there: %w", err)
	}
	defer unix.Close(src)
	if err := os.Mkdir(dst, 0o700); err != nil {
		return fmt.Errorf("make its directory: %w", err)
	}
	top, err := unix.Open(dst, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open its directory: %w", err)
	}
	defer unix.Close(top)
	c := copier{top: top, links: map[inode]string{}, progress: progress}
	if err := c.directory(src, top, ""); err != nil {
		return fmt.Errorf("copy what the image has there: %w", err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// A copier copies a tree below the directory top.
type copier struct {
	top int
	// links has where the first name of a file with several was copied to.
	links    map[inode]string
	progress func()
}

// directory copies a directory's entries, then its attributes: the writing of
// the first would change the second. name is its path from top on.
func (c *copier) directory(src, dst int, name string) error {
	names, err := entries(src)
	if err != nil {
		return fmt.Errorf("list %q: %w", name, err)
	}
	for _, n := range names {
		if c.progress != nil {
			c.progress()
		}
		if err := c.entry(src, dst, n, path.Join(name, n)); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return fmt.Errorf("look at %q: %w", name, err)
	}
	if err := attributes(src, dst, ".", &st); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

func entries(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}

// entry copies the entry n of a directory.
func (c *copier) entry(src, dst int, n, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("look at %q: %w", name, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.subdirectory(src, dst, n, name)
	}
	id := inode{st.Dev, st.Ino}
	if first, ok := c.links[id]; ok {
		if err := unix.Linkat(c.top, first, dst, n, 0); err != nil {
			return fmt.Errorf("link %q: %w", name, err)
		}
		return nil
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = content(src, dst, n)
	case unix.S_IFLNK:
		err = symlink(src, dst, n, st.Size)
	default:
		err = unix.Mknodat(dst, n, st.Mode&unix.S_IFMT|0o600, int(st.Rdev))
	}
	if err == nil {
		err = attributes(src, dst, n, &st)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if st.Nlink > 1 {
		c.links[id] = name
	}
	return nil
}

func (c *copier) subdirectory(src, dst int, n, name string) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	from, err := unix.Openat(src, n, flags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", name, err)
	}
	defer unix.Close(from)
	if err := unix.Mkdirat(dst, n, 0o700); err != nil {
		return fmt.Errorf("make %q: %w", name, err)
	}
	to, err := unix.Openat(dst, n, flags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", name, err)
	}
	defer unix.Close(to)
	return c.directory(from, to, name)
}

// content copies a regular file's bytes.
func content(src, dst int, n string) error {
	from, err := unix.Openat(src, n, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(from), n)
	defer in.Close()
	to, err := unix.Openat(dst, n, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(to), n)
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func symlink(src, dst int, n string, size int64) error {
	buf := make([]byte, max(size, 0)+1)
	if size > unix.PathMax {
		return unix.ENAMETOOLONG
	}
	l, err := unix.Readlinkat(src, n, buf)
	if err != nil {
		return err
	}
	return unix.Symlinkat(string(buf[:l]), dst, n)
}

// attributes gives an entry its owner, mode, extended attributes and times. The
// order matters: a new owner takes away the bits that set the user, and the
// file's capabilities.
func attributes(src, dst int, n string, st *unix.Stat_t) error {
	if err := unix.Fchownat(dst, n, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the owner: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dst, n, st.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("set the mode: %w", err)
		}
	}
	from, to := fmt.Sprintf("/proc/self/fd/%d/%s", src, n), fmt.Sprintf("/proc/self/fd/%d/%s", dst, n)
	if err := extended(from, to); err != nil {
		return fmt.Errorf("set the extended attributes: %w", err)
	}
	times := []unix.Timespec{{Sec: st.Atim.Sec, Nsec: st.Atim.Nsec}, {Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}}
	if err := unix.UtimesNanoAt(dst, n, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the times: %w", err)
	}
	return nil
}

// maxXattrs is XATTR_LIST_MAX and XATTR_SIZE_MAX of Linux, in bytes.
const maxXattrs = 64 << 10

// extended copies the extended attributes (xattr(7)) but those with which
// overlayfs keeps its own accounts. A filesystem that has none is no error.
func extended(from, to string) error {
	list := make([]byte, maxXattrs)
	n, err := unix.Llistxattr(from, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		attr := string(name)
		if attr == "" || strings.HasPrefix(attr, "trusted.overlay.") {
			continue
		}
		value := make([]byte, maxXattrs)
		l, err := unix.Lgetxattr(from, attr, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err == nil {
			err = unix.Lsetxattr(to, attr, value[:l], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("%s: %w", attr, err)
		}
	}
	return nil
}
