package rootfs

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	backend "github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/squashfs"
)

func writeSquashFS(t testing.TB, tree *Tree, opts SquashFSOptions) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rootfs.squashfs")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := WriteSquashFS(context.Background(), f, tree, opts)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != res.Size || res.Size%4096 != 0 {
		t.Errorf("the file has %d bytes, the result says %d", fi.Size(), res.Size)
	}
	return name
}

// listSquashFS describes an image as go-diskfs reads it. It doesn't tell link
// counts, device numbers, bits above 0777 and attributes' prefixes; lesser makes a listing with
// as little.
func listSquashFS(t *testing.T, name string) listing {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	img, err := squashfs.Read(backend.New(f, true), fi.Size(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := listing{}
	groups := map[uint32]string{}
	var walk func(dir string)
	walk = func(dir string) {
		rel := strings.TrimPrefix(dir, "/")
		if rel == "" {
			rel = "."
		}
		entries, err := img.ReadDir(rel)
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			p := path.Join(dir, e.Name())
			st := fi.Sys().(*squashfs.StatT)
			s := seen{mode: linuxMode(fi.Mode()), uid: st.UID, gid: st.GID, sec: fi.ModTime().Unix(), target: st.LinkTarget}
			for k, v := range st.Xattrs {
				s.xattrs = append(s.xattrs, Xattr{k, v})
			}
			if groups[st.Inode] == "" {
				groups[st.Inode] = p
			}
			s.group = groups[st.Inode]
			if fi.Mode().IsRegular() {
				if s.data, err = fs.ReadFile(img, strings.TrimPrefix(p, "/")); err != nil {
					t.Fatalf("%s: %v", p, err)
				}
			}
			out[p] = s.String()
			if fi.IsDir() {
				walk(p)
			}
		}
	}
	walk("/")
	return out
}

func TestSquashFSRoundTrip(t *testing.T) {
	tree := mustApply(t, rich(t), layer(t, file("bin/extra", "from a stream"), file(".wh.twin1", "")))
	// go-diskfs reads attributes from one metadata block only; the kernel's
	// reading of them is in TestKernelMount.
	for _, name := range []string{"attrs", "labelled2"} {
		n := tree.Root().Child(name)
		n.Xattrs = n.Xattrs[:1]
	}
	tree.Root().Child("attrs").Xattrs[0].Value = "short"
	delete(tree.Root().children, "latin\xe9\xff") // no name for io/fs
	for _, block := range []int{4096, 128 << 10, 1 << 20} {
		t.Run(fmt.Sprint(block), func(t *testing.T) {
			got := listSquashFS(t, writeSquashFS(t, tree, SquashFSOptions{BlockSize: block}))
			lesser(t, tree).diff(t, got)
		})
	}
}

// lesser lists tree without what go-diskfs doesn't tell.
func lesser(t *testing.T, tree *Tree) listing {
	t.Helper()
	l := listAs(t, tree, func(s *seen) {
		s.nlink, s.device, s.nsec = 0, 0, 0
		s.mode &^= 0o7000
		for i, x := range s.xattrs {
			_, s.xattrs[i].Name, _ = strings.Cut(x.Name, ".")
		}
	})
	delete(l, "/")
	return l
}

func TestUnsquashfs(t *testing.T) {
	tool, err := exec.LookPath("unsquashfs")
	if err != nil {
		t.Skip("unsquashfs (Debian's squashfs-tools) is not installed")
	}
	tree := mustApply(t, rich(t))
	name := writeSquashFS(t, tree, SquashFSOptions{BlockSize: 8192})
	// The long listing with numeric owners: mode, owners, size or device, name.
	out, err := exec.Command(tool, "-lln", "-d", "", name).CombinedOutput()
	if err != nil {
		t.Fatalf("unsquashfs: %v\n%s", err, out)
	}
	lines := 0
	for s := bufio.NewScanner(strings.NewReader(string(out))); s.Scan(); {
		if len(s.Text()) > 10 && strings.ContainsRune("-dlcbp", rune(s.Text()[0])) {
			lines++
		}
	}
	for _, want := range []string{"-rwsr-xr-x 0/12 ", "-rwxr-sr-x 100000/4000000000 ", "drwxrwxrwt ", "crw-rw-rw- 0/0 ", "1,  3 ", "brw-rw---- 0/6 ", "prw------- "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no line has %q in\n%s", want, out)
		}
	}
	if n := len(list(t, tree)); lines < n-2 { // names with control characters break lines
		t.Errorf("%d lines for %d files", lines, n)
	}
}
