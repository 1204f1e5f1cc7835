//go:build linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// modeCases are chmod(2), fchmod(2), umask(2) and the modes of what is made.
func modeCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	// All 4096 modes are on one file as on another: each case has 16 of them.
	for special := range uint32(8) {
		add(fmt.Sprintf("chmod %o000 to %[1]o777", special), func(t *T) {
			path := t.file("f", "")
			for _, perm := range []uint32{0, 0o777, 0o111, 0o222, 0o444, 0o700, 0o070, 0o007, 0o640, 0o755, 0o644, 0o421, 0o124, 0o333, 0o555, 0o666} {
				mode := special<<9 | perm
				t.ok("chmod", unix.Chmod(path, mode))
				same(t, "the mode", fmt.Sprintf("%o", t.stat(path).Mode), fmt.Sprintf("%o", unix.S_IFREG|mode))
			}
		})
		add(fmt.Sprintf("mkdir and chmod of a directory %o777", special), func(t *T) {
			d := t.mkdir("d")
			t.ok("chmod", unix.Chmod(d, special<<9|0o777))
			same(t, "the mode", fmt.Sprintf("%o", t.stat(d).Mode), fmt.Sprintf("%o", unix.S_IFDIR|special<<9|0o777))
		})
	}
	for _, mode := range []uint32{0, 0o200, 0o400, 0o444, 0o600, 0o644, 0o666, 0o711, 0o755, 0o777, 0o1777, 0o2755, 0o4755} {
		makes := []struct {
			name string
			kind uint32
			make func(path string) error
		}{
			{"creat", unix.S_IFREG, func(p string) error { return opened(p, unix.O_WRONLY|unix.O_CREAT, mode) }},
			{"mkfifo", unix.S_IFIFO, func(p string) error { return unix.Mkfifo(p, mode) }},
			{"mkdir", unix.S_IFDIR, func(p string) error { return unix.Mkdir(p, mode&^0o6000) }},
			{"mknod", unix.S_IFREG, func(p string) error { return unix.Mknod(p, unix.S_IFREG|mode, 0) }},
		}
		for _, m := range makes {
			add(fmt.Sprintf("%s with mode %04o", m.name, mode), func(t *T) {
				want := mode
				if m.kind == unix.S_IFDIR {
					want &^= 0o6000
				}
				t.ok(m.name, m.make(t.at("x")))
				same(t, "the mode", fmt.Sprintf("%o", t.stat(t.at("x")).Mode), fmt.Sprintf("%o", m.kind|want))
			})
			add(fmt.Sprintf("%s with mode %04o and umask 0027", m.name, mode), func(t *T) {
				want := mode &^ 0o027
				if m.kind == unix.S_IFDIR {
					want &^= 0o6000
				}
				unix.Umask(0o027)
				err := m.make(t.at("x"))
				unix.Umask(0)
				t.ok(m.name, err)
				same(t, "the mode", fmt.Sprintf("%o", t.stat(t.at("x")).Mode), fmt.Sprintf("%o", m.kind|want))
			})
		}
	}
	add("fchmod of an open file", func(t *T) {
		path := t.file("f", "")
		fd := t.open(path, unix.O_RDONLY)
		t.ok("fchmod", unix.Fchmod(fd, 0o1604))
		same(t, "the mode", t.stat(path).Mode&0o7777, 0o1604)
		same(t, "the mode of the descriptor", t.fstat(fd).Mode&0o7777, 0o1604)
	})
	add("chmod follows a link", func(t *T) {
		path := t.file("f", "")
		t.ok("chmod", unix.Chmod(t.symlink("f", "l"), 0o601))
		same(t, "the mode", t.stat(path).Mode&0o7777, 0o601)
		same(t, "the link's type", t.stat(t.at("l")).Mode&unix.S_IFMT, unix.S_IFLNK)
	})
	add("chmod of a FIFO", func(t *T) {
		t.ok("mkfifo", unix.Mkfifo(t.at("p"), 0o600))
		t.ok("chmod", unix.Chmod(t.at("p"), 0o624))
		same(t, "the mode", t.stat(t.at("p")).Mode, unix.S_IFIFO|0o624)
	})
	add("chmod to 0 leaves what is open", func(t *T) {
		fd := t.open(t.file("f", "data"), unix.O_RDWR)
		t.ok("chmod", unix.Chmod(t.at("f"), 0))
		same(t, "what is read", t.pread(fd, 4, 0), "data")
		t.pwrite(fd, "DATA", 0)
		same(t, "what is read", t.pread(fd, 4, 0), "DATA")
	})
	return cases
}

