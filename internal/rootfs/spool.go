package rootfs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
)

// spool is one unlinked temporary file that holds contents end to end. Reads
// see what was flushed.
type spool struct {
	f    *os.File
	end  int64
	buf  []byte
	held int // bytes of buf not written yet; they belong at end-held
}

func (t *Tree) openSpool() (*spool, error) {
	if t.spool != nil {
		return t.spool, nil
	}
	f, err := os.CreateTemp(t.opts.TempDir, "bake-layers-*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file for the layers: %w", err)
	}
	// Without a name it can't be left behind, whatever ends the process.
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("make a temporary file for the layers: %w", err)
	}
	t.spool = &spool{f: f, buf: make([]byte, 1<<20)}
	t.closers = append(t.closers, f)
	return t.spool, nil
}

// add appends size bytes of r and returns where they begin.
func (s *spool) add(ctx context.Context, r io.Reader, size int64) (int64, error) {
	start := s.end
	for left := size; left > 0; {
		if s.held == len(s.buf) {
			if err := s.flush(); err != nil {
				return 0, err
			}
			if err := ctx.Err(); err != nil {
				return 0, err
			}
		}
		room := s.buf[s.held:]
		if int64(len(room)) > left {
			room = room[:left]
		}
		n, err := io.ReadFull(r, room)
		s.held += n
		s.end += int64(n)
		left -= int64(n)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
	}
	return start, nil
}

// flush writes what is held. A full buffer of zeros becomes a hole: sparse
// files of hundreds of gigabytes (/var/log/lastlog) are real.
func (s *spool) flush() error {
	held := s.buf[:s.held]
	if s.held == len(s.buf) && isZero(held) {
		s.held = 0
		return nil
	}
	if _, err := s.f.WriteAt(held, s.end-int64(s.held)); err != nil {
		return fmt.Errorf("spool the layers (free space in the temporary directory, or set TMPDIR): %w", err)
	}
	s.held = 0
	return nil
}

// ReadAt reads what was added and flushed. A hole at the very end of the file reads as
// zeros.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > s.end-int64(len(p)) {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.f.ReadAt(p, off)
	if err == io.EOF && n < len(p) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

var zeros [4096]byte

func isZero(p []byte) bool {
	for len(p) >= len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}
