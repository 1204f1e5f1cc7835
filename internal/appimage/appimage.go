// Package appimage wraps an app as a container image: one layer with the app and
// the few folders that it needs, for engines that start containers and not files.
// It is about the file that is written; what runs in the app's own guest is
// another image, which it does not know.
package appimage

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"bake/internal/payload"
	"bake/internal/unit"
)

// dockerSuffix ends the name of a file that docker load reads, which takes no OCI
// layout before version 25.
const dockerSuffix = ".docker.tar"

// Write writes an image of the app, a file that m describes, to path: a tar of
// `docker save` if path ends in .docker.tar, else a tar with an OCI image layout
// (image-spec, image-layout.md). The same app gives the same bytes. The app is
// read twice, since an image begins with the digests of what comes later, and
// never held in memory.
func Write(ctx context.Context, path, app string, m *payload.Manifest) error {
	err := write(ctx, path, app, m)
	if err != nil {
		return fmt.Errorf("write the image %s: %w", path, err)
	}
	return nil
}

func write(ctx context.Context, path, app string, m *payload.Manifest) error {
	l, err := newLayer(ctx, app)
	if err != nil {
		return err
	}
	img, err := newImage(l, m)
	if err != nil {
		return err
	}
	base := filepath.Base(path)
	return payload.ReplaceFile(path, 0o644, func(f *os.File) error {
		if docker := strings.TrimSuffix(base, dockerSuffix); docker != base {
			return writeDocker(f, img, docker)
		}
		return writeLayout(f, img, l)
	})
}

// newImage is the layer with its configuration.
func newImage(l *layer, m *payload.Manifest) (v1.Image, error) {
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), l)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = m.Target.OS, m.Target.Arch
	config.Config = v1.Config{
		Entrypoint: []string{unit.AppPath},
		Env: []string{
			"HOME=/tmp", "TMPDIR=/tmp", "XDG_CACHE_HOME=/tmp/.cache",
			"XDG_DATA_HOME=" + unit.StateHome, "XDG_STATE_HOME=" + unit.StateHome,
		},
		StopSignal: "SIGTERM",
		Labels:     labels(m),
	}
	for _, port := range m.Process.ExposedPorts {
		if config.Config.ExposedPorts == nil {
			config.Config.ExposedPorts = map[string]struct{}{}
		}
		config.Config.ExposedPorts[port] = struct{}{}
	}
	return mutate.ConfigFile(img, config)
}

// labels are those of the image in the app, and where that came from (image-spec,
// annotations.md).
func labels(m *payload.Manifest) map[string]string {
	l := maps.Clone(m.Process.Labels)
	if l == nil {
		l = map[string]string{}
	}
	if m.Image.Digest != "" {
		l["org.opencontainers.image.base.name"] = m.Image.Ref
		l["org.opencontainers.image.base.digest"] = m.Image.Digest
	}
	return l
}

// writeDocker writes what docker load reads, tagged with the file's name.
func writeDocker(w io.Writer, img v1.Image, base string) error {
	tag, err := name.NewTag(strings.ToLower(base) + ":latest")
	if err != nil {
		return fmt.Errorf("the image is called as its file, and %q cannot be an image's name: give the file another", base)
	}
	return tarball.Write(tag, img, w)
}

// writeLayout writes an OCI image layout as a tar.
func writeLayout(w io.Writer, img v1.Image, l *layer) error {
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	parsed, err := img.Manifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	target, err := img.ConfigFile()
	if err != nil {
		return err
	}
	index, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: types.OCIManifestSchema1, Size: int64(len(manifest)), Digest: digest,
			Platform:    &v1.Platform{OS: target.OS, Architecture: target.Architecture},
			Annotations: map[string]string{"org.opencontainers.image.ref.name": "latest"},
		}},
	})
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	small := func(name string, data []byte) error {
		return add(tw, name, int64(len(data)), bytes.NewReader(data))
	}
	if err := small("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := small("index.json", index); err != nil {
		return err
	}
	if err := small(blob(digest), manifest); err != nil {
		return err
	}
	if err := small(blob(parsed.Config.Digest), config); err != nil {
		return err
	}
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := add(tw, blob(l.digest), l.size, r); err != nil {
		return err
	}
	return tw.Close()
}

func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// add adds a file to an archive. The app that is being read may have changed:
// then it is too short or too long, which tar.Writer and this say.
func add(tw *tar.Writer, name string, size int64, r io.Reader) error {
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
		return err
	}
	n, err := io.Copy(tw, r)
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%s has %d bytes in place of %d: the app was changed while it was read", name, n, size)
	}
	return nil
}
