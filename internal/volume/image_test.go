package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/ext4"
)

// testImage makes an image of 8 MiB and changes it.
func testImage(t testing.TB, change func(*os.File)) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Format(f, 8<<20, ext4.Options{Durable: true}); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(f)
	}
	return f.Name()
}

// write changes bytes of an image.
func write(t *testing.T, at int64, b string) func(*os.File) {
	return func(f *os.File) {
		if _, err := f.WriteAt([]byte(b), at); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenImage(t *testing.T) {
	path := testImage(t, nil)
	for _, readOnly := range []bool{true, false} {
		f, err := OpenImage(path, readOnly)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0}, 0); (err != nil) != readOnly {
			t.Errorf("read-only %v: write: %v", readOnly, err)
		}
		f.Close()
	}
}

func TestOpenImageErrors(t *testing.T) {
	truncate := func(size int64) func(*os.File) {
		return func(f *os.File) {
			if err := f.Truncate(size); err != nil {
				t.Error(err)
			}
		}
	}
	const sb = superblockAt
	for _, tc := range []struct {
		name   string
		change func(*os.File)
		want   string // empty for none
		ro     string // the same if it is to be read
	}{
		{"empty", truncate(0), "no ext4 filesystem", ""},
		{"short", truncate(1500), "no ext4 filesystem", ""},
		{"zeros", write(t, sb+0x38, "\x00\x00"), "no magic number at byte 1080", ""},
		{"cut", truncate(4 << 20), "cut short", ""},
		{"no sector", truncate(8<<20 + 100), "truncate -s %512", ""},
		{"more than it needs", truncate(9 << 20), "", ""},
		{"dirty", write(t, sb+0x60, "\xc6"), "", "without :ro"},
		{"journal device", write(t, sb+0x60, "\x08"), "journal of another", ""},
		{"huge blocks", write(t, sb+0x18, "\x07"), "broken", ""},
		{"huge", write(t, sb+0x150, "\xff\xff\xff\xff"), "broken", ""},
		{"large", write(t, sb+0x150, "\x01"), "cut short", ""},
		{"qcow2", func(f *os.File) { write(t, sb+0x38, "\x00\x00")(f); write(t, 0, "QFI\xfb")(f) }, "qemu-img convert", ""},
		{"partitions", func(f *os.File) { write(t, sb+0x38, "\x00\x00")(f); write(t, 510, "\x55\xaa")(f) }, "partition", ""},
		{"boot sector before ext4", write(t, 510, "\x55\xaa"), "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := testImage(t, tc.change)
			if tc.ro == "" {
				tc.ro = tc.want
			}
			for readOnly, want := range map[bool]string{false: tc.want, true: tc.ro} {
				f, err := OpenImage(path, readOnly)
				if err == nil {
					f.Close()
				}
				switch {
				case want == "" && err != nil:
					t.Errorf("read-only %v: %v", readOnly, err)
				case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)):
					t.Errorf("read-only %v: error %v, want one with %q and the path", readOnly, err, want)
				}
			}
		})
	}
}

func TestOpenImageOfNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("gone", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "there is no",
		filepath.Join(dir, "link"): "symbolic link to gone",
		dir:                        "is a folder",
		"/dev/null":                "neither a file nor a block device",
	} {
		if _, err := OpenImage(path, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", path, err, want)
		}
	}
	if _, err := OpenImage(filepath.Join(dir, "none"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing image: %v", err)
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	for _, d := range []string{"home/mine", "sub"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	image := testImage(t, nil)
	for s, want := range map[string]string{
		".:/x":               dir,
		"./sub:/x":           dir + "/sub",
		"sub/:/x":            dir + "/sub",
		"./link:/x":          dir + "/link",
		"~:/x":               home,
		"~/mine:/x":          home + "/mine",
		"./new/er:/x:create": dir + "/new/er",
		"./sub:/x:create":    dir + "/sub",
		"./file:/x":          dir + "/file",
		image + ":/x:ext4":   image,
		"name:/x":            "",
	} {
		spec, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := spec.Resolve(dir, home); err != nil || spec.Host != want {
			t.Errorf("%s: %q, %v, want %q", s, spec.Host, err, want)
		}
		if spec.File != (s == "./file:/x") {
			t.Errorf("%s: File is %v", s, spec.File)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "new/er")); err != nil || !st.IsDir() {
		t.Errorf(":create made %v, %v", st, err)
	}
	for s, want := range map[string]string{
		"./none:/x":            "write :create",
		"./file/x:/x":          "not a directory",
		"./dangling:/x":        "symbolic link to nowhere",
		"./dangling:/x:create": "symbolic link to nowhere",
		"~root/x:/x":           "only your own home",
		"/dev/null:/x":         "neither a folder nor a regular file",
		"none.img:/x:ext4":     "leave :ext4 out",
		"./none.img:/x:ext4":   "mkfs.ext4",
		"./sub:/x:ext4":        "is a folder",
	} {
		spec, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := spec.Resolve(dir, home); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", s, err, want)
		}
	}
	for _, s := range []string{"./x:/x", "~/x:/x"} {
		spec, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := spec.Resolve("", ""); err == nil || !strings.Contains(err.Error(), "not known") {
			t.Errorf("%s without folders: %v", s, err)
		}
	}
}
