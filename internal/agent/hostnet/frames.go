//go:build linux

package hostnet

import (
	"encoding/binary"
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// frameHead is the length in front of each frame of package relay. A length of
// zero is the end of the direction.
const frameHead = 4

// A frameWriter writes frames to a descriptor that does not block, straight
// from where the data is. It has one user at a time.
type frameWriter struct {
	fd   uintptr
	head [frameHead]byte
	// sent is how much of head is, and left how much of the frame's payload is
	// not: what a Write is given begins with that.
	sent, left int
	open       bool // there is a frame that is not whole
}

// Write writes what the descriptor takes now. The error is EAGAIN where that is
// not all.
func (w *frameWriter) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		if !w.open {
			w.open, w.sent, w.left = true, 0, len(b)-done
			binary.BigEndian.PutUint32(w.head[:], uint32(w.left))
		}
		n, errno := w.push(b[done:min(len(b), done+w.left)])
		done += n
		if errno != 0 {
			return done, errno
		}
	}
	return done, nil
}

// push writes the rest of the head and p, and returns how much of p.
func (w *frameWriter) push(p []byte) (int, syscall.Errno) {
	var iov [2]unix.Iovec
	n := 0
	if w.sent < frameHead {
		iov[0] = unix.Iovec{Base: &w.head[w.sent], Len: uint64(frameHead - w.sent)}
		n++
	}
	if len(p) > 0 {
		iov[n] = unix.Iovec{Base: &p[0], Len: uint64(len(p))}
		n++
	}
	for {
		m, errno := sendVector(w.fd, iov[:n])
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		if w.sent < frameHead {
			k := min(m, frameHead-w.sent)
			w.sent += k
			m -= k
		}
		w.left -= m
		w.open = w.left > 0 || w.sent < frameHead
		return m, 0
	}
}

// end writes the end of the direction. It is called again after EAGAIN.
func (w *frameWriter) end() syscall.Errno {
	if !w.open {
		w.open, w.sent, w.left, w.head = true, 0, 0, [frameHead]byte{}
	}
	for w.open {
		if _, errno := w.push(nil); errno != 0 {
			return errno
		}
	}
	return 0
}

// sendVector is sendmsg(2) without SIGPIPE.
func sendVector(fd uintptr, iov []unix.Iovec) (int, syscall.Errno) {
	message := unix.Msghdr{Iov: &iov[0]}
	message.SetIovlen(len(iov))
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&message)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	return int(n), errno
}

// A frameReader reads frames from a descriptor that does not block, straight to
// where the data goes. It has one user at a time.
type frameReader struct {
	raw  syscall.RawConn
	head [frameHead]byte
	have int // of head
	left uint32
	// What readVector is asked and answers.
	into  []byte
	n     int
	errno syscall.Errno
	try   func(uintptr) bool
}

func newFrameReader(raw syscall.RawConn) *frameReader {
	r := &frameReader{raw: raw}
	r.try = r.readVector
	return r
}

// next waits for a frame and returns how much of its payload there is to read,
// or io.EOF at the end of the direction. It holds no buffer while it waits.
func (r *frameReader) next() (int, error) {
	for r.left == 0 {
		if r.have == frameHead {
			r.have = 0
			if r.left = binary.BigEndian.Uint32(r.head[:]); r.left == 0 {
				return 0, io.EOF
			}
			break
		}
		if err := r.read(nil); err != nil {
			return 0, err
		}
	}
	return int(min(r.left, 1<<30)), nil
}

// Read reads payload of the frame. Its first length was asked of next. It
// never returns io.EOF.
func (r *frameReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if uint64(len(p)) > uint64(r.left) {
		p = p[:r.left]
	}
	if len(p) == 0 {
		return 0, io.ErrUnexpectedEOF // nobody asks for more than next told
	}
	if err := r.read(p); err != nil {
		return 0, err
	}
	return r.n, nil
}

// read makes one read into p, and into the next frame's head if p is the rest
// of this one.
func (r *frameReader) read(p []byte) error {
	r.into, r.n, r.errno = p, 0, 0
	err := r.raw.Read(r.try)
	r.into = nil
	switch {
	case err != nil:
		return err
	case r.errno != 0:
		return r.errno
	}
	return nil
}

func (r *frameReader) readVector(fd uintptr) bool {
	var iov [2]unix.Iovec
	n := 0
	if len(r.into) > 0 {
		iov[0] = unix.Iovec{Base: &r.into[0], Len: uint64(len(r.into))}
		n++
	}
	if uint64(len(r.into)) == uint64(r.left) {
		iov[n] = unix.Iovec{Base: &r.head[r.have], Len: uint64(frameHead - r.have)}
		n++
	}
	for {
		m, _, errno := unix.RawSyscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(&iov)), uintptr(n))
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return false
		case errno == 0 && m == 0:
			// The stream ended and its data did not.
			errno = unix.ECONNRESET
		}
		r.errno = errno
		if errno == 0 {
			r.n = min(int(m), len(r.into))
			r.left -= uint32(r.n)
			r.have += int(m) - r.n
		}
		return true
	}
}
