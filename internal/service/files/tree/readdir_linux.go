//go:build linux && !portabletree

package tree

import (
	"bytes"
	"encoding/binary"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// dirState is what was read of a directory and not given out yet. The offsets
// are those of the host's file system (d_off of getdents64(2)), which hold
// while entries come and go; telldir(3) depends on it too.
type dirState struct {
	rest []byte // entries in buf
	buf  []byte
	next uint64 // offset of the first entry in rest, or of the descriptor
}

func (s *dirState) read(fd int, offset uint64, emit func(*Dirent) bool) error {
	// From the beginning everything is read anew (rewinddir(3)).
	if offset == 0 || offset != s.next {
		if offset > math.MaxInt64 {
			return syscall.EINVAL
		}
		s.rest, s.next = nil, math.MaxUint64 // nowhere, should it fail
		if _, err := unix.Seek(fd, int64(offset), unix.SEEK_SET); err != nil {
			return errno(err)
		}
		s.next = offset
	}
	for {
		if len(s.rest) == 0 {
			if s.buf == nil {
				s.buf = make([]byte, dirBuffer)
			}
			n, err := unix.Getdents(fd, s.buf)
			if err == unix.EINTR {
				continue
			}
			if err == unix.ENOENT {
				n, err = 0, nil // it was removed: empty, as readdir(3) has it
			}
			if err != nil {
				return errno(err)
			}
			if n <= 0 {
				s.buf = nil
				return nil
			}
			s.rest = s.buf[:n]
		}
		d, size, ok := parseDirent(s.rest)
		if !ok {
			return syscall.EIO
		}
		next := d.Offset
		if !emit(&d) {
			return nil
		}
		s.rest, s.next = s.rest[size:], next
	}
}

// parseDirent reads a struct linux_dirent64.
func parseDirent(b []byte) (d Dirent, size int, ok bool) {
	const header = 8 + 8 + 2 + 1
	if len(b) < header {
		return d, 0, false
	}
	d.Ino = binary.NativeEndian.Uint64(b)
	d.Offset = binary.NativeEndian.Uint64(b[8:])
	size = int(binary.NativeEndian.Uint16(b[16:]))
	d.Type = b[18]
	if size <= header || size > len(b) {
		return d, 0, false
	}
	d.Name = b[header:size]
	if i := bytes.IndexByte(d.Name, 0); i >= 0 {
		d.Name = d.Name[:i]
	}
	return d, size, true
}
