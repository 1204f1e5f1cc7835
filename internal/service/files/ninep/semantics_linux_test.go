package ninep

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

func TestFileLife(t *testing.T) {
	dir := t.TempDir()
	c := mount(t, dir, tree.Options{}, Limits{})
	c.create(1, "f", oRdwr|oExcl, 0o640)
	if n, err := c.write(1, 3, []byte("hello")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if b, err := c.pread(1, 0, 100); err != nil || string(b) != "\x00\x00\x00hello" {
		t.Fatalf("%q, %v", b, err)
	}
	if b, err := c.pread(1, 8, 100); err != nil || len(b) != 0 {
		t.Fatalf("at the end: %q, %v", b, err)
	}
	a := c.mustStat(1)
	if a.Mode != unix.S_IFREG|0o640 || a.Size != 8 || a.Nlink != 1 {
		t.Errorf("mode %o, %d bytes, %d links", a.Mode, a.Size, a.Nlink)
	}
	c.must(tFsync, 1, 0)
	c.must(tFsync, 1, 1)

	// Open in two places, renamed over, unlinked: it is still the same file.
	c.mustWalk(0, 2, "f")
	c.must(tLopen, 2, 0)
	c.create(3, "other", oWronly, 0o600)
	c.must(tRenameat, 0, "other", 0, "f")
	if b, err := c.pread(2, 3, 5); err != nil || string(b) != "hello" {
		t.Errorf("a file that was renamed over: %q, %v", b, err)
	}
	if a := c.mustStat(2); a.Nlink != 0 {
		t.Errorf("%d links of a file without a name", a.Nlink)
	}
	// Attributes of what has no name go to what is open.
	c.must(tSetattr, 1, attrMode|attrSize, 0o600, 0, 0, uint64(4), uint64(0), uint64(0), uint64(0), uint64(0))
	if a := c.mustStat(2); a.Size != 4 || a.Mode&0o777 != 0o600 {
		t.Errorf("%d bytes and mode %o", a.Size, a.Mode)
	}
	c.mustWalk(2, 4) // a second fid of it, which is not open
	c.must(tLopen, 4, oWronly|oTrunc)
	if a := c.mustStat(2); a.Size != 0 {
		t.Errorf("%d bytes after O_TRUNC", a.Size)
	}
	if fi, err := os.Stat(filepath.Join(dir, "f")); err != nil || fi.Size() != 0 || fi.Mode() != 0o600 {
		t.Errorf("the other one: %v, %v", fi, err)
	}
	for fid := 1; fid <= 4; fid++ {
		c.must(tClunk, fid)
	}
	c.want(syscall.EBADF, tClunk, 1)
	c.want(syscall.ENOENT, tWalk, 0, 1, uint16(1), "other")
}

// A client that caches writes pages that it has, from their first byte, with
// whatever file is open for writing.
func TestAppendingIsTheClients(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "log"), "one\n")
	c := mount(t, dir, tree.Options{}, Limits{})
	c.mustWalk(0, 1, "log")
	c.must(tLopen, 1, oRdwr|oAppend)
	if _, err := c.write(1, 0, []byte("one\ntwo\n")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir, "log"); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
}

