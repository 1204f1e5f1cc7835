package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	opUpload   = 'u'
	opDownload = 'd'
	opEcho     = 'e'
)

// blockSize is how much is read and written at a time, in bytes.
const blockSize = 256 << 10

// streamTime bounds what is done on one stream, where it has deadlines: one
// that a transport forgot about fails.
const streamTime = 30 * time.Second

// limit gives a stream streamTime from now on.
func limit(rw io.ReadWriter) {
	if d, ok := rw.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Now().Add(streamTime)) // some have none
	}
}

// A Dial opens a stream to a server.
type Dial func() (io.ReadWriteCloser, error)

func request(w io.Writer, op byte, count int64) error {
	b := binary.BigEndian.AppendUint64([]byte{op}, uint64(count))
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("ask the other end for %q of %d bytes: %w", op, count, err)
	}
	return nil
}

// Serve does what is asked on one stream until its end.
func Serve(rw io.ReadWriter) error {
	var head [9]byte
	block := make([]byte, 0)
	for {
		if _, err := io.ReadFull(rw, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read a request: %w", err)
		}
		count := int64(binary.BigEndian.Uint64(head[1:]))
		if head[0] != opEcho && len(block) == 0 {
			block = make([]byte, blockSize)
		}
		var err error
		switch head[0] {
		case opUpload:
			if err = receive(rw, block, count); err == nil {
				_, err = rw.Write(head[:1])
			}
		case opDownload:
			err = send(rw, block, count)
		case opEcho:
			err = echo(rw, count)
		default:
			err = fmt.Errorf("the other end asks for %q, which is nothing", head[0])
		}
		if err != nil {
			return fmt.Errorf("serve %q of %d bytes: %w", head[0], count, err)
		}
	}
}

func send(w io.Writer, block []byte, count int64) error {
	for count > 0 {
		n, err := w.Write(block[:min(count, int64(len(block)))])
		if err != nil {
			return err
		}
		count -= int64(n)
	}
	return nil
}

func receive(r io.Reader, block []byte, count int64) error {
	for count > 0 {
		n, err := r.Read(block[:min(count, int64(len(block)))])
		if err != nil {
			return err
		}
		count -= int64(n)
	}
	return nil
}

func echo(rw io.ReadWriter, count int64) error {
	var b [1]byte
	for ; count > 0; count-- {
		if _, err := io.ReadFull(rw, b[:]); err != nil {
			return err
		}
		if _, err := rw.Write(b[:]); err != nil {
			return err
		}
	}
	return nil
}

// Upload sends count bytes and returns how long it took until the other end
// had them all.
func Upload(rw io.ReadWriter, count int64) (time.Duration, error) {
	limit(rw)
	block := make([]byte, blockSize)
	began := time.Now()
	if err := request(rw, opUpload, count); err != nil {
		return 0, err
	}
	if err := send(rw, block, count); err != nil {
		return 0, fmt.Errorf("send %d bytes: %w", count, err)
	}
	if _, err := io.ReadFull(rw, block[:1]); err != nil {
		return 0, fmt.Errorf("wait for the other end to have %d bytes: %w", count, err)
	}
	return time.Since(began), nil
}

// Download receives count bytes and returns how long it took.
func Download(rw io.ReadWriter, count int64) (time.Duration, error) {
	limit(rw)
	block := make([]byte, blockSize)
	began := time.Now()
	if err := request(rw, opDownload, count); err != nil {
		return 0, err
	}
	if err := receive(rw, block, count); err != nil {
		return 0, fmt.Errorf("receive %d bytes: %w", count, err)
	}
	return time.Since(began), nil
}

// PingPong sends one byte and waits for it, rounds times, and returns how long
// each round took.
func PingPong(rw io.ReadWriter, rounds int) ([]time.Duration, error) {
	limit(rw)
	if err := request(rw, opEcho, int64(rounds)); err != nil {
		return nil, err
	}
	times := make([]time.Duration, rounds)
	var b [1]byte
	for i := range times {
		began := time.Now()
		if _, err := rw.Write(b[:]); err != nil {
			return nil, fmt.Errorf("send one byte: %w", err)
		}
		if _, err := io.ReadFull(rw, b[:]); err != nil {
			return nil, fmt.Errorf("wait for one byte: %w", err)
		}
		times[i] = time.Since(began)
	}
	return times, nil
}

// Connect opens a stream, has one byte sent back and closes it, count times
// one after the other, and returns how long all took.
func Connect(dial Dial, count int) (time.Duration, error) {
	began := time.Now()
	for i := range count {
		rw, err := dial()
		if err == nil {
			err = errors.Join(touch(rw), rw.Close())
		}
		if err != nil {
			return 0, fmt.Errorf("connection %d of %d: %w", i+1, count, err)
		}
	}
	return time.Since(began), nil
}

// Crowd opens count streams at once and has one byte sent back on each, while
// all of them stay open. It returns how long that took and the errors of those
// that failed.
func Crowd(dial Dial, count int) (time.Duration, []error) {
	streams := make([]io.ReadWriteCloser, count)
	errs := make([]error, count)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			if streams[i], errs[i] = dial(); errs[i] == nil {
				errs[i] = touch(streams[i])
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	var failed []error
	for i, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
		if streams[i] != nil {
			streams[i].Close()
		}
	}
	return took, failed
}

// Chorus plays [PingPong] on many streams at once, rounds times on each, and
// returns how long all of it took once the streams were open.
func Chorus(dial Dial, streams, rounds int) (time.Duration, error) {
	open := make([]io.ReadWriteCloser, 0, streams)
	defer func() {
		for _, rw := range open {
			rw.Close()
		}
	}()
	for range streams {
		rw, err := dial()
		if err != nil {
			return 0, err
		}
		open = append(open, rw)
	}
	errs := make([]error, streams)
	began := time.Now()
	var wg sync.WaitGroup
	for i, rw := range open {
		wg.Go(func() { _, errs[i] = PingPong(rw, rounds) })
	}
	wg.Wait()
	return time.Since(began), errors.Join(errs...)
}

func touch(rw io.ReadWriter) error {
	if _, err := PingPong(rw, 1); err != nil {
		return err
	}
	return nil
}
