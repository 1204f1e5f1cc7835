package tree

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Handle is an open regular file or directory.
type Handle struct {
	*desc
	node  *Node
	flags OpenFlags
	dir   dirState
	mu    sync.Mutex // of dir
}

func newHandle(n *Node, fd int, flags OpenFlags) *Handle {
	h := &Handle{desc: newDesc(fd, &n.t.handles), node: n.Retain(), flags: flags}
	n.t.platform.opened(h)
	return h
}

// Node is what is open; it is kept by the handle and not to be closed.
func (h *Handle) Node() *Node { return h.node }

// Flags are those that it was opened with.
func (h *Handle) Flags() OpenFlags { return h.flags }

// Close closes the handle when the calls that use it are done. Once.
func (h *Handle) Close() error {
	h.node.t.platform.closed(h)
	h.release()
	h.node.Close()
	return nil
}

func (h *Handle) enter(kind uint32, access OpenFlags) error {
	if h.node.kind != kind {
		if h.node.kind == unix.S_IFDIR {
			return syscall.EISDIR
		}
		return syscall.ENOTDIR
	}
	if h.flags&access != access || !h.acquire() {
		return syscall.EBADF
	}
	return nil
}

// ReadAt reads until p is full or the file ends, whose end is no error: then n
// is what there was.
func (h *Handle) ReadAt(p []byte, off int64) (n int, err error) {
	if err := h.enter(unix.S_IFREG, OpenRead); err != nil {
		return 0, err
	}
	defer h.release()
	return moveAll(h.fd, p, off, unix.Pread)
}

// WriteAt writes p, at the end of the file whatever off is with OpenAppend. A
// write that stops in the middle (a full disk) returns what was written, and
// the error only if that is nothing.
func (h *Handle) WriteAt(p []byte, off int64) (n int, err error) {
	if err := h.enter(unix.S_IFREG, OpenWrite); err != nil {
		return 0, err
	}
	defer h.release()
	return moveAll(h.fd, p, off, unix.Pwrite)
}

// moveAll reads or writes until p is done, nothing more comes, or an error,
// which counts if nothing was moved before.
func moveAll(fd int, p []byte, off int64, move func(fd int, p []byte, off int64) (int, error)) (n int, err error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	for n < len(p) {
		k, err := move(fd, p[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if k > 0 {
			n += k
			continue
		}
		if err != nil && n == 0 {
			return 0, errno(err)
		}
		break
	}
	return n, nil
}

// Attr is what stat(2) says of what is open.
func (h *Handle) Attr() (Attr, error) { return h.node.Attr() }

// Fsync brings the file to the disk; with dataOnly without what is not needed
// to read it back (fdatasync(2)).
func (h *Handle) Fsync(dataOnly bool) error {
	if !h.acquire() {
		return syscall.EBADF
	}
	defer h.release()
	if h.fd < 0 {
		return nil
	}
	return errno(fsync(h.fd, dataOnly))
}

// Flush reports an error of writing that the host has kept until now, as
// close(2) does; it is what a program's close asks.
func (h *Handle) Flush() error {
	if !h.acquire() {
		return syscall.EBADF
	}
	defer h.release()
	if h.fd < 0 || h.flags&OpenWrite == 0 {
		return nil
	}
	fd, err := unix.Dup(h.fd)
	if err != nil {
		return errno(err)
	}
	return errno(unix.Close(fd))
}

// Allocate is fallocate(2): mode is its FALLOC_FL_* of Linux; EOPNOTSUPP where
// the host has it not.
func (h *Handle) Allocate(mode uint32, off, size int64) error {
	if h.node.t.o.ReadOnly {
		return syscall.EROFS
	}
	if err := h.enter(unix.S_IFREG, OpenWrite); err != nil {
		return err
	}
	defer h.release()
	return errno(allocate(h.fd, mode, off, size))
}

// Whences of Seek, as lseek(2) of Linux numbers them.
const (
	SeekData = 3
	SeekHole = 4
)

// Seek finds the next data or hole at or after off: lseek(2) with SeekData or
// SeekHole, ENXIO at the end of the file.
func (h *Handle) Seek(off int64, whence int) (int64, error) {
	if h.node.kind != unix.S_IFREG {
		return 0, syscall.EINVAL
	}
	if !h.acquire() {
		return 0, syscall.EBADF
	}
	defer h.release()
	switch whence {
	case SeekData:
		whence = seekData
	case SeekHole:
		whence = seekHole
	default:
		return 0, syscall.EINVAL
	}
	// The descriptor's position is nobody's: all else is pread and pwrite.
	off, err := unix.Seek(h.fd, off, whence)
	return off, errno(err)
}

// CopyRange copies up to size bytes to another handle inside the host
// (copy_file_range(2)); EOPNOTSUPP where the host has it not.
func (h *Handle) CopyRange(off int64, to *Handle, toOff int64, size int) (int, error) {
	if err := h.enter(unix.S_IFREG, OpenRead); err != nil {
		return 0, err
	}
	defer h.release()
	if err := to.enter(unix.S_IFREG, OpenWrite); err != nil {
		return 0, err
	}
	defer to.release()
	n, err := copyRange(h.fd, off, to.fd, toOff, size)
	return n, errno(err)
}
