package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMerge is the layer semantics of the OCI image specification (layer.md),
// by the names that are left.
func TestMerge(t *testing.T) {
	tests := []struct {
		name   string
		layers [][]entry
		want   string // names in the end
	}{
		{"parents are made", [][]entry{{file("a/b/c", "1")}}, "/a /a/b /a/b/c"},
		{"leading slash and dots", [][]entry{{file("/a", ""), file("./b", ""), file("c/./d", ""), file("c//e", ""), file("c/x/../f", "")}}, "/a /b /c /c/d /c/e /c/f"},
		{"a whiteout hides a file", [][]entry{{file("a", ""), file("b", "")}, {file(".wh.a", "")}}, "/b"},
		{"a whiteout hides a directory", [][]entry{{file("d/a", ""), file("d/e/b", ""), file("x", "")}, {file(".wh.d", "")}}, "/x"},
		{"a whiteout of nothing", [][]entry{{file("a", "")}, {file(".wh.b", ""), file("no/such/.wh.dir", "")}}, "/a"},
		{"a whiteout spares its own layer, before", [][]entry{{file("a", "")}, {file(".wh.a", ""), file("a", "")}}, "/a"},
		{"a whiteout spares its own layer, after", [][]entry{{file("a", "")}, {file("a", ""), file(".wh.a", "")}}, "/a"},
		{"a directory replaced", [][]entry{{file("d/old", "")}, {file(".wh.d", ""), dir("d"), file("d/new", "")}}, "/d /d/new"},
		{"a directory replaced, whiteout last", [][]entry{{file("d/old", ""), file("d/s/old", "")}, {dir("d"), file("d/new", ""), file("d/s/new", ""), file(".wh.d", "")}}, "/d /d/new /d/s /d/s/new"},
		{"opaque first", [][]entry{{file("d/old", ""), file("d/s/old", "")}, {dir("d"), file("d/.wh..wh..opq", ""), file("d/new", "")}}, "/d /d/new"},
		{"opaque last", [][]entry{{file("d/old", ""), file("d/s/old", "")}, {dir("d"), file("d/s/new", ""), file("d/new", ""), file("d/.wh..wh..opq", "")}}, "/d /d/new /d/s /d/s/new"},
		{"opaque twice with a file between", [][]entry{{file("d/old", "")}, {file("d/.wh..wh..opq", ""), file("d/new", ""), file("d/.wh..wh..opq", "")}}, "/d /d/new"},
		{"opaque root", [][]entry{{file("a", ""), file("d/b", "")}, {file(".wh..wh..opq", ""), file("c", "")}}, "/c"},
		{"opaque of the base does nothing", [][]entry{{file("d/a", ""), file("d/.wh..wh..opq", "")}}, "/d /d/a"},
		{"opaque in a later layer again", [][]entry{{file("d/a", "")}, {file("d/.wh..wh..opq", ""), file("d/b", "")}, {file("d/.wh..wh..opq", ""), file("d/c", "")}}, "/d /d/c"},
		{"AUFS bookkeeping is dropped", [][]entry{{dir(".wh..wh.plnk"), file(".wh..wh.aufs", ""), file("a", "")}}, "/a"},
		{"a file replaces a directory", [][]entry{{file("d/a", "")}, {file("d", "")}}, "/d"},
		{"a directory replaces a file", [][]entry{{file("d", "")}, {dir("d"), file("d/a", "")}}, "/d /d/a"},
		{"a directory over a directory keeps what is in it", [][]entry{{file("d/a", "")}, {dir("d")}}, "/d /d/a"},
		{"a directory replaces a symlink", [][]entry{{file("t/a", ""), symlink("d", "t")}, {dir("d"), file("d/b", "")}}, "/d /d/b /t /t/a"},
		{"entries under a symlink go where it leads", [][]entry{{dir("usr/lib"), symlink("lib", "usr/lib")}, {file("lib/x", "")}}, "/lib /usr /usr/lib /usr/lib/x"},
		{"an absolute symlink stays inside", [][]entry{{symlink("etc", "/real")}, {file("etc/x", "")}}, "/etc /real /real/x"},
		{"a symlink cannot climb out", [][]entry{{symlink("up", "../../../..")}, {file("up/etc/passwd", "")}}, "/etc /etc/passwd /up"},
		{"a chain of symlinks", [][]entry{{symlink("a", "b"), symlink("b", "c/d"), dir("c/d")}, {file("a/x", "")}}, "/a /b /c /c/d /c/d/x"},
		{"a whiteout under a symlink", [][]entry{{file("t/a", ""), symlink("d", "t")}, {file("d/.wh.a", "")}}, "/d /t"},
		{"the last of equal entries", [][]entry{{file("a", "1"), dir("a"), file("a/b", ""), file("a", "2")}}, "/a"},
		{"the directory remembered went away", [][]entry{{file("d/a", ""), file("d", ""), dir("d"), file("d/b", "")}}, "/d /d/b"},
		{"a hard link to a hidden file keeps it", [][]entry{{file("a", "x"), hardlink("b", "a")}, {file(".wh.a", "")}}, "/b"},
		{"a hard link over its own directory", [][]entry{{file("d/a", "x"), hardlink("d", "d/a")}}, "/d"},
		{"a hard link to itself", [][]entry{{file("a", "x"), hardlink("a", "a")}}, "/a"},
		{"a git archive's header", [][]entry{{entry{name: "pax_global_header", typ: tar.TypeXGlobalHeader}, file("a", "")}}, "/a"},
		{"a name that only looks like a whiteout", [][]entry{{file("x.wh.a", ""), file(".whisky", "")}}, "/.whisky /x.wh.a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var layers [][]byte
			for _, l := range tt.layers {
				layers = append(layers, layer(t, l...))
			}
			if got := list(t, mustApply(t, layers...)).names(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestMetadata is what later layers do to what is known of a file.
func TestMetadata(t *testing.T) {
	base := layer(t, entry{name: "d/", typ: tar.TypeDir, mode: 0o700, uid: 5}, file("d/a", "old"), hardlink("d/b", "d/a"),
		entry{name: "./", typ: tar.TypeDir, mode: 0o711, uid: 9})
	top := layer(t, entry{name: "d/", typ: tar.TypeDir, mode: 0o1777, gid: 7}, entry{name: "d/a", body: "new", mode: 0o4711},
		entry{name: "ov", body: "x", xattr: map[string]string{"trusted.overlay.opaque": "y", "user.overlay.x": "y", "com.apple.x": "y", "user.kept": "y"}})
	tree := mustApply(t, base, top)
	if r := tree.Root(); r.Mode != ModeDir|0o711 || r.UID != 9 {
		t.Errorf("root is %o of %d", r.Mode, r.UID)
	}
	d := tree.Root().Child("d")
	if d.Mode != ModeDir|0o1777 || d.UID != 0 || d.GID != 7 {
		t.Errorf("d is %o %d:%d, want the upper layer's 1777 0:7", d.Mode, d.UID, d.GID)
	}
	for name, want := range map[string]string{"a": "new", "b": "old"} {
		r, err := tree.Open(d.Child(name))
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(r); string(b) != want {
			t.Errorf("d/%s holds %q, want %q", name, b, want)
		}
	}
	tree.index()
	if n := d.Child("a"); n.nlink != 1 || n.Mode != ModeRegular|0o4711 {
		t.Errorf("d/a: %d links, mode %o", n.nlink, n.Mode)
	}
	ov := tree.Root().Child("ov")
	if len(ov.Xattrs) != 1 || ov.Xattrs[0].Name != "user.kept" {
		t.Errorf("attributes of ov: %q, want user.kept alone", ov.Xattrs)
	}
}

// TestHostile lists layers that are refused, with the words that tell why.
func TestHostile(t *testing.T) {
	name := func(n string) []byte { return layer(t, entry{name: n}) }
	patched := func(l []byte, off int, with string) []byte { // in the first header, checksum made good
		b := bytes.Clone(l)
		copy(b[off:], with)
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b[:512] {
			sum += int(c)
		}
		copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	ustar := func() []byte { // without a PAX header first
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatUSTAR})
		w.Close()
		return b.Bytes()
	}()
	loop := []entry{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}
	doubling := []entry{}
	deep := strings.Repeat("d/", 1000)
	doubling = append(doubling, dir(deep+"x"), symlink("s0", deep))
	for i := range 4 {
		doubling = append(doubling, dir(fmt.Sprintf("s%d/%sx", i, deep)), symlink(fmt.Sprintf("s%d", i+1), fmt.Sprintf("s%d/%s", i, deep)))
	}
	tests := []struct {
		name  string
		layer []byte
		want  string
	}{
		{"climbs out", name("../etc/passwd"), "climbs out"},
		{"climbs out late", name("a/../../b"), "climbs out"},
		{"is just dots", name(".."), "climbs out"},
		{"whiteout of dot dot", name("a/.wh..."), "names no file"},
		{"whiteout of nothing", name(".wh."), "names no file"},
		{"long name", name(strings.Repeat("n", 256)), "256 bytes long"},
		{"long name of a parent", name(strings.Repeat("n", 256) + "/x"), "256 bytes long"},
		{"long path", name(strings.Repeat("n/", 2048) + "x"), "4097 bytes long"},
		{"symlink loop", layer(t, loop...), "too many symbolic links"},
		{"too deep", layer(t, doubling...), "2048 directories deep"},
		{"beneath a file", layer(t, file("f", ""), file("f/x", "")), "not a directory"},
		{"beneath a device", layer(t, entry{name: "c", typ: tar.TypeChar}, file("c/x", "")), "not a directory"},
		{"hard link to nothing", layer(t, hardlink("a", "b")), "not in the image"},
		{"hard link out", layer(t, hardlink("a", "../b")), "climbs out"},
		{"hard link to a host path", layer(t, hardlink("a", "/etc/passwd")), "does not exist"},
		{"hard link to a directory", layer(t, dir("d"), hardlink("a", "d")), "is a directory"},
		{"hard link to the root", layer(t, hardlink("a", "/")), "not in the image"},
		{"hard link through a file", layer(t, file("f", ""), hardlink("a", "f/x")), "not in the image"},
		{"the root as a file", name("./."), "can only be a directory"},
		{"major out of range", layer(t, entry{name: "c", typ: tar.TypeChar, major: 4096}), "out of range"},
		{"minor out of range", layer(t, entry{name: "c", typ: tar.TypeBlock, minor: 1 << 20}), "out of range"},
		{"owner out of range", layer(t, entry{name: "f", uid: 1 << 32}), "out of range"},
		{"owner reserved", layer(t, entry{name: "f", gid: 1<<32 - 1}), "out of range"},
		{"symlink to nothing", layer(t, symlink("s", "")), "without a target"},
		{"symlink too long", layer(t, symlink("s", strings.Repeat("x", 4096))), "4096 bytes long"},
		{"attributes too large", layer(t, entry{name: "f", xattr: map[string]string{"user.x": strings.Repeat("v", 65536)}}), "larger than 65536"},
		{"size beyond the end", patched(ustar, 124, "77777777777\x00"), "cut off"},
		{"size absurd", patched(ustar, 124, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), "more than the"},
		{"unknown type", patched(ustar, 156, "Q"), "not one that a root filesystem can have"},
		{"cut off", rich(t)[:100000], "cut off"},
		{"garbage", bytes.Repeat([]byte("garbage "), 1000), "not a tar archive"},
		{"garbage later", append(layer(t, file("a", ""))[:512], bytes.Repeat([]byte("garbage "), 1000)...), "damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(tt.layer), struct{ io.Reader }{bytes.NewReader(tt.layer)}} {
				tree := NewTree(Options{TempDir: t.TempDir()})
				err := tree.AddLayer(context.Background(), "sha256:1234", r)
				if err == nil {
					_, err = WriteEROFS(context.Background(), io.Discard, tree, EROFSOptions{})
				}
				tree.Close()
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want an error with %q", err, tt.want)
				}
				if err != nil && len(err.Error()) > 400 {
					t.Errorf("the error is %d bytes long", len(err.Error()))
				}
			}
		})
	}
}

