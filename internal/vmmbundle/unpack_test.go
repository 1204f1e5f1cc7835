package vmmbundle

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
	"strings"
	"sync"
	"testing"
	"time"
)

func unpack(t testing.TB, archive []byte, cache string) (string, error) {
	return Unpack(t.Context(), reader(archive), sha256.Sum256(archive), cache)
}

func reader(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// list returns what is in cache/vmm.
func list(t *testing.T, cache string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(cache, "vmm"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestUnpack(t *testing.T) {
	index, archive := collect(t, Options{Arch: "amd64", Root: makeTree(t, fakeMachine()).root})
	cache := filepath.Join(t.TempDir(), "not", "there", "yet")
	dir, err := unpack(t, archive, cache)
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, hdr.Name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs (%v)", hdr.Name, err)
		}
		info, err := os.Stat(filepath.Join(dir, hdr.Name))
		if err != nil {
			t.Fatal(err)
		}
		if run := hdr.Name == index.Entry || hdr.Name == index.Loader; run != (info.Mode()&0o100 != 0) {
			t.Errorf("%s has mode %v", hdr.Name, info.Mode())
		}
	}

	// The second start touches nothing and needs no archive.
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Unpack(t.Context(), reader(nil), sha256.Sum256(archive), cache)
	after, statErr := os.Stat(dir)
	if err != nil || statErr != nil || again != dir || !os.SameFile(before, after) {
		t.Errorf("second unpack: %s, %v, %v", again, err, statErr)
	}

	// A file that somebody cleaned away comes back, and what a killed process left goes.
	if err := os.Remove(filepath.Join(dir, index.Entry)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(cache, "vmm", tempPrefix+"123", "lib"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(t, archive, cache); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, index.Entry)); err != nil {
		t.Error(err)
	}
	if got := list(t, cache); !slices.Equal(got, []string{filepath.Base(dir)}) {
		t.Errorf("the cache holds %q", got)
	}
}

func TestUnpackConcurrently(t *testing.T) {
	_, archive := collect(t, Options{Arch: "amd64", Root: makeTree(t, fakeMachine()).root})
	cache := t.TempDir()
	var wg sync.WaitGroup
	dirs := make([]string, 20)
	for i := range dirs {
		wg.Go(func() {
			dir, err := unpack(t, archive, cache)
			if err != nil || !complete(dir) {
				t.Errorf("unpack %d: %s, %v", i, dir, err)
			}
			dirs[i] = dir
		})
	}
	wg.Wait()
	if got := list(t, cache); len(got) != 1 || len(slices.Compact(dirs)) != 1 {
		t.Errorf("the cache holds %q for %q", got, dirs)
	}
}

// A start that is interrupted leaves nothing behind, and neither does a wait.
func TestUnpackInterrupted(t *testing.T) {
	_, archive := collect(t, Options{Arch: "amd64", Root: makeTree(t, fakeMachine()).root})
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unpack(ctx, reader(archive), sha256.Sum256(archive), cache); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	locked, unlock, err := lockDir(t.Context(), filepath.Join(cache, "vmm"))
	if err != nil || !locked {
		t.Fatalf("lock: %v, %v", locked, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Unpack(ctx, reader(archive), sha256.Sum256(archive), cache); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another unpacks: %v", err)
	}
	unlock()
	if _, err := Unpack(t.Context(), reader(archive[:len(archive)/2]), sha256.Sum256(archive), cache); err == nil {
		t.Error("half an archive was unpacked")
	}
	if got := list(t, cache); len(got) != 0 {
		t.Errorf("the cache holds %q", got)
	}
}

func TestUnpackRefusesForeignCache(t *testing.T) {
	_, archive := collect(t, Options{Arch: "amd64", Root: makeTree(t, fakeMachine()).root})
	cache := t.TempDir()
	if err := os.Mkdir(filepath.Join(cache, "vmm"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(cache, "vmm"), 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := unpack(t, archive, cache)
	wantError(t, err, "can be written by others")
	if err := os.WriteFile(filepath.Join(cache, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = unpack(t, archive, filepath.Join(cache, "file"))
	wantError(t, err, "set XDG_CACHE_HOME")
}

// member is one entry of an archive made by hand.
type member struct {
	tar.Header
	body string
}

func makeArchive(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, m := range members {
		m.Size = int64(len(m.body))
		m.Mode = 0o644
		if err := tw.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUnpackRefuses(t *testing.T) {
	index := func(files string) member {
		return member{tar.Header{Name: indexName, Typeflag: tar.TypeReg}, `{"format":1,"entry":"q","files":[` + files + `]}`}
	}
	file := func(name, body string) member { return member{tar.Header{Name: name, Typeflag: tar.TypeReg}, body} }
	const q = `{"name":"q","size":1}`
	for _, test := range []struct {
		name    string
		members []member
		want    string
	}{
		{"nothing", nil, "does not begin with bundle.json"},
		{"no index", []member{file("q", "1")}, "does not begin with bundle.json"},
		{"index that is no JSON", []member{{index("").Header, "{"}}, "not as bake writes it"},
		{"newer", []member{{index("").Header, `{"format":2}`}}, "format 2 is unknown"},
		{"no entry", []member{index("")}, "not among the files"},
		{"entry is the index", []member{{index("").Header, `{"format":1,"entry":"bundle.json","files":[]}`}}, "not among the files"},
		{"no loader", []member{{index("").Header, `{"format":1,"entry":"q","loader":"l","files":[` + q + `]}`}}, "loader"},
		{"cut", []member{index(q)}, "ends before q"},
		{"too much", []member{index(q), file("q", "1"), file("r", "2")}, "more than its index"},
		{"other size", []member{index(q), file("q", "12")}, "where its index has"},
		{"other name", []member{index(q), file("r", "1")}, "where its index has"},
		{"huge", []member{index(`{"name":"q","size":1099511627776}`), file("q", "1")}, "where its index has"},
		{"negative", []member{index(`{"name":"q","size":-1}`), file("q", "1")}, "cannot be named"},
		{"parent", []member{index(q + `,{"name":"../x","size":1}`)}, "cannot be named"},
		{"absolute", []member{index(q + `,{"name":"/x","size":1}`)}, "cannot be named"},
		{"backslash", []member{index(q + `,{"name":"a\\b","size":1}`)}, "cannot be named"},
		{"the directory itself", []member{index(q + `,{"name":".","size":1}`)}, "cannot be named"},
		{"long name", []member{index(q + `,{"name":"` + strings.Repeat("x", 256) + `","size":1}`)}, "cannot be named"},
		{"index again", []member{index(q + `,{"name":"bundle.json","size":1}`)}, "two files are named"},
		{"twice", []member{index(q + "," + q)}, "two files are named"},
		{"below a file", []member{index(q + `,{"name":"q/x","size":1}`), file("q", "1"), file("q/x", "1")}, "file exists"},
		{"link", []member{index(`{"name":"q","size":0}`), {tar.Header{Name: "q", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}}, "where its index has"},
		{"directory", []member{index(`{"name":"q","size":0}`), {tar.Header{Name: "q", Typeflag: tar.TypeDir}, ""}}, "where its index has"},
		{"device", []member{index(`{"name":"q","size":0}`), {tar.Header{Name: "q", Typeflag: tar.TypeChar}, ""}}, "where its index has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache := t.TempDir()
			_, err := unpack(t, makeArchive(t, test.members...), cache)
			wantError(t, err, test.want)
			if got := list(t, cache); len(got) != 0 {
				t.Errorf("the cache holds %q", got)
			}
		})
	}
	t.Run("other hash", func(t *testing.T) {
		cache := t.TempDir()
		archive := makeArchive(t, index(q), file("q", "1"))
		sum := sha256.Sum256(archive)
		archive[bytes.LastIndexByte(archive, '1')] = '2' // what is in q
		_, err := Unpack(t.Context(), reader(archive), sum, cache)
		wantError(t, err, "does not match its hash")
		if got := list(t, cache); len(got) != 0 {
			t.Errorf("the cache holds %q", got)
		}
	})
	t.Run("many files", func(t *testing.T) {
		var x Index
		x.Format, x.Files = indexVersion, make([]File, maxFiles+1)
		wantError(t, x.validate(), "more than 2048")
	})
}

// FuzzUnpack: no archive writes outside its directory or makes an incomplete one.
func FuzzUnpack(f *testing.F) {
	_, archive := collect(f, Options{Arch: "amd64", Root: makeTree(f, fakeMachine()).root})
	f.Add(archive)
	f.Add(makeArchive(f, member{tar.Header{Name: indexName, Typeflag: tar.TypeReg}, `{"format":1,"entry":"q","files":[{"name":"q","size":1}]}`},
		member{tar.Header{Name: "q", Typeflag: tar.TypeReg}, "1"}))
	parent, err := os.MkdirTemp("/dev/shm", "bake-fuzz-") // where fsync costs nothing
	if err != nil {
		parent = f.TempDir()
	}
	f.Cleanup(func() { os.RemoveAll(parent) })
	f.Fuzz(func(t *testing.T, archive []byte) {
		home, err := os.MkdirTemp(parent, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(home)
		dir, err := unpack(t, archive, filepath.Join(home, "cache"))
		if err == nil {
			if !complete(dir) {
				t.Fatal("incomplete")
			}
			if _, err := NewCommand(dir); err != nil {
				t.Fatal(err)
			}
		}
		entries, err := os.ReadDir(home)
		if err != nil || len(entries) > 1 {
			t.Fatalf("%v, %v", entries, err)
		}
	})
}

func TestNewCommand(t *testing.T) {
	_, archive := collect(t, Options{Arch: "amd64", Root: makeTree(t, fakeMachine()).root})
	dir, err := unpack(t, archive, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCommand(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		dir + "/lib/ld-linux-x86-64.so.2", "--inhibit-cache", "--library-path", dir + "/lib",
		dir + "/bin/qemu-system-x86_64", "-L", dir + "/share/qemu",
	}
	if !slices.Equal(c.Args, want) || !slices.Equal(c.Env, []string{"QEMU_MODULE_DIR=" + dir + "/lib/qemu", "LD_PRELOAD="}) {
		t.Errorf("command is %+v", c)
	}
	odd := filepath.Join(t.TempDir(), "a:b")
	if dir, err = unpack(t, archive, odd); err != nil {
		t.Fatal(err)
	}
	_, err = NewCommand(dir)
	wantError(t, err, "set XDG_CACHE_HOME")
	_, err = NewCommand(t.TempDir())
	wantError(t, err, "no such file")

	for name, test := range map[string]struct{ index, want string }{
		"static": {`{"format":1,"entry":"q","files":[{"name":"q","size":0}]}`, "/q -L /share/qemu"},
		"musl":   {`{"format":1,"entry":"q","loader":"l/ld-musl","files":[{"name":"q","size":0},{"name":"l/ld-musl","size":0}]}`, "/l/ld-musl --library-path /lib /q -L /share/qemu"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, indexName), []byte(test.index), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := NewCommand(dir)
		if got := strings.ReplaceAll(strings.Join(c.Args, " "), dir, ""); err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
		}
	}
}
