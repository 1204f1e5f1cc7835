package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/erofs/go-erofs"
)

// writeEROFS writes tree to a file and returns its path.
func writeEROFS(t testing.TB, tree *Tree, opts EROFSOptions) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rootfs.erofs")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := WriteEROFS(context.Background(), f, tree, opts)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != res.Size || res.Size%erofsBlock != 0 {
		t.Errorf("the file has %d bytes, the result says %d", fi.Size(), res.Size)
	}
	return name
}

// listEROFS describes an image as go-erofs reads it.
func listEROFS(t *testing.T, name string) listing {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readEROFS(t, f)
}

func readEROFS(t *testing.T, r io.ReaderAt) listing {
	t.Helper()
	img, err := erofs.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	out := listing{}
	groups := map[int64]string{}
	var walk func(p string, fi fs.FileInfo)
	walk = func(p string, fi fs.FileInfo) {
		st := fi.Sys().(*erofs.Stat)
		rel := strings.TrimPrefix(p, "/")
		if rel == "" {
			rel = "."
		}
		s := seen{mode: linuxMode(st.Mode), uid: st.UID, gid: st.GID, nlink: uint32(st.Nlink), sec: int64(st.Mtime), nsec: int(st.MtimeNs)}
		for k, v := range st.Xattrs {
			// go-erofs ends the ACLs' names, which have no second part, with a dot.
			s.xattrs = append(s.xattrs, Xattr{strings.TrimSuffix(k, "."), v})
		}
		if groups[st.Ino] == "" {
			groups[st.Ino] = p
		}
		s.group = groups[st.Ino]
		switch s.mode & ModeType {
		case ModeChar, ModeBlock:
			s.device = st.Rdev
		case ModeSymlink:
			if s.target, err = img.(interface{ ReadLink(string) (string, error) }).ReadLink(rel); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
		case ModeRegular:
			if s.data, err = fs.ReadFile(img, rel); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
		}
		out[p] = s.String()
		if !fi.IsDir() {
			return
		}
		entries, err := fs.ReadDir(img, rel)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			walk(path.Join(p, e.Name()), fi)
		}
	}
	root, err := fs.Stat(img, ".")
	if err != nil {
		t.Fatal(err)
	}
	walk("/", root)
	return out
}

// linuxMode turns a Go mode into st_mode.
func linuxMode(m fs.FileMode) uint32 {
	out := uint32(m.Perm())
	for _, b := range []struct {
		f fs.FileMode
		m uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.f != 0 {
			out |= b.m
		}
	}
	switch {
	case m.IsDir():
		return out | ModeDir
	case m&fs.ModeSymlink != 0:
		return out | ModeSymlink
	case m&fs.ModeCharDevice != 0:
		return out | ModeChar
	case m&fs.ModeDevice != 0:
		return out | ModeBlock
	case m&fs.ModeNamedPipe != 0:
		return out | ModeFIFO
	}
	return out | ModeRegular
}

func TestEROFSRoundTrip(t *testing.T) {
	tree := mustApply(t, rich(t), layer(t, file("bin/extra", "from a stream"), file(".wh.twin1", "")))
	want := list(t, tree)
	for _, build := range []int64{0, 1700000000} { // the second makes most inodes compact
		name := writeEROFS(t, tree, EROFSOptions{BuildTime: build})
		want.diff(t, listEROFS(t, name))
	}
}

func TestEROFSFsck(t *testing.T) {
	tool, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Skip("fsck.erofs (Debian's erofs-utils) is not installed")
	}
	tree := mustApply(t, rich(t))
	name := writeEROFS(t, tree, EROFSOptions{BuildTime: 1700000000})
	args := []string{name}
	dest := filepath.Join(t.TempDir(), "out")
	if os.Geteuid() == 0 { // it makes device nodes
		args = []string{"--extract=" + dest, name}
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, out)
	}
	if os.Geteuid() != 0 {
		return
	}
	// It doesn't restore hard links and attributes; contents are what it adds.
	tree.index()
	checked := 0
	var walk func(p string, n *Inode)
	walk = func(p string, n *Inode) {
		if n.IsRegular() {
			got, err := os.ReadFile(filepath.Join(dest, p))
			if err != nil {
				t.Fatal(err)
			}
			r, err := tree.Open(n)
			if err != nil {
				t.Fatal(err)
			}
			want, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: contents differ (%v)", p, err)
			}
			checked++
		}
		for _, name := range n.Names() {
			walk(path.Join(p, name), n.Child(name))
		}
	}
	walk("/", tree.root)
	if checked < 700 {
		t.Errorf("only %d files were compared", checked)
	}
}