// sparseTar makes an old GNU sparse file of the given size with one byte at its
// end.
func sparseTar(size string) []byte {
	h := make([]byte, 512)
	copy(h, "sparse")
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000001\x0000000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[386:], size+"\x00"+"00000000001\x00") // offset of the piece, its length
	copy(h[483:], size+"\x00")                   // real size: must be offset+1
	return h
}

func TestLimits(t *testing.T) {
	ctx := context.Background()
	big := layer(t, file("a", strings.Repeat("a", 100000)), file("b", strings.Repeat("b", 100000)))
	tree := NewTree(Options{MaxBytes: 150000, TempDir: t.TempDir()})
	defer tree.Close()
	if err := tree.AddLayer(ctx, "x", struct{ io.Reader }{bytes.NewReader(big)}); err == nil || !strings.Contains(err.Error(), "150000 bytes allowed") {
		t.Errorf("a layer over the limit: %v", err)
	}
	tree = NewTree(Options{MaxBytes: 150000, TempDir: t.TempDir()})
	defer tree.Close()
	for i := range 2 {
		err := tree.AddLayer(ctx, "x", bytes.NewReader(layer(t, file("a", strings.Repeat("a", 100000)))))
		if (err != nil) != (i == 1) {
			t.Errorf("layer %d of two that are over the limit together: %v", i, err)
		}
	}

	// A kilobyte of archive that claims a file of 64 GiB.
	h := sparseTar("00000000000")
	copy(h[386:], []byte("\x80\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00"+"00000000001\x00"))
	copy(h[483:], []byte("\x80\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x01"))
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	sparse := append(h, make([]byte, 512+1024)...)
	tree = NewTree(Options{MaxBytes: 1 << 30, TempDir: t.TempDir()})
	defer tree.Close()
	if err := tree.AddLayer(ctx, "x", bytes.NewReader(sparse)); err == nil || !strings.Contains(err.Error(), "68719476737 bytes") {
		t.Errorf("a sparse file over the limit: %v", err)
	}

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := NewTree(Options{}).AddLayer(cancelled, "x", bytes.NewReader(big)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestSpoolLeavesNothing checks that no name is left in the temporary directory
// while the tree still works.
func TestSpoolLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	tree := NewTree(Options{TempDir: tmp})
	if err := tree.AddLayer(context.Background(), "x", struct{ io.Reader }{bytes.NewReader(rich(t))}); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("%d files in the temporary directory", len(left))
	}
	want := list(t, mustApply(t, rich(t)))
	want.diff(t, list(t, tree))
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
}

