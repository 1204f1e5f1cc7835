package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// pack returns the archive of a file, which has to be complete.
func pack(t *testing.T, file string, o PackOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Pack(t.Context(), &b, file, o); err != nil {
		t.Fatalf("pack %s: %v", file, err)
	}
	return b.Bytes()
}

// describe is all that an archive keeps of what is below dir, by name.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	inodes := map[uint64]string{}
	err := filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(file, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		text := fmt.Sprintf("mode %o owner %d:%d mtime %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, _ := os.Readlink(file)
			text += " to " + target
		case unix.S_IFREG:
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" holds %.64q, %d", b, len(b))
			if other := inodes[st.Ino]; other != "" {
				text += " is " + other
			}
			inodes[st.Ino] = name
		case unix.S_IFCHR, unix.S_IFBLK:
			text += fmt.Sprintf(" device %d", st.Rdev)
		}
		value := make([]byte, 100)
		if n, err := unix.Lgetxattr(file, "user.note", value); err == nil {
			text += fmt.Sprintf(" note %q", value[:n])
		}
		all[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tree makes one of each kind of file below dir.
func tree(t *testing.T, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	check(os.MkdirAll(at("sub/deep/closed"), 0o755))
	check(os.WriteFile(at("plain"), []byte("text"), 0o644))
	check(os.WriteFile(at("big"), bytes.Repeat([]byte("0123456789"), 100_000), 0o640))
	check(os.WriteFile(at("empty"), nil, 0o600))
	check(os.WriteFile(at("sub/x"), []byte("#!/bin/sh\n"), 0o755))
	check(os.WriteFile(at("sub/deep/closed/f"), []byte("f"), 0o400))
	check(os.WriteFile(at("latin\xe9 \n\"name"), []byte("é"), 0o644))
	check(os.WriteFile(at(strings.Repeat("n", 255)), []byte("long"), 0o644))
	check(os.Chmod(at("sub/x"), 0o755|fs.ModeSetuid))
	check(os.Symlink("../plain", at("sub/link")))
	check(os.Symlink("/no/such", at("dangling")))
	check(os.Link(at("big"), at("sub/hard")))
	check(unix.Mkfifo(at("fifo"), 0o620))
	if err := unix.Setxattr(at("plain"), "user.note", []byte("a\x00b=c\n"), 0); err != nil && !unsupported(err) {
		t.Fatal(err)
	}
	check(os.Chtimes(at("plain"), time.Time{}, time.Unix(1, 123456789)))
	check(os.Chtimes(at("big"), time.Time{}, time.Unix(-5, 0)))
	check(unix.UtimesNanoAt(unix.AT_FDCWD, at("sub/link"), []unix.Timespec{{Sec: 7}, {Sec: 7, Nsec: 7}}, unix.AT_SYMLINK_NOFOLLOW))
	if os.Geteuid() == 0 {
		check(os.Lchown(at("sub/link"), 12, 34))
		check(os.Chown(at("sub/deep"), 100000, 4_000_000_000))
		check(os.Chown(at("sub/x"), 5, 6))
		check(os.Chmod(at("sub/x"), 0o755|fs.ModeSetuid))
		if err := unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Logf("no device in this test: %v", err)
		}
	}
	check(os.Chmod(at("sub/deep/closed"), 0o555))
	check(os.Chtimes(at("sub/deep"), time.Time{}, time.Unix(1_000_000_000, 5)))
	check(os.Chtimes(at("sub"), time.Time{}, time.Unix(1_000_000_000, 6)))
	t.Cleanup(func() { _ = os.Chmod(at("sub/deep/closed"), 0o755) })
}