// TestEROFSEmpty writes the smallest tree there is.
func TestEROFSEmpty(t *testing.T) {
	tree := mustApply(t)
	name := writeEROFS(t, tree, EROFSOptions{})
	list(t, tree).diff(t, listEROFS(t, name))
}

// TestEROFSHoles stores a file that is mostly nothing as chunks.
func TestEROFSHoles(t *testing.T) {
	body := bytes.Repeat([]byte{0}, 40<<20)
	copy(body[7<<20:], "in the middle")
	body = append(body, "end"...)
	tree := mustApply(t, layer(t, file("lastlog", string(body)), file("faillog", string(body)), file("full", strings.Repeat("z", 17<<20))))
	want := list(t, tree)
	name := writeEROFS(t, tree, EROFSOptions{})
	want.diff(t, listEROFS(t, name))
	if fi, _ := os.Stat(name); fi.Size() > 18<<20 {
		t.Errorf("the image has %d bytes; the zeros were stored", fi.Size())
	}
	if tool, err := exec.LookPath("fsck.erofs"); err == nil {
		if out, err := exec.Command(tool, name).CombinedOutput(); err != nil {
			t.Errorf("fsck.erofs: %v\n%s", err, out)
		}
	}
}

// TestDeterministic compares images of one tree, of its entries in another
// order, and of the same files in another division into layers.
func TestDeterministic(t *testing.T) {
	one := []entry{dir("d"), file("d/a", strings.Repeat("a", 5000)), file("b", "b"), hardlink("c", "b"), symlink("l", "b"),
		entry{name: "x", body: "x", xattr: map[string]string{"user.1": "1", "user.2": "2", "user.3": "3"}}}
	two := []entry{one[5], one[0], one[4], one[2], one[1], hardlink("c", "b")}
	trees := map[string]*Tree{
		"once":          mustApply(t, layer(t, one...)),
		"again":         mustApply(t, layer(t, one...)),
		"reordered":     mustApply(t, layer(t, two...)),
		"in two layers": mustApply(t, layer(t, one[0], one[2], one[3], file("gone", "x")), layer(t, one[1], one[4], one[5], file(".wh.gone", ""))),
	}
	want := map[string][]byte{}
	for name, tree := range trees {
		for kind, write := range writers() {
			img := write(t, tree)
			if want[kind] == nil {
				want[kind] = img
			}
			if !bytes.Equal(img, want[kind]) {
				t.Errorf("%s, %s: the bytes differ", kind, name)
			}
		}
	}
}

// writers are both ways to write a tree; squashfs with several numbers of
// workers, which must not show.
func writers() map[string]func(testing.TB, *Tree) []byte {
	return map[string]func(testing.TB, *Tree) []byte{
		"erofs": func(t testing.TB, tree *Tree) []byte {
			var b bytes.Buffer
			if _, err := WriteEROFS(context.Background(), &b, tree, EROFSOptions{}); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		},
		"squashfs": func(t testing.TB, tree *Tree) []byte {
			var first []byte
			for _, workers := range []int{1, 2, 5} {
				b, err := os.ReadFile(writeSquashFS(t, tree, SquashFSOptions{Workers: workers, BlockSize: 4096}))
				if err != nil {
					t.Fatal(err)
				}
				if first != nil && !bytes.Equal(b, first) {
					t.Errorf("the image depends on the number of workers (%d)", workers)
				}
				first = b
			}
			return first
		},
	}
}

