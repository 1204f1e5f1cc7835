package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// blobCache keeps an image's layers in a directory and downloads what is
// missing, several at once. A blob gets its name when it is whole and checked,
// so the directory may be shared with other processes and survives any end.
type blobCache struct {
	img   *Image
	opts  Options
	fetch fetchFunc
	list  []v1.Descriptor // each digest once
	blobs map[v1.Hash]*cachedBlob
	begin func()
}

type fetchFunc func(context.Context, v1.Descriptor) (io.ReadCloser, error)

// cachedBlob is one download; err is valid when done is closed.
type cachedBlob struct {
	done chan struct{}
	err  error
}

const downloads = 3 // at once, as many as Docker does

func newBlobCache(ctx context.Context, img *Image, opts Options, layers []v1.Descriptor, fetch fetchFunc) *blobCache {
	c := &blobCache{img: img, opts: opts, fetch: fetch, blobs: map[v1.Hash]*cachedBlob{}}
	for _, l := range layers {
		if c.blobs[l.Digest] == nil {
			c.blobs[l.Digest] = &cachedBlob{done: make(chan struct{})}
			c.list = append(c.list, l)
		}
	}
	c.begin = sync.OnceFunc(func() { c.start(ctx) })
	return c
}

// start begins the downloads. Close of the image ends them and waits.
func (c *blobCache) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	c.img.onClose(closeFunc(func() error {
		cancel()
		<-ended
		return nil
	}))
	go func() {
		defer close(ended)
		c.sweep()
		var g errgroup.Group
		g.SetLimit(downloads)
		for _, l := range c.list {
			g.Go(func() error {
				b := c.blobs[l.Digest]
				b.err = c.get(ctx, l)
				close(b.done)
				return nil
			})
		}
		g.Wait()
	}()
}

// sweep removes what downloads left that were killed: nothing writes to a
// temporary file for a day.
func (c *blobCache) sweep() {
	old, err := filepath.Glob(filepath.Join(c.opts.CacheDir, "blobs", "*", ".*-*"))
	if err != nil {
		return
	}
	for _, name := range old {
		if fi, err := os.Lstat(name); err == nil && time.Since(fi.ModTime()) > 24*time.Hour {
			os.Remove(name)
		}
	}
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

// open returns the cached layer l, waiting for its download.
func (c *blobCache) open(ctx context.Context, l v1.Descriptor) (blob, error) {
	c.begin()
	b := c.blobs[l.Digest]
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.err != nil {
		return nil, b.err
	}
	f, err := os.Open(c.path(l.Digest))
	if err != nil {
		return nil, fmt.Errorf("open a cached layer: %w", err)
	}
	c.img.onClose(f)
	return section{io.NewSectionReader(f, 0, l.Size)}, nil
}

// path is where a blob belongs; the digest was checked to be one.
func (c *blobCache) path(h v1.Hash) string {
	return filepath.Join(c.opts.CacheDir, "blobs", h.Algorithm, h.Hex)
}

// get puts l in the cache if it isn't there. A blob of another length is a
// leftover of a damaged disk and is replaced; its digest is checked when the
// layer is read.
func (c *blobCache) get(ctx context.Context, l v1.Descriptor) error {
	if _, err := newHash(l.Digest.String()); err != nil {
		return err
	}
	path := c.path(l.Digest)
	if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Size() == l.Size {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the cache of layers: %w", err)
	}
	c.opts.Progress(fmt.Sprintf("downloading layer %s (%s)", shortDigest(l.Digest), megabytes(l.Size)))
	rc, err := c.fetch(ctx, l)
	if err != nil {
		return err
	}
	defer rc.Close()
	v, err := newVerifier(ctx, rc, "the download", l.Size, l.Digest.String())
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+l.Digest.Hex[:12]+"-*")
	if err != nil {
		return fmt.Errorf("write to the cache of layers: %w", err)
	}
	_, err = io.Copy(f, v)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("download to the cache of layers: %w", err)
	}
	return nil
}
