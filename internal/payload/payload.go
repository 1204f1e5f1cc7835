package payload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// sectorSize is what a part's place in the file must be a multiple of, to serve as a disk without a copy.
const sectorSize = 512

// A Payload is an opened payload. It reads from the carrier that it was opened in, which must stay open, and
// is safe for concurrent use.
type Payload struct {
	r     io.ReaderAt
	off   int64
	total int64
	parts []Part
	id    [sha256.Size]byte
}

// Open reads the header of the payload in r[off:off+size], as Find tells them, and one byte at its end: enough
// to know that all parts are inside the file, not that they are unchanged (Verify). The time does not depend
// on the payload's size.
func Open(r io.ReaderAt, off, size int64) (*Payload, error) {
	if off < 0 || size < 0 || size > math.MaxInt64-off {
		return nil, fmt.Errorf("a payload cannot be at offset %d with length %d", off, size)
	}
	if size < Align {
		return nil, fmt.Errorf("the payload is only %d bytes long, too short for its header: the file was cut", size)
	}
	if off%sectorSize != 0 {
		return nil, fmt.Errorf("the payload is at offset %d, not a multiple of %d: a tool moved it, build the app again", off, sectorSize)
	}
	header := make([]byte, HeaderSize)
	if err := readFull(r, header, off); err != nil {
		return nil, fmt.Errorf("read the payload header: %w", err)
	}
	parts, total, err := decodeHeader(header, size)
	if err != nil {
		return nil, err
	}
	if err := readFull(r, make([]byte, 1), off+total-1); err != nil {
		return nil, fmt.Errorf("read the end of the payload: %w", err)
	}
	return &Payload{r, off, total, parts, sha256.Sum256(header)}, nil
}

// ID identifies the payload by all that it holds: the SHA-256 of its header,
// which has the hash of every part, as 64 hexadecimal digits.
func (p *Payload) ID() string { return hex.EncodeToString(p.id[:]) }

// Offset returns where the payload starts in its carrier, in bytes.
func (p *Payload) Offset() int64 { return p.off }

// Size returns the length of the payload in bytes, padding and all.
func (p *Payload) Size() int64 { return p.total }

// Parts returns the table in the order of the file.
func (p *Payload) Parts() []Part { return slices.Clone(p.parts) }

// Part returns the table's entry for name.
func (p *Payload) Part(name string) (Part, bool) {
	for _, part := range p.parts {
		if part.Name == name {
			return part, true
		}
	}
	return Part{}, false
}

func (p *Payload) part(name string) (Part, error) {
	part, ok := p.Part(name)
	if !ok {
		return part, fmt.Errorf("the app has no part named %q", name)
	}
	return part, nil
}

// Section returns a reader of one part where it lies. What it reads is not checked against the hash.
func (p *Payload) Section(name string) (*io.SectionReader, error) {
	part, err := p.part(name)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(p.r, p.off+part.Offset, part.Size), nil
}

// FileOffset returns where in the carrier file the part lies: what a hypervisor needs to use it as a disk. The
// offset is a multiple of 512 at least, and of Align as built.
func (p *Payload) FileOffset(name string) (offset, size int64, err error) {
	part, err := p.part(name)
	if err != nil {
		return 0, 0, err
	}
	return p.off + part.Offset, part.Size, nil
}

// ReadAll returns the contents of a part, checked against its hash. A part larger than limit bytes is an error
// before anything is allocated.
func (p *Payload) ReadAll(name string, limit int64) ([]byte, error) {
	part, err := p.part(name)
	if err != nil {
		return nil, err
	}
	if part.Size > limit {
		return nil, fmt.Errorf("part %q is %d bytes long, more than the %d that it may be", name, part.Size, limit)
	}
	b := make([]byte, part.Size)
	if err := readFull(p.r, b, p.off+part.Offset); err != nil {
		return nil, fmt.Errorf("read part %q: %w", name, err)
	}
	if sha256.Sum256(b) != part.SHA256 {
		return nil, hashError(name)
	}
	return b, nil
}

// Manifest reads, decodes and validates the part named PartManifest.
func (p *Payload) Manifest() (*Manifest, error) {
	b, err := p.ReadAll(PartManifest, MaxManifestSize)
	if err != nil {
		return nil, err
	}
	return DecodeManifest(b)
}

// Verify reads the whole payload and checks each part against its hash, and that nothing is hidden in the
// padding. The error joins one sentence for each part that is wrong. Parts are read in parallel, with 1 MiB of
// memory each.
func (p *Payload) Verify(ctx context.Context) error {
	errs := make([]error, len(p.parts)+1)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, part := range p.parts {
		group.Go(func() error {
			errs[i] = p.verify(ctx, part)
			return nil
		})
	}
	errs[len(p.parts)] = p.VerifyPadding()
	_ = group.Wait() // each error is in errs
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("verify the payload: %w", err)
	}
	return errors.Join(errs...)
}

// VerifyPart checks one part against its hash.
func (p *Payload) VerifyPart(ctx context.Context, name string) error {
	part, err := p.part(name)
	if err != nil {
		return err
	}
	return p.verify(ctx, part)
}

func (p *Payload) verify(ctx context.Context, part Part) error {
	h := sha256.New()
	if err := hashRange(ctx, h, p.r, p.off+part.Offset, part.Size); err != nil {
		return fmt.Errorf("read part %q: %w", part.Name, err)
	}
	if [sha256.Size]byte(h.Sum(nil)) != part.SHA256 {
		return hashError(part.Name)
	}
	return nil
}

// VerifyPadding checks that what lies between the parts is zero.
func (p *Payload) VerifyPadding() error {
	gap := func(from, to int64) error {
		b := make([]byte, to-from) // less than Align, see layout
		if err := readFull(p.r, b, p.off+from); err != nil {
			return fmt.Errorf("read the payload's padding: %w", err)
		}
		if !isZero(b) {
			return fmt.Errorf("there is foreign data in the payload between offset %d and %d: the file was altered", from, to)
		}
		return nil
	}
	if err := gap(HeaderSize, Align); err != nil {
		return err
	}
	for _, part := range p.parts {
		end := part.Offset + part.Size
		if err := gap(end, alignUp(end, Align)); err != nil {
			return err
		}
	}
	return nil
}

func hashError(name string) error {
	return fmt.Errorf("part %q does not match its hash: the file was altered or damaged", name)
}

// hashRange feeds r[off:off+size] to h and stops when ctx ends.
func hashRange(ctx context.Context, h hash.Hash, r io.ReaderAt, off, size int64) error {
	buf := make([]byte, min(size, 1<<20))
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := buf[:min(size, int64(len(buf)))]
		if err := readFull(r, chunk, off); err != nil {
			return err
		}
		h.Write(chunk) // never fails
		off, size = off+int64(len(chunk)), size-int64(len(chunk))
	}
	return nil
}

// errCut is what a read past the end of the file means here.
var errCut = errors.New("the file ends before that: it was cut")

// readFull fills b from r[off:].
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return errCut
	default:
		return err
	}
}
