package tree

import (
	"golang.org/x/sys/unix"
)

// noAttr says that there is no such extended attribute.
const noAttr = unix.ENODATA

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)

func fsync(fd int, dataOnly bool) error {
	if dataOnly {
		return unix.Fdatasync(fd)
	}
	return unix.Fsync(fd)
}

// Sync brings all that was written to the tree to the disk, and with it whatever
// else waits for that on the host's file system (syncfs(2)).
func (t *Tree) Sync() error {
	if t.o.ReadOnly {
		return nil
	}
	n := t.root
	if n.file != nil {
		n = n.file
	}
	h, err := n.Open(OpenRead)
	if err != nil {
		return err
	}
	defer h.Close()
	return errno(unix.Syncfs(h.fd))
}

func allocate(fd int, mode uint32, off, size int64) error {
	for {
		err := unix.Fallocate(fd, mode, off, size)
		if err != unix.EINTR {
			return err
		}
	}
}

func copyRange(from int, off int64, to int, toOff int64, size int) (int, error) {
	return unix.CopyFileRange(from, &off, to, &toOff, size, 0)
}

// lock is the lock of the open file description (fcntl(2), F_OFD_SETLK).
const (
	setLock = unix.F_OFD_SETLK
	getLock = unix.F_OFD_GETLK
)
