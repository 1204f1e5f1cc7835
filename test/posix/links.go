//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// linkCases are link(2).
func linkCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	add("link counts names", func(t *T) {
		path := t.file("f", "data")
		for i := range 5 {
			t.ok("link", unix.Link(path, t.at(fmt.Sprint("l", i))))
			same(t, "the names", int(t.stat(path).Nlink), 2+i)
			same(t, "the inode", t.stat(t.at(fmt.Sprint("l", i))).Ino, t.stat(path).Ino)
		}
		t.ok("unlink", unix.Unlink(path))
		same(t, "the names", t.stat(t.at("l0")).Nlink, 5)
		t.holds(t.at("l4"), "data")
	})
	add("all names of a file show what one of them gets", func(t *T) {
		path := t.file("f", "data")
		t.ok("link", unix.Link(path, t.at("l")))
		t.pwrite(t.open(t.at("l"), unix.O_RDWR), "DATA!", 0)
		t.holds(path, "DATA!")
		t.ok("chmod", unix.Chmod(t.at("l"), 0o604))
		same(t, "the mode", t.stat(path).Mode&0o7777, 0o604)
		t.ok("truncate", unix.Truncate(path, 2))
		same(t, "the size", t.stat(t.at("l")).Size, 2)
	})
	add("link of a directory", func(t *T) { t.is("link", unix.Link(t.mkdir("d"), t.at("l")), unix.EPERM) })
	add("link of a link", func(t *T) {
		t.file("f", "")
		t.ok("link", unix.Link(t.symlink("f", "s"), t.at("l")))
		same(t, "the type", t.stat(t.at("l")).Mode&unix.S_IFMT, unix.S_IFLNK)
		same(t, "the inode", t.stat(t.at("l")).Ino, t.stat(t.at("s")).Ino)
	})
	add("linkat that follows a link", func(t *T) {
		path := t.file("f", "data")
		t.symlink("f", "s")
		t.ok("linkat", unix.Linkat(unix.AT_FDCWD, t.at("s"), unix.AT_FDCWD, t.at("l"), unix.AT_SYMLINK_FOLLOW))
		same(t, "the inode", t.stat(t.at("l")).Ino, t.stat(path).Ino)
	})
	add("link of a FIFO", func(t *T) {
		t.ok("mkfifo", unix.Mkfifo(t.at("p"), 0o600))
		t.ok("link", unix.Link(t.at("p"), t.at("l")))
		same(t, "the names", t.stat(t.at("p")).Nlink, 2)
	})
	add("link in other directories", func(t *T) {
		t.mkdir("a")
		t.mkdir("b")
		t.file("a/f", "data")
		t.ok("link", unix.Link(t.at("a/f"), t.at("b/l")))
		t.ok("unlink", unix.Unlink(t.at("a/f")))
		t.holds(t.at("b/l"), "data")
	})
	add("link to what is open and has lost its name", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDWR)
		t.ok("unlink", unix.Unlink(t.at("f")))
		t.is("linkat", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, t.at("l"), unix.AT_SYMLINK_FOLLOW), unix.ENOENT)
	})
	return cases
}