func TestLookup(t *testing.T) {
	tree := mustApply(t, layer(t, file("usr/bin/dash", "x"), symlink("bin", "usr/bin"), symlink("usr/bin/sh", "/bin/dash"), symlink("gone", "nowhere")))
	for _, p := range []string{"/bin/sh", "bin/sh", "usr/bin/../bin/dash", "/../bin/dash"} {
		n, err := tree.Lookup(p)
		if err != nil || !n.IsRegular() {
			t.Errorf("%s: %v, %v", p, n, err)
		}
	}
	if n, err := tree.Lookup("/"); err != nil || n != tree.Root() {
		t.Errorf("/: %v", err)
	}
	if _, err := tree.Lookup("/gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dangling link: %v", err)
	}
	if _, err := tree.Lookup("/bin/sh/x"); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("beneath a file: %v", err)
	}
}

func TestDigest(t *testing.T) {
	digest := func(entries ...entry) string {
		d, err := mustApply(t, layer(t, entries...)).Digest(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest(file("a", "x"), file("b", "y"))
	if got := digest(file("b", "y"), file("a", "x")); got != base {
		t.Error("the order of the entries changed the digest")
	}
	for name, got := range map[string]string{
		"contents": digest(file("a", "X"), file("b", "y")),
		"a name":   digest(file("c", "x"), file("b", "y")),
		"swapped":  digest(file("a", "y"), file("b", "x")),
		"mode":     digest(entry{name: "a", body: "x", mode: 0o600}, file("b", "y")),
		"owner":    digest(entry{name: "a", body: "x", uid: 1}, file("b", "y")),
		"time":     digest(entry{name: "a", body: "x", time: time.Unix(3, 0)}, file("b", "y")),
		"xattr":    digest(entry{name: "a", body: "x", xattr: map[string]string{"user.x": "1"}}, file("b", "y")),
		"a link":   digest(file("a", "x"), file("b", "y"), hardlink("c", "b")),
	} {
		if got == base {
			t.Errorf("%s changed and the digest didn't", name)
		}
	}
	if digest(file("a", "x"), file("b", "x")) == digest(file("a", "x"), hardlink("b", "a")) {
		t.Error("equal files and hard links have one digest")
	}
}

// FuzzLayer applies any bytes as a second layer: an error, or a tree that both
// writers take and that another reader finds again.
func FuzzLayer(f *testing.F) {
	f.Add(layer(f, file("a/b", "1"), symlink("c", "a"), hardlink("d", "c/b"), file("c/.wh.b", ""), file("a/.wh..wh..opq", "")))
	f.Add(layer(f, entry{name: "x", typ: tar.TypeChar, major: 1, minor: 2, xattr: map[string]string{"user.a": "b"}}))
	f.Add(layer(f, dir("d"), file("d", ""), symlink("l", "../../.."), file("l/l/l/x", "y")))
	f.Add(append(sparseTar("00000010000"), make([]byte, 1536)...))
	f.Add([]byte("garbage"))
	base := layer(f, file("a/b", "0"), file("a/c", "0"), symlink("s", "a"), dir("d/e/f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx := context.Background()
		var images [2]string
		for i, r := range []io.Reader{bytes.NewReader(data), struct{ io.Reader }{bytes.NewReader(data)}} {
			tree := NewTree(Options{MaxBytes: 8 << 20, TempDir: os.TempDir()})
			defer tree.Close()
			if err := tree.AddLayer(ctx, "base", bytes.NewReader(base)); err != nil {
				t.Fatal(err)
			}
			if err := tree.AddLayer(ctx, "fuzz", r); err != nil {
				continue
			}
			var img bytes.Buffer
			if _, err := WriteEROFS(ctx, &img, tree, EROFSOptions{}); err != nil {
				t.Fatalf("a tree that was taken can't be written as EROFS: %v", err)
			}
			images[i] = img.String()
			list(t, tree).diff(t, readEROFS(t, bytes.NewReader(img.Bytes())))
			if _, err := WriteSquashFS(ctx, &failWriter{1 << 40}, tree, SquashFSOptions{BlockSize: 4096, Workers: 1}); err != nil {
				t.Fatalf("a tree that was taken can't be written as squashfs: %v", err)
			}
		}
		if images[0] != images[1] {
			t.Error("a file and a stream of the same bytes give different images")
		}
	})
}
