package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// tarOf makes a tar of name, body pairs.
func tarOf(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: pairs[i], Mode: 0o644, Size: int64(len(pairs[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(p)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, p []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(p, nil)
}

// layerOf makes a layer compressed with gzip.
func layerOf(t testing.TB, tar []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tar)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// zstdLayer is a layer stored with zstd, of which mutate learns the DiffID by
// asking.
type zstdLayer struct {
	v1.Layer
	diffID v1.Hash
}

func (z zstdLayer) DiffID() (v1.Hash, error) { return z.diffID, nil }

func zstdLayerOf(t testing.TB, tar []byte) v1.Layer {
	t.Helper()
	h, _, err := v1.SHA256(bytes.NewReader(tar))
	if err != nil {
		t.Fatal(err)
	}
	return zstdLayer{static.NewLayer(zstdOf(t, tar), types.OCILayerZStd), h}
}

func plainLayerOf(t testing.TB, tar []byte) v1.Layer {
	t.Helper()
	return static.NewLayer(tar, types.OCIUncompressedLayer)
}

// imageOf makes an image for linux/arch.
func imageOf(t testing.TB, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch, Config: v1.Config{
		Entrypoint: []string{"/bin/server"}, Cmd: []string{"--port", "80"}, Env: []string{"A=b", "PATH=/bin"}, WorkingDir: "/srv",
		User: "app:1000", ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGQUIT",
		Labels: map[string]string{"made": "by hand"}, Volumes: map[string]struct{}{"/data": {}},
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/bin/check"}, Interval: 5 * time.Second, Retries: 2},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(mutate.MediaType(img, types.OCIManifestSchema1), layers...); err != nil {
		t.Fatal(err)
	}
	return img
}

// sample is an image with a layer of each compression, and what is in them.
func sample(t testing.TB, arch string) (v1.Image, [][]byte) {
	tars := [][]byte{tarOf(t, "etc/os", arch), tarOf(t, "bin/server", strings.Repeat("code ", 100000)), tarOf(t, "plain", strings.Repeat("p", 5000))}
	return imageOf(t, arch, layerOf(t, tars[0]), zstdLayerOf(t, tars[1]), plainLayerOf(t, tars[2])), tars
}

func digestOf(t testing.TB, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// checkImage opens source and compares contents and configuration.
func checkImage(t *testing.T, source string, opts Options, digest string, tars [][]byte) {
	t.Helper()
	img, err := Open(context.Background(), source, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if img.Digest != digest {
		t.Errorf("digest %s, want %s", img.Digest, digest)
	}
	if key, err := img.Key(); err != nil || key != digest {
		t.Errorf("key %s (%v), want the digest", key, err)
	}
	if img.Arch != "amd64" || img.Dir != "" || img.Ready != nil {
		t.Errorf("arch %s, dir %q, ready %v", img.Arch, img.Dir, img.Ready)
	}
	got, _ := json.Marshal(img.Config)
	want := `{"Entrypoint":["/bin/server"],"Cmd":["--port","80"],"Env":["A=b","PATH=/bin"],"WorkingDir":"/srv","User":"app:1000",` +
		`"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT","Labels":{"made":"by hand"},"Volumes":{"/data":{}},` +
		`"Healthcheck":{"Test":["CMD","/bin/check"],"Interval":5000000000,"Retries":2}}`
	if string(got) != want {
		t.Errorf("config\n got %s\nwant %s", got, want)
	}
	checkLayers(t, img, tars)
}

func checkLayers(t *testing.T, img *Image, tars [][]byte) {
	t.Helper()
	if len(img.Layers) != len(tars) {
		t.Fatalf("%d layers, want %d", len(img.Layers), len(tars))
	}
	for i, l := range img.Layers {
		r, err := l.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("layer %d: %v", i, err)
		}
		if !bytes.Equal(got, tars[i]) {
			t.Errorf("layer %d: %d bytes that differ from the %d given", i, len(got), len(tars[i]))
		}
		if err := r.Close(); err != nil {
			t.Errorf("close layer %d: %v", i, err)
		}
		if ra, ok := r.(io.ReaderAt); ok { // still good after Close
			p := make([]byte, 512)
			if _, err := ra.ReadAt(p, 0); err != nil || !bytes.Equal(p, tars[i][:512]) {
				t.Errorf("layer %d in place: %v", i, err)
			}
		}
	}
}

// write puts data in a file of the test.
func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// tarDir makes a tar of the regular files under dir.
func tarDir(t testing.TB, dir string) []byte {
	t.Helper()
	var pairs []string
	err := filepath.Walk(dir, func(p string, fi os.FileInfo, err error) error {
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		pairs = append(pairs, filepath.ToSlash(rel), string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t, pairs...)
}

// fails opens source and checks that the error is one sentence with all of
// want.
func fails(t *testing.T, source string, opts Options, want ...string) {
	t.Helper()
	img, err := Open(context.Background(), source, opts)
	if err == nil {
		for _, l := range img.Layers {
			var r io.ReadCloser
			if r, err = l.Open(context.Background()); err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if err != nil {
				break
			}
		}
		img.Close()
	}
	if err == nil {
		t.Fatalf("%s: no error, want %q", source, want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v\nwant %q in it", source, err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
		t.Errorf("not one sentence: %v", err)
	}
}