// symlinkCases are symlink(2) and readlink(2).
func symlinkCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	for _, n := range []int{1, 59, 60, 61, 255, 256, 1000, 4094, 4095} {
		add(fmt.Sprintf("a link of %d bytes", n), func(t *T) {
			// A path whose parts are no longer than a name may be.
			target := (strings.Repeat("0123456789/", n/11+1))[:n]
			t.symlink(target, "l")
			buf := make([]byte, 5000)
			got, err := unix.Readlink(t.at("l"), buf)
			t.ok("readlink", err)
			same(t, "the target", string(buf[:got]), target)
			same(t, "the size", t.stat(t.at("l")).Size, int64(n))
		})
	}
	add("a link of PATH_MAX", func(t *T) {
		t.is("symlink", unix.Symlink(strings.Repeat("x", 4096), t.at("l")), unix.ENAMETOOLONG)
	})
	add("an empty link", func(t *T) { t.is("symlink", unix.Symlink("", t.at("l")), unix.ENOENT) })
	add("readlink of what is no link", func(t *T) {
		buf := make([]byte, 10)
		_, err := unix.Readlink(t.file("f", ""), buf)
		t.is("readlink", err, unix.EINVAL)
		_, err = unix.Readlink(t.mkdir("d"), buf)
		t.is("readlink", err, unix.EINVAL)
	})
	add("readlink into a small buffer", func(t *T) {
		buf := make([]byte, 4)
		n, err := unix.Readlink(t.symlink("0123456789", "l"), buf)
		t.ok("readlink", err)
		same(t, "the target", string(buf[:n]), "0123")
	})
	add("40 links one after the other", func(t *T) {
		t.file("0", "data")
		for i := 1; i <= 41; i++ {
			t.symlink(fmt.Sprint(i-1), fmt.Sprint(i))
		}
		t.holds(t.at("40"), "data")
		t.is("open", opened(t.at("41"), unix.O_RDONLY, 0), unix.ELOOP)
	})
	add("a link to itself", func(t *T) {
		t.is("open", opened(t.symlink("l", "l"), unix.O_RDONLY, 0), unix.ELOOP)
		t.is("open", opened(t.at("l"), unix.O_WRONLY|unix.O_CREAT, 0o600), unix.ELOOP)
	})
	add("an absolute link", func(t *T) {
		t.file("f", "data")
		t.holds(t.symlink(t.at("f"), "l"), "data")
	})
	add("a link to the parent", func(t *T) {
		t.file("f", "data")
		t.mkdir("d")
		t.symlink("../f", "d/l")
		t.holds(t.at("d/l"), "data")
	})
	add("a link's mode", func(t *T) { same(t, "the mode", t.stat(t.symlink("x", "l")).Mode, unix.S_IFLNK|0o777) })
	add("a link whose target is replaced", func(t *T) {
		t.file("a", "first")
		t.symlink("a", "l")
		t.holds(t.at("l"), "first")
		t.file("b", "second")
		t.ok("symlink", unix.Symlink("b", t.at("new")))
		t.ok("rename", unix.Rename(t.at("new"), t.at("l")))
		t.holds(t.at("l"), "second")
	})
	return cases
}

// kinds are the types of what renames move and replace.
var kinds = []struct {
	name string
	make func(*T, string)
	dir  bool
}{
	{"a file", func(t *T, n string) { t.file(n, n) }, false},
	{"a link", func(t *T, n string) { t.symlink("none", n) }, false},
	{"a FIFO", func(t *T, n string) { t.ok("mkfifo", unix.Mkfifo(t.at(n), 0o600)) }, false},
	{"a socket", func(t *T, n string) { t.ok("mknod", unix.Mknod(t.at(n), unix.S_IFSOCK|0o600, 0)) }, false},
	{"an empty directory", func(t *T, n string) { t.mkdir(n) }, true},
	{"a full directory", func(t *T, n string) { t.mkdir(n); t.file(n+"/in", "") }, true},
}