// ownerCases are chown(2) and what it does to the bits for set-user-ID.
func ownerCases() (cases []testCase) {
	root := func(name string, run func(*T)) {
		cases = append(cases, testCase{name: name, root: true, run: run})
	}
	owner := func(t *T, path string, uid, gid uint32) {
		st := t.stat(path)
		same(t, "the owner", fmt.Sprintf("%d:%d", st.Uid, st.Gid), fmt.Sprintf("%d:%d", uid, gid))
	}
	for _, id := range []int{0, 1, 1000, 65533, 65536, 2_000_000_000} {
		root(fmt.Sprintf("chown to %d", id), func(t *T) {
			path := t.file("f", "")
			t.ok("chown", unix.Chown(path, id, id))
			owner(t, path, uint32(id), uint32(id))
			d := t.mkdir("d")
			t.ok("chown", unix.Chown(d, id, id))
			owner(t, d, uint32(id), uint32(id))
		})
	}
	root("chown of the owner alone", func(t *T) {
		path := t.file("f", "")
		t.ok("chown", unix.Chown(path, 12, 13))
		t.ok("chown", unix.Chown(path, 14, -1))
		owner(t, path, 14, 13)
		t.ok("chown", unix.Chown(path, -1, 15))
		owner(t, path, 14, 15)
		t.ok("chown", unix.Chown(path, -1, -1))
		owner(t, path, 14, 15)
	})
	root("chown follows a link", func(t *T) {
		path := t.file("f", "")
		t.ok("chown", unix.Chown(t.symlink("f", "l"), 12, 13))
		owner(t, path, 12, 13)
		owner(t, t.at("l"), 0, 0)
	})
	root("lchown of a link", func(t *T) {
		path := t.file("f", "")
		t.ok("lchown", unix.Lchown(t.symlink("f", "l"), 12, 13))
		owner(t, path, 0, 0)
		owner(t, t.at("l"), 12, 13)
	})
	root("lchown of a dangling link", func(t *T) {
		t.ok("lchown", unix.Lchown(t.symlink("none", "l"), 12, 13))
		owner(t, t.at("l"), 12, 13)
	})
	root("fchown of an open file", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDONLY)
		t.ok("fchown", unix.Fchown(fd, 12, 13))
		owner(t, t.at("f"), 12, 13)
	})
	root("chown of a FIFO", func(t *T) {
		t.ok("mkfifo", unix.Mkfifo(t.at("p"), 0o600))
		t.ok("chown", unix.Chown(t.at("p"), 12, 13))
		owner(t, t.at("p"), 12, 13)
	})
	root("chown by the owner to one of his groups", func(t *T) {
		path := t.file("f", "")
		t.ok("chown", unix.Chown(path, 1000, 1000))
		t.as(1000, 1000, []int{2000}, func() { t.ok("chown", unix.Chown(path, -1, 2000)) })
		owner(t, path, 1000, 2000)
	})
	root("chown by the owner to another's group", func(t *T) {
		path := t.file("f", "")
		t.ok("chown", unix.Chown(path, 1000, 1000))
		t.as(1000, 1000, []int{2000}, func() { t.is("chown", unix.Chown(path, -1, 3000), unix.EPERM) })
		owner(t, path, 1000, 1000)
	})
	root("chown by the owner to another user", func(t *T) {
		path := t.file("f", "")
		t.ok("chown", unix.Chown(path, 1000, 1000))
		t.as(1000, 1000, nil, func() { t.is("chown", unix.Chown(path, 1001, -1), unix.EPERM) })
		owner(t, path, 1000, 1000)
	})
	root("chown by another", func(t *T) {
		path := t.file("f", "")
		t.as(1000, 1000, nil, func() { t.is("chown", unix.Chown(path, 1000, -1), unix.EPERM) })
		owner(t, path, 0, 0)
	})
	root("chmod by another", func(t *T) {
		path := t.file("f", "")
		t.as(1000, 1000, nil, func() { t.is("chmod", unix.Chmod(path, 0o777), unix.EPERM) })
		same(t, "the mode", t.stat(path).Mode&0o7777, 0o644)
	})
	root("chown by the owner clears set-user-ID", func(t *T) {
		path := t.file("f", "")
		t.ok("chown", unix.Chown(path, 1000, 1000))
		t.ok("chmod", unix.Chmod(path, 0o6755))
		t.as(1000, 1000, []int{2000}, func() { t.ok("chown", unix.Chown(path, -1, 2000)) })
		same(t, "the mode", fmt.Sprintf("%o", t.stat(path).Mode&0o7777), "755")
	})
	root("a write by another clears set-user-ID", func(t *T) {
		path := t.file("f", "")
		t.ok("chmod", unix.Chmod(path, 0o6777))
		t.as(1000, 1000, nil, func() { t.write(t.open(path, unix.O_WRONLY), "x") })
		same(t, "the mode", fmt.Sprintf("%o", t.stat(path).Mode&0o7777), "777")
	})
	root("chmod outside of the group clears set-group-ID", func(t *T) {
		path := t.file("f", "")
		t.ok("chown", unix.Chown(path, 1000, 3000))
		t.as(1000, 1000, nil, func() { t.ok("chmod", unix.Chmod(path, 0o2755)) })
		same(t, "the mode", fmt.Sprintf("%o", t.stat(path).Mode&0o7777), "755")
	})
	// What a user makes is the user's, in every way of making it.
	for _, c := range pathCalls() {
		if !c.makes || c.name == "link to" || c.name == "rename to" {
			continue
		}
		root(c.name+" belongs to who makes it", func(t *T) {
			t.ok("chmod", unix.Chmod(t.dir, 0o777))
			t.as(1234, 4321, nil, func() { t.ok(c.name, c.call(t.at("x"), "")) })
			owner(t, t.at("x"), 1234, 4321)
		})
		root(c.name+" in a directory with set-group-ID", func(t *T) {
			d := t.mkdir("d")
			t.ok("chown", unix.Chown(d, 0, 77))
			t.ok("chmod", unix.Chmod(d, 0o2777))
			t.as(1234, 4321, nil, func() { t.ok(c.name, c.call(d+"/x", "")) })
			owner(t, d+"/x", 1234, 77)
			if c.name == "mkdir" {
				same(t, "set-group-ID", t.stat(d+"/x").Mode&unix.S_ISGID, unix.S_ISGID)
			}
		})
	}
	return cases
}

