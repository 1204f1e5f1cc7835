package relay

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// An end is one of the two sockets of a pair.
type end struct {
	fd    int
	token int32 // of its events

	readable bool // reading may give something: nobody has said EAGAIN since
	hung     bool // the peer's direction has ended: reading never says EAGAIN again
	failed   bool // the connection is broken
	full     bool // there is no room to write since somebody said EAGAIN
	watched  bool // epoll tells of room
}

// A way is one direction.
type way struct {
	pending *buffer // of the pool, if the socket has not taken all of rest yet
	rest    []byte  // what is to be written, in pending
	ended   bool    // nothing more comes
	said    bool    // FIN is pending, or sent
	done    bool    // the other side knows the end
}

// A pair is a stream and the TCP connection that it stands for. What is done
// with it is done by the goroutine of its loop.
type pair struct {
	stream, conn     end
	toConn, toStream way
	in               decoder

	slot, generation int32
	queued           bool // in Loop.again
	finished         bool
	result           chan error // has room for one
}

// turns is how many buffers a direction moves before others have their turn.
const turns = 4

// carry moves what can be moved now.
func (l *Loop) carry(p *pair) {
	if p.finished {
		return
	}
	more, err := l.move(p, &p.toStream, &p.conn, &p.stream)
	if err == nil {
		var m bool
		m, err = l.move(p, &p.toConn, &p.stream, &p.conn)
		more = more || m
	}
	if err == nil {
		err = p.lost()
	}
	switch {
	case err != nil:
		l.finish(p, err)
	case p.toConn.done && p.toStream.done:
		l.finish(p, nil)
	case more && !p.queued:
		p.queued = true
		l.again = append(l.again, p)
	}
}

// lost is the error of a connection whose end is no longer read but known.
func (p *pair) lost() error {
	if p.conn.failed && p.toStream.ended {
		if n, err := unix.GetsockoptInt(p.conn.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
			return fmt.Errorf("the connection broke: %w", syscall.Errno(n))
		}
	}
	// Our peer closes a stream only after it had our FIN.
	if p.stream.hung && p.toConn.ended && !p.toStream.ended {
		return fmt.Errorf("the stream broke: %w", syscall.ECONNRESET)
	}
	return nil
}

// move moves data of one direction. It reports whether there may be more that
// could be moved at once.
func (l *Loop) move(p *pair, w *way, from, to *end) (more bool, err error) {
	for range turns {
		if w.pending != nil {
			if all, err := l.flush(p, w, to); !all || err != nil {
				return false, err
			}
		}
		switch {
		case w.done:
			return false, nil
		case w.ended:
			err = l.shut(p, w, to)
		case from.readable:
			err = l.read(p, w, from)
		default:
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// read makes one read and leaves what is to be written in w.
func (l *Loop) read(p *pair, w *way, from *end) error {
	if l.buf == nil {
		l.buf = getBuffer()
	}
	b := l.buf[:]
	if w == &p.toStream {
		b = b[headSize:] // behind the frame's length
	} else {
		b = b[:p.in.want(len(b))]
	}
	n, err := readNow(from.fd, b)
	switch {
	case err == unix.EAGAIN:
		from.readable = false
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0 && w == &p.toStream:
		w.ended = true
		return nil
	case n == 0:
		return fmt.Errorf("the stream ended without its FIN: %w", syscall.ECONNRESET)
	}
	// Less than there was room for is all there was (epoll(7)), except that an
	// end may have come with it.
	if n < len(b) && !from.hung {
		from.readable = false
	}
	if w == &p.toStream {
		l.carried[1].Add(uint64(n))
		binary.BigEndian.PutUint32(l.buf[:], uint32(n))
		l.keep(w, l.buf[:headSize+n])
		return nil
	}
	payload, err := p.in.strip(b[:n])
	if err != nil {
		if w.ended = err == errFIN; !w.ended {
			return err
		}
	}
	if len(payload) > 0 {
		l.carried[0].Add(uint64(len(payload)))
		l.keep(w, payload)
	}
	return nil
}

// keep makes rest, which is in the buffer, w's.
func (l *Loop) keep(w *way, rest []byte) {
	w.pending, w.rest = l.buf, rest
	l.buf = nil
}

// flush writes what is pending. It reports whether all of it was taken.
func (l *Loop) flush(p *pair, w *way, to *end) (all bool, err error) {
	for len(w.rest) > 0 {
		if to.full {
			return false, l.watch(p, to, true)
		}
		n, err := writeNow(to.fd, w.rest)
		if err == unix.EAGAIN {
			to.full = true
			continue
		}
		if err != nil {
			return false, fmt.Errorf("write: %w", err)
		}
		w.rest = w.rest[n:]
	}
	if l.buf == nil {
		l.buf = w.pending
	} else {
		putBuffer(w.pending)
	}
	w.pending = nil
	return true, l.watch(p, to, false)
}

// shut tells the other side that nothing more comes.
func (l *Loop) shut(p *pair, w *way, to *end) error {
	if w == &p.toStream && !w.said {
		w.said = true
		if l.buf == nil {
			l.buf = getBuffer()
		}
		clear(l.buf[:headSize])
		l.keep(w, l.buf[:headSize])
		return nil
	}
	w.done = true
	if w == &p.toStream {
		return nil
	}
	if err := unix.Shutdown(to.fd, unix.SHUT_WR); err != nil {
		return fmt.Errorf("end a direction: %w", err)
	}
	return nil
}

// end closes the sockets and tells who waits.
func (p *pair) end(err error) {
	p.finished = true
	if err != nil {
		_ = unix.SetsockoptLinger(p.conn.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(p.stream.fd)
	unix.Close(p.conn.fd)
	for _, w := range []*way{&p.toConn, &p.toStream} {
		if w.pending != nil {
			putBuffer(w.pending)
			w.pending = nil
		}
	}
	p.result <- err
}