// What is packed and unpacked is the same, to the last bit.
func TestRoundTrip(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), t.TempDir()
	if err := os.Mkdir(src, 0o751); err != nil {
		t.Fatal(err)
	}
	tree(t, src)
	b := pack(t, src, PackOptions{Name: "new", Warn: func(err error) { t.Error(err) }})
	err := Unpack(t.Context(), NewReader(bytes.NewReader(b)), dst, UnpackOptions{Owners: true, Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	got := filepath.Join(dst, "new")
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(got, "sub/deep/closed"), 0o755) })
	if diff := cmp.Diff(describe(t, src), describe(t, got)); diff != "" {
		t.Errorf("- packed, + unpacked:\n%s", diff)
	}

	// Again, over what is there now.
	if err := os.WriteFile(filepath.Join(got, "plain"), []byte("different"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = Unpack(t.Context(), NewReader(bytes.NewReader(b)), dst, UnpackOptions{Owners: true, Untrusted: true})
	if err != nil {
		t.Fatal(err)
	}
	want := describe(t, src)
	if os.Geteuid() != 0 { // for whom owners are not kept
		want["sub/x"] = strings.Replace(want["sub/x"], "mode 104755", "mode 100755", 1)
	}
	if diff := cmp.Diff(want, describe(t, got)); diff != "" {
		t.Errorf("the second time, - packed, + unpacked:\n%s", diff)
	}
}

func TestContentsOfADirectory(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b := pack(t, src, PackOptions{Name: "."})
	if err := Unpack(t.Context(), NewReader(bytes.NewReader(b)), dst, UnpackOptions{Base: ".", Untrusted: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dst, "f")); err != nil {
		t.Error(err)
	}
	if err := Unpack(t.Context(), NewReader(bytes.NewReader(b)), dst, UnpackOptions{Base: ".", Name: "d", Untrusted: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dst, "d", "f")); err != nil {
		t.Error(err)
	}
}

// A file of proc says that it is empty, one of sysfs that it has 4096 bytes.
func TestFilesThatLieAboutTheirSize(t *testing.T) {
	for _, file := range []string{"/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(file)
		if err != nil {
			continue // another system
		}
		tr := tar.NewReader(bytes.NewReader(pack(t, file, PackOptions{Name: "x"})))
		hdr, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(tr)
		if err != nil || len(got) == 0 || hdr.Size != int64(len(got)) {
			t.Errorf("%s: %d bytes in the archive, %d said, %v; the file has %d", file, len(got), hdr.Size, err, len(want))
		}
	}
}

// What cannot be read is left out, and said.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root may read everything; a name that is too long for an archive is
		// an error of one file, too.
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		name := strings.Repeat(strings.Repeat("d", 250)+"/", 17)
		at, part := root, ""
		for range 17 {
			part = strings.Repeat("d", 250)
			if err := at.Mkdir(part, 0o755); err != nil {
				t.Fatal(err)
			}
			next, err := at.OpenRoot(part)
			if err != nil {
				t.Fatal(err)
			}
			defer next.Close()
			at = next
		}
		var b bytes.Buffer
		err = Pack(t.Context(), &b, dir, PackOptions{Name: "n"})
		var incomplete *IncompleteError
		if !errors.As(err, &incomplete) || incomplete.Failed != 1 {
			t.Fatalf("a name of %d bytes: %v", len(name), err)
		}
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "b"), 0); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err := Pack(t.Context(), &b, dir, PackOptions{Name: "d"})
	var incomplete *IncompleteError
	if !errors.As(err, &incomplete) || incomplete.Failed != 1 {
		t.Fatalf("packing: %v", err)
	}
	dst := t.TempDir()
	if err := Unpack(t.Context(), NewReader(&b), dst, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "c"} {
		if _, err := os.Stat(filepath.Join(dst, "d", name)); err != nil {
			t.Error(err)
		}
	}
}

// A file that is cut off is not left as if it were whole.
func TestCutOff(t *testing.T) {
	src := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(src, bytes.Repeat([]byte("x"), 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	b := pack(t, src, PackOptions{Name: "f"})
	for _, at := range []int{100, 1600, len(b) / 2} {
		dst := t.TempDir()
		err := Unpack(t.Context(), NewReader(bytes.NewReader(b[:at])), dst, UnpackOptions{})
		if err == nil {
			t.Errorf("an archive cut off at %d is unpacked", at)
		}
		if left, _ := os.ReadDir(dst); len(left) != 0 {
			t.Errorf("an archive cut off at %d leaves %v", at, left)
		}
	}
}
