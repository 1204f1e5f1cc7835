package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// openRemote opens an image in a registry. guessed says that source might have
// been meant as a file.
func (i *Image) openRemote(ctx context.Context, source string, opts Options, guessed bool) error {
	ref, err := name.ParseReference(source)
	if err != nil {
		if guessed {
			return errors.New("there is no such file or directory, and it isn't the name of an image either, which looks like docker.io/library/alpine:3")
		}
		return fmt.Errorf("it isn't the name of an image, which looks like docker.io/library/alpine:3: %w", err)
	}
	i.Ref = displayRef(ref)
	opts.Progress("asking the registry for " + i.Ref)
	ro := []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(opts.Keychain),
		remote.WithUserAgent("bake"),
	}
	puller, err := remote.NewPuller(ro...)
	if err != nil {
		return err
	}
	desc, err := puller.Get(ctx, ref)
	if err != nil {
		return remoteError(err, ref, guessed)
	}
	return i.useRemote(ctx, puller, ref, desc, opts, 0)
}

func (i *Image) useRemote(ctx context.Context, puller *remote.Puller, ref name.Reference, desc *remote.Descriptor, opts Options, depth int) error {
	if depth > maxIndexDepth {
		return fmt.Errorf("its indexes are nested more than %d deep", maxIndexDepth)
	}
	if desc.MediaType == types.DockerManifestSchema1 || desc.MediaType == types.DockerManifestSchema1Signed {
		return fmt.Errorf("its manifest is of version 1; push the image again with a current tool, which writes version 2")
	}
	if isIndex(desc.MediaType, desc.Manifest) {
		index, err := parseIndex(desc.Manifest, "its index")
		if err != nil {
			return err
		}
		d, err := pick(index.Manifests, opts.Arch)
		if err != nil {
			return err
		}
		if _, err := newHash(d.Digest.String()); err != nil {
			return err
		}
		at := ref.Context().Digest(d.Digest.String())
		next, err := puller.Get(ctx, at)
		if err != nil {
			return remoteError(err, at, false)
		}
		return i.useRemote(ctx, puller, ref, next, opts, depth+1)
	}
	m, err := parseManifest(desc.Manifest)
	if err != nil {
		return err
	}
	fetch := func(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
		if _, err := newHash(d.Digest.String()); err != nil {
			return nil, err
		}
		l, err := puller.Layer(ctx, ref.Context().Digest(d.Digest.String()))
		if err != nil {
			return nil, remoteError(err, ref, false)
		}
		rc, err := l.Compressed()
		if err != nil {
			return nil, remoteError(err, ref, false)
		}
		return rc, nil
	}
	rc, err := fetch(ctx, m.Config)
	if err != nil {
		return err
	}
	config, err := readBlob(ctx, rc, "its configuration", m.Config.Size, m.Config.Digest.String())
	rc.Close()
	if err != nil {
		return err
	}
	i.Digest = desc.Digest.String()
	var total int64
	for _, l := range m.Layers {
		if l.Size < 0 || total > maxArchive-l.Size {
			return fmt.Errorf("its manifest lists more than %d bytes", int64(maxArchive))
		}
		total += l.Size
	}
	var cache *blobCache
	if opts.CacheDir != "" {
		cache = newBlobCache(ctx, i, opts, m.Layers, fetch)
	}
	return i.useManifest(m, config, opts, func(out *Layer, l v1.Descriptor) {
		out.open = func(ctx context.Context) (blob, error) {
			opts.Progress(fmt.Sprintf("downloading layer %s (%s)", shortDigest(l.Digest), megabytes(l.Size)))
			return fetch(ctx, l)
		}
		if cache != nil {
			out.open = func(ctx context.Context) (blob, error) { return cache.open(ctx, l) }
			out.discard = func() { os.Remove(cache.path(l.Digest)) }
		}
	})
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// displayRef spells the Docker Hub as people do.
func displayRef(ref name.Reference) string {
	return strings.Replace(ref.Name(), name.DefaultRegistry+"/", "docker.io/", 1)
}

// remoteError says in one sentence why the registry didn't give the image.
func remoteError(err error, ref name.Reference, guessed bool) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	host := ref.Context().RegistryStr()
	login := "docker login " + host
	if host == name.DefaultRegistry {
		host, login = "docker.io", "docker login"
	}
	tried := ""
	if guessed {
		tried = "there is no such file or directory, and "
	}
	var te *transport.Error
	if !errors.As(err, &te) {
		return fmt.Errorf("%sthe registry %s can't be reached: %w", tried, host, err)
	}
	switch te.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%sthe registry %s doesn't let you have %s: it is private or doesn't exist; log in with \"%s\", or check the name: %w",
			tried, host, displayRef(ref), login, err)
	case http.StatusNotFound:
		return fmt.Errorf("%sthe registry %s has no %s; check the name and the tag: %w", tried, host, displayRef(ref), err)
	case http.StatusTooManyRequests:
		return fmt.Errorf("%sthe registry %s refuses more requests for now; wait, or log in with \"%s\": %w", tried, host, login, err)
	}
	return fmt.Errorf("%sthe registry %s failed: %w", tried, host, err)
}