// One that caches nothing has only appended what it writes, whatever it takes
// for the end.
func TestAppendingWithoutACache(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "log"), "one\n")
	c := mount(t, dir, tree.Options{}, Limits{Uncached: true})
	c.mustWalk(0, 1, "log")
	c.must(tLopen, 1, oWronly|oAppend)
	c.create(2, "new", oRdwr|oAppend, 0o644)
	for _, off := range []uint64{0, 4, 1 << 20} {
		for fid := 1; fid <= 2; fid++ {
			if _, err := c.write(fid, off, []byte("more\n")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := content(t, dir, "log"); got != "one\nmore\nmore\nmore\n" {
		t.Errorf("%q", got)
	}
	if got := content(t, dir, "new"); got != "more\nmore\nmore\n" {
		t.Errorf("%q", got)
	}
}

func TestOpenFlags(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "text")
	unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666)
	os.Symlink("f", filepath.Join(dir, "link"))
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	c := mount(t, dir, tree.Options{}, Limits{})
	c.mustWalk(0, 1)
	c.want(syscall.EEXIST, tLcreate, 1, "f", oRdwr|oExcl, 0o644, 0)
	c.must(tLcreate, 1, "f", oRdwr, 0o644, 0) // without O_EXCL it is opened
	if b, _ := c.pread(1, 0, 9); string(b) != "text" {
		t.Errorf("%q", b)
	}
	c.mustWalk(0, 2)
	c.want(syscall.ENXIO, tLcreate, 2, "fifo", oRdwr, 0o644, 0)
	c.want(syscall.ELOOP, tLcreate, 2, "link", oRdwr, 0o644, 0)
	c.want(syscall.EISDIR, tLcreate, 2, "d", oRdwr, 0o644, 0)
	for name, no := range map[string]syscall.Errno{"fifo": syscall.ENXIO, "link": syscall.ELOOP} {
		c.mustWalk(0, 3, name)
		c.want(no, tLopen, 3, 0)
		c.must(tClunk, 3)
	}
	c.mustWalk(0, 3, "d")
	c.want(syscall.EISDIR, tLopen, 3, oWronly)
	c.must(tLopen, 3, oDirectory)
	c.want(syscall.EBUSY, tLopen, 3, 0)
	c.mustWalk(0, 4, "f")
	c.want(syscall.ENOTDIR, tLopen, 4, oDirectory)
	c.want(syscall.EBADF, tRead, 4, uint64(0), 1) // not open
	c.must(tLopen, 4, 0)
	c.want(syscall.EBADF, tWrite, 4, uint64(0), 1, []byte("x")) // not for writing
	c.want(syscall.EISDIR, tRead, 3, uint64(0), 1)
	c.want(syscall.ENOTDIR, tReaddir, 4, uint64(0), 1000)
}

func TestLinksAndNodes(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	c := mount(t, dir, tree.Options{}, Limits{})
	c.must(tMkdir, 0, "d", 0, 0) // mode 0
	c.must(tSymlink, 0, "l", "/etc/passwd", 0)
	c.must(tMknod, 0, "p", unix.S_IFIFO|0o640, 0, 0, 0)
	c.must(tMknod, 0, "s", unix.S_IFSOCK|0o600, 0, 0, 0)
	c.want(syscall.EPERM, tMknod, 0, "c", unix.S_IFCHR|0o600, 1, 3, 0)
	c.want(syscall.EPERM, tMknod, 0, "b", unix.S_IFBLK|0o600, 8, 0, 0)
	for name, mode := range map[string]uint32{"d": unix.S_IFDIR, "l": unix.S_IFLNK | 0o777, "p": unix.S_IFIFO | 0o640, "s": unix.S_IFSOCK | 0o600} {
		c.mustWalk(0, 9, name)
		if a := c.mustStat(9); a.Mode != mode {
			t.Errorf("%s has mode %o, want %o", name, a.Mode, mode)
		}
		c.must(tClunk, 9)
	}
	c.mustWalk(0, 1, "l")
	d := decode(c.must(tReadlink, 1))
	if s := d.str(); s != "/etc/passwd" {
		t.Errorf("the link leads to %q", s)
	}
	c.must(tLink, 0, 1, "l2") // a link of the link
	if s, err := os.Readlink(filepath.Join(dir, "l2")); s != "/etc/passwd" {
		t.Error(s, err)
	}
	c.mustWalk(0, 2, "f")
	c.want(syscall.EINVAL, tReadlink, 2)
	c.must(tLink, 0, 2, "g")
	if a := c.mustStat(2); a.Nlink != 2 {
		t.Errorf("%d links", a.Nlink)
	}
	c.mustWalk(0, 3, "g")
	if a, b := c.mustStat(2), c.mustStat(3); a.Ino != b.Ino || a.Gen != b.Gen {
		t.Error("two names of a file have different numbers")
	}
	c.mustWalk(0, 4, "d")
	c.want(syscall.EPERM, tLink, 0, 4, "d2")
	c.want(syscall.ENOTDIR, tUnlinkat, 0, "f", unix.AT_REMOVEDIR)
	c.want(syscall.EISDIR, tUnlinkat, 0, "d", 0)
	c.must(tUnlinkat, 0, "d", unix.AT_REMOVEDIR)
	c.must(tUnlinkat, 0, "f", 0)
	c.want(syscall.ENOENT, tMkdir, 4, "in", 0o755, 0) // in a directory that is gone
	c.must(tStatfs, 0)
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	c := mount(t, dir, tree.Options{}, Limits{})
	for _, name := range []string{strings.Repeat("n", 255), "\xff\xfe not UTF-8", "\n", " ", "...", "-", "\\"} {
		c.create(1, name, oWronly, 0o644)
		c.must(tClunk, 1)
		c.mustWalk(0, 1, name)
		c.must(tClunk, 1)
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
		c.must(tUnlinkat, 0, name, 0)
	}
}

