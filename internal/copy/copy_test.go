//go:build linux

package copy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"bake/internal/agent/transfer"
	"bake/internal/wire"
)

// here is a container whose root is a directory of this host: the guest's own code,
// without a guest. Paths of requests are below root.
func here(root string) Remote {
	return func(ctx context.Context, r wire.ArchiveRequest, in io.ReadCloser, out io.Writer, warn func(string)) error {
		defer in.Close()
		var said bytes.Buffer
		r.Path = root + "/" + strings.TrimLeft(r.Path, "/")
		err := transfer.Archive(ctx, r, in, out, &said)
		for line := range strings.Lines(said.String()) {
			warn(strings.TrimSpace(line))
		}
		if err != nil && !errors.Is(err, errDone) {
			return errors.New(strings.ReplaceAll(err.Error(), root, ""))
		}
		return err
	}
}

// list is what is below a directory: names, a slash behind directories, and what
// files hold or links lead to.
func list(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		switch {
		case d.IsDir():
			name += "/"
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(file)
			name += "->" + to
		default:
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			name += "=" + string(b)
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(all)
	return strings.Join(all, " ")
}

// The files of both sides before each copy.
func fill(t *testing.T, src, dst string) {
	t.Helper()
	for _, f := range []string{src + "/d/e/", dst + "/dir/", dst + "/merge/d/"} {
		if err := os.MkdirAll(f, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		src + "/f": "F", src + "/d/x": "X", src + "/d/e/y": "Y",
		dst + "/file": "old", dst + "/dir/f": "old", dst + "/merge/d/x": "old", dst + "/merge/d/z": "Z",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		src + "/lf": "f", src + "/ld": "d", dst + "/tofile": "file", dst + "/todir": "dir", dst + "/tonothing": "nothing", dst + "/loop": "loop",
	} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
}

// docker-cp(1): what comes of SRC and DST. The names that are told are below DST's
// directory; those that are there before and stay are left out.
var matrix = []struct {
	src, dst string
	follow   bool
	want     string // what is new or different
	err      string
}{
	// A file.
	{src: "f", dst: "new", want: "new=F"},
	{src: "f", dst: "new/", err: "the directory"},
	{src: "f", dst: "no/new", err: "no"},
	{src: "f", dst: "file", want: "file=F"},
	{src: "f", dst: "file/", err: ""}, // one of two sentences, below
	{src: "f", dst: "dir", want: "dir/f=F"},
	{src: "f", dst: "dir/", want: "dir/f=F"},
	{src: "f", dst: "dir/.", want: "dir/f=F"},
	{src: "f", dst: "dir/g", want: "dir/g=F"},
	{src: "f", dst: ".", want: "f=F"},
	{src: "f", dst: "tofile", want: "file=F"},
	{src: "f", dst: "todir", want: "dir/f=F"},
	{src: "f", dst: "todir/g", want: "dir/g=F"},
	{src: "f", dst: "tonothing", want: "nothing=F"},
	{src: "f", dst: "loop", err: "too many symbolic links"},
	{src: "d/x", dst: "new", want: "new=X"},
	{src: "no", dst: "new", err: "no"},
	{src: "f/", dst: "new", err: "not a directory"},

	// A directory.
	{src: "d", dst: "new", want: "new/ new/e/ new/e/y=Y new/x=X"},
	{src: "d", dst: "new/", want: "new/ new/e/ new/e/y=Y new/x=X"},
	{src: "d/.", dst: "new", want: "new/ new/e/ new/e/y=Y new/x=X"},
	{src: "d/", dst: "new", want: "new/ new/e/ new/e/y=Y new/x=X"},
	{src: "d", dst: "dir", want: "dir/d/ dir/d/e/ dir/d/e/y=Y dir/d/x=X"},
	{src: "d/", dst: "dir/", want: "dir/d/ dir/d/e/ dir/d/e/y=Y dir/d/x=X"},
	{src: "d/.", dst: "dir", want: "dir/e/ dir/e/y=Y dir/x=X"},
	{src: "d/.", dst: "dir/.", want: "dir/e/ dir/e/y=Y dir/x=X"},
	{src: "d", dst: "merge", want: "merge/d/e/ merge/d/e/y=Y merge/d/x=X"},
	{src: "d/.", dst: "merge/d", want: "merge/d/e/ merge/d/e/y=Y merge/d/x=X"},
	{src: "d", dst: "file", err: "cannot copy a directory to a file"},
	{src: "d/.", dst: "file", err: "cannot copy a directory to a file"},
	{src: "d", dst: "tofile", err: "cannot copy a directory to a file"},
	{src: "d", dst: "no/new", err: "no"},
	{src: "d", dst: "todir", want: "dir/d/ dir/d/e/ dir/d/e/y=Y dir/d/x=X"},
	{src: "d/e/../.", dst: "new", want: "new/ new/e/ new/e/y=Y new/x=X"},

	// A symbolic link.
	{src: "lf", dst: "new", want: "new->f"},
	{src: "lf", dst: "new", follow: true, want: "new=F"},
	{src: "lf", dst: "dir", want: "dir/lf->f"},
	{src: "lf", dst: "dir", follow: true, want: "dir/lf=F"},
	{src: "ld", dst: "new", want: "new->d"},
	{src: "ld", dst: "new", follow: true, want: "new/ new/e/ new/e/y=Y new/x=X"},
	{src: "ld", dst: "dir", follow: true, want: "dir/ld/ dir/ld/e/ dir/ld/e/y=Y dir/ld/x=X"},
	{src: "ld/", dst: "dir", want: "dir/ld/ dir/ld/e/ dir/ld/e/y=Y dir/ld/x=X"},
	{src: "ld/.", dst: "dir", want: "dir/e/ dir/e/y=Y dir/x=X"},
}

func TestMatrix(t *testing.T) {
	for _, way := range []string{"to", "from"} {
		for _, c := range matrix {
			t.Run(fmt.Sprintf("%s %s %s follow=%v", way, c.src, c.dst, c.follow), func(t *testing.T) {
				src, dst := t.TempDir(), t.TempDir()
				fill(t, src, dst)
				before := strings.Fields(list(t, dst))
				o := Options{FollowLink: c.follow, Warn: func(s string) { t.Errorf("warning: %s", s) }}
				var err error
				if way == "to" {
					err = To(t.Context(), here(dst), src+"/"+c.src, c.dst, o)
				} else {
					err = From(t.Context(), here(src), c.src, dst+"/"+c.dst, o)
				}
				if c.want == "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Errorf("it ended with %v, want %q", err, c.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				old := map[string]bool{}
				for _, f := range before {
					old[f] = true
				}
				var fresh []string
				for _, f := range strings.Fields(list(t, dst)) {
					if !old[f] {
						fresh = append(fresh, f)
					}
				}
				if got := strings.Join(fresh, " "); got != c.want {
					t.Errorf("new is %s\n  want   %s", got, c.want)
				}
			})
		}
	}
}

func TestStreams(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	fill(t, src, dst)
	var b bytes.Buffer
	if err := Read(t.Context(), here(src), "d", &b, Options{}); err != nil {
		t.Fatal(err)
	}
	stream := b.Bytes()
	if err := Write(t.Context(), here(dst), io.NopCloser(bytes.NewReader(stream)), "todir", Options{}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, dst+"/dir"); got != "d/ d/e/ d/e/y=Y d/x=X f=old" {
		t.Errorf("there is %s", got)
	}
	for dst2, words := range map[string]string{"file": "has to be a directory", "new": "has to be a directory"} {
		err := Write(t.Context(), here(dst), io.NopCloser(bytes.NewReader(stream)), dst2, Options{})
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("to %s: %v", dst2, err)
		}
	}
	err := Write(t.Context(), here(dst), io.NopCloser(strings.NewReader(strings.Repeat("no tar", 1000))), "dir", Options{})
	if err == nil || !strings.Contains(err.Error(), "no tar archive") {
		t.Errorf("no tar: %v", err)
	}
	if err := Read(t.Context(), here(src), "nothing", io.Discard, Options{}); err == nil || err.Error() != "there is no /nothing in the container" {
		t.Errorf("nothing: %v", err)
	}
}

func TestParseLocation(t *testing.T) {
	for arg, want := range map[string]Location{
		"file": {Path: "file"}, "-": {Path: "-"}, "/a:b": {Path: "/a:b"}, "./a:b": {Path: "./a:b"}, "../a:b": {Path: "../a:b"}, "d/a:b": {Path: "d/a:b"},
		"web:/etc": {Remote: true, Instance: "web", Path: "/etc"}, "web:etc/.": {Remote: true, Instance: "web", Path: "etc/."},
		":/etc": {Remote: true, Path: "/etc"}, "web:a:b": {Remote: true, Instance: "web", Path: "a:b"},
	} {
		got, err := ParseLocation(arg)
		if err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", arg, got, err, want)
		}
	}
	for _, arg := range []string{"", "web:", ":", "web:a\x00"} {
		if l, err := ParseLocation(arg); err == nil {
			t.Errorf("%q is %+v", arg, l)
		}
	}
}