// renameCases are rename(2) and renameat2(2).
func renameCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	for _, from := range kinds {
		add("rename of "+from.name, func(t *T) {
			from.make(t, "a")
			before := t.stat(t.at("a"))
			t.mkdir("d")
			for _, to := range []string{"b", "d/c", "d/d", "a"} {
				t.ok("rename to "+to, unix.Rename(t.at(map[string]string{"b": "a", "d/c": "b", "d/d": "d/c", "a": "d/d"}[to]), t.at(to)))
				same(t, "the inode", t.stat(t.at(to)).Ino, before.Ino)
			}
			list, err := names(t.dir)
			t.ok("readdir", err)
			same(t, "what is there", strings.Join(list, " "), "a d")
		})
		for _, to := range kinds {
			add("rename of "+from.name+" over "+to.name, func(t *T) {
				from.make(t, "a")
				to.make(t, "b")
				before, there := t.stat(t.at("a")), t.stat(t.at("b"))
				err := unix.Rename(t.at("a"), t.at("b"))
				switch {
				case from.dir && !to.dir:
					t.is("rename", err, unix.ENOTDIR)
				case !from.dir && to.dir:
					t.is("rename", err, unix.EISDIR)
				case to.name == "a full directory":
					t.is("rename", err, unix.ENOTEMPTY, unix.EEXIST)
				default:
					t.ok("rename", err)
					same(t, "the inode", t.stat(t.at("b")).Ino, before.Ino)
					if !missing(t.at("a")) {
						t.fail("the old name is still there")
					}
					return
				}
				same(t, "the inode of what was not moved", t.stat(t.at("a")).Ino, before.Ino)
				same(t, "the inode of what was not replaced", t.stat(t.at("b")).Ino, there.Ino)
			})
		}
	}
	add("rename over an open file", func(t *T) {
		old := t.open(t.file("b", "old"), unix.O_RDWR)
		moved := t.open(t.file("a", "new"), unix.O_RDWR)
		t.ok("rename", unix.Rename(t.at("a"), t.at("b")))
		same(t, "what is read of the one replaced", t.pread(old, 3, 0), "old")
		t.pwrite(old, "OLD", 0)
		same(t, "what is read of the one replaced", t.pread(old, 3, 0), "OLD")
		same(t, "the names of the one replaced", t.fstat(old).Nlink, 0)
		t.pwrite(moved, "NEW", 0)
		t.holds(t.at("b"), "NEW")
		t.ok("fchmod", unix.Fchmod(moved, 0o601))
		same(t, "the mode", t.stat(t.at("b")).Mode&0o7777, 0o601)
	})
	add("rename over another name of the same file", func(t *T) {
		t.file("a", "data")
		t.ok("link", unix.Link(t.at("a"), t.at("b")))
		t.ok("rename", unix.Rename(t.at("a"), t.at("b")))
		same(t, "the names", t.stat(t.at("a")).Nlink, 2)
		same(t, "the names", t.stat(t.at("b")).Nlink, 2)
	})
	add("rename over itself", func(t *T) {
		path := t.file("a", "data")
		t.ok("rename", unix.Rename(path, path))
		t.holds(path, "data")
	})
	add("rename of a directory into itself", func(t *T) {
		d := t.mkdir("d")
		t.mkdir("d/e")
		t.is("rename", unix.Rename(d, d+"/x"), unix.EINVAL)
		t.is("rename", unix.Rename(d, d+"/e/x"), unix.EINVAL)
		t.is("rename over the parent", unix.Rename(d+"/e", d), unix.ENOTEMPTY, unix.EEXIST)
	})
	add("rename of . and ..", func(t *T) {
		d := t.mkdir("d")
		t.is("rename .", unix.Rename(d+"/.", t.at("x")), unix.EBUSY, unix.EINVAL)
		t.is("rename ..", unix.Rename(d+"/..", t.at("x")), unix.EBUSY, unix.EINVAL)
		t.is("rename to .", unix.Rename(t.mkdir("e"), d+"/."), unix.EBUSY, unix.EINVAL)
	})
	add("rename of a file to a name with a slash behind", func(t *T) {
		t.is("rename", unix.Rename(t.file("f", ""), t.at("g/")), unix.ENOTDIR)
	})
	add("rename of a tree that is open", func(t *T) {
		t.mkdir("a")
		t.mkdir("a/b")
		file := t.open(t.file("a/b/f", "data"), unix.O_RDWR)
		dir := t.open(t.at("a/b"), unix.O_RDONLY|unix.O_DIRECTORY)
		t.ok("rename", unix.Rename(t.at("a"), t.at("z")))
		same(t, "what is read", t.pread(file, 4, 0), "data")
		t.ok("fstatat", unix.Faccessat(dir, "f", unix.F_OK, 0))
		t.ok("mkdirat", unix.Mkdirat(dir, "new", 0o755))
		t.stat(t.at("z/b/new"))
		t.holds(t.at("z/b/f"), "data")
		t.is("the old path", unix.Access(t.at("a/b/f"), unix.F_OK), unix.ENOENT)
	})
	add("rename of a directory to another parent updates ..", func(t *T) {
		t.mkdir("a")
		t.mkdir("b")
		t.mkdir("a/d")
		t.ok("rename", unix.Rename(t.at("a/d"), t.at("b/d")))
		same(t, "the inode of ..", t.stat(t.at("b/d/..")).Ino, t.stat(t.at("b")).Ino)
	})
	add("100 renames over one name", func(t *T) {
		for i := range 100 {
			t.file("new", fmt.Sprint(i))
			t.ok("rename", unix.Rename(t.at("new"), t.at("f")))
			t.holds(t.at("f"), fmt.Sprint(i))
		}
	})
	add("RENAME_NOREPLACE", func(t *T) {
		t.file("a", "a")
		err := unix.Renameat2(unix.AT_FDCWD, t.at("a"), unix.AT_FDCWD, t.at("c"), unix.RENAME_NOREPLACE)
		t.has("renameat2", err, unix.EINVAL)
		t.file("b", "b")
		t.is("renameat2", unix.Renameat2(unix.AT_FDCWD, t.at("c"), unix.AT_FDCWD, t.at("b"), unix.RENAME_NOREPLACE), unix.EEXIST)
		t.holds(t.at("b"), "b")
	})
	add("RENAME_EXCHANGE", func(t *T) {
		t.file("a", "a")
		t.mkdir("b")
		err := unix.Renameat2(unix.AT_FDCWD, t.at("a"), unix.AT_FDCWD, t.at("b"), unix.RENAME_EXCHANGE)
		t.has("renameat2", err, unix.EINVAL)
		t.holds(t.at("b"), "a")
		t.is("open", opened(t.at("a"), unix.O_WRONLY, 0), unix.EISDIR)
	})
	return cases
}

