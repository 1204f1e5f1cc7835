package rootfs

import (
	"context"
	"fmt"
	"io"
	"math"
)

// blockWriter writes forward and knows its position. File contents are read
// straight into its buffer.
type blockWriter struct {
	ctx context.Context // of this one image
	w   io.Writer
	buf []byte // not written yet; pos is its end
	pos int64
}

func (w *blockWriter) flush() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	_, err := w.w.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// room returns up to n bytes of the buffer to be filled.
func (w *blockWriter) room(n int64) ([]byte, error) {
	if len(w.buf) == cap(w.buf) {
		if err := w.flush(); err != nil {
			return nil, err
		}
	}
	start := len(w.buf)
	end := start + int(min(n, int64(cap(w.buf)-start)))
	w.buf = w.buf[:end]
	w.pos += int64(end - start)
	return w.buf[start:end], nil
}

func (w *blockWriter) write(p []byte) error {
	for len(p) > 0 {
		b, err := w.room(int64(len(p)))
		if err != nil {
			return err
		}
		p = p[copy(b, p):]
	}
	return nil
}

// padTo writes zeros up to pos.
func (w *blockWriter) padTo(pos int64) error {
	if pos < w.pos {
		return fmt.Errorf("internal error: the layout overlaps at byte %d", pos)
	}
	for w.pos < pos {
		b, err := w.room(pos - w.pos)
		if err != nil {
			return err
		}
		clear(b)
	}
	return nil
}

// copy writes size bytes of n's contents from off.
func (w *blockWriter) copy(n *Inode, o *opener, off, size int64) error {
	if size == 0 {
		return nil
	}
	ra, base, err := o.open(n)
	if err != nil {
		return err
	}
	if base > math.MaxInt64-off-size {
		return fmt.Errorf("internal error: contents at %d", base)
	}
	for end := off + size; off < end; {
		b, err := w.room(end - off)
		if err != nil {
			return err
		}
		if err := readFull(ra, b, base+off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}
