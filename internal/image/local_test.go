package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

var amd64 = Options{Arch: "amd64"}

func newLayout(t testing.TB) (string, layout.Path) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	return dir, p
}

func TestOCILayout(t *testing.T) {
	img, tars := sample(t, "amd64")
	dir, p := newLayout(t)
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	archive := tarDir(t, dir)
	for name, source := range map[string]string{
		"a directory":       dir,
		"prefix":            "oci:" + dir,
		"a tar":             write(t, "image.tar", archive),
		"a tar by prefix":   "oci-archive:" + write(t, "image.tar", archive),
		"a tar with gzip":   write(t, "image.tgz", gzipOf(t, archive)),
		"a tar with zstd":   write(t, "image.tzst", zstdOf(t, archive)),
		"no name to tell":   write(t, "image", archive),
		"a colon in a path": write(t, "image:1.tar", archive),
	} {
		t.Run(name, func(t *testing.T) { checkImage(t, source, amd64, digestOf(t, img), tars) })
	}
	t.Run("another architecture", func(t *testing.T) {
		fails(t, dir, Options{Arch: "arm64"}, "is for linux/amd64", "not for linux/arm64", "--arch amd64")
	})
}

func TestOCILayoutMany(t *testing.T) {
	amd, amdTars := sample(t, "amd64")
	arm, _ := sample(t, "arm64")
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	nested, p := newLayout(t)
	if err := p.AppendIndex(index, layout.WithAnnotations(map[string]string{annotationRef: "1.0"})); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{nested, "oci:" + nested, "oci:" + nested + ":1.0"} {
		checkImage(t, source, amd64, digestOf(t, amd), amdTars)
	}
	fails(t, "oci:"+nested+":2.0", amd64, `no image called "2.0"`, `"1.0"`)

	flat, p := newLayout(t) // as "skopeo copy --all" of several images
	for name, img := range map[string]v1.Image{"one": amd, "two": arm} {
		if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{annotationRef: name})); err != nil {
			t.Fatal(err)
		}
	}
	fails(t, flat, amd64, "several images", `"one", "two"`, "oci:PATH:NAME")
	checkImage(t, "oci:"+flat+":one", amd64, digestOf(t, amd), amdTars)
	checkImage(t, "oci:"+flat+":"+digestOf(t, amd), amd64, digestOf(t, amd), amdTars)
	checkImage(t, "oci-archive:"+write(t, "a:b.tar", tarDir(t, flat))+":one", amd64, digestOf(t, amd), amdTars)
	fails(t, "oci:"+flat+":two", amd64, "is for linux/arm64")

	emptyDir, _ := newLayout(t)
	fails(t, emptyDir, amd64, "no image in it")
}

