package payload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A file, the same bytes in memory, with the hash known or not: one payload.
func TestSourcesAreEquivalent(t *testing.T) {
	big := noise(7, 2*copyChunk+12345)
	path := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, big, 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile, err := FileSource("big", path)
	if err != nil {
		t.Fatal(err)
	}
	fromBytes := BytesSource("big", big)
	unknown := fromBytes
	unknown.SHA256 = [32]byte{}
	known := fromFile
	known.SHA256 = fromBytes.SHA256
	want := writePayload(t, []Source{fromBytes})
	for i, s := range []Source{fromFile, unknown, known} {
		if !bytes.Equal(writePayload(t, []Source{s}), want) {
			t.Errorf("source %d gives another payload", i)
		}
	}
}

// A part of one app becomes a part of another, byte for byte.
func TestSourceFromApp(t *testing.T) {
	sources := testSources(t)
	path := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(path, tinyApp(t, sources), 0o600); err != nil {
		t.Fatal(err)
	}
	app, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	for _, there := range []bool{true, false} {
		if !there { // the name is gone; the open file is not
			if err := os.Rename(path, path+".old"); err != nil {
				t.Fatal(err)
			}
		}
		s, err := app.Source(PartRootfs, "other")
		if err != nil {
			t.Fatal(err)
		}
		b := writePayload(t, []Source{s})
		p, err := Open(bytes.NewReader(b), 0, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.ReadAll("other", 1<<20)
		if err != nil || !bytes.Equal(got, contents(t, sources[4])) {
			t.Errorf("file in place %v: part differs (%v)", there, err)
		}
	}
	if _, err := app.Source("nothing", "x"); err == nil {
		t.Error("a source of a part that is not there")
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestWriteRefuses(t *testing.T) {
	source := func(name string, size int64, r io.Reader) Source {
		return Source{Name: name, Size: size, Open: func() (io.ReadCloser, error) { return io.NopCloser(r), nil }}
	}
	broken := errors.New("disk on fire")
	many := make([]Source, MaxParts+1)
	for i := range many {
		many[i] = BytesSource("p"+strings.Repeat("x", i%30), nil)
	}
	for _, test := range []struct {
		name    string
		sources []Source
		want    string
	}{
		{"short source", []Source{source("rootfs", 100, strings.NewReader("short"))}, "embed rootfs: the source ended after 5 of 100 bytes"},
		{"failing source", []Source{source("rootfs", 100, failingReader{broken})}, "disk on fire"},
		{"source that does not open", []Source{{Name: "x", Open: func() (io.ReadCloser, error) { return nil, broken }}}, "disk on fire"},
		{"bad name", []Source{BytesSource("Rootfs", nil)}, "part name"},
		{"no name", []Source{BytesSource("", nil)}, "part name"},
		{"long name", []Source{BytesSource(strings.Repeat("a", 32), nil)}, "part name"},
		{"same name", []Source{BytesSource("a", nil), BytesSource("a", nil)}, "two parts named"},
		{"too many", many, "at most 50 parts"},
		{"negative size", []Source{{Name: "a", Size: -1}}, "impossible size"},
		{"huge size", []Source{{Name: "a", Size: 1 << 62}}, "impossible size"},
		{"sum too large", []Source{{Name: "a", Size: 1 << 59}, {Name: "b", Size: 1 << 59}, {Name: "c", Size: 1 << 59}}, "impossible size"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Write(t.Context(), tempFile(t), 0, test.sources)
			wantError(t, err, test.want)
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Write(ctx, tempFile(t), 0, testSources(t)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("file that changed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := FileSource("a", path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("afterwards"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Write(t.Context(), tempFile(t), 0, []Source{s})
		wantError(t, err, "changed its size from 6 to 10")
	})
	t.Run("no regular file", func(t *testing.T) {
		_, err := FileSource("a", t.TempDir())
		wantError(t, err, "not a regular file")
	})
}

func TestCreate(t *testing.T) {
	carrier, sources := tinyELF(nil), testSources(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "app")
	create := func(sources []Source) error { return Create(t.Context(), path, section(carrier), sources) }
	names := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	bad := append(slices.Clone(sources), Source{Name: "bad", Size: 9, Open: BytesSource("", []byte("short")).Open})

	if err := create(bad); err == nil || len(names()) != 0 {
		t.Fatalf("a failed build (%v) left %q", err, names())
	}
	if err := create(sources); err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := os.FileMode(0o755) &^ umask(t); first.Mode() != want {
		t.Errorf("mode %v, want %v", first.Mode(), want)
	}
	before := readFile(t, path)
	if err := create(bad); err == nil || !bytes.Equal(readFile(t, path), before) {
		t.Errorf("a failed build (%v) changed the app that was there", err)
	}

	held, err := os.Open(path) // keeps the first inode from being used again
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := create(sources); err != nil {
		t.Fatal(err)
	}
	second, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(first, second) {
		t.Error("the app was rewritten in place")
	}
	if !bytes.Equal(readFile(t, path), before) {
		t.Error("two builds of one input differ")
	}
	if got := names(); !slices.Equal(got, []string{"app"}) {
		t.Errorf("the directory holds %q", got)
	}

	for _, target := range []string{dir, os.DevNull} {
		wantError(t, Create(t.Context(), target, section(carrier), sources), "not a regular file")
	}
	wantError(t, Create(t.Context(), filepath.Join(path, "x"), section(carrier), sources), "not a directory")
	wantError(t, Create(t.Context(), filepath.Join(dir, "no", "x"), section(carrier), sources), "no such file")
	wantError(t, Create(t.Context(), path, section([]byte("MZ..")), sources), "not an ELF executable")
}

// Both ways to a new file, the one for file systems that have O_TMPFILE and the one for all others.
func TestReplace(t *testing.T) {
	ways := map[string]func(path string, write func(*os.File) error) error{
		"named": func(path string, write func(*os.File) error) error { return replaceNamed(path, 0o755, write) },
	}
	if runtime.GOOS == "linux" {
		ways["unnamed"] = func(path string, write func(*os.File) error) error {
			f, err := openUnnamed(filepath.Dir(path), 0o755)
			if err != nil {
				t.Fatalf("no O_TMPFILE in %s: %v", filepath.Dir(path), err)
			}
			defer f.Close()
			return replaceUnnamed(f, path, write)
		}
	}
	broken := errors.New("broken")
	for name, replace := range ways {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, strings.Repeat("n", 255)) // the longest name there is
			left := func() int {
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				return len(entries)
			}
			write := func(s string, err error) func(*os.File) error {
				return func(f *os.File) error { return errors.Join(err, second(f.WriteString(s))) }
			}
			if err := replace(path, write("x", broken)); !errors.Is(err, broken) || left() != 0 {
				t.Errorf("%v, and %d files left", err, left())
			}
			// The first temporary name may be taken by what a killed build left.
			taken := filepath.Join(dir, "."+strings.Repeat("n", 200)+"."+strconv.Itoa(os.Getpid())+".0")
			if err := os.WriteFile(taken, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, contents := range []string{"one", "two"} {
				if err := replace(path, write(contents, nil)); err != nil || string(readFile(t, path)) != contents || left() != 2 {
					t.Errorf("%v: %q, %d files", err, readFile(t, path), left())
				}
			}
			sub := filepath.Join(dir, "sub", "x")
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := replace(filepath.Dir(sub), write("x", nil)); err == nil || left() != 3 {
				t.Errorf("a directory was replaced (%v), or %d files are left", err, left())
			}
		})
	}
}

func second(_ int, err error) error { return err }
