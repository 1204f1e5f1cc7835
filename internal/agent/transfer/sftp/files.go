//go:build linux

package sftp

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A handle is a file or a directory that a client has open.
type handle struct {
	fd     int
	append bool     // writes go to the end, wherever the client wants them
	dir    *os.File // a directory; fd is its descriptor
	path   string
}

func (h *handle) close() error {
	if h.dir != nil {
		return h.dir.Close()
	}
	return unix.Close(h.fd)
}

func (s *server) closeAll() {
	for _, h := range s.handles {
		_ = h.close()
	}
}

// add answers with a new handle.
func (s *server) add(id uint32, h *handle) {
	s.last++
	for s.handles[s.last] != nil {
		s.last++
	}
	s.handles[s.last] = h
	e := s.begin(typeHandle, id)
	e.uint32(4)
	e.uint32(s.last)
}

// handle reads a handle of a request.
func (s *server) handle(d *decoder) (*handle, uint32, error) {
	b := d.bytes()
	if d.short {
		return nil, 0, errMalformed
	}
	if len(b) == 4 {
		n := binary.BigEndian.Uint32(b)
		if h := s.handles[n]; h != nil {
			return h, n, nil
		}
	}
	return nil, 0, unix.EBADF
}

// file is handle for what is read and written.
func (s *server) file(d *decoder) (*handle, error) {
	h, _, err := s.handle(d)
	if err == nil && h.dir != nil {
		return nil, unix.EISDIR
	}
	return h, err
}

// The flags of an open, section 6.3.
const (
	openRead = 1 << iota
	openWrite
	openAppend
	openCreate
	openTruncate
	openExclusive
)

func (s *server) open(id uint32, d *decoder) error {
	name, flags, a := d.string(), d.uint32(), d.attrs()
	if d.short {
		return errMalformed
	}
	if len(s.handles) >= maxHandles {
		return unix.EMFILE
	}
	how := unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_LARGEFILE
	switch flags & (openRead | openWrite) {
	case openRead:
		how |= unix.O_RDONLY
	case openWrite:
		how |= unix.O_WRONLY
	case openRead | openWrite:
		how |= unix.O_RDWR
	default:
		return unix.EINVAL
	}
	for flag, bit := range map[uint32]int{
		openAppend: unix.O_APPEND, openCreate: unix.O_CREAT, openTruncate: unix.O_TRUNC, openExclusive: unix.O_EXCL,
	} {
		if flags&flag != 0 {
			how |= bit
		}
	}
	mode := uint32(0o666)
	if a.has(attrPermissions) {
		mode = a.mode & 0o7777
	}
	fd, err := retry(func() (int, error) { return unix.Open(name, how, mode) })
	if err != nil {
		return err
	}
	s.add(id, &handle{fd: fd, append: flags&openAppend != 0, path: name})
	return nil
}

func (s *server) opendir(id uint32, d *decoder) error {
	name := d.string()
	if d.short {
		return errMalformed
	}
	if len(s.handles) >= maxHandles {
		return unix.EMFILE
	}
	fd, err := retry(func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return err
	}
	s.add(id, &handle{fd: fd, dir: os.NewFile(uintptr(fd), name), path: name})
	return nil
}

func (s *server) close(d *decoder) error {
	h, n, err := s.handle(d)
	if err != nil {
		return err
	}
	delete(s.handles, n)
	return h.close()
}

// read reads right into the answer.
func (s *server) read(id uint32, d *decoder) error {
	h, err := s.file(d)
	offset, length := d.uint64(), d.uint32()
	switch {
	case d.short:
		return errMalformed
	case err != nil:
		return err
	}
	e := s.begin(typeData, id)
	e.uint32(0)
	at := len(e.b)
	e.b = append(e.b, make([]byte, min(length, maxData))...)
	n, err := retry(func() (int, error) { return unix.Pread(h.fd, e.b[at:], int64(offset)) })
	if err == unix.ESPIPE {
		n, err = retry(func() (int, error) { return unix.Read(h.fd, e.b[at:]) })
	}
	switch {
	case err != nil:
		return err
	case n == 0 && length > 0:
		return io.EOF
	}
	e.b = e.b[:at+n]
	binary.BigEndian.PutUint32(e.b[at-4:], uint32(n))
	return nil
}

func (s *server) write(d *decoder) error {
	h, err := s.file(d)
	offset, data := d.uint64(), d.bytes()
	switch {
	case d.short:
		return errMalformed
	case err != nil:
		return err
	}
	return h.writeAt(data, int64(offset))
}

func (h *handle) writeAt(data []byte, offset int64) error {
	sequential := h.append
	for len(data) > 0 {
		n, err := retry(func() (int, error) {
			if sequential {
				return unix.Write(h.fd, data)
			}
			return unix.Pwrite(h.fd, data, offset)
		})
		if err == unix.ESPIPE && !sequential {
			sequential = true
			continue
		}
		if err != nil {
			return err
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

// change does what has no answer but a status.
func (s *server) change(kind uint8, d *decoder) error {
	name := d.string()
	second := ""
	if kind == typeRename || kind == typeSymlink {
		second = d.string()
	}
	var a attrs
	if kind == typeMkdir {
		a = d.attrs()
	}
	if d.short {
		return errMalformed
	}
	switch kind {
	case typeRemove:
		return unix.Unlinkat(unix.AT_FDCWD, name, 0)
	case typeRmdir:
		return unix.Unlinkat(unix.AT_FDCWD, name, unix.AT_REMOVEDIR)
	case typeMkdir:
		mode := uint32(0o777)
		if a.has(attrPermissions) {
			mode = a.mode & 0o7777
		}
		return unix.Mkdirat(unix.AT_FDCWD, name, mode)
	case typeRename:
		return renameNew(name, second)
	}
	// OpenSSH's order, which is not the draft's, and all clients': what the link
	// holds comes first.
	return unix.Symlinkat(name, unix.AT_FDCWD, second)
}

// renameNew renames to a name that must not be in use, section 6.5.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// This file system, 9P for one, cannot tell.
	var st unix.Stat_t
	switch err := unix.Lstat(to, &st); err {
	case nil:
		return unix.EEXIST
	case unix.ENOENT:
		return unix.Rename(from, to)
	default:
		return err
	}
}

// oneName answers with a path.
func (s *server) oneName(kind uint8, id uint32, d *decoder) (err error) {
	name := d.string()
	if d.short {
		return errMalformed
	}
	if kind == typeReadlink {
		name, err = os.Readlink(name)
	} else {
		name, err = realPath(name)
	}
	if err != nil {
		return err
	}
	s.nameReply(id, name)
	return nil
}

func (s *server) nameReply(id uint32, name string) {
	e := s.begin(typeName, id)
	e.uint32(1)
	e.string(name)
	e.string(name)
	e.uint32(0) // no attributes
}

// realPath is realpath(3) of a path whose last part need not exist.
func realPath(name string) (string, error) {
	abs, err := filepath.Abs(".")
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(name) {
		abs = name
	} else if name != "" {
		abs += "/" + name // ".." is not taken away before links are followed
	}
	real, err := filepath.EvalSymlinks(abs)
	if !os.IsNotExist(err) {
		return real, err
	}
	dir, base := filepath.Split(abs)
	if base == "" || base == "." || base == ".." {
		return "", err
	}
	if _, lerr := os.Lstat(abs); lerr == nil {
		return "", err // a link that leads nowhere
	}
	if dir, derr := filepath.EvalSymlinks(dir); derr == nil {
		return filepath.Join(dir, base), nil
	}
	return "", err
}

// retry repeats a system call that a signal of the runtime interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