// failWriter fails after n bytes, in either way of writing.
type failWriter struct{ n int64 }

func (f *failWriter) Write(p []byte) (int, error) {
	if f.n -= int64(len(p)); f.n < 0 {
		return 0, fmt.Errorf("disk full")
	}
	return len(p), nil
}

func (f *failWriter) WriteAt(p []byte, _ int64) (int, error) { return f.Write(p) }

func TestWriteErrors(t *testing.T) {
	tree := mustApply(t, rich(t))
	ctx := context.Background()
	for _, n := range []int64{0, 5000, 1 << 20} {
		if _, err := WriteEROFS(ctx, &failWriter{n}, tree, EROFSOptions{}); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("EROFS, full after %d bytes: %v", n, err)
		}
	}
	for _, n := range []int64{0, 5000, 20000} {
		if _, err := WriteSquashFS(ctx, &failWriter{n}, tree, SquashFSOptions{BlockSize: 4096}); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("squashfs, full after %d bytes: %v", n, err)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := WriteEROFS(cancelled, io.Discard, tree, EROFSOptions{}); err == nil {
		t.Error("EROFS: cancelled, and no error")
	}
	if _, err := WriteSquashFS(cancelled, &failWriter{1 << 40}, tree, SquashFSOptions{}); err == nil {
		t.Error("squashfs: cancelled, and no error")
	}
	if _, err := WriteSquashFS(ctx, &failWriter{1 << 40}, tree, SquashFSOptions{BlockSize: 5000}); err == nil {
		t.Error("squashfs: a block size of 5000, and no error")
	}
}

// TestTimes are times that a format can't hold as they are.
func TestTimes(t *testing.T) {
	tree := mustApply(t, layer(t, entry{name: "before", time: time.Unix(-5, 0)}, entry{name: "far", time: time.Unix(1<<33, 0)}))
	got := listSquashFS(t, writeSquashFS(t, tree, SquashFSOptions{}))
	if !strings.Contains(got["/before"], "time 0.") || !strings.Contains(got["/far"], "time 4294967295.") {
		t.Errorf("squashfs has no clamped times:\n%s\n%s", got["/before"], got["/far"])
	}
	got = listEROFS(t, writeEROFS(t, tree, EROFSOptions{}))
	list(t, tree).diff(t, got)
}

// TestACL keeps what EROFS has a place for, and says what squashfs hasn't.
func TestACL(t *testing.T) {
	acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x04\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	warned := ""
	tree := NewTree(Options{Warn: func(s string) { warned += s }})
	defer tree.Close()
	in := layer(t, entry{name: "d/", typ: tar.TypeDir, mode: 0o755, xattr: map[string]string{aclAccess: acl, aclDefault: acl, "user.x": "y"}})
	if err := tree.AddLayer(context.Background(), "x", bytes.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	list(t, tree).diff(t, listEROFS(t, writeEROFS(t, tree, EROFSOptions{})))
	if warned != "" {
		t.Errorf("EROFS warned: %s", warned)
	}
	got := listSquashFS(t, writeSquashFS(t, tree, SquashFSOptions{}))
	if !strings.Contains(got["/d"], `[{"x" "y"}]`) || !strings.Contains(warned, "2 are left out") {
		t.Errorf("squashfs has %s; warned %q", got["/d"], warned)
	}
}

// TestWorkers compares images of a tree with many blocks, some of which don't
// compress.
func TestWorkers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var entries []entry
	for i := range 60 {
		b := make([]byte, 1000*i)
		for j := range b {
			b[j] = byte(rng.IntN(1 + i*4))
		}
		entries = append(entries, file(fmt.Sprint(i), string(b)))
	}
	tree := mustApply(t, layer(t, entries...))
	if img := writers()["squashfs"](t, tree); len(img) < 1<<20 {
		t.Errorf("the image has only %d bytes", len(img))
	}
	lesser(t, tree).diff(t, listSquashFS(t, writeSquashFS(t, tree, SquashFSOptions{BlockSize: 4096})))
}
