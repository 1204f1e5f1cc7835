//go:build linux

package main

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func pointer(p *uint32) uintptr { return uintptr(unsafe.Pointer(p)) }

// A pathCall is a system call on a path; other is the path of a file that is
// there, for calls that take two.
type pathCall struct {
	name  string
	makes bool // makes what the path names
	call  func(path, other string) error
}

func pathCalls() []pathCall {
	var st unix.Stat_t
	var fs unix.Statfs_t
	buf := make([]byte, 64)
	return []pathCall{
		{"open", false, func(p, _ string) error { return opened(p, unix.O_RDONLY, 0) }},
		{"opendir", false, func(p, _ string) error { return opened(p, unix.O_RDONLY|unix.O_DIRECTORY, 0) }},
		{"stat", false, func(p, _ string) error { return unix.Stat(p, &st) }},
		{"lstat", false, func(p, _ string) error { return unix.Lstat(p, &st) }},
		{"statfs", false, func(p, _ string) error { return unix.Statfs(p, &fs) }},
		{"access", false, func(p, _ string) error { return unix.Access(p, unix.F_OK) }},
		{"chmod", false, func(p, _ string) error { return unix.Chmod(p, 0o600) }},
		{"chown", false, func(p, _ string) error { return unix.Chown(p, -1, -1) }},
		{"lchown", false, func(p, _ string) error { return unix.Lchown(p, -1, -1) }},
		{"truncate", false, func(p, _ string) error { return unix.Truncate(p, 0) }},
		{"utimensat", false, func(p, _ string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, p, nil, 0) }},
		{"readlink", false, func(p, _ string) error { _, err := unix.Readlink(p, buf); return err }},
		{"unlink", false, func(p, _ string) error { return unix.Unlink(p) }},
		{"rmdir", false, func(p, _ string) error { return unix.Rmdir(p) }},
		{"link from", false, func(p, o string) error { return unix.Link(p, o+"2") }},
		{"rename from", false, func(p, o string) error { return unix.Rename(p, o+"2") }},
		{"getxattr", false, func(p, _ string) error { _, err := unix.Getxattr(p, "user.a", buf); return err }},
		{"setxattr", false, func(p, _ string) error { return unix.Setxattr(p, "user.a", buf, 0) }},
		{"creat", true, func(p, _ string) error { return opened(p, unix.O_WRONLY|unix.O_CREAT, 0o644) }},
		{"mkdir", true, func(p, _ string) error { return unix.Mkdir(p, 0o755) }},
		{"mkfifo", true, func(p, _ string) error { return unix.Mkfifo(p, 0o644) }},
		{"mknod", true, func(p, _ string) error { return unix.Mknod(p, unix.S_IFREG|0o644, 0) }},
		{"symlink", true, func(p, _ string) error { return unix.Symlink("target", p) }},
		{"link to", true, func(p, o string) error { return unix.Link(o, p) }},
		{"rename to", true, func(p, o string) error { return unix.Rename(o, p) }},
	}
}

// pathCases are the errnos that path_resolution(7) gives to every call.
func pathCases() (cases []testCase) {
	for _, c := range pathCalls() {
		add := func(name string, run func(*T)) { cases = append(cases, testCase{name: c.name + " " + name, run: run}) }
		errno := func(name string, want unix.Errno, path func(*T) string) {
			add(name, func(t *T) {
				p := path(t)
				t.is(c.name, c.call(p, t.file("other", "")), want)
			})
		}
		errno("below a file", unix.ENOTDIR, func(t *T) string { return t.file("f", "") + "/x" })
		errno("below what is missing", unix.ENOENT, func(t *T) string { return t.at("none/x") })
		errno("of an empty path", unix.ENOENT, func(*T) string { return "" })
		errno("of a name of 256 bytes", unix.ENAMETOOLONG, func(t *T) string { return t.at(strings.Repeat("n", 256)) })
		errno("below a name of 256 bytes", unix.ENAMETOOLONG, func(t *T) string { return t.at(strings.Repeat("n", 256) + "/x") })
		errno("of a path beyond PATH_MAX", unix.ENAMETOOLONG, func(t *T) string { return t.at(strings.Repeat("./", 2048) + "x") })
		errno("below a loop of links", unix.ELOOP, func(t *T) string {
			t.symlink("b", "a")
			t.symlink("a", "b")
			return t.at("a/x")
		})
		errno("below a dangling link", unix.ENOENT, func(t *T) string { return t.symlink("none", "l") + "/x" })
		if !c.makes {
			errno("of what is missing", unix.ENOENT, func(t *T) string { return t.at("none") })
		} else {
			add("of a name of 255 bytes", func(t *T) {
				path := t.at(strings.Repeat("n", 255))
				t.ok(c.name, c.call(path, t.file("other", "")))
				t.stat(path)
			})
			add("below a link to a directory", func(t *T) {
				t.mkdir("d")
				t.ok(c.name, c.call(t.symlink("d", "l")+"/x", t.file("other", "")))
				t.stat(t.at("d/x"))
			})
			add("of a path of PATH_MAX", func(t *T) {
				// PATH_MAX counts the NUL at the end.
				room := 4095 - len(t.at("")) - 1
				path := t.at(strings.Repeat("./", room/2) + "x")
				t.ok(c.name, c.call(path, t.file("other", "")))
				t.stat(t.at("x"))
			})
			add("in a directory that may not be written", func(t *T) {
				d, other := t.mkdir("d"), t.file("other", "")
				t.unprivileged(func() {
					t.ok("chmod", unix.Chmod(d, 0o555))
					t.is(c.name, c.call(d+"/x", other), unix.EACCES)
				}, d, other, t.dir)
			})
		}
		add("below a directory that may not be searched", func(t *T) {
			d, other := t.mkdir("d"), t.file("other", "")
			t.file("d/x", "")
			t.unprivileged(func() {
				t.ok("chmod", unix.Chmod(d, 0o666))
				t.is(c.name, c.call(d+"/x", other), unix.EACCES)
			}, d, d+"/x", other, t.dir)
		})
	}
	return cases
}

// existsCases are EEXIST: every call that makes something on everything that
// may be there.
func existsCases() (cases []testCase) {
	there := []struct {
		name string
		make func(*T) string
	}{
		{"a file", func(t *T) string { return t.file("x", "") }},
		{"a directory", func(t *T) string { return t.mkdir("x") }},
		{"a link", func(t *T) string { t.file("target", ""); return t.symlink("target", "x") }},
		{"a dangling link", func(t *T) string { return t.symlink("none", "x") }},
		{"a FIFO", func(t *T) string { t.ok("mkfifo", unix.Mkfifo(t.at("x"), 0o644)); return t.at("x") }},
	}
	calls := append(pathCalls(), pathCall{"exclusive creat", true, func(p, _ string) error {
		return opened(p, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
	}})
	for _, c := range calls {
		if !c.makes || c.name == "creat" || c.name == "rename to" {
			continue
		}
		for _, what := range there {
			cases = append(cases, testCase{name: c.name + " on " + what.name, run: func(t *T) {
				path := what.make(t)
				before := t.stat(path)
				t.is(c.name, c.call(path, t.file("other", "")), unix.EEXIST)
				same(t, "the inode", t.stat(path).Ino, before.Ino)
				if !missing(t.at("none")) {
					t.fail("the link's target was made")
				}
			}})
		}
	}
	return cases
}
