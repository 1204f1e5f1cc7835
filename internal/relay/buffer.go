package relay

import (
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// bufferSize is what one read and one write move at most: what fits a packet
// of Linux's vsock (64 KiB, VIRTIO_VSOCK_MAX_PKT_BUF_SIZE,
// include/linux/virtio_vsock.h), its frame's length included, and a segment of
// the guest's network interface, whose MTU is as large.
const bufferSize = 65000

type buffer [bufferSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func getBuffer() *buffer  { return buffers.Get().(*buffer) }
func putBuffer(b *buffer) { buffers.Put(b) }

// smallSize is for what has no descriptor and says little.
const smallSize = 4 << 10

// A source reads into buffers of the pool. While it waits it holds none where
// what it reads from has a descriptor, and a small one of its own otherwise:
// most of many connections are idle.
type source struct {
	from io.Reader
	buf  *buffer // of the pool, or nil

	small []byte
	full  bool // the last read had more to give

	raw syscall.RawConn // nil: there is no descriptor
	// try is raw's callback; off, n and err are what it is given and gives.
	try func(fd uintptr) bool
	off int
	n   int
	err error
}

func newSource(r io.Reader) *source {
	s := &source{from: r}
	if sc, ok := r.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw, s.try = raw, s.tryRead
		}
	}
	return s
}

// tryRead makes one read without waiting. It gives the buffer back if there is
// nothing yet.
func (s *source) tryRead(fd uintptr) bool {
	if s.buf == nil {
		s.buf = getBuffer()
	}
	for {
		s.n, s.err = unix.Read(int(fd), s.buf[s.off:])
		if s.err != unix.EINTR {
			break
		}
	}
	if s.err == unix.EAGAIN {
		s.release()
		return false
	}
	return true
}

// next reads once, to behind the first off bytes of the buffer that it
// returns, which is good until the next call.
func (s *source) next(off int) ([]byte, error) {
	if s.raw == nil {
		return s.nextWithout(off)
	}
	s.off, s.n, s.err = off, 0, nil
	if err := s.raw.Read(s.try); err != nil {
		return nil, err // closed, or its deadline
	}
	switch {
	case s.err != nil:
		return nil, s.err
	case s.n == 0:
		return nil, io.EOF
	}
	return s.buf[:off+s.n], nil
}

// nextWithout is next without a descriptor.
func (s *source) nextWithout(off int) ([]byte, error) {
	var b []byte
	if s.full {
		if s.buf == nil {
			s.buf = getBuffer()
		}
		b = s.buf[:]
	} else {
		s.release()
		if s.small == nil {
			s.small = make([]byte, smallSize)
		}
		b = s.small
	}
	n, err := s.from.Read(b[off:])
	s.full = off+n >= smallSize
	return b[:off+n], err
}

func (s *source) release() {
	if s.buf != nil {
		putBuffer(s.buf)
		s.buf = nil
	}
}
