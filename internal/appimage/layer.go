package appimage

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"bake/internal/unit"
)

// A layer is the only one of an image: an uncompressed tar, as an app holds
// compressed parts or such that are to be read at random. It is a v1.Layer.
type layer struct {
	ctx            context.Context
	app            string // the file
	before, behind []byte // of the app's bytes in the archive
	appSize, size  int64
	digest         v1.Hash
}

// newLayer reads the app once, for the digest.
func newLayer(ctx context.Context, app string) (*layer, error) {
	info, err := os.Stat(app)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file and so no app", app)
	}
	l := &layer{ctx: ctx, app: app, appSize: info.Size()}
	if l.before, err = archiveHead(l.appSize); err != nil {
		return nil, err
	}
	// The app is padded to a whole block of 512 bytes, and two empty ones end
	// the archive (pax(1), "ustar Interchange Format").
	l.behind = make([]byte, (512-l.appSize%512)%512+2*512)
	l.size = int64(len(l.before)) + l.appSize + int64(len(l.behind))
	r, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return nil, fmt.Errorf("read the app: %w", err)
	}
	if n != l.size {
		return nil, errors.New("the app was changed while it was read")
	}
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
	return l, nil
}

// archiveHead is the archive up to the app's first byte: folders, and its header.
func archiveHead(size int64) ([]byte, error) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, dir := range []struct {
		name string
		mode int64
	}{
		// Sockets and the disk for the container's changes are made there.
		{"tmp/", 0o1777},
		{"var/", 0o755},
		{unit.StateHome[1:] + "/", 0o755},
	} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir.name, Mode: dir.mode, Format: tar.FormatPAX}); err != nil {
			return nil, err
		}
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: unit.AppPath[1:], Mode: 0o755, Size: size, Format: tar.FormatPAX}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Uncompressed opens the archive.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.app)
	if err != nil {
		return nil, err
	}
	r := io.MultiReader(bytes.NewReader(l.before), io.LimitReader(f, l.appSize), bytes.NewReader(l.behind))
	return &archive{ctx: l.ctx, Reader: r, Closer: f}, nil
}

func (l *layer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

func (l *layer) Digest() (v1.Hash, error) { return l.digest, nil }

func (l *layer) DiffID() (v1.Hash, error) { return l.digest, nil }

func (l *layer) Size() (int64, error) { return l.size, nil }

func (l *layer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }

// An archive ends when ctx does.
type archive struct {
	ctx context.Context
	io.Reader
	io.Closer
}

func (a *archive) Read(p []byte) (int, error) {
	if err := context.Cause(a.ctx); err != nil {
		return 0, err
	}
	return a.Reader.Read(p)
}
