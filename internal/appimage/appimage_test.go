package appimage

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"bake/internal/image"
	"bake/internal/payload"
)

func manifest() *payload.Manifest {
	return &payload.Manifest{
		Target:  payload.Target{OS: "linux", Arch: "arm64"},
		Image:   payload.Image{Ref: "docker.io/library/redis:7", Digest: "sha256:00"},
		Process: payload.Process{ExposedPorts: []string{"6379/tcp"}, Labels: map[string]string{"a": "b"}},
	}
}

// app makes a file that is no multiple of a block of the archive.
func app(t *testing.T, size int) (string, []byte) {
	t.Helper()
	data := bytes.Repeat([]byte("bake"), size/4+1)[:size]
	path := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path, data
}

// TestWrite reads both forms as bake reads images.
func TestWrite(t *testing.T) {
	for _, size := range []int{0, 1, 512, 100_001} {
		path, data := app(t, size)
		for _, file := range []string{"redis.tar", "Redis-7.docker.tar"} {
			out := filepath.Join(t.TempDir(), file)
			if err := Write(t.Context(), out, path, manifest()); err != nil {
				t.Fatal(err)
			}
			img, err := image.Open(t.Context(), out, image.Options{Arch: "arm64"})
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			c := img.Config
			if img.Arch != "arm64" || !slices.Equal(c.Entrypoint, []string{"/app"}) || c.StopSignal != "SIGTERM" || c.Labels["a"] != "b" ||
				c.Labels["org.opencontainers.image.base.digest"] != "sha256:00" || !slices.Contains(c.Env, "XDG_DATA_HOME=/var/lib") {
				t.Errorf("%s: %+v", file, c)
			}
			if _, ok := c.ExposedPorts["6379/tcp"]; !ok || len(img.Layers) != 1 {
				t.Fatalf("%s: ports %v, %d layers", file, c.ExposedPorts, len(img.Layers))
			}
			entries(t, img, data)
		}
	}
}

// entries checks what is in the only layer.
func entries(t *testing.T, img *image.Image, app []byte) {
	t.Helper()
	r, err := img.Layers[0].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := map[string]int64{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h.Mode
		if h.Name != "app" {
			continue
		}
		if data, err := io.ReadAll(tr); err != nil || !bytes.Equal(data, app) {
			t.Fatalf("the app has %d bytes and another content: %v", len(data), err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the digest is checked at the end
		t.Fatal(err)
	}
	if len(got) != 4 || got["tmp/"] != 0o1777 || got["var/"] != 0o755 || got["var/lib/"] != 0o755 || got["app"] != 0o755 {
		t.Errorf("entries %v", got)
	}
}

// TestSameBytes is the same app at another place and time.
func TestSameBytes(t *testing.T) {
	for _, file := range []string{"a.tar", "a.docker.tar"} {
		var sums [2][sha256.Size]byte
		for i := range sums {
			path, _ := app(t, 3000)
			out := filepath.Join(t.TempDir(), file)
			if err := Write(t.Context(), out, path, manifest()); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			sums[i] = sha256.Sum256(data)
		}
		if sums[0] != sums[1] {
			t.Errorf("%s differs", file)
		}
	}
}

// TestChanged is an app that is replaced between the two times that it is read.
func TestChanged(t *testing.T) {
	path, _ := app(t, 3000)
	l, err := newLayer(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := newImage(l, manifest())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if err := writeLayout(io.Discard, img, l); err == nil {
		t.Error("a short app went unnoticed")
	}
}

func TestFailures(t *testing.T) {
	path, _ := app(t, 3000)
	out := filepath.Join(t.TempDir(), "a.tar")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, out, path, manifest()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := Write(t.Context(), out, filepath.Dir(path), manifest()); err == nil {
		t.Error("a folder went for an app")
	}
	if err := Write(t.Context(), filepath.Join(filepath.Dir(out), "@.docker.tar"), path, manifest()); err == nil {
		t.Error("a name that is none")
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
