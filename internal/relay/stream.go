package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Conn is a connection of which each direction can end alone.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// headSize is the size of a frame's length.
const headSize = 4

// errFrame is for a peer that sends on after its FIN.
var errFrame = errors.New("the peer sends data after the end of its data")

// A Stream is a [Conn] in frames, over a connection that need not be able to
// end one direction alone. Reads may run beside writes; two reads, and two
// writes, wait for each other.
type Stream struct {
	conn net.Conn

	reading  sync.Mutex
	in       decoder
	readErr  error // what every further read returns
	writing  sync.Mutex
	finished bool // our FIN is sent
}

// NewStream frames conn, which it takes over.
func NewStream(conn net.Conn) *Stream { return &Stream{conn: conn} }

// Read reads what there is. The error is io.EOF after the peer's FIN and at no
// other end: one that is [syscall.ECONNRESET] says that the connection broke.
func (s *Stream) Read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if len(p) == 0 {
		return 0, s.readErr
	}
	for s.readErr == nil {
		n, err := s.in.read(s.conn, p)
		if isTimeout(err) {
			return n, err
		}
		if err != nil {
			s.readErr = s.ended(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, s.readErr
}

// ended is what a reader is told when the connection gives err.
func (s *Stream) ended(err error) error {
	switch {
	case err == errFIN:
		return io.EOF
	case err == io.EOF:
		return &net.OpError{Op: "read", Net: "stream", Source: s.conn.LocalAddr(), Addr: s.conn.RemoteAddr(), Err: syscall.ECONNRESET}
	case errors.Is(err, syscall.ECONNRESET):
		return err
	}
	return fmt.Errorf("the connection broke (%w): %w", err, syscall.ECONNRESET)
}

// Write sends p, in frames that fit a packet of vsock.
func (s *Stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.finished {
		return 0, &net.OpError{Op: "write", Net: "stream", Source: s.conn.LocalAddr(), Addr: s.conn.RemoteAddr(), Err: syscall.EPIPE}
	}
	buf := getBuffer()
	defer putBuffer(buf)
	b := buf[:]
	written := 0
	for written < len(p) {
		n := copy(b[headSize:], p[written:])
		if err := s.writeFrame(b, n); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// writeFrame sends the n bytes of payload that follow b's room for the head.
func (s *Stream) writeFrame(b []byte, n int) error {
	binary.BigEndian.PutUint32(b[:], uint32(n))
	_, err := s.conn.Write(b[:headSize+n])
	return err
}

// CloseWrite sends FIN: the peer reads io.EOF after what was written, and can
// still send. A second one does nothing.
func (s *Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.finished {
		return nil
	}
	s.finished = true
	_, err := s.conn.Write(make([]byte, headSize))
	return err
}

// Close ends the connection. To a peer without our FIN it is a reset.
func (s *Stream) Close() error { return s.conn.Close() }

// LocalAddr is that of the connection below.
func (s *Stream) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr is that of the connection below.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// SetDeadline is for reads and writes. A write that has met its deadline may
// have sent a part of a frame, so that only Close is left.
func (s *Stream) SetDeadline(t time.Time) error { return s.conn.SetDeadline(t) }

// SetReadDeadline is for reads, which can go on after it.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetWriteDeadline is for writes; see SetDeadline.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.conn.SetWriteDeadline(t) }

// WriteTo sends w what the peer sends, until its FIN. It makes one read and one
// write of up to a buffer, and holds the buffer only while there is data.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	var total int64
	from := newSource(s.conn)
	defer from.release()
	for s.readErr == nil {
		b, err := from.next(0)
		payload, end := s.in.strip(b)
		if end != nil {
			err = end
		}
		if len(payload) > 0 {
			n, werr := w.Write(payload)
			total += int64(n)
			if werr != nil {
				return total, werr
			}
		}
		if isTimeout(err) {
			return total, err // as of Read, it can go on
		}
		if err != nil {
			s.readErr = s.ended(err)
		}
	}
	if s.readErr == io.EOF {
		return total, nil
	}
	return total, s.readErr
}

// ReadFrom sends the peer what r gives, until its end, and no FIN. It makes one
// write for each read.
func (s *Stream) ReadFrom(r io.Reader) (int64, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.finished {
		return 0, &net.OpError{Op: "write", Net: "stream", Source: s.conn.LocalAddr(), Addr: s.conn.RemoteAddr(), Err: syscall.EPIPE}
	}
	var total int64
	from := newSource(r)
	defer from.release()
	for {
		b, err := from.next(headSize)
		if n := len(b) - headSize; n > 0 {
			if werr := s.writeFrame(b, n); werr != nil {
				return total, werr
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// errFIN is the decoder's end of the data.
var errFIN = errors.New("FIN")

// A decoder takes the frames' lengths out of a stream.
type decoder struct {
	left   uint32 // of the current frame's payload
	head   [headSize]byte
	inHead int // bytes of head that have come
	fin    bool
}

// strip returns the payload in b, in b's memory: the pieces behind the first
// are moved up to it. errFIN comes with the last of it; every other error is
// the end, too.
func (d *decoder) strip(b []byte) ([]byte, error) {
	start, end := 0, 0 // of what is payload, in b
	for at := 0; at < len(b); {
		if d.fin {
			return b[start:end], errFrame
		}
		if d.left == 0 {
			n := copy(d.head[d.inHead:], b[at:])
			at += n
			if d.inHead += n; d.inHead < headSize {
				break
			}
			d.inHead = 0
			d.left = binary.BigEndian.Uint32(d.head[:])
			d.fin = d.left == 0
			continue
		}
		n := int(min(int64(d.left), int64(len(b)-at)))
		if start == end {
			start, end = at, at+n
		} else {
			end += copy(b[end:], b[at:at+n])
		}
		at += n
		d.left -= uint32(n)
	}
	if d.fin {
		return b[start:end], errFIN
	}
	return b[start:end], nil
}

// want is how much is best read at once into room bytes: up to the next frame's
// length, so that what follows it need not be moved, or all if the frames are
// small.
func (d *decoder) want(room int) int {
	if d.left > headSize {
		return int(min(int64(d.left)+headSize, int64(room)))
	}
	return room
}

// read makes one read of r into p and leaves its payload at p's start, which
// has room: it is never more than was read.
func (d *decoder) read(r io.Reader, p []byte) (int, error) {
	n, err := r.Read(p)
	payload, derr := d.strip(p[:n])
	if derr != nil {
		err = derr
	}
	return copy(p, payload), err
}
