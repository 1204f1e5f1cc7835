package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEphemeralFile(t *testing.T) {
	dir := t.TempDir()
	for name, create := range map[string]func(string) (*os.File, error){"unnamed": unnamedFile, "unlinked": createUnlinked} {
		f, err := create(dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
	t.Setenv("TMPDIR", dir)
	for _, in := range []string{"", dir} {
		f, err := EphemeralFile(in, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		if st.Size != 1<<30 || st.Blocks != 0 || st.Nlink != 0 || st.Mode&0o777 != 0o600 {
			t.Errorf("size %d, %d blocks, %d links, mode %o; want 1 GiB, none, none, 600", st.Size, st.Blocks, st.Nlink, st.Mode&0o777)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

func TestEphemeralFileErrorsNameTheCure(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name string
		dir  string
		size int64
		want []string
	}{
		{"too big", dir, 1 << 60, []string{"1 EiB", dir, "free", "--ephemeral-disk-size", "TMPDIR"}},
		{"no folder", filepath.Join(dir, "none"), 1, []string{"none", "TMPDIR"}},
		{"no size", dir, 0, []string{"--ephemeral-disk-size"}},
	} {
		_, err := EphemeralFile(tc.dir, tc.size)
		if err == nil {
			t.Errorf("%s: no error", tc.name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", tc.name, err, want)
			}
		}
	}
}

func TestHumanSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1 KiB", 1536 << 20: "1.5 GiB", 2 << 30: "2 GiB", 1 << 60: "1 EiB", 1<<64 - 1: "16 EiB"} {
		if got := humanSize(n); got != want {
			t.Errorf("humanSize(%d) = %q, want %q", n, got, want)
		}
	}
}
