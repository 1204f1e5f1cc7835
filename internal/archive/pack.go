package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// smallFile is what is read of a file before its size is believed, in bytes:
	// files of sysfs say 4096 and hold ten.
	smallFile = 64 << 10
	// unsizedFile bounds a file that says it is empty and is not, as those of
	// proc are, in bytes.
	unsizedFile = 16 << 20
	// namesAtOnce bounds how many names of a directory are in memory.
	namesAtOnce = 512
	// bufferSize is how much of a file moves at once, in bytes.
	bufferSize = 256 << 10
)

// PackOptions say how files become an archive.
type PackOptions struct {
	// Name is what the archive calls the file, and what is below it begins
	// with. "." is a directory without a name: only what is in it has one.
	Name string
	// FollowLink packs what a symbolic link leads to. Links below are kept.
	FollowLink bool
	// Warn, if set, is told what could not be packed and why.
	Warn func(error)
}

// Pack writes the file and, if it is a directory, all that is below it as a
// complete archive. What cannot be read below a directory is left out: the rest is
// packed, and then there is an [*IncompleteError]. What is removed meanwhile is not missed.
func Pack(ctx context.Context, w io.Writer, file string, o PackOptions) error {
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	p := &packer{
		ctx: ctx, tw: tar.NewWriter(w), warn: o.Warn,
		buf: make([]byte, bufferSize), links: map[inode]*linked{},
	}
	root := place{dir: unix.AT_FDCWD, base: file, name: o.Name, shown: file, follow: o.FollowLink}
	if err := p.add(root, nil); err != nil {
		return err
	}
	if err := p.tw.Close(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	if p.failed > 0 {
		return &IncompleteError{Failed: p.failed, First: p.first}
	}
	return nil
}

// An IncompleteError says that an archive is complete but for files that could not
// be read.
type IncompleteError struct {
	Failed int
	First  error
}

func (e *IncompleteError) Error() string {
	if e.Failed == 1 {
		return "one file was not copied: " + e.First.Error()
	}
	return fmt.Sprintf("%d files were not copied; the first: %v", e.Failed, e.First)
}

func (e *IncompleteError) Unwrap() error { return e.First }

// A place is a file by its directory's descriptor.
type place struct {
	dir    int
	base   string // in dir
	name   string // in the archive
	shown  string // in messages
	follow bool
}

func (at place) nofollow(flag int) int {
	if at.follow {
		return 0
	}
	return flag
}

type inode struct{ dev, ino uint64 }

// linked is a file with names that were not met yet.
type linked struct {
	name string
	left uint64
}

type packer struct {
	ctx    context.Context
	tw     *tar.Writer
	buf    []byte
	links  map[inode]*linked
	warn   func(error)
	failed int
	first  error
}

// A streamError ends the packing: the archive cannot be written on.
type streamError struct{ err error }

func (e *streamError) Error() string { return "write the archive: " + e.err.Error() }
func (e *streamError) Unwrap() error { return e.err }

// add packs one file; above is the directory that it was found in, if any. An
// error other than of the stream concerns this file alone.
func (p *packer) add(at place, above *unix.Stat_t) error {
	if err := p.ctx.Err(); err != nil {
		return &streamError{err}
	}
	if len(at.name) > nameLimit {
		return fmt.Errorf("pack %.64q...: its name is longer than %d bytes", at.shown, nameLimit)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at.dir, at.base, &st, at.nofollow(unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return &os.PathError{Op: "pack", Path: at.shown, Err: err}
	}
	hdr := header(at.name, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return p.regular(at, &st, hdr)
	case unix.S_IFDIR:
		return p.directory(at, &st, above, hdr)
	case unix.S_IFLNK:
		target, err := readlink(at)
		if err != nil {
			return &os.PathError{Op: "read the link", Path: at.shown, Err: err}
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	default:
		p.warn(fmt.Errorf("%q is a socket, which no archive can hold: it is left out", at.shown))
		return nil
	}
	return p.write(hdr)
}

// header is all of an entry but its type and what depends on it.
func header(name string, st *unix.Stat_t) *tar.Header {
	return &tar.Header{
		Name: name, Mode: int64(st.Mode) & 0o7777, Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
}

func (p *packer) write(hdr *tar.Header) error {
	if err := p.tw.WriteHeader(hdr); err != nil {
		return &streamError{err}
	}
	return nil
}

func readlink(at place) (string, error) {
	b := make([]byte, nameLimit+1)
	n, err := unix.Readlinkat(at.dir, at.base, b)
	if err != nil {
		return "", err
	}
	if n > nameLimit {
		return "", unix.ENAMETOOLONG
	}
	return string(b[:n]), nil
}

// open opens a file to read it, without waiting for whom a FIFO that took its
// place waits for.
func (at place) open(flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | at.nofollow(unix.O_NOFOLLOW)
	for {
		fd, err := unix.Openat(at.dir, at.base, flags, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: at.shown, Err: err}
		}
		return fd, nil
	}
}

func (p *packer) regular(at place, st *unix.Stat_t, hdr *tar.Header) error {
	hdr.Typeflag = tar.TypeReg
	id := inode{uint64(st.Dev), st.Ino}
	if l := p.links[id]; l != nil {
		if l.left--; l.left == 0 {
			delete(p.links, id)
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeLink, l.name
		return p.write(hdr)
	}
	fd, err := at.open(0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return &os.PathError{Op: "pack", Path: at.shown, Err: errors.New("it was replaced meanwhile")}
	}
	hdr.PAXRecords = p.attributes(fd, at)
	if err := p.contents(rawFile(fd), at, st, hdr); err != nil {
		return err
	}
	if st.Nlink > 1 && id == (inode{uint64(st.Dev), st.Ino}) {
		p.links[id] = &linked{name: hdr.Name, left: uint64(st.Nlink) - 1}
	}
	return nil
}

// contents writes the header and exactly as many bytes as it says.
func (p *packer) contents(f io.Reader, at place, st *unix.Stat_t, hdr *tar.Header) error {
	limit := int64(smallFile)
	if st.Size == 0 {
		limit = unsizedFile
	}
	var head bytes.Buffer
	n, err := head.ReadFrom(io.LimitReader(f, limit+1))
	if err != nil {
		return &os.PathError{Op: "read", Path: at.shown, Err: err}
	}
	switch {
	case n <= limit:
		hdr.Size = n
	case st.Size == 0:
		return &os.PathError{Op: "read", Path: at.shown, Err: fmt.Errorf("it does not say how much it holds, and that is more than %d MiB", unsizedFile>>20)}
	default:
		hdr.Size = max(st.Size, n)
	}
	if err := p.write(hdr); err != nil {
		return err
	}
	if _, err := head.WriteTo(p.tw); err != nil {
		return &streamError{err}
	}
	for left := hdr.Size - n; left > 0; {
		if err := p.ctx.Err(); err != nil {
			return &streamError{err}
		}
		n, err := f.Read(p.buf[:min(left, bufferSize)])
		if n > 0 {
			if _, err := p.tw.Write(p.buf[:n]); err != nil {
				return &streamError{err}
			}
			left -= int64(n)
		}
		if err != nil {
			return p.pad(at, left, err)
		}
	}
	return nil
}

// pad fills up what a file that ended early was said to hold.
func (p *packer) pad(at place, left int64, cause error) error {
	if cause == io.EOF {
		cause = errors.New("it became shorter while it was read, and zeros stand for its end")
	}
	clear(p.buf)
	for left > 0 {
		n, err := p.tw.Write(p.buf[:min(left, bufferSize)])
		if err != nil {
			return &streamError{err}
		}
		left -= int64(n)
	}
	return &os.PathError{Op: "read", Path: at.shown, Err: cause}
}

func (p *packer) directory(at place, st, above *unix.Stat_t, hdr *tar.Header) error {
	hdr.Typeflag, hdr.Name = tar.TypeDir, at.name+"/"
	fd, err := at.open(unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), at.shown)
	defer dir.Close()
	hdr.PAXRecords = p.attributes(fd, at)
	if err := p.write(hdr); err != nil {
		return err
	}
	if above != nil && above.Dev != st.Dev && pseudo(fd) {
		return nil
	}
	for {
		names, err := dir.Readdirnames(namesAtOnce)
		for _, base := range names {
			below := place{dir: fd, base: base, name: path.Join(at.name, base), shown: path.Join(at.shown, base)}
			err := p.add(below, st)
			var stream *streamError
			switch {
			case errors.As(err, &stream):
				return err
			case err != nil && !errors.Is(err, unix.ENOENT):
				p.warn(err)
				if p.failed++; p.first == nil {
					p.first = err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list %q: %w", at.shown, err)
		}
	}
}

// rawFile reads a descriptor without the runtime's poller: some files of proc
// would make it wait for what never comes.
type rawFile int

func (f rawFile) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(f), b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
