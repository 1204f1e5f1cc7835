package volume

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func testStore(t *testing.T) *Store {
	t.Helper()
	return NewStore(filepath.Join(t.TempDir(), "bake", "volumes"))
}

func TestStore(t *testing.T) {
	s := testStore(t)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Fatalf("an empty store has %v, %v", list, err)
	}
	for _, name := range []string{"pg", "a.b-c_9"} {
		if err := s.Create(name, 64<<20+100); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Create("pg", 64<<20); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "bake volume rm pg") {
		t.Errorf("the same name again: %v", err)
	}
	if st, err := os.Stat(s.Dir()); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", st, err)
	}
	if st, err := os.Stat(s.Path("pg")); err != nil || st.Mode().Perm() != 0o600 || st.Size() != 64<<20 {
		t.Errorf("the file: %v, %v", st, err)
	}
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].Name != "a.b-c_9" || list[1].Name != "pg" {
		t.Fatalf("List = %+v, %v", list, err)
	}
	pg := list[1]
	if pg.Size != 64<<20 || pg.Used <= 0 || pg.Used > 1<<20 || pg.Created.IsZero() || pg.Problem != "" || pg.InUse != "" || pg.Path != s.Path("pg") {
		t.Errorf("pg is %+v", pg)
	}
	if err := s.Remove("pg"); err != nil {
		t.Error(err)
	}
	if err := s.Remove("pg"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none of that name") {
		t.Errorf("Remove again: %v", err)
	}
	for _, f := range []func(string) error{
		s.Remove,
		func(n string) error { _, err := s.Open(n, true); return err },
		func(n string) error { _, err := s.Inspect(n); return err },
	} {
		if err := f("pg"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of a volume that is not there: %v", err)
		}
	}
	left, err := filepath.Glob(filepath.Join(s.Dir(), ".new-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestNamesStayInTheStore(t *testing.T) {
	s := testStore(t)
	if err := s.Create("x", MinSize); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", ".lock", "x\x00", "-f", "x\n"} {
		_, oerr := s.Open(name, true)
		_, cerr := s.OpenOrCreate(name, false)
		_, ierr := s.Inspect(name)
		for _, err := range []error{oerr, cerr, ierr, s.Create(name, MinSize), s.Remove(name)} {
			if err == nil || !strings.Contains(err.Error(), "cannot be a volume's name") {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

func TestSizesOfVolumes(t *testing.T) {
	s := testStore(t)
	for _, size := range []int64{-1, 0, MinSize - 1, MaxSize + 1} {
		if err := s.Create("x", size); err == nil || !strings.Contains(err.Error(), "32 MiB to 16 TiB") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for _, size := range []int64{MinSize, DefaultSize} {
		if err := s.Create("x", size); err != nil {
			t.Fatal(err)
		}
		f, err := s.Open("x", false)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := s.Remove("x"); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyOneWriter(t *testing.T) {
	s := testStore(t)
	if err := s.Create("x", MinSize); err != nil {
		t.Fatal(err)
	}
	open := func(readOnly bool) *os.File {
		t.Helper()
		f, err := s.Open("x", readOnly)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	inUse := func(readOnly bool) {
		t.Helper()
		f, err := s.Open("x", readOnly)
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "the volume x: it is in use by") {
			t.Errorf("a second user, read-only %v: %v", readOnly, err)
		}
		if f != nil {
			f.Close()
		}
		if err := s.Remove("x"); !errors.Is(err, ErrInUse) {
			t.Errorf("Remove of what is in use: %v", err)
		}
	}
	w := open(false)
	inUse(false)
	inUse(true)
	w.Close()
	r1, r2 := open(true), open(true)
	inUse(false)
	r1.Close()
	inUse(false)
	r2.Close()
	open(false).Close()
}

func TestOpenOrCreate(t *testing.T) {
	s := testStore(t)
	var wg sync.WaitGroup
	var opened, refused atomic.Int32
	files := make([]*os.File, 8)
	for i := range files {
		wg.Go(func() {
			var err error
			files[i], err = s.OpenOrCreate("x", false)
			switch {
			case err == nil:
				opened.Add(1)
			case errors.Is(err, ErrInUse):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if opened.Load() != 1 || refused.Load() != 7 {
		t.Errorf("%d of 8 have it, %d were refused", opened.Load(), refused.Load())
	}
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
	info, err := s.Inspect("x")
	if err != nil || info.Size != DefaultSize {
		t.Errorf("it has %d bytes, %v", info.Size, err)
	}
}

// Whoever has a volume open has the one that has the name: never one that was
// removed meanwhile.
func TestOpenAgainstRemove(t *testing.T) {
	s := testStore(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 50 {
				f, err := s.OpenOrCreate("x", false)
				if errors.Is(err, ErrInUse) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !s.is(f, "x") {
					t.Error("the open volume was removed")
				}
				f.Close()
			}
		})
		wg.Go(func() {
			for range 50 {
				if err := s.Remove("x"); err != nil && !errors.Is(err, ErrInUse) && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A process that was killed while it made a volume left a part of it.
func TestLeftoversAreNoVolumes(t *testing.T) {
	s := testStore(t)
	if err := os.MkdirAll(s.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(s.Dir(), newFile+"123")
	for _, path := range []string{left, filepath.Join(s.Dir(), "notes.txt"), filepath.Join(s.Dir(), "-.ext4")} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v", list, err)
	}
	if err := s.Create("x", MinSize); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestBrokenVolumeIsListedAndRemoved(t *testing.T) {
	s := testStore(t)
	if err := s.Create("x", MinSize); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.Path("x"), 4096); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Problem, "cut short") {
		t.Errorf("List = %+v, %v", list, err)
	}
	var out bytes.Buffer
	if err := PrintList(&out, list); err != nil || !strings.Contains(out.String(), "broken: its filesystem") {
		t.Errorf("%v: %s", err, out.String())
	}
	if _, err := s.OpenOrCreate("x", false); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	if err := s.Remove("x"); err != nil {
		t.Error(err)
	}
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	if err := PrintJSON(&out, nil); err != nil || strings.TrimSpace(out.String()) != "[]" {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	want := []Info{{Name: "pg", Path: "/x/pg.ext4", Size: 10 << 30, Used: 1 << 20, InUse: "pg (process 12)"}}
	if err := PrintJSON(&out, want); err != nil {
		t.Fatal(err)
	}
	var got []Info
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != 1 || got[0] != want[0] {
		t.Errorf("%v: %+v", err, got)
	}
	out.Reset()
	if err := PrintList(&out, want); err != nil || !strings.Contains(out.String(), "pg    10 GiB  1 MiB    pg (process 12)") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestDefaultStore(t *testing.T) {
	for _, tc := range []struct{ xdg, home, want string }{
		{"/data", "/home/me", "/data/bake/volumes"},
		{"", "/home/me", "/home/me/.local/share/bake/volumes"},
		{"relative", "/home/me", "/home/me/.local/share/bake/volumes"},
		{"", "", ""},
	} {
		t.Setenv("XDG_DATA_HOME", tc.xdg)
		t.Setenv("HOME", tc.home)
		s, err := DefaultStore()
		if tc.want == "" {
			if err == nil {
				t.Errorf("%+v: no error", tc)
			}
			continue
		}
		if err != nil || s.Dir() != tc.want {
			t.Errorf("%+v: %v, %v", tc, s, err)
		}
	}
}