// A container that sends what nobody asked for makes nothing.
func TestHostileContainer(t *testing.T) {
	other := t.TempDir()
	if err := os.WriteFile(other+"/evil", []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	hostile := func(ctx context.Context, r wire.ArchiveRequest, in io.ReadCloser, out io.Writer, warn func(string)) error {
		r.Path = "evil"
		return here(other)(ctx, r, in, out, warn)
	}
	dst := t.TempDir()
	err := From(t.Context(), hostile, "/good", dst, Options{})
	if err == nil || !strings.Contains(err.Error(), `not in "good"`) {
		t.Errorf("it ended with %v", err)
	}
	if got := list(t, dst); got != "" {
		t.Errorf("it made %s", got)
	}
}

// A container that ends in the middle is an error, and leaves no half of a file.
func TestLostContainer(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	if err := os.WriteFile(src+"/f", bytes.Repeat([]byte("x"), 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	lost := errors.New("the connection was lost")
	cut := func(ctx context.Context, r wire.ArchiveRequest, in io.ReadCloser, out io.Writer, warn func(string)) error {
		var b bytes.Buffer
		if err := here(src)(ctx, r, in, &b, warn); err != nil {
			return err
		}
		if _, err := out.Write(b.Bytes()[:b.Len()/2]); err != nil {
			return err
		}
		return lost
	}
	if err := From(t.Context(), cut, "f", dst, Options{}); !errors.Is(err, lost) {
		t.Errorf("it ended with %v", err)
	}
	if got := list(t, dst); got != "" {
		t.Errorf("it left %d bytes", len(got))
	}
}
