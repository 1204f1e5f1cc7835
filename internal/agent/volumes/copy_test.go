//go:build linux

package volumes

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// tree makes an image with one of everything at /var/lib/db.
func tree(t *testing.T) (rootfs string) {
	t.Helper()
	rootfs = t.TempDir()
	db := filepath.Join(rootfs, "var/lib/db")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(filepath.Join(db, "sub/empty"), 0o755))
	check(os.WriteFile(filepath.Join(db, "file"), bytes.Repeat([]byte("bread "), 100000), 0o640))
	check(os.WriteFile(filepath.Join(db, "suid"), nil, 0o755))
	check(os.Link(filepath.Join(db, "file"), filepath.Join(db, "sub/hard")))
	check(os.Symlink("/etc/passwd", filepath.Join(db, "link")))
	check(unix.Mkfifo(filepath.Join(db, "fifo"), 0o600))
	check(os.WriteFile(filepath.Join(db, "not\xffutf8"), nil, 0o600))
	check(os.Lchown(filepath.Join(db, "link"), 5, 6))
	check(os.Chown(filepath.Join(db, "suid"), 7, 8))
	check(unix.Chmod(filepath.Join(db, "suid"), 0o4711))
	check(os.Chown(db, 999, 998))
	check(unix.Chmod(db, 0o2750))
	old := []unix.Timespec{{Sec: 1000, Nsec: 1}, {Sec: 2000, Nsec: 2}}
	check(unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(db, "sub/empty"), old, 0))
	check(unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(db, "sub"), old, 0))
	check(unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(db, "link"), old, unix.AT_SYMLINK_NOFOLLOW))
	if err := unix.Lsetxattr(filepath.Join(db, "file"), "user.oven", []byte("hot"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	// A capability of the file, version 2 of struct vfs_cap_data.
	capability := append([]byte{1, 0, 0, 2, 0, 4, 0, 0}, make([]byte, 12)...)
	check(unix.Lsetxattr(filepath.Join(db, "suid"), "security.capability", capability, 0))
	return rootfs
}

func TestCopyImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("owners can be copied by root alone, which the agent is; run this test as root")
	}
	rootfs := tree(t)
	from, to := filepath.Join(rootfs, "var/lib/db"), filepath.Join(t.TempDir(), "copy")
	var steps int
	if err := copyImage(rootfs, "/var/lib/db", to, func() { steps++ }); err != nil {
		t.Fatal(err)
	}
	if steps != 8 {
		t.Errorf("%d entries were told of", steps)
	}
	for _, name := range []string{".", "file", "suid", "sub", "sub/empty", "sub/hard", "link", "fifo", "not\xffutf8"} {
		var a, b unix.Stat_t
		if err := unix.Lstat(filepath.Join(from, name), &a); err != nil {
			t.Fatal(err)
		}
		if err := unix.Lstat(filepath.Join(to, name), &b); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim || a.Nlink != b.Nlink || a.Size != b.Size && a.Mode&unix.S_IFDIR == 0 {
			t.Errorf("%q is %+v and became %+v", name, a, b)
		}
		for _, attr := range []string{"user.oven", "security.capability"} {
			was, is := make([]byte, 64), make([]byte, 64)
			n, err := unix.Lgetxattr(filepath.Join(from, name), attr, was)
			m, copyErr := unix.Lgetxattr(filepath.Join(to, name), attr, is)
			if (err == nil) != (copyErr == nil) || err == nil && !bytes.Equal(was[:n], is[:m]) {
				t.Errorf("%q has %s %x (%v) and got %x (%v)", name, attr, was, err, is, copyErr)
			}
		}
	}
	a, err := os.ReadFile(filepath.Join(from, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "sub/hard")); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the content differs: %v", err)
	}
	if l, err := os.Readlink(filepath.Join(to, "link")); err != nil || l != "/etc/passwd" {
		t.Errorf("the link leads to %q, %v", l, err)
	}
}

