//go:build linux

package virtiofs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// Who gets what a program in the guest makes, and with what mode.
func TestNewObjects(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a server that is not root gives nothing away")
	}
	old := unix.Umask(0)
	defer unix.Umask(old)
	s, dir := testServer(t, Options{}, tree.Options{})
	for name, mode := range map[string]uint32{"plain": 0o777, "group": 0o2777} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chown(path, 7, 50); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		parent := s.lookup(t, 1, name).NodeId
		caller := fuse.InHeader{Caller: fuse.Caller{Owner: fuse.Owner{Uid: 1000, Gid: 1001}}}
		for _, in := range [][]byte{
			message(opCreate, parent, fuse.CreateIn{InHeader: caller, Flags: syscall.O_RDWR, Mode: syscall.S_IFREG | 0o666, Umask: 0o022}, "file\x00"),
			message(opMkdir, parent, fuse.MkdirIn{InHeader: caller, Mode: 0o777, Umask: 0o022}, "dir\x00"),
			message(opMknod, parent, fuse.MknodIn{InHeader: caller, Mode: syscall.S_IFIFO | 0o666, Umask: 0o022}, "fifo\x00"),
			message(opSymlink, parent, caller, "link\x00target\x00"),
		} {
			if _, err := s.ask(t, in); err != 0 {
				t.Fatal(err)
			}
		}
		group, sticky := uint32(1001), uint32(0)
		if name == "group" {
			group, sticky = 50, unix.S_ISGID
		}
		for entry, mode := range map[string]uint32{
			"file": unix.S_IFREG | 0o644,
			"dir":  unix.S_IFDIR | 0o755 | sticky,
			"fifo": unix.S_IFIFO | 0o644,
			"link": unix.S_IFLNK | 0o777,
		} {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(path, entry), &st); err != nil {
				t.Fatal(err)
			}
			if st.Mode != mode || st.Uid != 1000 || st.Gid != group {
				t.Errorf("%s/%s: mode %o of %d:%d, want %o of 1000:%d", name, entry, st.Mode, st.Uid, st.Gid, mode, group)
			}
		}
	}
}

// A directory with a default ACL decides on the mode of what is made in it.
func TestDefaultACL(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	s, dir := testServer(t, Options{}, tree.Options{})
	// acl(5) as linux/posix_acl_xattr.h has it: user::rwx, group::rwx, other::---
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255}
	parent := s.lookup(t, 1, "d").NodeId
	_, err := s.ask(t, message(opSetxattr, parent, setxattrIn{Size: uint32(len(acl))}, defaultACL+"\x00", string(acl)))
	if err == syscall.EOPNOTSUPP {
		t.Skip("the file system of the test has no ACLs")
	}
	if err != 0 {
		t.Fatal(err)
	}
	if _, err := s.ask(t, message(opCreate, parent, fuse.CreateIn{Flags: syscall.O_RDWR, Mode: syscall.S_IFREG | 0o666, Umask: 0o077}, "f\x00")); err != 0 {
		t.Fatal(err)
	}
	st, serr := os.Stat(filepath.Join(dir, "d", "f"))
	if serr != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want what the ACL says and not the umask", st.Mode(), serr)
	}
}

// setxattrIn is struct fuse_setxattr_in without FUSE_SETXATTR_EXT.
type setxattrIn struct {
	fuse.InHeader
	Size, Flags uint32
}
