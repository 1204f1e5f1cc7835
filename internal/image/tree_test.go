package image

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"bake/internal/rootfs"
)

// TestIntoTree goes the whole way, from each kind of source to a filesystem
// image: the same layers give the same bytes wherever they come from.
func TestIntoTree(t *testing.T) {
	img := imageOf(t, "amd64",
		layerOf(t, tarOf(t, "etc/os", "one", "etc/gone", "x", "opt/a/b", "y")),
		zstdLayerOf(t, tarOf(t, "etc/.wh.gone", "", "bin/server", strings.Repeat("code ", 100000))),
		plainLayerOf(t, tarOf(t, "opt/.wh..wh..opq", "", "opt/c", strings.Repeat("c", 9000))))
	dir, p := newLayout(t)
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	host := testRegistry(t, nil)
	push(t, host+"/app", img)
	tag, _ := name.NewTag("app:1")
	var save bytes.Buffer
	if err := tarball.MultiWrite(map[name.Tag]v1.Image{tag: img}, &save); err != nil {
		t.Fatal(err)
	}
	var want []byte
	for _, tt := range []struct {
		source string
		opts   Options
	}{
		{dir, amd64},
		{write(t, "i.tar", tarDir(t, dir)), amd64},
		{write(t, "i.tar.gz", gzipOf(t, tarDir(t, dir))), amd64},
		{write(t, "d.tar", save.Bytes()), amd64},
		{host + "/app", amd64},
		{host + "/app", Options{Arch: "amd64", CacheDir: t.TempDir()}},
	} {
		got := pack(t, tt.source, tt.opts)
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s gives another image", tt.source)
		}
	}
}

// pack makes an EROFS image of source and checks what is in the tree.
func pack(t *testing.T, source string, opts Options) []byte {
	t.Helper()
	ctx := context.Background()
	img, err := Open(ctx, source, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	tree := rootfs.NewTree(rootfs.Options{TempDir: t.TempDir()})
	defer tree.Close()
	for _, l := range img.Layers {
		r, err := l.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.AddLayer(ctx, l.Name, r); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{"/etc/os": "one", "/opt/c": strings.Repeat("c", 9000), "/bin/server": strings.Repeat("code ", 100000)} {
		n, err := tree.Lookup(path)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		r, err := tree.Open(n)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != want {
			t.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
		r.Close()
	}
	for _, path := range []string{"/etc/gone", "/opt/a"} {
		if _, err := tree.Lookup(path); !os.IsNotExist(err) && !strings.Contains(err.Error(), "not exist") {
			t.Errorf("%s: %v", path, err)
		}
	}
	var b bytes.Buffer
	if _, err := rootfs.WriteEROFS(ctx, &b, tree, rootfs.EROFSOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBrokenDownload names the layer that couldn't be read.
func TestBrokenDownload(t *testing.T) {
	img, _ := sample(t, "amd64")
	m, _ := img.Manifest()
	host := testRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, m.Layers[1].Digest.String()) {
				w.Header().Set("Content-Length", "100000")
				w.Write(make([]byte, 10))
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	push(t, host+"/app", img)
	ctx := context.Background()
	opened, err := Open(ctx, host+"/app", amd64)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	tree := rootfs.NewTree(rootfs.Options{})
	defer tree.Close()
	l := opened.Layers[1]
	r, err := l.Open(ctx)
	if err == nil {
		err = tree.AddLayer(ctx, l.Name, r)
		r.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "layer 2 of 3 ("+m.Layers[1].Digest.Hex[:12]+")") {
		t.Errorf("a download that breaks off: %v", err)
	}
}
