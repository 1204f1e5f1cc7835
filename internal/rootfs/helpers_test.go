package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"
	"testing"
	"time"
)

// entry is one tar entry in a test; the zero type is a regular file.
type entry struct {
	name  string
	typ   byte
	body  string
	link  string
	mode  int64
	uid   int
	gid   int
	major int64
	minor int64
	time  time.Time
	xattr map[string]string
}

func file(name, body string) entry   { return entry{name: name, body: body} }
func dir(name string) entry          { return entry{name: name + "/", typ: tar.TypeDir, mode: 0o755} }
func symlink(name, to string) entry  { return entry{name: name, typ: tar.TypeSymlink, link: to} }
func hardlink(name, to string) entry { return entry{name: name, typ: tar.TypeLink, link: to} }

// layer makes a tar of entries.
func layer(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.typ, Linkname: e.link, Mode: e.mode, Uid: e.uid, Gid: e.gid,
			Devmajor: e.major, Devminor: e.minor, ModTime: e.time, Size: int64(len(e.body)), Format: tar.FormatPAX}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 0)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: h.Typeflag, PAXRecords: map[string]string{"comment": "a commit"}}
		}
		for k, v := range e.xattr {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords[paxXattr+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// apply makes a tree of layers. Every second one is given as a plain stream, so
// that both ways of holding contents are in every test.
func apply(t testing.TB, layers ...[]byte) (*Tree, error) {
	t.Helper()
	tree := NewTree(Options{TempDir: t.TempDir()})
	t.Cleanup(func() { tree.Close() })
	for i, l := range layers {
		var r io.Reader = bytes.NewReader(l)
		if i%2 == 1 {
			r = struct{ io.Reader }{r}
		}
		if err := tree.AddLayer(context.Background(), fmt.Sprint(i+1), r); err != nil {
			return nil, err
		}
	}
	return tree, nil
}

func mustApply(t testing.TB, layers ...[]byte) *Tree {
	t.Helper()
	tree, err := apply(t, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// listing maps each path to all that is known of the file, in one line.
type listing map[string]string

func (l listing) names() string {
	var names []string
	for n := range l {
		if n != "/" {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

func (l listing) diff(t *testing.T, got listing) {
	t.Helper()
	for p, want := range l {
		if got[p] != want {
			t.Errorf("%s:\n got %s\nwant %s", p, got[p], want)
		}
	}
	for p := range got {
		if _, ok := l[p]; !ok {
			t.Errorf("%s: is there but should not be", p)
		}
	}
}

// seen is what a reader of an image finds of one file.
type seen struct {
	mode, uid, gid, nlink uint32
	sec                   int64
	nsec                  int
	device                uint32
	target                string
	data                  []byte
	xattrs                []Xattr
	group                 string // the first path with the same inode
}

func (s seen) String() string {
	sortXattrs(s.xattrs)
	return fmt.Sprintf("%06o %d:%d links %d of %s time %d.%09d dev %x -> %q data %d %x xattrs %q",
		s.mode, s.uid, s.gid, s.nlink, s.group, s.sec, s.nsec, s.device, s.target, len(s.data), sha256.Sum256(s.data), s.xattrs)
}

// list describes a tree.
func list(t *testing.T, tree *Tree) listing {
	t.Helper()
	return listAs(t, tree, func(*seen) {})
}

// listAs describes a tree after edit took from each file what a reader of
// images can't tell.
func listAs(t *testing.T, tree *Tree, edit func(*seen)) listing {
	t.Helper()
	tree.index()
	out := listing{}
	groups := map[*Inode]string{}
	var walk func(p string, n *Inode)
	walk = func(p string, n *Inode) {
		s := seen{mode: n.Mode, uid: n.UID, gid: n.GID, nlink: n.nlink, sec: n.Mtime.Unix(), nsec: n.Mtime.Nanosecond(),
			target: n.Target, xattrs: append([]Xattr(nil), n.Xattrs...)}
		if groups[n] == "" {
			groups[n] = p
		}
		s.group = groups[n]
		if typ := n.Mode & ModeType; typ == ModeChar || typ == ModeBlock {
			s.device = encodeDevice(n.Major, n.Minor)
		}
		if n.IsRegular() {
			r, err := tree.Open(n)
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			if s.data, err = io.ReadAll(r); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			r.Close()
		}
		edit(&s)
		out[p] = s.String()
		for _, name := range n.Names() {
			walk(path.Join(p, name), n.Child(name))
		}
	}
	walk("/", tree.root)
	return out
}

// rich is a layer with one of everything that a file system can hold.
func rich(t testing.TB) []byte {
	long := strings.Repeat("n", 255)
	var many []entry
	many = append(many, dir("many"))
	for i := range 700 {
		many = append(many, file(fmt.Sprintf("many/%s-%04d", strings.Repeat("x", i%60), i), strings.Repeat("y", i*3)))
	}
	entries := append(many,
		entry{name: "./", typ: tar.TypeDir, mode: 0o755, uid: 0, time: time.Unix(1600000000, 5)},
		dir("bin"), dir("dev"), dir("empty"),
		entry{name: "bin/su", body: "#!", mode: 0o4755, uid: 0, gid: 12},
		entry{name: "bin/setgid", body: strings.Repeat("0123456789", 1000), mode: 0o2755, uid: 100000, gid: 4000000000},
		entry{name: "tmp/", typ: tar.TypeDir, mode: 0o1777},
		hardlink("bin/su2", "bin/su"), hardlink("empty/su3", "/bin/su2"),
		symlink("bin/sh", "dash"), symlink("long", strings.Repeat("t/", 2047)), symlink("abs", "/bin/su"),
		hardlink("sh-again", "bin/sh"),
		entry{name: "dev/null", typ: tar.TypeChar, major: 1, minor: 3, mode: 0o666},
		entry{name: "dev/big", typ: tar.TypeBlock, major: 4095, minor: 1048575, mode: 0o660, gid: 6},
		entry{name: "dev/fifo", typ: tar.TypeFifo, mode: 0o600},
		file("zero", ""), file("block", strings.Repeat("b", 4096)), file("almost", strings.Repeat("c", 4095)),
		file("over", strings.Repeat("d", 4097)), file("twin1", strings.Repeat("e", 9000)), file("twin2", strings.Repeat("e", 9000)),
		file("holes", strings.Repeat("\x00", 3<<20)+"end"), file("allzero", strings.Repeat("\x00", 1<<20)),
		file("latin\xe9\xff", "not UTF-8"), file("\x01 control\n", "odd"), file("!first", "before dot"), file("-dash", "before dot too"),
		file(long, "long name"), file("umlaut-ä", "utf-8"),
		entry{name: "caps", body: "x", xattr: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
		entry{name: "attrs/", typ: tar.TypeDir, mode: 0o700, xattr: map[string]string{"user.a": "1", "trusted.b": strings.Repeat("v", 3000), "user.empty": ""}},
		entry{name: "labelled1", body: strings.Repeat("l", 4000), xattr: map[string]string{"security.selinux": "system_u:object_r:etc_t:s0"}},
		entry{name: "labelled2", body: "l", xattr: map[string]string{"security.selinux": "system_u:object_r:etc_t:s0", "user.big": strings.Repeat("w", 9000)}},
		entry{name: "old", body: "o", time: time.Unix(1, 0)},
		entry{name: "epoch", body: "compact", time: time.Unix(0, 0)},
	)
	deep := ""
	for range 200 {
		deep += "d/"
	}
	return layer(t, append(entries, file(deep+"bottom", "deep"))...)
}