func TestDockerArchive(t *testing.T) {
	tars := [][]byte{tarOf(t, "a", "1"), tarOf(t, "b", strings.Repeat("2", 100000))}
	img := imageOf(t, "amd64", layerOf(t, tars[0]), layerOf(t, tars[1]))
	other := imageOf(t, "arm64", layerOf(t, tars[1]))
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	tag := func(s string) name.Tag {
		n, err := name.NewTag(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var one, two bytes.Buffer
	if err := tarball.Write(tag("example.org/one:1"), img, &one); err != nil {
		t.Fatal(err)
	}
	if err := tarball.MultiWrite(map[name.Tag]v1.Image{tag("example.org/one:1"): img, tag("example.org/two:latest"): other}, &two); err != nil {
		t.Fatal(err)
	}
	both := write(t, "both.tar", two.Bytes())
	for name, source := range map[string]string{
		"plain":      write(t, "one.tar", one.Bytes()),
		"prefix":     "docker-archive:" + write(t, "one.tar", one.Bytes()),
		"gzip":       write(t, "one.tar.gz", gzipOf(t, one.Bytes())),
		"one of two": "docker-archive:" + both + ":example.org/one:1",
	} {
		t.Run(name, func(t *testing.T) { checkImage(t, source, amd64, id.String(), tars) })
	}
	fails(t, both, amd64, "several images", `"example.org/one:1"`, "docker-archive:PATH:NAME")
	fails(t, "docker-archive:"+both+":example.org/two", amd64, "is for linux/arm64")
	fails(t, "docker-archive:"+both+":x", amd64, `no image called "x"`)
	fails(t, "oci-archive:"+both, amd64, "no OCI archive")
	fails(t, "docker-archive:"+write(t, "r.tar", tars[0]), amd64, "no docker-archive")
}

// TestOldDockerArchive has uncompressed layers, one of them a link to the
// other, as Docker before 25 wrote them.
func TestOldDockerArchive(t *testing.T) {
	layer := tarOf(t, "file", strings.Repeat("x", 3000))
	sum, _, _ := v1.SHA256(bytes.NewReader(layer))
	config := `{"os":"linux","architecture":"amd64","config":{"Cmd":["x"]},"rootfs":{"type":"layers","diff_ids":["` + sum.String() + `","` + sum.String() + `"]}}`
	build := func(config, second string) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		put := func(h *tar.Header, body string) {
			h.Mode, h.Size = 0o644, int64(len(body))
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, body)
		}
		a, c := strings.Repeat("a", 64), strings.Repeat("c", 64)
		put(&tar.Header{Name: a + "/layer.tar", Typeflag: tar.TypeReg}, string(layer))
		put(&tar.Header{Name: c + "/layer.tar", Typeflag: tar.TypeSymlink, Linkname: second}, "")
		put(&tar.Header{Name: "config.json", Typeflag: tar.TypeReg}, config)
		put(&tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg}, `[{"Config":"config.json","Layers":["`+a+`/layer.tar","`+c+`/layer.tar"]}]`)
		w.Close()
		return write(t, "old.tar", b.Bytes())
	}
	img, err := Open(context.Background(), build(config, "../"+strings.Repeat("a", 64)+"/layer.tar"), amd64)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	checkLayers(t, img, [][]byte{layer, layer})
	if r, _ := img.Layers[1].Open(context.Background()); r == nil {
		t.Error("no layer")
	} else if _, ok := r.(io.ReaderAt); !ok {
		t.Errorf("an uncompressed layer of an archive is not readable in place: %T", r)
	}

	fails(t, build(config, "layer.tar"), amd64, "leads nowhere")
	fails(t, build(config, "../../../etc/passwd"), amd64, "not exist")
	fails(t, build(strings.Replace(config, sum.Hex[:8], "00000000", 1), "../"+strings.Repeat("a", 64)+"/layer.tar"), amd64, "is damaged", "get the image again")
	fails(t, build(strings.Replace(config, `["sha256`, `["md5`, 1), "x"), amd64, "damaged")
	fails(t, build(strings.Replace(config, `,"`+sum.String()+`"]`, `]`, 1), "x"), amd64, "2 layers but its configuration 1")
	fails(t, build("{", "x"), amd64, "configuration is damaged")
	fails(t, build(strings.Replace(config, "linux", "windows", 1), "x"), amd64, "windows/amd64", "name another image")
}

func TestRootFS(t *testing.T) {
	root := tarOf(t, "./bin/sh", "x", "./etc/passwd", "root")
	for name, source := range map[string]string{
		"plain":                   write(t, "root.tar", root),
		"gzip":                    write(t, "root.tar.gz", gzipOf(t, root)),
		"zstd":                    write(t, "root.tar.zst", zstdOf(t, root)),
		"starts like an archive":  write(t, "r.tar", tarOf(t, "blobs/x", "1", "manifest.json/x", "2", "bin/sh", "3")),
		"starts alike, with gzip": write(t, "r.tar.gz", gzipOf(t, tarOf(t, "blobs/x", "1", "bin/sh", "3"))),
	} {
		t.Run(name, func(t *testing.T) {
			img, err := Open(context.Background(), source, amd64)
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			if img.Digest != "" || len(img.Layers) != 1 || img.Arch != "amd64" {
				t.Fatalf("digest %q, %d layers", img.Digest, len(img.Layers))
			}
			r, err := img.Layers[0].Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil || !isTarHeader(b[:512]) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			if _, ok := r.(io.Seeker); ok != (name == "plain" || strings.HasPrefix(name, "starts")) {
				t.Errorf("seekable: %v", ok)
			}
			r.Close()
			key, err := img.Key()
			if err != nil || !strings.HasPrefix(key, "file:") {
				t.Errorf("key %q, %v", key, err)
			}
			if err := os.WriteFile(source, append(b, 0), 0o644); err != nil {
				t.Fatal(err)
			}
			if again, _ := img.Key(); again == key {
				t.Error("the file changed and its key didn't")
			}
		})
	}
}

