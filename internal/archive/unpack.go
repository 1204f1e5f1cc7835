package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// UnpackOptions say how an archive becomes files.
type UnpackOptions struct {
	// Base, if set, is how every name in the archive begins, and Name is what
	// that first part is called instead. The Base "." is in all names, and stands for
	// the directory itself where Name is empty.
	Base, Name string
	// Owners keeps the numeric owners, if this process is root. Otherwise files
	// belong to whoever unpacks them.
	Owners bool
	// Untrusted is for an archive of somebody who wants more than to be
	// unpacked. What it cannot have then: set-user-ID, set-group-ID, devices, ACLs
	// and capabilities without Owners, hard links to what was there before, holes
	// (which make a small archive a big file), and attributes that only root reads.
	Untrusted bool
	// Warn, if set, is told what could not be kept and why.
	Warn func(error)
}

// Unpack makes the archive's files in the existing directory dir and nothing
// outside of it, whatever links lie there or come with the archive. A file that
// exists is replaced and not written to; no directory takes the place of a file, and
// no file that of a directory. It ends at the first error, and a file that it cuts
// short is removed.
func Unpack(ctx context.Context, r *Reader, dir string, o UnpackOptions) error {
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{
		UnpackOptions: o, ctx: ctx, root: root, dir: dir, owners: o.Owners && os.Geteuid() == 0,
		warn: o.Warn, buf: make([]byte, bufferSize), seed: maphash.MakeSeed(), made: map[uint64]struct{}{},
	}
	defer u.forget()
	for {
		hdr, err := r.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = u.entry(hdr, r.tr)
		}
		if err != nil {
			return err
		}
	}
	if err := u.leave(""); err != nil {
		return err
	}
	return r.drain()
}

type unpacker struct {
	UnpackOptions
	ctx    context.Context
	root   *os.Root
	dir    string // for messages
	owners bool
	warn   func(error)
	buf    []byte

	// opened is the directory in which the last entry was made.
	opened     *os.File
	openedName string

	// entered are directories, each in the one before it, whose own metadata
	// waits until all in them is made.
	entered []*tar.Header

	// made are hashes of the names of files that this archive had.
	seed maphash.Seed
	made map[uint64]struct{}
}

func (u *unpacker) forget() {
	if u.opened != nil {
		u.opened.Close()
		u.opened = nil
	}
}

// name is what an entry is called in the directory; "." is the directory.
func (u *unpacker) name(in string) (string, error) {
	name, err := cleanName(in)
	if err != nil || u.Base == "" {
		return name, err
	}
	if u.Base == "." {
		return path.Join(u.Name, name), nil
	}
	first, rest, _ := strings.Cut(name, "/")
	if first != u.Base {
		return "", fmt.Errorf("the archive has the name %q, which is not in %q", in, u.Base)
	}
	return path.Join(u.Name, rest), nil
}

func (u *unpacker) entry(hdr *tar.Header, body io.Reader) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	name, err := u.name(hdr.Name)
	if err != nil {
		return err
	}
	if err := u.leave(name); err != nil {
		return err
	}
	if name == "." {
		return nil // it is there already, and not the archive's
	}
	hdr.Name = name
	dir, err := u.open(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if hdr.Typeflag == tar.TypeDir {
		return u.makeDir(dir, base, hdr)
	}
	if u.skip(hdr) {
		return nil
	}
	busy, err := u.makeRoom(dir, base, name)
	if err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		err = unix.Symlinkat(hdr.Linkname, dir, base)
	case tar.TypeLink:
		return u.link(dir, base, hdr)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		err = mknod(dir, base, hdr)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
			u.warn(fmt.Errorf("%q is a device or a FIFO, which cannot be made here: it is left out: %w", name, err))
			return nil
		}
	default:
		return u.regular(dir, base, hdr, body, busy)
	}
	if err != nil {
		return failure("make", name, err)
	}
	return u.finishUnopened(dir, base, hdr)
}

// skip tells of what is left out.
func (u *unpacker) skip(hdr *tar.Header) bool {
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo:
		return false
	case tar.TypeGNUSparse:
		return false // regular refuses it where it must
	case tar.TypeChar, tar.TypeBlock:
		if !u.Untrusted || u.owners {
			return false
		}
		u.warn(fmt.Errorf("%q is a device: it is left out, because only root makes devices, and only if owners are kept", hdr.Name))
	default:
		u.warn(fmt.Errorf("%q is of a kind that bake does not know (%q): it is left out", hdr.Name, hdr.Typeflag))
	}
	return true
}

