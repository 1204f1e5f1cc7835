package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// datagramBuffer is the length of a [DatagramReader]'s buffer: a few of the
// longest datagrams or some hundred of usual ones with one read.
const datagramBuffer = 4 * (frameHeader + DatagramLimit)

// A DatagramReader reads frames of [PortUDP], as many with one read as there
// are. It allocates nothing per frame.
type DatagramReader struct {
	r    io.Reader
	buf  []byte
	next int // where the next frame begins
	end  int // of what was read
}

// NewDatagramReader reads from r.
func NewDatagramReader(r io.Reader) *DatagramReader {
	return &DatagramReader{r: r, buf: make([]byte, datagramBuffer)}
}

// Next reads one frame. The datagram's payload is valid until the first call
// of Next for which Buffered was false. At the stream's end the error is
// io.EOF, bare, or inside a frame one that wraps io.ErrUnexpectedEOF. A frame
// that is malformed is an error after which the stream cannot be used.
func (r *DatagramReader) Next(d *Datagram) error {
	for {
		need, err := r.need()
		if err != nil {
			return err
		}
		if have := r.end - r.next; have >= need {
			*d, err = ParseDatagram(r.buf[r.next+frameHeader : r.next+need])
			r.next += need
			return err
		}
		if err := r.fill(need); err != nil {
			return err
		}
	}
}

// Buffered says whether a whole frame is in memory already, so that Next will
// not read.
func (r *DatagramReader) Buffered() bool {
	need, err := r.need()
	return err == nil && r.end-r.next >= need
}

// need is the length of the next frame with its header, or of just the header
// while that is not there.
func (r *DatagramReader) need() (int, error) {
	if r.end-r.next < frameHeader {
		return frameHeader, nil
	}
	n := binary.BigEndian.Uint32(r.buf[r.next:])
	if n > DatagramLimit {
		return 0, fmt.Errorf("the peer announces a datagram frame of %d bytes where at most %d are allowed: %w", n, DatagramLimit, ErrFrameTooLong)
	}
	return frameHeader + int(n), nil
}

// fill reads more than is there.
func (r *DatagramReader) fill(need int) error {
	if r.next+need > len(r.buf) || r.next == r.end {
		r.end = copy(r.buf, r.buf[r.next:r.end])
		r.next = 0
	}
	n, err := r.r.Read(r.buf[r.end:])
	r.end += n
	switch {
	case n > 0 || err == nil:
		return nil // an error that lasts comes again
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read datagram frames: %w", err)
	case r.end == r.next:
		return io.EOF
	}
	return fmt.Errorf("the stream of datagrams ends %d bytes into a frame: %w", r.end-r.next, io.ErrUnexpectedEOF)
}
