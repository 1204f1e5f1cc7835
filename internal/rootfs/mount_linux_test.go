package rootfs

import (
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKernelMount has the running kernel read both formats, the judge of what
// is right.
func TestKernelMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	tree := mustApply(t, rich(t), layer(t, file("bin/extra", "from a stream"), file(".wh.twin1", "")))
	for _, tt := range []struct{ fs, image string }{
		{"erofs", writeEROFS(t, tree, EROFSOptions{})},
		{"erofs", writeEROFS(t, tree, EROFSOptions{BuildTime: 1700000000})},
		{"squashfs", writeSquashFS(t, tree, SquashFSOptions{BlockSize: 4096})},
		{"squashfs", writeSquashFS(t, tree, SquashFSOptions{})},
	} {
		t.Run(tt.fs, func(t *testing.T) {
			at := mount(t, tt.fs, tt.image)
			got := listMounted(t, at)
			listAs(t, tree, func(s *seen) {
				if tt.fs == "squashfs" {
					s.nsec = 0 // it keeps whole seconds
				}
			}).diff(t, got)
		})
	}
}

func mount(t testing.TB, fs, image string) string {
	t.Helper()
	at := t.TempDir()
	if out, err := exec.Command("mount", "-t", fs, "-o", "loop,ro", image, at).CombinedOutput(); err != nil {
		t.Skipf("this machine can't mount %s: %v: %s", fs, err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return at
}

// listMounted describes a mounted tree.
func listMounted(t *testing.T, root string) listing {
	t.Helper()
	out := listing{}
	groups := map[uint64]string{}
	var walk func(p string)
	walk = func(p string) {
		full := filepath.Join(root, p)
		fi, err := os.Lstat(full)
		if err != nil {
			t.Fatal(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		s := seen{mode: st.Mode, uid: st.Uid, gid: st.Gid, nlink: uint32(st.Nlink), sec: st.Mtim.Sec, nsec: int(st.Mtim.Nsec)}
		if groups[st.Ino] == "" {
			groups[st.Ino] = p
		}
		s.group = groups[st.Ino]
		switch s.mode & ModeType {
		case ModeChar, ModeBlock:
			s.device = encodeDevice(unix.Major(st.Rdev), unix.Minor(st.Rdev))
		case ModeSymlink:
			s.target, err = os.Readlink(full)
		case ModeRegular:
			s.data, err = os.ReadFile(full)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s.xattrs, err = readXattrs(full); err != nil {
			t.Fatal(err)
		}
		out[p] = s.String()
		if fi.IsDir() {
			entries, err := os.ReadDir(full)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				walk(path.Join(p, e.Name()))
				// Lookup by name goes another way than listing.
				if len(e.Name()) < 255 {
					if _, err := os.Lstat(filepath.Join(full, e.Name()+"?")); !os.IsNotExist(err) {
						t.Errorf("%s?: %v", e.Name(), err)
					}
				}
			}
		}
	}
	walk("/")
	return out
}

// TestRealTree packs the uncompressed tar that $BAKE_TEST_ROOTFS names, such as
// mmdebstrap makes, and has the kernel read it back.
func TestRealTree(t *testing.T) {
	name := os.Getenv("BAKE_TEST_ROOTFS")
	if name == "" || os.Geteuid() != 0 {
		t.Skip("set BAKE_TEST_ROOTFS to a tar of a root filesystem, as root")
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree := NewTree(Options{})
	defer tree.Close()
	if err := tree.AddLayer(context.Background(), name, f); err != nil {
		t.Fatal(err)
	}
	list(t, tree).diff(t, listMounted(t, mount(t, "erofs", writeEROFS(t, tree, EROFSOptions{}))))
	listAs(t, tree, func(s *seen) { s.nsec = 0 }).diff(t, listMounted(t, mount(t, "squashfs", writeSquashFS(t, tree, SquashFSOptions{}))))
}

// TestKernelACL has the kernel read an access control list.
func TestKernelACL(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + // user 1000 may read
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	tree := mustApply(t, layer(t, entry{name: "f", body: "x", mode: 0o640, xattr: map[string]string{aclAccess: acl}}))
	got := listMounted(t, mount(t, "erofs", writeEROFS(t, tree, EROFSOptions{})))
	list(t, tree).diff(t, got)
}