func TestSparse(t *testing.T) {
	c := mount(t, t.TempDir(), tree.Options{}, Limits{})
	c.create(1, "f", oRdwr, 0o644)
	const far = 5<<30 + 7
	if _, err := c.write(1, far, []byte("end")); err != nil {
		t.Fatal(err)
	}
	if a := c.mustStat(1); a.Size != far+3 || a.Blocks > 1000 {
		t.Errorf("%d bytes in %d blocks", a.Size, a.Blocks)
	}
	if b, err := c.pread(1, far-1, 10); err != nil || string(b) != "\x00end" {
		t.Errorf("%q, %v", b, err)
	}
	c.want(syscall.EINVAL, tRead, 1, uint64(1<<63), 10)
	c.want(syscall.EFBIG, tWrite, 1, uint64(1<<63), 1, []byte("x"))
}

// TestTimes covers the forms of utimensat(2), and that what changes nothing
// touches nothing.
func TestTimes(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	c := mount(t, dir, tree.Options{}, Limits{})
	c.mustWalk(0, 1, "f")
	set := func(valid int, at, mt uint64) {
		t.Helper()
		c.must(tSetattr, 1, valid, 0, 0, 0, uint64(0), at, uint64(1), mt, uint64(2))
	}
	set(attrAtime|attrMtime|attrAtimeSet|attrMtimeSet, 100, 200)
	a := c.mustStat(1)
	if a.Atime != (tree.Timespec{Sec: 100, Nsec: 1}) || a.Mtime != (tree.Timespec{Sec: 200, Nsec: 2}) {
		t.Errorf("%v %v", a.Atime, a.Mtime)
	}
	set(attrMtime|attrMtimeSet, 0, 300)
	if a := c.mustStat(1); a.Atime.Sec != 100 || a.Mtime.Sec != 300 {
		t.Errorf("%v %v", a.Atime, a.Mtime)
	}
	before := c.mustStat(1)
	set(attrMtime|attrMtimeSet, 0, 300)
	set(attrMtime|attrMtimeSet|attrCtime, 0, 300) // as Linux has it
	if after := c.mustStat(1); after.Ctime != before.Ctime {
		t.Error("a time that was there already moved the change time")
	}
	set(attrAtime|attrMtime, 0, 0)
	if a := c.mustStat(1); a.Atime.Sec < 1e9 || a.Mtime.Sec < 1e9 {
		t.Errorf("now is %v %v", a.Atime, a.Mtime)
	}
	// Before 1970.
	set(attrMtime|attrMtimeSet, 0, ^uint64(0)-9)
	if a := c.mustStat(1); a.Mtime.Sec != -10 {
		t.Errorf("%v", a.Mtime)
	}
	c.want(syscall.EINVAL, tSetattr, 1, attrMtime|attrMtimeSet, 0, 0, 0, uint64(0), uint64(0), uint64(0), uint64(0), uint64(1e9))
}