// open returns the directory's descriptor, which is good until the next call. One
// that is missing is made.
func (u *unpacker) open(name string) (int, error) {
	if u.opened != nil && u.openedName == name {
		return int(u.opened.Fd()), nil
	}
	f, err := u.openDir(name, true)
	if err != nil {
		return -1, fmt.Errorf("unpack into %q below %q: %w", name, u.dir, cause(err))
	}
	u.forget()
	u.opened, u.openedName = f, name
	return int(f.Fd()), nil
}

// makeDir makes a directory that is its owner's alone until it is left.
func (u *unpacker) makeDir(dir int, base string, hdr *tar.Header) error {
	err := unix.Mkdirat(dir, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err = unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = errors.New("there is a file of that name, and a directory does not replace it")
		}
	}
	if err != nil {
		return failure("make the directory", hdr.Name, err)
	}
	u.entered = append(u.entered, hdr)
	return nil
}

// leave finishes the directories that name is not in.
func (u *unpacker) leave(name string) error {
	for n := len(u.entered); n > 0; n-- {
		hdr := u.entered[n-1]
		if strings.HasPrefix(name, hdr.Name+"/") || name == hdr.Name {
			return nil
		}
		u.entered = u.entered[:n-1]
		dir, err := u.open(path.Dir(hdr.Name))
		if err != nil {
			return err
		}
		base := path.Base(hdr.Name)
		fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return failure("finish the directory", hdr.Name, err)
		}
		err = u.finish(fd, dir, base, hdr)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// makeRoom removes a file that is replaced. busy is one that cannot be removed,
// because something is mounted on it, as on /etc/hosts of a container.
func (u *unpacker) makeRoom(dir int, base, name string) (busy bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = errors.New("it is a directory, and a file does not replace it")
	case err == nil:
		err = unix.Unlinkat(dir, base, 0)
		if errors.Is(err, unix.EBUSY) && st.Mode&unix.S_IFMT == unix.S_IFREG {
			return true, nil
		}
	}
	if err != nil {
		return false, failure("replace", name, err)
	}
	return false, nil
}

func (u *unpacker) regular(dir int, base string, hdr *tar.Header, body io.Reader, busy bool) (err error) {
	if u.Untrusted && sparse(hdr) {
		return fmt.Errorf("the archive has %q with holes, which nothing asked for", hdr.Name)
	}
	flags := unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	if busy {
		flags |= unix.O_TRUNC
	} else {
		flags |= unix.O_CREAT | unix.O_EXCL
	}
	fd, err := unix.Openat(dir, base, flags, 0o600)
	if err != nil {
		return failure("make", hdr.Name, err)
	}
	f := os.NewFile(uintptr(fd), hdr.Name)
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = failure("write", hdr.Name, cause(e))
		}
		if err != nil && !busy {
			_ = unix.Unlinkat(dir, base, 0)
		}
	}()
	if err := u.fill(f, body); err != nil {
		return err
	}
	u.made[maphash.String(u.seed, hdr.Name)] = struct{}{}
	return u.finish(fd, dir, base, hdr)
}

// fill writes what comes of the file, whatever size was declared.
func (u *unpacker) fill(f *os.File, body io.Reader) error {
	for {
		n, err := body.Read(u.buf)
		if n > 0 {
			if _, err := f.Write(u.buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = u.ctx.Err()
		} else {
			err = damaged(err)
		}
		if err != nil {
			return fmt.Errorf("%q was not copied to its end: %w", f.Name(), err)
		}
	}
}

// sparse reports whether an entry is in one of GNU tar's formats for holes, in
// which little data makes a file of any size.
func sparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for record := range hdr.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// link makes another name of a file. It shares that one's metadata.
func (u *unpacker) link(dir int, base string, hdr *tar.Header) error {
	target, err := u.name(hdr.Linkname)
	if err != nil {
		return err
	}
	if _, ok := u.made[maphash.String(u.seed, target)]; !ok && u.Untrusted {
		return fmt.Errorf("the archive has %q as a hard link to %q, which is not in it", hdr.Name, target)
	}
	above, err := u.openDir(path.Dir(target), false)
	if err == nil {
		err = unix.Linkat(int(above.Fd()), path.Base(target), dir, base, 0)
		above.Close()
	}
	if err != nil {
		return fmt.Errorf("make %q a hard link to %q: %w", hdr.Name, target, cause(err))
	}
	u.made[maphash.String(u.seed, hdr.Name)] = struct{}{}
	return nil
}