func TestCopyImageOfLittle(t *testing.T) {
	rootfs := t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(rootfs, "file"), nil, 0o600),
		os.Mkdir(filepath.Join(rootfs, "dir"), 0o700),
		os.WriteFile(filepath.Join(rootfs, "dir", "inside"), nil, 0o600),
		os.Symlink("/../../../dir", filepath.Join(rootfs, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if err := copyImage(rootfs, "/no/such", missing, nil); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(missing); err != nil || fi.Mode() != os.ModeDir|0o755 {
		t.Errorf("what the image has not is %v, %v", fi, err)
	}
	if err := copyImage(rootfs, "/file", filepath.Join(t.TempDir(), "x"), nil); err == nil || !strings.Contains(err.Error(), "has a file there") {
		t.Errorf("a file: %v", err)
	}
	linked := filepath.Join(t.TempDir(), "linked")
	if err := copyImage(rootfs, "/link", linked, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(linked, "inside")); err != nil {
		t.Errorf("a link in the image: %v", err)
	}
}

// What a volume gets of the image, and when.
func TestPrepareSubdir(t *testing.T) {
	rootfs := tree(t)
	for name, c := range map[string]struct {
		before func(dir string) error
		volume wire.Volume
		want   string // a file that is there then
		not    string
		words  string
	}{
		"new":         {nil, wire.Volume{CopyUp: true}, "data/file", ".bake-copy-of-image", ""},
		"empty":       {func(dir string) error { return os.Mkdir(dir+"/data", 0o755) }, wire.Volume{CopyUp: true}, "data/file", ".bake-copy-of-image", ""},
		"used":        {func(dir string) error { return os.MkdirAll(dir+"/data/mine", 0o755) }, wire.Volume{CopyUp: true}, "data/mine", "data/file", ""},
		"interrupted": {func(dir string) error { return os.MkdirAll(dir+"/.bake-copy-of-image/sub", 0o755) }, wire.Volume{CopyUp: true}, "data/file", ".bake-copy-of-image", ""},
		"no copy":     {nil, wire.Volume{}, "data", "data/file", ""},
		"read-only":   {func(dir string) error { return os.Mkdir(dir+"/data", 0o755) }, wire.Volume{CopyUp: true, ReadOnly: true}, "data", "data/file", ""},
		"read-only and new": {
			nil, wire.Volume{CopyUp: true, ReadOnly: true}, "", "data", "cannot get it while it is read-only"},
		"a link":   {func(dir string) error { return os.Symlink("/etc", dir+"/data") }, wire.Volume{CopyUp: true}, "", ".bake-copy-of-image", "is no directory"},
		"no place": {nil, wire.Volume{CopyUp: true, Target: "/var/lib/db/file"}, "", "data", "the image has a file there"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.before != nil {
				if err := c.before(dir); err != nil {
					t.Fatal(err)
				}
			}
			m := &volume{Volume: c.volume, dir: dir}
			m.Subdir = "data"
			if m.Target == "" {
				m.Target = "/var/lib/db"
			}
			err := m.findSource(Config{Rootfs: rootfs})
			if c.words == "" && (err != nil || m.source != filepath.Join(dir, "data")) {
				t.Errorf("%q, %v", m.source, err)
			}
			if c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
				t.Errorf("%v; want an error with %q", err, c.words)
			}
			if c.want != "" {
				if _, err := os.Lstat(filepath.Join(dir, c.want)); err != nil {
					t.Error(err)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, c.not)); err == nil {
				t.Errorf("there is %s", c.not)
			}
		})
	}
}

func TestFileSource(t *testing.T) {
	dir := t.TempDir()
	m := &volume{Volume: wire.Volume{File: true}, dir: dir}
	if err := m.findSource(Config{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, wire.VolumeFile)); err != nil {
		t.Fatal(err)
	}
	if err := m.findSource(Config{}); err == nil {
		t.Error("a link was taken for a file")
	}
}
