package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// A Flow is datagrams that were sent or that came.
type Flow struct {
	Datagrams int64
	Bytes     int64         // of payload
	Took      time.Duration // from the first to the last
}

// Rate is bytes a second.
func (f Flow) Rate() float64 {
	if f.Took <= 0 {
		return 0
	}
	return float64(f.Bytes) / f.Took.Seconds()
}

const (
	// askSize is that of the request for a flood: no datagram of one is as
	// short.
	askSize = 16
	// firstTime is how long the first datagram may take, and idleTime how
	// long after the last one a flow is over.
	firstTime = 5 * time.Second
	idleTime  = 400 * time.Millisecond
	// receiveBuffer is asked of the kernel, which gives what it allows.
	receiveBuffer = 4 << 20
)

// Flood sends datagrams of size bytes for a time as fast as the socket takes
// them. A full queue is not waited for: that is the flow control that UDP has.
func Flood(conn net.Conn, size int, length time.Duration) (f Flow, err error) {
	if size <= askSize {
		return f, fmt.Errorf("flood with datagrams of %d bytes: they must have more than %d", size, askSize)
	}
	datagram := make([]byte, size)
	began := time.Now()
	for f.Took < length {
		binary.BigEndian.PutUint64(datagram, uint64(f.Datagrams))
		_, err := conn.Write(datagram)
		f.Took = time.Since(began)
		switch {
		case err == nil:
			f.Datagrams++
			f.Bytes += int64(size)
		case !full(err):
			return f, fmt.Errorf("send datagram %d of %d bytes: %w", f.Datagrams, size, err)
		}
	}
	return f, nil
}

// Ask asks the other end, which runs [ServeDatagrams], for a flood.
func Ask(conn net.Conn, size int, length time.Duration) error {
	var b [askSize]byte
	binary.BigEndian.PutUint64(b[:], uint64(size))
	binary.BigEndian.PutUint64(b[8:], uint64(length))
	if _, err := conn.Write(b[:]); err != nil {
		return fmt.Errorf("ask for datagrams: %w", err)
	}
	return nil
}

// Collect counts the datagrams that come until none does any more.
func Collect(conn net.Conn) (f Flow, err error) {
	if c, ok := conn.(*net.UDPConn); ok {
		_ = c.SetReadBuffer(receiveBuffer) // a smaller one loses more
	}
	datagram := make([]byte, 65536)
	wait := firstTime
	var began time.Time
	for {
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return f, err
		}
		n, err := conn.Read(datagram)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if f.Datagrams == 0 {
				return f, fmt.Errorf("no datagram came within %v: %w", wait, err)
			}
			return f, nil
		case err != nil:
			return f, fmt.Errorf("receive datagrams: %w", err)
		}
		if f.Datagrams == 0 {
			began, wait = time.Now(), idleTime
		}
		f.Datagrams++
		f.Bytes += int64(n)
		f.Took = time.Since(began)
	}
}

// ServeDatagrams floods whoever asks, one after the other, until conn is
// closed.
func ServeDatagrams(conn *net.UDPConn) error {
	var b [askSize + 1]byte
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b[:])
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			continue // an ICMP error about what was sent
		}
		if n != askSize {
			continue
		}
		size, length := int(binary.BigEndian.Uint64(b[:])), time.Duration(binary.BigEndian.Uint64(b[8:]))
		if size > 65507 || length > streamTime {
			continue
		}
		// A refusal by who asked ends its flood alone.
		_, _ = Flood(addressed{conn, net.UDPAddrFromAddrPort(from)}, size, length)
	}
}

// addressed is an unconnected socket that sends to one address.
type addressed struct {
	*net.UDPConn
	to *net.UDPAddr
}

func (a addressed) Write(b []byte) (int, error) { return a.WriteTo(b, a.to) }

// full says that a socket has no room now.
func full(err error) bool { return errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN) }
