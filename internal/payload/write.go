package payload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// copyChunk is how much is copied between two looks at the context, and how far hashing trails the copy at least.
const copyChunk = 8 << 20

// A Source is a part still to be written.
type Source struct {
	Name string
	Size int64
	// SHA256 is the hash where it is known already: it is then believed and the source read only by the copy.
	// Zero means that Write computes it.
	SHA256 [sha256.Size]byte
	// Open returns a reader of at least Size bytes, once. When it is an *os.File at the right position the kernel
	// copies (copy_file_range(2)), sharing blocks where the file system can.
	Open func() (io.ReadCloser, error)
}

// BytesSource is a part held in memory.
func BytesSource(name string, b []byte) Source {
	return Source{
		Name: name, Size: int64(len(b)), SHA256: sha256.Sum256(b),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}
}

// FileSource is a part that is the regular file at path. The file must not change until it is written.
func FileSource(name, path string) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Source{}, fmt.Errorf("embed %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return Source{}, fmt.Errorf("embed %s: %s is not a regular file", name, path)
	}
	open := func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		now, err := f.Stat()
		if err == nil && now.Size() != info.Size() {
			err = fmt.Errorf("%s changed its size from %d to %d bytes meanwhile", path, info.Size(), now.Size())
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
	return Source{Name: name, Size: info.Size(), Open: open}, nil
}

// Size returns how long the payload of these parts is, in bytes: a multiple of Align. Names and sizes are all it
// looks at.
func Size(sources []Source) (int64, error) {
	_, total, err := layout(entries(sources))
	return total, err
}

func entries(sources []Source) []Part {
	parts := make([]Part, len(sources))
	for i, s := range sources {
		parts[i] = Part{Name: s.Name, Size: s.Size, SHA256: s.SHA256}
	}
	return parts
}

// Write writes the payload at dst[off:], the parts in the given order, and returns its length. There must be
// nothing in dst past off; padding becomes holes. It makes one pass: hashes not known before are computed from
// what has been written, behind the copy. The same sources give the same bytes.
func Write(ctx context.Context, dst *os.File, off int64, sources []Source) (int64, error) {
	parts := entries(sources)
	offsets, total, err := layout(parts)
	if err != nil {
		return 0, err
	}
	if err := dst.Truncate(off + total); err != nil {
		return 0, fmt.Errorf("make room for a payload of %d bytes: %w", total, err)
	}
	for i, s := range sources {
		parts[i].Offset = offsets[i]
		if parts[i].SHA256, err = writePart(ctx, dst, off+offsets[i], s); err != nil {
			return 0, fmt.Errorf("embed %s: %w", s.Name, err)
		}
	}
	if _, err := dst.WriteAt(encodeHeader(parts, total), off); err != nil {
		return 0, fmt.Errorf("write the payload header: %w", err)
	}
	return total, nil
}

// writePart copies s to dst[off:] and returns its hash.
func writePart(ctx context.Context, dst *os.File, off int64, s Source) (sum [sha256.Size]byte, err error) {
	src, err := s.Open()
	if err != nil {
		return sum, err
	}
	defer src.Close()
	if _, err := dst.Seek(off, io.SeekStart); err != nil {
		return sum, err
	}
	if s.SHA256 != sum {
		return s.SHA256, copyPart(ctx, dst, src, s.Size, func(int64) {})
	}

	// The hasher reads each chunk back from the page cache while the next one is copied.
	hashed := make(chan error, 1)
	chunks := make(chan int64, s.Size/copyChunk+1) // room for all, so that the copy never waits
	h := sha256.New()
	go func() {
		var err error
		for at := off; ; {
			n, ok := <-chunks
			if !ok {
				break
			}
			if err == nil {
				err = hashRange(ctx, h, dst, at, n)
			}
			at += n
		}
		hashed <- err
	}()
	err = copyPart(ctx, dst, src, s.Size, func(n int64) { chunks <- n })
	close(chunks)
	if err := errors.Join(err, <-hashed); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// copyPart copies size bytes from src to dst's current position and tells done the length of each piece.
func copyPart(ctx context.Context, dst *os.File, src io.Reader, size int64, done func(n int64)) error {
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(dst, src, min(left, copyChunk))
		left -= n
		if err != nil {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("the source ended after %d of %d bytes", size-left, size)
			}
			return err
		}
		done(n)
	}
	return nil
}