// nodeCases are mkfifo(2) and mknod(2).
func nodeCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	for _, k := range []struct {
		name string
		kind uint32
	}{{"a file", unix.S_IFREG}, {"a FIFO", unix.S_IFIFO}, {"a socket", unix.S_IFSOCK}} {
		add("mknod of "+k.name, func(t *T) {
			t.ok("mknod", unix.Mknod(t.at("x"), k.kind|0o640, 0))
			same(t, "the mode", t.stat(t.at("x")).Mode, k.kind|0o640)
		})
	}
	add("mknod of a device by who may not", func(t *T) {
		t.unprivileged(func() {
			t.is("mknod", unix.Mknod(t.at("x"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))), unix.EPERM)
			t.is("mknod", unix.Mknod(t.at("x"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))), unix.EPERM)
		}, t.dir)
	})
	add("mknod of a directory", func(t *T) {
		t.is("mknod", unix.Mknod(t.at("x"), unix.S_IFDIR|0o755, 0), unix.EPERM, unix.EINVAL)
	})
	add("a FIFO carries data", func(t *T) {
		t.ok("mkfifo", unix.Mkfifo(t.at("p"), 0o600))
		// O_RDWR does not wait for the other side, fifo(7).
		a, b := t.open(t.at("p"), unix.O_RDWR), t.open(t.at("p"), unix.O_WRONLY)
		t.write(b, "through")
		buf := make([]byte, 16)
		n, err := unix.Read(a, buf)
		t.ok("read", err)
		same(t, "what is read", string(buf[:n]), "through")
		t.is("lseek", func() error { _, err := unix.Seek(a, 0, 0); return err }(), unix.ESPIPE)
	})
	add("a FIFO without a reader", func(t *T) {
		t.ok("mkfifo", unix.Mkfifo(t.at("p"), 0o600))
		t.is("open", opened(t.at("p"), unix.O_WRONLY|unix.O_NONBLOCK, 0), unix.ENXIO)
		t.ok("open", opened(t.at("p"), unix.O_RDONLY|unix.O_NONBLOCK, 0))
	})
	add("a socket that is bound", func(t *T) {
		// The path of a socket is short, unix(7).
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		t.ok("socket", err)
		t.closes = append(t.closes, fd)
		dir, err := os.Open(t.dir)
		t.ok("open", err)
		defer dir.Close()
		at := fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd())
		t.ok("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: at}))
		same(t, "the type", t.stat(t.at("s")).Mode&unix.S_IFMT, unix.S_IFSOCK)
		t.ok("listen", unix.Listen(fd, 1))
		client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		t.ok("socket", err)
		t.closes = append(t.closes, client)
		t.ok("connect", unix.Connect(client, &unix.SockaddrUnix{Name: at}))
		t.is("bind again", func() error {
			again, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			t.ok("socket", err)
			defer unix.Close(again)
			return unix.Bind(again, &unix.SockaddrUnix{Name: at})
		}(), unix.EADDRINUSE)
	})
	return cases
}
