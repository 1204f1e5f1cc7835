package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// blobSource opens the files of an OCI layout by their path in it, such as
// "index.json" and "blobs/sha256/...".
type blobSource interface {
	blob(name string) (section, error)
}

// dirBlobs is an OCI layout in a directory.
type dirBlobs struct {
	img *Image
	dir string
}

func (d *dirBlobs) blob(name string) (section, error) {
	f, err := os.Open(filepath.Join(d.dir, filepath.FromSlash(name)))
	if err != nil {
		return section{}, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err != nil {
		f.Close()
		return section{}, err
	}
	d.img.onClose(f)
	return section{io.NewSectionReader(f, 0, fi.Size())}, nil
}

const (
	annotationRef       = "org.opencontainers.image.ref.name"
	annotationImageName = "io.containerd.image.name" // the full reference, by containerd and docker save

	maxIndexDepth = 4
)

// openLayout opens the image in an OCI layout (image-spec, image-layout.md). If
// ref is "" there has to be just one, for one or several platforms.
func (i *Image) openLayout(ctx context.Context, src blobSource, ref string, opts Options) error {
	b, err := src.blob("index.json")
	if err != nil {
		return fmt.Errorf("it has no index.json, so it is no OCI layout: %w", err)
	}
	raw, err := readBlob(ctx, b, "index.json", b.Size(), "")
	if err != nil {
		return err
	}
	index, err := parseIndex(raw, "index.json")
	if err != nil {
		return err
	}
	list, err := oneImage(index.Manifests, ref)
	if err != nil {
		return err
	}
	return i.openIndex(ctx, src, list, opts, 0)
}

// oneImage reduces the entries of index.json to those of one image.
func oneImage(list []v1.Descriptor, ref string) ([]v1.Descriptor, error) {
	groups := map[string][]v1.Descriptor{}
	var names []string
	for _, d := range list {
		if isAttestation(d) {
			continue
		}
		name := d.Annotations[annotationImageName]
		if name == "" {
			name = d.Annotations[annotationRef]
		}
		if ref != "" && ref != name && ref != d.Annotations[annotationRef] && ref != d.Digest.String() {
			names = append(names, name)
			continue
		}
		if _, ok := groups[name]; !ok {
			names = append(names, name)
		}
		groups[name] = append(groups[name], d)
	}
	switch {
	case len(groups) == 1:
		for _, g := range groups {
			return g, nil
		}
	case len(groups) == 0 && ref == "":
		return nil, fmt.Errorf("there is no image in it")
	case len(groups) == 0:
		return nil, fmt.Errorf("there is no image called %q in it, there are %s", ref, listNames(names))
	}
	// Several names for one image are no choice.
	var first v1.Descriptor
	same := true
	for _, g := range groups {
		if first.Digest == (v1.Hash{}) {
			first = g[0]
		}
		same = same && len(g) == 1 && g[0].Digest == first.Digest
	}
	if same {
		return []v1.Descriptor{first}, nil
	}
	return nil, fmt.Errorf("there are several images in it: %s; name one behind a colon, as in oci:PATH:NAME", listNames(names))
}

func listNames(names []string) string {
	sort.Strings(names)
	var out []string
	for i, n := range names {
		if i > 0 && n == names[i-1] {
			continue
		}
		if len(out) == 10 {
			out = append(out, "...")
			break
		}
		if n == "" {
			n = "one without a name"
		} else {
			n = fmt.Sprintf("%.100q", n)
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

func (i *Image) openIndex(ctx context.Context, src blobSource, list []v1.Descriptor, opts Options, depth int) error {
	if depth > maxIndexDepth {
		return fmt.Errorf("its indexes are nested more than %d deep", maxIndexDepth)
	}
	d, err := pick(list, opts.Arch)
	if len(list) == 1 {
		// What the one entry is for is also said further in.
		d, err = list[0], nil
	}
	if err != nil {
		return err
	}
	raw, err := i.document(ctx, src, d, "its manifest")
	if err != nil {
		return err
	}
	if isIndex(d.MediaType, raw) {
		index, err := parseIndex(raw, "its index")
		if err != nil {
			return err
		}
		return i.openIndex(ctx, src, index.Manifests, opts, depth+1)
	}
	m, err := parseManifest(raw)
	if err != nil {
		return err
	}
	config, err := i.document(ctx, src, m.Config, "its configuration")
	if err != nil {
		return err
	}
	i.Digest = d.Digest.String()
	return i.useManifest(m, config, opts, func(out *Layer, l v1.Descriptor) {
		out.open = func(context.Context) (blob, error) { return openBlob(src, l.Digest) }
	})
}

// useManifest sets configuration and layers; source tells a layer how to open
// itself.
func (i *Image) useManifest(m *v1.Manifest, config []byte, opts Options, source func(*Layer, v1.Descriptor)) error {
	c, err := parseConfig(config)
	if err != nil {
		return err
	}
	if err := i.setConfig(c, opts.Arch); err != nil {
		return err
	}
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return fmt.Errorf("its manifest lists %d layers but its configuration %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	for n, l := range m.Layers {
		if !strings.Contains(string(l.MediaType), "tar") && l.MediaType != "" {
			return fmt.Errorf("its layer %d is of type %.100q, which is no tar archive of a root filesystem", n+1, l.MediaType)
		}
		if strings.HasSuffix(string(l.MediaType), "+encrypted") {
			return fmt.Errorf("its layer %d is encrypted", n+1)
		}
		layer := &Layer{
			Name:   fmt.Sprintf("%d of %d (%s)", n+1, len(m.Layers), shortDigest(l.Digest)),
			Digest: l.Digest.String(),
			DiffID: c.RootFS.DiffIDs[n].String(),
			Size:   l.Size,
		}
		source(layer, l)
		i.Layers = append(i.Layers, layer)
	}
	return nil
}

func shortDigest(h v1.Hash) string {
	if len(h.Hex) > 12 {
		return h.Hex[:12]
	}
	return h.Hex
}

// document reads a manifest, an index or a configuration and checks its digest.
func (i *Image) document(ctx context.Context, src blobSource, d v1.Descriptor, what string) ([]byte, error) {
	if len(d.Data) > 0 {
		return readBlob(ctx, bytes.NewReader(d.Data), what, d.Size, d.Digest.String())
	}
	b, err := openBlob(src, d.Digest)
	if err != nil {
		return nil, fmt.Errorf("%s is missing: %w", what, err)
	}
	return readBlob(ctx, b, what, d.Size, d.Digest.String())
}

func openBlob(src blobSource, h v1.Hash) (section, error) {
	// The digest becomes part of a path, so it must be one.
	if _, err := newHash(h.String()); err != nil {
		return section{}, err
	}
	b, err := src.blob("blobs/" + h.Algorithm + "/" + h.Hex)
	if os.IsNotExist(err) {
		return section{}, fmt.Errorf("there is no blob %s in it: %w", shortDigest(h), fs.ErrNotExist)
	}
	return b, err
}

func isIndex(mt types.MediaType, raw []byte) bool {
	if mt.IsIndex() {
		return true
	}
	if mt.IsImage() {
		return false
	}
	var probe struct {
		Manifests json.RawMessage `json:"manifests"`
	}
	return json.Unmarshal(raw, &probe) == nil && probe.Manifests != nil
}

func parseIndex(raw []byte, what string) (*v1.IndexManifest, error) {
	m := &v1.IndexManifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("%s is not an OCI index: %w", what, err)
	}
	return m, nil
}

func parseManifest(raw []byte) (*v1.Manifest, error) {
	m := &v1.Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("its manifest is damaged: %w", err)
	}
	if m.SchemaVersion != 0 && m.SchemaVersion != 2 {
		return nil, fmt.Errorf("its manifest is of version %d; push the image again with a current tool, which writes version 2", m.SchemaVersion)
	}
	if m.Config.Digest == (v1.Hash{}) {
		return nil, fmt.Errorf("its manifest names no configuration, so it is no container image")
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("its manifest lists %d layers, more than %d", len(m.Layers), maxLayers)
	}
	return m, nil
}

// maxLayers is far above what overlay file systems can mount (about 500).
const maxLayers = 4096

func parseConfig(raw []byte) (*v1.ConfigFile, error) {
	c := &v1.ConfigFile{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("its configuration is damaged: %w", err)
	}
	return c, nil
}
