package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Layer is one layer of an image, the lowest first in Image.Layers.
type Layer struct {
	// Name says which layer it is, for messages: its digest, or its path.
	Name string
	// Digest of the layer as it is stored, DiffID of its uncompressed tar
	// ("sha256:..."); each is empty if the source doesn't say.
	Digest, DiffID string
	// Size in bytes as stored; -1 if not known.
	Size int64

	open    func(context.Context) (blob, error)
	discard func() // if set, forgets a stored copy that turns out damaged
}

// blob is a stored layer. One that lies in a file is a section.
type blob interface {
	io.Reader
	io.Closer
}

// section is a blob in a file that stays open until the image is closed.
type section struct{ *io.SectionReader }

func (section) Close() error { return nil }

// Open returns the layer as an uncompressed tar stream. A digest that doesn't
// fit, or a wrong length, is the error at the end of the stream, so read up to
// io.EOF before trusting the contents. Errors of reading don't repeat Name.
//
// If the layer lies uncompressed in a file, the reader is also an [io.ReaderAt]
// over the same bytes, valid until Close of the image (of the reader it isn't),
// and an [io.Seeker] too if there is no digest to check.
func (l *Layer) Open(ctx context.Context) (io.ReadCloser, error) {
	r, err := l.reader(ctx)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.Name, err)
	}
	return r, nil
}

func (l *Layer) reader(ctx context.Context) (io.ReadCloser, error) {
	raw, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	if s, ok := raw.(section); ok {
		head := make([]byte, 8)
		n, err := s.ReadAt(head, 0)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if compressionOf(head[:n]) == plain {
			if l.Digest == "" && l.DiffID == "" {
				return s, nil
			}
			v, err := newVerifier(ctx, s, "the layer", l.Size, l.Digest, l.DiffID)
			if err != nil {
				return nil, err
			}
			v.discard = l.discard
			return inPlace{v, s}, nil
		}
	}
	stored, err := newVerifier(ctx, raw, "the layer", l.Size, l.Digest)
	if err != nil {
		raw.Close()
		return nil, err
	}
	stored.discard = l.discard
	tar, err := decompress(stored)
	if err != nil {
		raw.Close()
		return nil, stored.fail(err)
	}
	out, err := newVerifier(ctx, tar, "the layer, uncompressed,", -1, l.DiffID)
	if err != nil {
		tar.Close()
		raw.Close()
		return nil, err
	}
	out.discard = l.discard
	return &layerReader{out: out, tar: tar, stored: stored, raw: raw}, nil
}

// inPlace is a verified layer that can be referred to where it is.
type inPlace struct {
	*verifier
	io.ReaderAt
}

func (inPlace) Close() error { return nil }

// layerReader is a chain: stored bytes, checked; uncompressed bytes, checked.
type layerReader struct {
	out    *verifier
	tar    io.Closer
	stored io.Reader
	raw    io.Closer
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.out.Read(p)
	if err == io.EOF {
		// A decompressor may stop before the end of what it reads.
		if _, drain := io.Copy(io.Discard, r.stored); drain != nil {
			return n, r.out.fail(drain)
		}
	}
	return n, err
}

// Close closes the source first, which ends a read that waits for the network.
func (r *layerReader) Close() error {
	return errors.Join(r.raw.Close(), r.tar.Close())
}

// verifier passes a stream on and checks its length and digests at its end.
type verifier struct {
	ctx  context.Context // of the stream
	r    io.Reader
	what string
	left int64 // bytes still to come; negative if not known
	want []string
	sums []hash.Hash

	discard func()
}

// fail passes on an error of the stream, after which a stored copy of it isn't
// worth keeping.
func (v *verifier) fail(err error) error {
	if v.discard != nil && v.ctx.Err() == nil {
		v.discard()
	}
	return err
}

// newVerifier checks r against those of digests that aren't empty.
func newVerifier(ctx context.Context, r io.Reader, what string, size int64, digests ...string) (*verifier, error) {
	v := &verifier{ctx: ctx, r: r, what: what, left: size}
	for _, d := range digests {
		if d == "" || len(v.want) > 0 && v.want[0] == d {
			continue
		}
		h, err := newHash(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		v.want, v.sums = append(v.want, d), append(v.sums, h)
	}
	return v, nil
}

func newHash(digest string) (hash.Hash, error) {
	algorithm, sum, _ := strings.Cut(digest, ":")
	var h hash.Hash
	switch algorithm {
	case "sha256":
		h = sha256.New()
	case "sha512":
		h = sha512.New()
	default:
		return nil, fmt.Errorf("its digest %.100q is of a kind that bake can't check", digest)
	}
	if b, err := hex.DecodeString(sum); err != nil || len(b) != h.Size() || strings.ToLower(sum) != sum {
		return nil, fmt.Errorf("its digest %.100q is malformed", digest)
	}
	return h, nil
}

func (v *verifier) Read(p []byte) (int, error) {
	if err := v.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := v.r.Read(p)
	for _, h := range v.sums {
		h.Write(p[:n])
	}
	if v.left >= 0 {
		if v.left -= int64(n); v.left < 0 {
			return n, v.fail(fmt.Errorf("%s is longer than its manifest says; get the image again", v.what))
		}
	}
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		return n, v.fail(err)
	}
	if v.left > 0 {
		return n, v.fail(fmt.Errorf("%s is cut off, %d bytes are missing; get the image again", v.what, v.left))
	}
	for i, h := range v.sums {
		_, want, _ := strings.Cut(v.want[i], ":")
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			return n, v.fail(fmt.Errorf("%s is damaged: its digest is %s, not %s; get the image again", v.what, short(got), short(want)))
		}
	}
	return n, io.EOF
}

func short(hexSum string) string { return hexSum[:12] }

// readBlob reads a small document whole and checks it.
func readBlob(ctx context.Context, r io.Reader, what string, size int64, digest string) ([]byte, error) {
	if size > maxDocument {
		return nil, fmt.Errorf("%s is %d bytes long, more than the %d that such a document may have", what, size, maxDocument)
	}
	v, err := newVerifier(ctx, r, what, size, digest)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(v, maxDocument+1)); err != nil {
		return nil, err
	}
	if b.Len() > maxDocument {
		return nil, fmt.Errorf("%s is longer than the %d bytes that such a document may have", what, maxDocument)
	}
	return b.Bytes(), nil
}

// maxDocument bounds manifests, indexes and configurations; registries allow
// manifests of 4 MiB.
const maxDocument = 8 << 20
