//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attributeCases are xattr(7) of users and the ACLs of acl(5), which are
// attributes too.
func attributeCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	set := func(t *T, path, name, value string) {
		t.has("setxattr", unix.Setxattr(path, name, []byte(value), 0))
	}
	get := func(t *T, path, name string) string {
		buf := make([]byte, 64<<10)
		n, err := unix.Getxattr(path, name, buf)
		t.ok("getxattr", err)
		return string(buf[:n])
	}
	for _, n := range []int{0, 1, 100, 1000, 3000} {
		add(fmt.Sprintf("an attribute of %d bytes", n), func(t *T) {
			for _, path := range []string{t.file("f", ""), t.mkdir("d")} {
				set(t, path, "user.key", pattern(n, 0))
				same(t, "the value", get(t, path, "user.key"), pattern(n, 0))
				size, err := unix.Getxattr(path, "user.key", nil)
				t.ok("getxattr", err)
				same(t, "the size", size, n)
			}
		})
	}
	add("an attribute of what is open", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDWR)
		t.has("fsetxattr", unix.Fsetxattr(fd, "user.a", []byte("value"), 0))
		same(t, "the value", get(t, t.at("f"), "user.a"), "value")
		t.ok("fremovexattr", unix.Fremovexattr(fd, "user.a"))
		_, err := unix.Fgetxattr(fd, "user.a", nil)
		t.is("fgetxattr", err, unix.ENODATA)
	})
	add("a list of attributes", func(t *T) {
		path := t.file("f", "")
		for _, name := range []string{"user.b", "user.a", "user.a long name with spaces"} {
			set(t, path, name, "1")
		}
		buf := make([]byte, 1000)
		n, err := unix.Listxattr(path, buf)
		t.ok("listxattr", err)
		var mine []string
		for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
			if strings.HasPrefix(name, "user.") {
				mine = append(mine, name)
			}
		}
		slices.Sort(mine)
		same(t, "the list", strings.Join(mine, ","), "user.a,user.a long name with spaces,user.b")
		_, err = unix.Listxattr(path, buf[:3])
		t.is("listxattr into a small buffer", err, unix.ERANGE)
	})
	add("an attribute into a small buffer", func(t *T) {
		path := t.file("f", "")
		set(t, path, "user.a", "0123456789")
		_, err := unix.Getxattr(path, "user.a", make([]byte, 4))
		t.is("getxattr", err, unix.ERANGE)
	})
	add("XATTR_CREATE and XATTR_REPLACE", func(t *T) {
		path := t.file("f", "")
		t.has("setxattr", unix.Setxattr(path, "user.a", []byte("1"), unix.XATTR_CREATE))
		t.is("setxattr", unix.Setxattr(path, "user.a", []byte("2"), unix.XATTR_CREATE), unix.EEXIST)
		t.ok("setxattr", unix.Setxattr(path, "user.a", []byte("3"), unix.XATTR_REPLACE))
		same(t, "the value", get(t, path, "user.a"), "3")
		t.is("setxattr", unix.Setxattr(path, "user.b", []byte("4"), unix.XATTR_REPLACE), unix.ENODATA)
	})
	add("an attribute that is missing", func(t *T) {
		path := t.file("f", "")
		set(t, path, "user.a", "1")
		_, err := unix.Getxattr(path, "user.b", nil)
		t.is("getxattr", err, unix.ENODATA)
		t.is("removexattr", unix.Removexattr(path, "user.b"), unix.ENODATA)
	})
	add("an attribute of a name too long", func(t *T) {
		path := t.file("f", "")
		set(t, path, "user.a", "1")
		t.is("setxattr", unix.Setxattr(path, "user."+strings.Repeat("x", 251), []byte("1"), 0), unix.ERANGE, unix.EOPNOTSUPP, unix.ENAMETOOLONG)
	})
	add("an attribute of users on a link", func(t *T) {
		t.is("lsetxattr", unix.Lsetxattr(t.symlink("none", "l"), "user.a", []byte("1"), 0), unix.EPERM, unix.EOPNOTSUPP)
	})
	add("an attribute survives rename and link", func(t *T) {
		path := t.file("f", "")
		set(t, path, "user.a", "1")
		t.ok("rename", unix.Rename(path, t.at("g")))
		t.ok("link", unix.Link(t.at("g"), t.at("h")))
		same(t, "the value", get(t, t.at("h"), "user.a"), "1")
	})
	add("an ACL", func(t *T) {
		path := t.file("f", "data")
		t.has("setxattr", unix.Setxattr(path, "system.posix_acl_access", acl(0o6, 4242, 0o4, 0, 0o4, 0), 0))
		same(t, "the mode shows the mask", t.stat(path).Mode&0o777, 0o640)
		same(t, "the ACL", get(t, path, "system.posix_acl_access"), string(acl(0o6, 4242, 0o4, 0, 0o4, 0)))
		t.ok("chmod", unix.Chmod(path, 0o600))
		same(t, "the ACL after chmod", get(t, path, "system.posix_acl_access"), string(acl(0o6, 4242, 0o4, 0, 0, 0)))
	})
	cases = append(cases, testCase{name: "an ACL lets a user in", root: true, run: func(t *T) {
		path := t.file("f", "data")
		t.has("setxattr", unix.Setxattr(path, "system.posix_acl_access", acl(0o6, 4242, 0o4, 0, 0o4, 0), 0))
		t.as(4242, 4242, nil, func() {
			t.holds(path, "data")
			t.is("open", opened(path, unix.O_WRONLY, 0), unix.EACCES)
		})
		t.as(4243, 4243, nil, func() { t.is("open", opened(path, unix.O_RDONLY, 0), unix.EACCES) })
	}})
	add("an ACL that new files inherit", func(t *T) {
		d := t.mkdir("d")
		t.has("setxattr", unix.Setxattr(d, "system.posix_acl_default", acl(0o7, 4242, 0o6, 0o4, 0o7, 0), 0))
		t.file("d/f", "")
		buf := make([]byte, 1000)
		n, err := unix.Getxattr(d+"/f", "system.posix_acl_access", buf)
		t.ok("getxattr", err)
		// The mode of open masks it: 0644.
		same(t, "the ACL", string(buf[:n]), string(acl(0o6, 4242, 0o6, 0o4, 0o4, 0)))
	})
	for _, name := range []string{"trusted.a", "security.capability"} {
		add(name+" by who may not", func(t *T) {
			path := t.file("f", "")
			t.unprivileged(func() {
				t.is("setxattr", unix.Setxattr(path, name, []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0), unix.EPERM, unix.EOPNOTSUPP)
			}, path)
		})
	}
	return cases
}