func TestXattrs(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	if err := unix.Setxattr(filepath.Join(dir, "f"), "user.a", []byte("1"), 0); err != nil {
		t.Logf("the file system of %s has no extended attributes: %v", dir, err)
		return
	}
	c := mount(t, dir, tree.Options{}, Limits{})
	c.mustWalk(0, 1, "f")
	get := func(name string) (string, error) {
		b, err := c.call(tXattrwalk, 1, 2, name)
		if err != nil {
			return "", err
		}
		d := decode(b)
		size := d.u64()
		v, err := c.pread(2, 0, int(size)+10)
		c.must(tClunk, 2)
		if err == nil && uint64(len(v)) != size {
			t.Errorf("%q has %d bytes and not %d", name, len(v), size)
		}
		return string(v), err
	}
	set := func(name, value string, flags int) error {
		c.mustWalk(1, 3)
		if _, err := c.call(tXattrcreate, 3, name, uint64(len(value)), flags); err != nil {
			c.must(tClunk, 3)
			return err
		}
		for off := 0; off < len(value); off += 1000 {
			part := value[off:min(off+1000, len(value))]
			if _, err := c.write(3, uint64(off), []byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.call(tClunk, 3)
		return err
	}
	check := func(name, value string) {
		t.Helper()
		if v, err := get(name); v != value || err != nil {
			t.Errorf("%s is %.20q, %v", name, v, err)
		}
	}
	check("user.a", "1")
	long := strings.Repeat("x", 3000)
	for _, err := range []error{set("user.b", long, 0), set("user.empty", "", 0), set("user.a", "2", tree.XattrReplace)} {
		if err != nil {
			t.Error(err)
		}
	}
	check("user.a", "2")
	check("user.b", long)
	check("user.empty", "")
	if err := set("user.a", "3", tree.XattrCreate); err != syscall.EEXIST {
		t.Error(err)
	}
	if err := set("user.c", "3", tree.XattrReplace); err != syscall.ENODATA {
		t.Error(err)
	}
	if err := set("user.a", "", tree.XattrReplace); err != nil { // removes
		t.Error(err)
	}
	if _, err := get("user.a"); err != syscall.ENODATA {
		t.Error(err)
	}
	for _, name := range []string{"security.capability", "trusted.x", "system.nfs4_acl", "nonsense"} {
		if err := set(name, "x", 0); err != syscall.EOPNOTSUPP {
			t.Errorf("setting %s: %v", name, err)
		}
		if _, err := get(name); err != syscall.ENODATA {
			t.Errorf("getting %s: %v", name, err)
		}
	}
	list, err := get("")
	if err != nil || !strings.Contains(list, "user.b\x00") || strings.Contains(list, "user.a\x00") {
		t.Errorf("%q, %v", list, err)
	}
	// u::rw-, u:12:r--, g::r--, m::r--, o::---
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x0c\x00\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	if err := set("system.posix_acl_access", acl, 0); err == syscall.EOPNOTSUPP {
		t.Log("the file system has no ACLs")
	} else if err != nil {
		t.Error(err)
	} else {
		check("system.posix_acl_access", acl)
	}
}

func TestReaddir(t *testing.T) {
	const files = 20000
	dir := t.TempDir()
	for i := range files {
		write(t, filepath.Join(dir, fmt.Sprintf("file-with-a-name-%d", i)), "")
	}
	c := mount(t, dir, tree.Options{}, Limits{})
	c.mustWalk(0, 1)
	c.must(tLopen, 1, oDirectory)
	seen := map[string]int{}
	for off := uint64(0); ; {
		es, err := c.list(1, off, 8192)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			seen[e.name]++
			off = e.offset
		}
	}
	if len(seen) != files+2 || seen["."] != 1 || seen[".."] != 1 {
		t.Errorf("%d entries", len(seen))
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s was listed %d times", name, n)
		}
	}
	c.want(syscall.EINVAL, tReaddir, 1, uint64(0), 10) // no entry fits

	// Any offset that was given out leads on, in any order.
	var all []entry
	for off := uint64(0); len(all) < 2000; {
		es, err := c.list(1, off, 4096)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, es...)
		off = all[len(all)-1].offset
	}
	for range 200 {
		i := rand.IntN(len(all) - 1)
		es, err := c.list(1, all[i].offset, 512)
		if err != nil || len(es) == 0 || es[0].name != all[i+1].name {
			t.Fatalf("after %v comes %v, not %v (%v)", all[i], es, all[i+1], err)
		}
	}

	// rm -rf: what was listed is removed while the list goes on.
	removed := 0
	for off := uint64(0); ; {
		es, err := c.list(1, off, 4096)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			off = e.offset
			if e.name != "." && e.name != ".." {
				c.must(tUnlinkat, 0, e.name, 0)
				removed++
			}
		}
	}
	if left, _ := os.ReadDir(dir); removed != files || len(left) != 0 {
		t.Errorf("%d were removed, %d are left", removed, len(left))
	}
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	c := mount(t, dir, tree.Options{ReadOnly: true}, Limits{})
	c.mustWalk(0, 1, "f")
	c.mustWalk(0, 2)
	a := c.mustStat(1)
	for _, m := range [][]any{
		{tLopen, 1, oWronly}, {tLopen, 1, oTrunc}, {tLcreate, 2, "g", oRdwr, 0o644, 0}, {tMkdir, 0, "d", 0o755, 0},
		{tSymlink, 0, "l", "f", 0}, {tMknod, 0, "p", unix.S_IFIFO | 0o644, 0, 0, 0}, {tLink, 0, 1, "g"},
		{tRenameat, 0, "f", 0, "g"}, {tUnlinkat, 0, "f", 0},
		{tSetattr, 1, attrMode, 0o600, 0, 0, uint64(0), uint64(0), uint64(0), uint64(0), uint64(0)},
	} {
		c.want(syscall.EROFS, uint8(m[0].(int)), m[1:]...)
	}
	c.must(tSetattr, 1, attrMtime|attrMtimeSet, 0, 0, 0, uint64(0), uint64(0), uint64(0), uint64(a.Mtime.Sec), uint64(a.Mtime.Nsec))
	c.must(tLopen, 1, 0)
	if b, err := c.pread(1, 0, 9); string(b) != "x" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestSingleFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config"), "text")
	write(t, filepath.Join(dir, "secret"), "no")
	c := mount(t, filepath.Join(dir, "config"), tree.Options{File: true}, Limits{})
	if a := c.mustStat(0); a.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("the root has mode %o", a.Mode)
	}
	c.mustWalk(0, 1, tree.FileName)
	c.want(syscall.ENOENT, tWalk, 0, 2, uint16(1), "secret")
	c.want(syscall.ENOENT, tWalk, 0, 2, uint16(1), "config")
	c.must(tLopen, 1, oRdwr)
	if _, err := c.write(1, 0, []byte("TEXT")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir, "config"); got != "TEXT" {
		t.Errorf("%q", got)
	}
	c.mustWalk(0, 2)
	c.must(tLopen, 2, 0)
	es, err := c.list(2, 0, 1000)
	if len(es) != 3 || err != nil || es[2].name != tree.FileName {
		t.Errorf("%v, %v", es, err)
	}
	if es, err = c.list(2, es[1].offset, 1000); len(es) != 1 || err != nil {
		t.Errorf("%v, %v", es, err)
	}
	c.mustWalk(0, 3)
	for _, m := range [][]any{{tLcreate, 3, "g", oRdwr, 0o644, 0}, {tMkdir, 0, "d", 0o755, 0}, {tUnlinkat, 0, tree.FileName, 0}, {tRenameat, 0, tree.FileName, 0, "g"}} {
		c.want(syscall.EPERM, uint8(m[0].(int)), m[1:]...)
	}
	c.must(tStatfs, 0)
}

