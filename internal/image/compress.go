package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

type compression int

const (
	plain compression = iota
	gzipped
	zstded
	bzipped
	xzed
)

// compressionOf tells by the first bytes; media types and file names lie.
func compressionOf(head []byte) compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return gzipped
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstded
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return zstded // a skippable frame, as zstd:chunked and seekable writers may put first
	case bytes.HasPrefix(head, []byte("BZh")) && len(head) > 3 && head[3] >= '1' && head[3] <= '9':
		return bzipped
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xzed
	}
	return plain
}

// maxWindow bounds what a zstd frame may make the decoder allocate; it is the
// most that the zstd tool takes without being told.
const maxWindow = 128 << 20

// decompress returns r uncompressed.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(8)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch compressionOf(head) {
	case gzipped:
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("its gzip data is damaged: %w", err)
		}
		return readAhead(named{zr, "gzip"}), nil
	case zstded:
		zr, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, fmt.Errorf("its zstd data is damaged: %w", err)
		}
		return closeReader{named{zr, "zstd"}, zr.Close}, nil
	case bzipped:
		return nil, errors.New("it is compressed with bzip2, which bake doesn't read; uncompress it with bunzip2")
	case xzed:
		return nil, errors.New("it is compressed with xz, which bake doesn't read; uncompress it with unxz")
	}
	return io.NopCloser(br), nil
}

// named words the errors of a decompressor.
type named struct {
	r    io.Reader
	name string
}

func (n named) Read(p []byte) (int, error) {
	c, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("uncompress (%s): %w", n.name, err)
	}
	return c, err
}

type closeReader struct {
	io.Reader
	close func()
}

func (c closeReader) Close() error { c.close(); return nil }

// ahead reads in a goroutine of its own, so that decompression and what is done
// with the result take a core each.
type ahead struct {
	full  chan aheadBuf
	empty chan []byte
	done  chan struct{} // closed by Close
	ended chan struct{} // closed when the goroutine is gone
	cur   aheadBuf
	pos   int
	shut  bool
}

type aheadBuf struct {
	p   []byte
	err error
}

func readAhead(r io.Reader) io.ReadCloser {
	const bufs, size = 4, 256 << 10
	a := &ahead{
		full:  make(chan aheadBuf, bufs),
		empty: make(chan []byte, bufs),
		done:  make(chan struct{}),
		ended: make(chan struct{}),
	}
	for range bufs {
		a.empty <- make([]byte, size)
	}
	go func() {
		defer close(a.ended)
		for {
			select {
			case p := <-a.empty:
				n, err := io.ReadFull(r, p[:size])
				if err == io.ErrUnexpectedEOF && n < size {
					// ReadFull makes this of io.EOF; a decompressor's own comes wrapped.
					err = io.EOF
				}
				a.full <- aheadBuf{p[:n], err} // never more than bufs are about
				if err != nil {
					return
				}
			case <-a.done:
				return
			}
		}
	}()
	return a
}

func (a *ahead) Read(p []byte) (int, error) {
	for a.pos == len(a.cur.p) {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.shut {
			return 0, io.ErrClosedPipe
		}
		if a.cur.p != nil {
			a.empty <- a.cur.p
		}
		a.cur, a.pos = <-a.full, 0
	}
	n := copy(p, a.cur.p[a.pos:])
	a.pos += n
	return n, nil
}

// Close ends the goroutine and waits for it: for as long as its read takes.
func (a *ahead) Close() error {
	if !a.shut {
		a.shut = true
		close(a.done)
		<-a.ended
	}
	return nil
}