// acl is an ACL in the form of linux/posix_acl_xattr.h with one named user.
func acl(owner, uid, user, group, mask, other int) []byte {
	const undefined = 1<<32 - 1
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]int{{1, owner, undefined}, {2, user, uid}, {4, group, undefined}, {0x10, mask, undefined}, {0x20, other, undefined}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, uint32(e[2]))
	}
	return b
}

// miscCases are the rest.
func miscCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	add("statfs", func(t *T) {
		var fs unix.Statfs_t
		t.ok("statfs", unix.Statfs(t.dir, &fs))
		if fs.Namelen < 255 || fs.Bsize <= 0 || fs.Blocks == 0 || fs.Bfree > fs.Blocks || fs.Bavail > fs.Bfree {
			t.fail("it says %+v", fs)
		}
		var same unix.Statfs_t
		t.ok("fstatfs", unix.Fstatfs(t.open(t.file("f", ""), unix.O_RDONLY), &same))
		if same.Type != fs.Type || same.Bsize != fs.Bsize || same.Blocks != fs.Blocks {
			t.fail("fstatfs of a file says %+v, statfs of its directory %+v", same, fs)
		}
	})
	add("access", func(t *T) {
		path := t.file("f", "")
		t.ok("chmod", unix.Chmod(path, 0o400))
		t.unprivileged(func() {
			t.ok("access R_OK", unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS))
			t.is("access W_OK", unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS), unix.EACCES)
			t.is("access X_OK", unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS), unix.EACCES)
		}, path)
	})
	add("stat of all names is the same", func(t *T) {
		path := t.file("f", "data")
		a, b := t.stat(path), t.fstat(t.open(path, unix.O_RDONLY))
		same(t, "the device and inode", fmt.Sprint(b.Dev, b.Ino), fmt.Sprint(a.Dev, a.Ino))
		same(t, "the size", b.Size, 4)
		same(t, "the device of the directory", t.stat(t.dir).Dev, a.Dev)
	})
	add("two files have two inodes", func(t *T) {
		seen := map[uint64]bool{}
		for i := range 100 {
			ino := t.stat(t.file(fmt.Sprint(i), "")).Ino
			if seen[ino] {
				t.fail("inode %d is there twice", ino)
			}
			seen[ino] = true
		}
	})
	add("a program runs", func(t *T) {
		exe, err := os.ReadFile("/proc/self/exe")
		t.ok("read", err)
		t.ok("write", os.WriteFile(t.at("prog"), exe, 0o755))
		t.ok("run", t.execute(t.at("prog")))
	})
	add("a script runs by its interpreter", func(t *T) {
		exe, err := os.ReadFile("/proc/self/exe")
		t.ok("read", err)
		t.ok("write", os.WriteFile(t.at("prog"), exe, 0o755))
		t.ok("write", os.WriteFile(t.at("script"), []byte("#!"+t.at("prog")+" child\n"), 0o755))
		t.ok("run", t.script(t.at("script")))
	})
	add("a program without x", func(t *T) {
		exe, err := os.ReadFile("/proc/self/exe")
		t.ok("read", err)
		t.ok("write", os.WriteFile(t.at("prog"), exe, 0o644))
		t.is("execve", t.execute(t.at("prog")), unix.EACCES)
	})
	add("a program that runs is not written", func(t *T) {
		exe, err := os.ReadFile("/proc/self/exe")
		t.ok("read", err)
		t.ok("write", os.WriteFile(t.at("prog"), exe, 0o755))
		c := t.child(t.at("prog"), "locks", t.file("f", ""))
		t.is("open", opened(t.at("prog"), unix.O_WRONLY, 0), unix.ETXTBSY)
		t.ok("unlink", unix.Unlink(t.at("prog")))
		same(t, "what it says when its name is gone", c.ask("hello"), "hello")
	})
	return cases
}