func TestDirAndReady(t *testing.T) {
	dir := t.TempDir()
	for _, source := range []string{dir, "dir:" + dir} {
		img, err := Open(context.Background(), source, amd64)
		if err != nil {
			t.Fatal(err)
		}
		if img.Dir != dir || img.Layers != nil || img.Ready != nil {
			t.Errorf("%s: %+v", source, img)
		}
		if key, err := img.Key(); key != "" || err != nil {
			t.Errorf("key of a directory: %q, %v", key, err)
		}
	}
	layoutDir, _ := newLayout(t)
	if img, err := Open(context.Background(), "dir:"+layoutDir, amd64); err != nil || img.Dir != layoutDir {
		t.Errorf("dir: on a layout: %v", err)
	}
	super := func(off int, magic ...byte) []byte {
		b := make([]byte, 8192)
		copy(b[off:], magic)
		return b
	}
	for want, head := range map[string][]byte{
		"squashfs": super(0, 'h', 's', 'q', 's'),
		"erofs":    super(1024, 0xe2, 0xe1, 0xf5, 0xe0),
		"ext4":     super(1080, 0x53, 0xef),
	} {
		img, err := Open(context.Background(), write(t, "fs.img", head), amd64)
		if err != nil || img.Ready == nil || img.Ready.Type != want {
			t.Errorf("%s: %+v, %v", want, img, err)
			continue
		}
		if key, err := img.Key(); err != nil || key == "" {
			t.Errorf("%s: key %q, %v", want, key, err)
		}
	}
	// A tar that holds a filesystem image at its very start is still a tar.
	if img, err := Open(context.Background(), write(t, "t.tar", tarOf(t, "x", string(super(1080-512, 0x53, 0xef)))), amd64); err != nil || len(img.Layers) != 1 {
		t.Errorf("a tar with ext4's magic: %+v, %v", img, err)
	}
}

func TestLocalErrors(t *testing.T) {
	dir := t.TempDir()
	fails(t, filepath.Join(dir, "none"), amd64, "no such file or directory")
	fails(t, "./none.tar", amd64, "no such file or directory")
	fails(t, "rootfs.tar", amd64, "no such file or directory")
	fails(t, "oci:"+filepath.Join(dir, "none")+":tag", amd64, "no such file or directory")
	fails(t, "", amd64, "no source is given", "docker.io/library/alpine")
	fails(t, "UPPER CASE", amd64, "no such file or directory", "name of an image")
	fails(t, "docker://UPPER", amd64, "name of an image")
	fails(t, dir, Options{Arch: "riscv64"}, "riscv64", "--arch")
	fails(t, "oci:"+dir, amd64, "plain directory", "oci-layout")
	fails(t, "docker-archive:"+dir, amd64, "plain directory, not a tar")
	fails(t, "dir:"+write(t, "x.tar", tarOf(t, "a", "b")), amd64, "not a directory")
	fails(t, "/dev/null", amd64, "neither a regular file nor a directory")
	fails(t, write(t, "empty", nil), amd64, "is empty")
	fails(t, write(t, "garbage", bytes.Repeat([]byte("garbage "), 1000)), amd64, "none of the files bake can pack")
	fails(t, write(t, "short", []byte("x")), amd64, "none of the files bake can pack")
	fails(t, write(t, "empty.tar", make([]byte, 10240)), amd64, "tar archive is empty")
	fails(t, write(t, "empty.tar.gz", gzipOf(t, make([]byte, 10240))), amd64, "tar archive is empty")
	fails(t, write(t, "garbage.gz", gzipOf(t, bytes.Repeat([]byte("garbage "), 1000))), amd64, "no tar archive")
	fails(t, write(t, "cut.gz", gzipOf(t, tarOf(t, "bin/sh", strings.Repeat("x", 10000)))[:40]), amd64, "gzip")
	fails(t, write(t, "root.tar.xz", []byte("\xfd7zXZ\x00\x00\x04")), amd64, "unxz")
	fails(t, write(t, "root.tar.bz2", []byte("BZh91AY")), amd64, "bunzip2")
	fails(t, write(t, "bad.gz", []byte{0x1f, 0x8b, 8, 0xff, 0xff, 0xff}), amd64, "gzip")
	fails(t, write(t, "cut.tar", tarOf(t, "blobs/x", strings.Repeat("x", 10000))[:4000]), amd64, "cut off")
}

