package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrFrameTooLong is wrapped by the errors of frames that exceed the bound
// that the reader or writer set.
var ErrFrameTooLong = errors.New("frame is longer than allowed")

const frameHeader = 4

// WriteFrame writes one frame: the body's length as a 4-byte big-endian
// number, then the body. It makes one Write call, so frames of concurrent
// writers do not interleave where the connection's Write is atomic.
func WriteFrame(w io.Writer, body []byte, limit int) error {
	if len(body) > limit {
		return fmt.Errorf("write a frame of %d bytes where at most %d are allowed: %w", len(body), limit, ErrFrameTooLong)
	}
	buf := make([]byte, frameHeader+len(body))
	binary.BigEndian.PutUint32(buf, uint32(len(body)))
	copy(buf[frameHeader:], body)
	if _, err := w.Write(buf); err != nil {
		return fmt.Errorf("write a frame: %w", err)
	}
	return nil
}

// ReadFrame reads one frame of at most limit bytes. It returns io.EOF, bare,
// when the stream ends before a frame begins, and an error that wraps
// io.ErrUnexpectedEOF when it ends inside one.
func ReadFrame(r io.Reader, limit int) ([]byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read a frame's length: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return nil, fmt.Errorf("the peer announces a frame of %d bytes where at most %d are allowed: %w", n, limit, ErrFrameTooLong)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read a frame of %d bytes: %w", n, err)
	}
	return body, nil
}

// WriteJSON writes v as one frame of JSON.
func WriteJSON(w io.Writer, v any, limit int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	return WriteFrame(w, body, limit)
}

// ReadJSON reads one frame and decodes its JSON into v. Fields that v does not
// know are ignored, so that either side may be the newer one.
func ReadJSON(r io.Reader, v any, limit int) error {
	body, err := ReadFrame(r, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode %T from a frame of %d bytes: %w", v, len(body), err)
	}
	return nil
}
