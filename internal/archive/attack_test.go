package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An entry is one of an archive that nobody packed.
type entry struct {
	kind byte
	name string
	link string
	body string
	size int64 // if it is not that of body
	pax  map[string]string
	mode int64
}

func file(name, body string) entry   { return entry{kind: tar.TypeReg, name: name, body: body} }
func dir(name string) entry          { return entry{kind: tar.TypeDir, name: name} }
func symlink(name, to string) entry  { return entry{kind: tar.TypeSymlink, name: name, link: to} }
func hardlink(name, to string) entry { return entry{kind: tar.TypeLink, name: name, link: to} }

// write makes an archive. What the library refuses to write is written as far as
// it goes.
func write(entries []entry) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		mode := e.mode
		if mode == 0 {
			mode = 0o755
		}
		size := max(e.size, int64(len(e.body)))
		err := tw.WriteHeader(&tar.Header{
			Typeflag: e.kind, Name: e.name, Linkname: e.link, Size: size, Mode: mode,
			PAXRecords: e.pax, Format: tar.FormatPAX,
		})
		if err != nil {
			panic(fmt.Sprintf("%+v: %v", e, err))
		}
		_, _ = tw.Write([]byte(e.body))
	}
	_ = tw.Flush()
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// An arena is a destination between files that no archive may touch.
type arena struct {
	top, dst string
	before   map[string]string
}