// TestDamagedLayout changes one thing of a layout.
func TestDamagedLayout(t *testing.T) {
	img, _ := sample(t, "amd64")
	manifest, _ := img.Manifest()
	raw, _ := img.RawManifest()
	blob := func(h v1.Hash) string { return filepath.Join("blobs", h.Algorithm, h.Hex) }
	digest, _ := img.Digest()
	tests := []struct {
		name, file string
		change     func([]byte) []byte // nil: remove
		want       []string
	}{
		{"no index", "index.json", nil, []string{"no index.json"}},
		{"index not JSON", "index.json", func([]byte) []byte { return []byte("{") }, []string{"not an OCI index"}},
		{"index huge", "index.json", func([]byte) []byte { return make([]byte, maxDocument+1) }, []string{"more than the"}},
		{"index with a path for a digest", "index.json", func(b []byte) []byte {
			return bytes.Replace(b, []byte(digest.Hex), []byte(strings.Repeat("../", 21)+"x"), 1)
		}, nil},
		{"manifest missing", blob(digest), nil, []string{"manifest is missing"}},
		{"manifest altered", blob(digest), func(b []byte) []byte { return bytes.Replace(raw, []byte("2"), []byte("3"), 1) }, []string{"manifest is damaged"}},
		{"config missing", blob(manifest.Config.Digest), nil, []string{"configuration is missing"}},
		{"config cut", blob(manifest.Config.Digest), func(b []byte) []byte { return b[:10] }, []string{"cut off"}},
		{"layer missing", blob(manifest.Layers[0].Digest), nil, []string{"layer 1 of 3", "no blob"}},
		{"layer altered", blob(manifest.Layers[2].Digest), func(b []byte) []byte { b[600] ^= 1; return b }, []string{"the layer is damaged", "get the image again"}},
		{"layer cut", blob(manifest.Layers[2].Digest), func(b []byte) []byte { return b[:2000] }, []string{"cut off"}},
		{"layer longer", blob(manifest.Layers[0].Digest), func(b []byte) []byte { return append(b, 0) }, []string{"longer"}},
		{"gzip altered", blob(manifest.Layers[0].Digest), func(b []byte) []byte { b[len(b)-9] ^= 1; return b }, []string{"uncompress (gzip)"}},
		{"zstd altered", blob(manifest.Layers[1].Digest), func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, []string{"uncompress (zstd)"}},
		{"layer garbage", blob(manifest.Layers[0].Digest), func(b []byte) []byte { return bytes.Repeat([]byte{7}, len(b)) }, []string{"damaged"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, p := newLayout(t)
			if err := p.AppendImage(img); err != nil {
				t.Fatal(err)
			}
			f := filepath.Join(dir, tt.file)
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			os.Remove(f)
			if tt.change != nil {
				if err := os.WriteFile(f, tt.change(b), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			fails(t, dir, amd64, tt.want...)
		})
	}
}

// FuzzSniff looks at any bytes as a file.
func FuzzSniff(f *testing.F) {
	f.Add(tarOf(f, "a", "b"))
	f.Add(gzipOf(f, tarOf(f, "manifest.json", "[]")))
	f.Add(zstdOf(f, tarOf(f, "oci-layout", "{}", "index.json", `{"manifests":[]}`)))
	f.Add(tarOf(f, "manifest.json", `[{"Config":"c.json","Layers":["l.tar"]}]`, "c.json", `{"rootfs":{"diff_ids":["sha256:00"]}}`, "l.tar", "x"))
	super := make([]byte, 2048)
	binary.LittleEndian.PutUint32(super[1024:], 0xE0F5E1E2)
	f.Add(super)
	f.Add([]byte("hsqs"))
	f.Add([]byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, prefix := range []string{"", "oci-archive:", "docker-archive:"} {
			img, err := Open(context.Background(), prefix+path, amd64)
			if err != nil {
				continue
			}
			for _, l := range img.Layers {
				if r, err := l.Open(context.Background()); err == nil {
					io.Copy(io.Discard, io.LimitReader(r, 1<<24))
					r.Close()
				}
			}
			if err := img.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
}

// FuzzDocuments decodes any bytes as the documents of an image, without the
// digests that keep them from being altered.
func FuzzDocuments(f *testing.F) {
	img, _ := sample(f, "amd64")
	manifest, err := img.RawManifest()
	if err != nil {
		f.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"manifests":[{"digest":"sha256:`+strings.Repeat("0", 64)+`","size":1,"platform":{"os":"linux","architecture":"amd64"}},{"annotations":{"org.opencontainers.image.ref.name":"x"}}]}`), manifest, config)
	f.Add([]byte(`{"manifests":[{"platform":null},{"size":-1}]}`), []byte(`{"layers":[{"mediaType":"tar","size":-5}]}`), []byte(`{"rootfs":{"diff_ids":["sha256:"]}}`))
	f.Add([]byte(`{}`), []byte(`{"schemaVersion":1}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, index, manifest, config []byte) {
		if x, err := parseIndex(index, "index"); err == nil {
			for _, ref := range []string{"", "x"} {
				if list, err := oneImage(x.Manifests, ref); err == nil {
					pick(list, "amd64")
				}
			}
			pick(x.Manifests, "arm64")
		}
		m, err := parseManifest(manifest)
		if err != nil {
			return
		}
		i := &Image{}
		if err := i.useManifest(m, config, amd64, func(*Layer, v1.Descriptor) {}); err == nil && len(i.Layers) != len(m.Layers) {
			t.Errorf("%d layers of %d", len(i.Layers), len(m.Layers))
		}
	})
}