// permissionCases are the checks of the mode's bits, for each class of users.
func permissionCases() (cases []testCase) {
	who := []struct {
		name     string
		uid, gid int
		groups   []int
		shift    int
	}{
		{"the owner", 1000, 1000, nil, 6},
		{"the group", 1001, 2000, nil, 3},
		{"a supplementary group", 1001, 1001, []int{5, 2000}, 3},
		{"others", 1001, 1001, nil, 0},
	}
	for _, w := range who {
		for bits := range uint32(8) {
			cases = append(cases, testCase{name: fmt.Sprintf("access of %s with bits %o", w.name, bits), root: true, run: func(t *T) {
				path := t.file("f", "data")
				t.ok("chown", unix.Chown(path, 1000, 2000))
				// Only the class of the user counts: the others have the opposite.
				mode := uint32(0o777)&^(7<<w.shift)&^(bits*0o111) | bits<<w.shift
				t.ok("chmod", unix.Chmod(path, mode))
				t.as(w.uid, w.gid, w.groups, func() {
					for _, a := range []struct {
						bit  uint32
						what string
						do   func() error
					}{
						{4, "open for reading", func() error { return opened(path, unix.O_RDONLY, 0) }},
						{2, "open for writing", func() error { return opened(path, unix.O_WRONLY, 0) }},
						{6, "open for both", func() error { return opened(path, unix.O_RDWR, 0) }},
						{2, "truncate", func() error { return unix.Truncate(path, 2) }},
						{2, "open and truncate", func() error { return opened(path, unix.O_RDONLY|unix.O_TRUNC, 0) }},
					} {
						if a.what == "open and truncate" && bits&4 == 0 {
							continue
						}
						if bits&a.bit == a.bit {
							t.ok(a.what, a.do())
						} else {
							t.is(a.what, a.do(), unix.EACCES)
						}
					}
				})
			}})
			cases = append(cases, testCase{name: fmt.Sprintf("a directory's bits %o for %s", bits, w.name), root: true, run: func(t *T) {
				d := t.mkdir("d")
				t.file("d/f", "")
				t.ok("chown", unix.Chown(d, 1000, 2000))
				t.ok("chmod", unix.Chmod(d, 0o777&^(7<<w.shift)&^(bits*0o111)|bits<<w.shift))
				t.as(w.uid, w.gid, w.groups, func() {
					for _, a := range []struct {
						bit  uint32
						what string
						do   func() error
					}{
						{4, "list", func() error { _, err := names(d); return err }},
						{1, "stat", func() error { var st unix.Stat_t; return unix.Lstat(d+"/f", &st) }},
						{3, "mkdir", func() error { return unix.Mkdir(d+"/new", 0o755) }},
						{3, "unlink", func() error { return unix.Unlink(d + "/f") }},
					} {
						if bits&a.bit == a.bit {
							t.ok(a.what, a.do())
						} else {
							t.is(a.what, a.do(), unix.EACCES)
						}
					}
				})
			}})
		}
	}
	cases = append(cases, testCase{name: "root ignores modes", root: true, run: func(t *T) {
		path, d := t.file("f", "data"), t.mkdir("d")
		t.file("d/f", "")
		for _, p := range []string{path, d} {
			t.ok("chown", unix.Chown(p, 1000, 1000))
			t.ok("chmod", unix.Chmod(p, 0))
		}
		t.holds(path, "data")
		t.ok("open for writing", opened(path, unix.O_RDWR, 0))
		t.ok("mkdir", unix.Mkdir(d+"/new", 0o755))
		t.ok("unlink", unix.Unlink(d+"/f"))
	}})
	cases = append(cases, testCase{name: "a file without write access, made and written", run: func(t *T) {
		t.unprivileged(func() {
			fd, err := unix.Open(t.at("f"), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o444)
			t.ok("open", err)
			t.closes = append(t.closes, fd)
			t.write(fd, "data")
			same(t, "what is read", t.pread(fd, 4, 0), "data")
			t.is("open again", opened(t.at("f"), unix.O_WRONLY, 0), unix.EACCES)
		}, t.dir)
		t.holds(t.at("f"), "data")
	}})
	return cases
}

