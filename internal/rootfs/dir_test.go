//go:build linux || darwin

package rootfs

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sampleDir makes a directory with what a non-root user can make.
func sampleDir(t *testing.T) string {
	t.Helper()
	// Unix socket paths are short.
	root, err := os.MkdirTemp("", "bake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755))
	must(os.WriteFile(filepath.Join(root, "usr/bin/su"), []byte("#!su"), 0o755))
	must(os.Chmod(filepath.Join(root, "usr/bin/su"), 0o755|os.ModeSetuid))
	must(os.WriteFile(filepath.Join(root, ".wh.kept"), []byte("not a whiteout here"), 0o600))
	must(os.Link(filepath.Join(root, "usr/bin/su"), filepath.Join(root, "su2")))
	must(os.Symlink("/etc", filepath.Join(root, "etc")))
	must(os.Symlink("usr/bin", filepath.Join(root, "bin")))
	must(unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(os.Chtimes(filepath.Join(root, ".wh.kept"), time.Time{}, time.Unix(1234567890, 987654321)))
	l, err := net.Listen("unix", filepath.Join(root, "sock"))
	must(err)
	t.Cleanup(func() { l.Close() })
	return root
}

func dirTree(t *testing.T, root string) (*Tree, error) {
	t.Helper()
	tree := NewTree(Options{})
	t.Cleanup(func() { tree.Close() })
	return tree, tree.AddDir(context.Background(), root)
}

func TestDir(t *testing.T) {
	root := sampleDir(t)
	tree, err := dirTree(t, root)
	if err != nil {
		t.Fatal(err)
	}
	l := list(t, tree)
	if got, want := l.names(), "/.wh.kept /bin /etc /fifo /su2 /usr /usr/bin /usr/bin/su"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for p, want := range map[string]string{
		"/usr/bin/su": "104755 0:0 links 2 of /su2",
		"/.wh.kept":   "time 1234567890.98765432",
		"/etc":        `-> "/etc"`,
		"/bin":        `120777 `,
	} {
		if !strings.Contains(l[p], want) {
			t.Errorf("%s is %s, want %s in it", p, l[p], want)
		}
	}
	for _, img := range []listing{listEROFS(t, writeEROFS(t, tree, EROFSOptions{}))} {
		l.diff(t, img)
	}
	lesser(t, tree).diff(t, listSquashFS(t, writeSquashFS(t, tree, SquashFSOptions{})))
}

func TestDirErrors(t *testing.T) {
	_, err := dirTree(t, filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none") {
		t.Errorf("a directory that isn't there: %v", err)
	}

	write := func(tree *Tree) error {
		_, err := WriteEROFS(context.Background(), &failWriter{1 << 40}, tree, EROFSOptions{})
		return err
	}
	change := map[string]func(string) error{
		"became shorter": func(f string) error { return os.Truncate(f, 5000) },
		"no such file":   os.Remove,
		"was replaced":   func(f string) error { os.Remove(f); return unix.Mkfifo(f, 0o600) },
		"pack ":          func(f string) error { os.Remove(f); return os.Symlink("/etc/passwd", f) },
	}
	for want, change := range change {
		root := t.TempDir()
		name := filepath.Join(root, "sub", "data")
		os.Mkdir(filepath.Dir(name), 0o755)
		os.WriteFile(name, make([]byte, 10000), 0o644)
		tree, err := dirTree(t, root)
		if err != nil {
			t.Fatal(err)
		}
		if err := change(name); err != nil {
			t.Fatal(err)
		}
		if err := write(tree); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// TestDirUnreadable needs a caller whom permissions bind.
func TestDirUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t, "TestDirUnreadable|TestDir$")
		return
	}
	root := t.TempDir()
	name := filepath.Join(root, "secret")
	os.WriteFile(name, []byte("x"), 0)
	tree, err := dirTree(t, root)
	if err != nil {
		t.Fatal(err)
	}
	_, err = WriteEROFS(context.Background(), &failWriter{1 << 40}, tree, EROFSOptions{})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "make it readable") {
		t.Errorf("an unreadable file: %v", err)
	}
	sub := filepath.Join(root, "closed")
	os.Mkdir(sub, 0)
	defer os.Chmod(sub, 0o700)
	if _, err := dirTree(t, root); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), sub) {
		t.Errorf("an unreadable directory: %v", err)
	}
}

// asNobody runs tests of this binary again as an unprivileged user.
func asNobody(t *testing.T, pattern string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bake")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "test")
	if err := os.WriteFile(bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-test.run", "^("+pattern+")", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS"); n != 2 {
		t.Errorf("as nobody: %d tests passed, not 2\n%s", n, out)
	}
}

func TestDirDigest(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "f")
	os.WriteFile(name, []byte("one"), 0o644)
	digest := func() string {
		tree, err := dirTree(t, root)
		if err != nil {
			t.Fatal(err)
		}
		d, err := tree.Digest(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := digest()
	if digest() != first {
		t.Error("the digest of an unchanged directory changed")
	}
	// The same length and the same modification time: the change time tells.
	fi, _ := os.Stat(name)
	for digest() == first && time.Since(fi.ModTime()) < 10*time.Second {
		os.WriteFile(name, []byte("two"), 0o644)
		os.Chtimes(name, fi.ModTime(), fi.ModTime())
	}
	if digest() == first {
		t.Error("contents changed and the digest didn't")
	}
	before := digest()
	os.Mkdir(filepath.Join(root, "new"), 0o755)
	if digest() == before {
		t.Error("a directory was added and the digest didn't change")
	}
}