func newArena(t testing.TB) *arena {
	t.Helper()
	top := t.TempDir()
	a := &arena{top: top, dst: filepath.Join(top, "dst")}
	for _, name := range []string{"dst", "dst/own", "beside"} {
		if err := os.Mkdir(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"secret", "beside/file", "dst/own/file"} {
		if err := os.WriteFile(filepath.Join(top, name), []byte("untouched"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"dst/out": "../beside", "dst/abs": top, "dst/toSecret": "../secret"} {
		if err := os.Symlink(to, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	a.before = a.outside(t)
	return a
}

// outside is what is there beside the destination.
func (a *arena) outside(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(a.top, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if file == a.dst {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if d.Type().IsRegular() {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			text += " " + string(b)
		}
		all[file] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (a *arena) check(t testing.TB) {
	t.Helper()
	after := a.outside(t)
	for name, text := range after {
		if a.before[name] != text {
			t.Errorf("outside of the destination, %s became %q, and was %q", name, text, a.before[name])
		}
	}
	if len(after) != len(a.before) {
		t.Errorf("outside of the destination are %v, and were %v", after, a.before)
	}
}

var attacks = map[string]struct {
	entries []entry
	words   string // of the error that an untrusted archive ends with; empty is none
	trusted string // of a trusted one, if different; "none" is none
}{
	"dotdot":             {entries: []entry{file("../x", "x")}, words: "leads out"},
	"dotdot inside":      {entries: []entry{file("own/../../x", "x")}, words: "leads out"},
	"dotdot dir":         {entries: []entry{dir("..")}, words: "leads out"},
	"absolute":           {entries: []entry{file("/own/x", "x")}},
	"absolute doubled":   {entries: []entry{file("//../x", "x")}, words: "leads out"},
	"through a symlink":  {entries: []entry{symlink("l", "../beside"), file("l/x", "x")}, words: "symbolic link", trusted: "escapes"},
	"through absolute":   {entries: []entry{symlink("l", "/tmp"), file("l/x", "x")}, words: "symbolic link", trusted: "escapes"},
	"through one there":  {entries: []entry{file("out/x", "x")}, words: "symbolic link", trusted: "escapes"},
	"over a symlink":     {entries: []entry{symlink("l", "../secret"), file("l", "x")}},
	"over one there":     {entries: []entry{file("toSecret", "x")}},
	"dir over a symlink": {entries: []entry{symlink("l", "../beside"), dir("l"), file("l/x", "x")}, words: "does not replace"},
	"dir over one there": {entries: []entry{dir("out")}, words: "does not replace"},
	"to the top":         {entries: []entry{symlink("own/l", ".."), file("own/l/x", "x")}, words: "symbolic link", trusted: "none"},
	"two links":          {entries: []entry{symlink("a", "own"), symlink("a/b", "../.."), file("a/b/x", "x")}, words: "symbolic link", trusted: "escapes"},
	"mode of a target":   {entries: []entry{{kind: tar.TypeSymlink, name: "l", link: "../secret", mode: 0o777}}},
	"file over a dir":    {entries: []entry{file("own", "x")}, words: "does not replace"},
	"link over a dir":    {entries: []entry{symlink("own", "../beside"), file("own/x", "x")}, words: "does not replace"},
	"hard link out":      {entries: []entry{hardlink("h", "../secret")}, words: "leads out"},
	"hard link absolute": {entries: []entry{hardlink("h", "/etc/passwd")}, words: "not in it", trusted: "no such file"},
	"hard link there":    {entries: []entry{hardlink("h", "own/file"), file("h", "x")}, words: "not in it", trusted: "none"},
	"hard link by link":  {entries: []entry{symlink("l", "../beside"), hardlink("h", "l/file")}, words: "not in it", trusted: "escapes"},
	"hard link to link":  {entries: []entry{symlink("l", "../secret"), hardlink("h", "l"), file("h", "x")}, words: "not in it", trusted: "none"},
	"NUL link":           {entries: []entry{{kind: tar.TypeReg, name: "a", body: "x"}, hardlink("h", "a")}},
	"deep":               {entries: []entry{file(strings.Repeat("d/", 300)+"f", "x")}},
	"long name":          {entries: []entry{file(strings.Repeat("n", 300), "x")}, words: "name too long"},
	"longer name":        {entries: []entry{file(strings.Repeat("n/", 3000)+"n", "x")}, words: "too long"},
	"long target":        {entries: []entry{symlink("l", strings.Repeat("t", 5000))}, words: "too long"},
	"huge":               {entries: []entry{{kind: tar.TypeReg, name: "huge", body: "x", size: 8 << 30}}, words: "middle of a file"},
	"hugest":             {entries: []entry{{kind: tar.TypeReg, name: "huge", body: "x", size: math.MaxInt64}}, words: "middle of a file"},
	"attributes":         {entries: []entry{{kind: tar.TypeReg, name: "x", pax: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.": "y", "SCHILY.xattr.user.a": strings.Repeat("v", 10000)}}}},
	"unknown kind":       {entries: []entry{{kind: 'Z', name: "z"}, file("x", "x")}},
}

func TestAttacks(t *testing.T) {
	for name, attack := range attacks {
		for _, untrusted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/untrusted=%v", name, untrusted), func(t *testing.T) {
				a := newArena(t)
				err := Unpack(t.Context(), NewReader(bytes.NewReader(write(attack.entries))), a.dst, UnpackOptions{Untrusted: untrusted})
				a.check(t)
				words := attack.words
				if !untrusted && attack.trusted != "" {
					words = strings.TrimPrefix(attack.trusted, "none")
				}
				switch {
				case words == "" && err != nil:
					t.Errorf("it ended with %v", err)
				case words != "" && (err == nil || !strings.Contains(err.Error(), words)):
					t.Errorf("it ended with %v, want %q", err, words)
				}
			})
		}
	}
}

// An archive that is renamed brings nothing beside what it is called.
func TestAttacksOnBase(t *testing.T) {
	for _, entries := range [][]entry{
		{dir("b"), file("c", "x")},
		{dir("b"), file("b2/x", "x")},
		{file("x", "x")},
		{dir(".")},
		{symlink("b", "."), file("b/x", "x")},
		{symlink("b", "own"), file("b/x", "x")},
		{dir("b"), symlink("b/l", ".."), file("b/l/x", "x")},
		{dir("b"), hardlink("b/h", "own/file")},
	} {
		a := newArena(t)
		err := Unpack(t.Context(), NewReader(bytes.NewReader(write(entries))), a.dst, UnpackOptions{Base: "b", Name: "new", Untrusted: true})
		if err == nil {
			t.Errorf("%+v is unpacked", entries)
		}
		a.check(t)
		list, err := os.ReadDir(a.dst)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			switch f.Name() {
			case "own", "out", "abs", "toSecret", "new":
			default:
				t.Errorf("%+v makes %s", entries, f.Name())
			}
		}
		if b, _ := os.ReadFile(filepath.Join(a.dst, "own/file")); string(b) != "untouched" {
			t.Errorf("%+v writes %q", entries, b)
		}
		if list, _ := os.ReadDir(filepath.Join(a.dst, "own")); len(list) != 1 {
			t.Errorf("%+v: beside what it is for are %v", entries, list)
		}
	}
}

// GNU tar's formats for holes make a file of any size of a few bytes: in each
// archive here is one of 1 GiB (`tar -S`).
func TestHoles(t *testing.T) {
	files, err := filepath.Glob("testdata/holes-*.tar.gz")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		zr, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		dst := t.TempDir()
		err = Unpack(t.Context(), NewReader(zr), dst, UnpackOptions{Untrusted: true})
		if err == nil || !strings.Contains(err.Error(), "holes") {
			t.Errorf("%s: it ended with %v", file, err)
		}
		if list, _ := os.ReadDir(dst); len(list) != 0 {
			t.Errorf("%s leaves %v", file, list)
		}
	}
}

// Without owners an untrusted archive lends nobody's rights.
func TestSetUserID(t *testing.T) {
	entries := []entry{
		{kind: tar.TypeReg, name: "su", body: "x", mode: 0o6755},
		{kind: tar.TypeDir, name: "d", mode: 0o7777},
	}
	for _, c := range []struct {
		o       UnpackOptions
		su, dir fs.FileMode
	}{
		{UnpackOptions{Untrusted: true}, 0o755, 0o777 | fs.ModeSticky},
		{UnpackOptions{}, 0o755 | fs.ModeSetuid | fs.ModeSetgid, 0o777 | fs.ModeSticky | fs.ModeSetuid | fs.ModeSetgid},
	} {
		dst := t.TempDir()
		if err := Unpack(t.Context(), NewReader(bytes.NewReader(write(entries))), dst, c.o); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{"su": c.su, "d": c.dir | fs.ModeDir} {
			st, err := os.Stat(filepath.Join(dst, name))
			if err != nil {
				t.Fatal(err)
			}
			if st.Mode() != want {
				t.Errorf("%+v: %s is %v, want %v", c.o, name, st.Mode(), want)
			}
		}
	}
}

// A container's devices are none of the host's.
func TestDevices(t *testing.T) {
	b := write([]entry{{kind: tar.TypeChar, name: "null"}, {kind: tar.TypeBlock, name: "sda"}, file("x", "x")})
	dst, warnings := t.TempDir(), 0
	if err := Unpack(t.Context(), NewReader(bytes.NewReader(b)), dst, UnpackOptions{Untrusted: true, Warn: func(error) { warnings++ }}); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(dst)
	if err != nil || len(list) != 1 || warnings != 2 {
		t.Errorf("%v, %v, %d warnings", list, err, warnings)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, attack := range attacks {
		f.Add(write(attack.entries), true)
	}
	f.Add(write([]entry{dir("d"), file("d/f", "x"), hardlink("d/h", "d/f"), symlink("l", "d")}), false)
	f.Fuzz(func(t *testing.T, b []byte, untrusted bool) {
		if len(b) > 64<<10 {
			return
		}
		if !untrusted && bytes.Contains(b, []byte("GNU.sparse")) || bytes.IndexByte(b, 'S') >= 0 && !untrusted {
			return // a trusted archive may make a big file, which is not for this disk
		}
		a := newArena(t)
		_ = Unpack(t.Context(), NewReader(bytes.NewReader(b)), a.dst, UnpackOptions{Untrusted: untrusted})
		a.check(t)
		// What has no rights left for its owner could not be removed.
		_ = filepath.WalkDir(a.dst, func(file string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(file, 0o700)
			}
			return nil
		})
	})
}