// stickyCases are what S_ISVTX on a directory forbids: only the owner of the
// entry, the owner of the directory and root may remove or rename an entry.
func stickyCases() (cases []testCase) {
	calls := []struct {
		name string
		do   func(d string) error
	}{
		{"unlink", func(d string) error { return unix.Unlink(d + "/f") }},
		{"rmdir", func(d string) error { return unix.Rmdir(d + "/d") }},
		{"rename from", func(d string) error { return unix.Rename(d+"/f", d+"/new") }},
		{"rename of a directory", func(d string) error { return unix.Rename(d+"/d", d+"/new") }},
		{"rename over", func(d string) error { return unix.Rename(d+"/own", d+"/f") }},
	}
	for _, c := range calls {
		for _, w := range []struct {
			name    string
			uid     int
			allowed bool
		}{
			{"the owner of the entry", 1000, true}, {"the owner of the directory", 2000, true},
			{"another", 3000, false}, {"root", 0, true},
		} {
			cases = append(cases, testCase{name: c.name + " in a sticky directory by " + w.name, root: true, run: func(t *T) {
				d := t.mkdir("s")
				t.file("s/f", "f")
				t.mkdir("s/d")
				t.file("s/own", "own")
				for path, uid := range map[string]int{d: 2000, d + "/f": 1000, d + "/d": 1000, d + "/own": w.uid} {
					t.ok("chown", unix.Chown(path, uid, uid))
				}
				t.ok("chmod", unix.Chmod(d, 0o1777))
				t.as(w.uid, w.uid, nil, func() {
					if w.allowed {
						t.ok(c.name, c.do(d))
					} else {
						t.is(c.name, c.do(d), unix.EPERM)
					}
				})
				if !w.allowed {
					t.holds(d+"/f", "f")
					t.stat(d + "/d")
				}
			}})
		}
	}
	return cases
}