// TestLargeMessages moves data in the largest messages there are.
func TestLargeMessages(t *testing.T) {
	c := mount(t, t.TempDir(), tree.Options{}, Limits{})
	c.create(1, "f", oRdwr, 0o644)
	data := make([]byte, maxMessage-ioHeader+1)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	if n, err := c.write(1, 0, data); n != len(data) || err != nil {
		t.Fatal(n, err)
	}
	b, err := c.pread(1, 0, 1<<30)
	if err != nil || len(b) != min(len(data), maxMessage-readHeader) || !bytes.Equal(b, data[:len(b)]) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
}

// TestOwnerOfAttach gives what is made to the user of the attach and the group
// of the request, as far as the server can: it has to be root.
func TestOwnerOfAttach(t *testing.T) {
	c := mount(t, t.TempDir(), tree.Options{}, Limits{})
	c.must(tAttach, 50, noFid, "", "", 1234)
	wantUID, wantGID := uint32(1234), uint32(99)
	if os.Geteuid() != 0 {
		wantUID, wantGID = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	c.mustWalk(50, 1)
	c.must(tLcreate, 1, "f", oRdwr, 0o600, 99)
	c.mustWalk(50, 2)
	c.must(tMkdir, 2, "d", 0o700, 99)
	c.must(tSymlink, 2, "l", "f", 99)
	for _, name := range []string{"f", "d", "l"} {
		c.mustWalk(0, 3, name)
		if a := c.mustStat(3); a.UID != wantUID || a.GID != wantGID {
			t.Errorf("%s belongs to %d:%d", name, a.UID, a.GID)
		}
		c.must(tClunk, 3)
	}
}

// TestFidsFollowRenames uses what it holds after its names, and those of the
// directories above, were changed.
func TestFidsFollowRenames(t *testing.T) {
	dir := t.TempDir()
	c := mount(t, dir, tree.Options{}, Limits{})
	for _, d := range []string{"a", "b"} {
		c.must(tMkdir, 0, d, 0o755, 0)
	}
	c.mustWalk(0, 1, "a")
	c.mustWalk(0, 2, "b")
	c.mustWalk(1, 3)
	c.must(tLcreate, 3, "f", oRdwr, 0o644, 0)
	c.must(tClunk, 3)
	c.mustWalk(1, 3, "f") // not open
	ino := c.mustStat(3).Ino
	check := func(path string) {
		t.Helper()
		if a, err := c.stat(3); err != nil || a.Ino != ino {
			t.Errorf("as %s: number %d, not %d (%v)", path, a.Ino, ino, err)
		}
		c.mustWalk(3, 4)
		c.must(tLopen, 4, oWronly|oTrunc)
		if _, err := c.write(4, 0, []byte(path)); err != nil {
			t.Error(err)
		}
		c.must(tClunk, 4)
		if got := content(t, dir, path); got != path {
			t.Errorf("%s has %q", path, got)
		}
	}
	check("a/f")
	c.must(tRenameat, 1, "f", 1, "g")
	check("a/g")
	c.must(tRenameat, 1, "g", 2, "h")
	check("b/h")
	c.must(tRenameat, 0, "b", 1, "inner") // the directory, into the other
	check("a/inner/h")
	c.must(tRenameat, 0, "a", 0, "top")
	check("top/inner/h")
	c.must(tRenameat, 2, "h", 2, "h")
	check("top/inner/h")
	c.must(tMkdir, 2, "new", 0o755, 0)
	if _, err := os.Stat(filepath.Join(dir, "top/inner/new")); err != nil {
		t.Error(err)
	}
}
