//go:build linux

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// old is a time that no call sets by itself.
var old = unix.Timespec{Sec: 1_000_000_000}

func (t *T) age(path string) {
	t.ok("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{old, old}, unix.AT_SYMLINK_NOFOLLOW))
}

// tick waits until the file system's clock has gone on since the time. It may
// be as coarse as a jiffy.
func (t *T) tick(since unix.Timespec) {
	for i := 0; ; i++ {
		path := t.at(fmt.Sprint("tick", i%2))
		t.ok("open", opened(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600))
		now := t.stat(path).Ctim
		t.ok("unlink", unix.Unlink(path))
		if now.Nano() > since.Nano() {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// timeCases are utimensat(2) and what updates which time, inode(7).
func timeCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	for _, ts := range []unix.Timespec{
		{Sec: 0}, {Sec: 0, Nsec: 1}, {Sec: 1, Nsec: 999_999_999}, {Sec: 1_234_567_890, Nsec: 987_654_321}, {Sec: 1<<31 - 1, Nsec: 5},
		{Sec: 1 << 31}, {Sec: 1<<32 + 5, Nsec: 17}, {Sec: -1}, {Sec: -1_000_000, Nsec: 250_000_000},
	} {
		add(fmt.Sprintf("utimensat to %d.%09d", ts.Sec, ts.Nsec), func(t *T) {
			for _, path := range []string{t.file("f", ""), t.mkdir("d"), t.symlink("none", "l")} {
				other := unix.Timespec{Sec: 77}
				t.ok("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{other, ts}, unix.AT_SYMLINK_NOFOLLOW))
				st := t.stat(path)
				same(t, "the time of modification", st.Mtim, ts)
				same(t, "the time of access", st.Atim, other)
			}
		})
	}
	add("utimensat with UTIME_OMIT", func(t *T) {
		path := t.file("f", "")
		t.age(path)
		omit, set := unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Sec: 5}
		t.ok("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{omit, set}, 0))
		same(t, "the time of access", t.stat(path).Atim, old)
		same(t, "the time of modification", t.stat(path).Mtim, set)
		t.ok("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 8}, omit}, 0))
		same(t, "the time of access", t.stat(path).Atim, unix.Timespec{Sec: 8})
		same(t, "the time of modification", t.stat(path).Mtim, set)
		t.ok("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{omit, omit}, 0))
		same(t, "the time of modification", t.stat(path).Mtim, set)
	})
	add("utimensat with UTIME_NOW", func(t *T) {
		path := t.file("f", "")
		t.age(path)
		now := unix.Timespec{Nsec: unix.UTIME_NOW}
		t.ok("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, now}, 0))
		same(t, "the time of access", t.stat(path).Atim, old)
		t.file("g", "")
		if d := t.stat(t.at("g")).Mtim.Sec - t.stat(path).Mtim.Sec; d > 3600 || d < -3600 {
			t.fail("now is %d s away from the time of a new file", d)
		}
	})
	add("utimensat follows a link", func(t *T) {
		path := t.file("f", "")
		t.ok("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, t.symlink("f", "l"), []unix.Timespec{old, old}, 0))
		same(t, "the time of modification", t.stat(path).Mtim, old)
	})
	add("utimensat of what is open", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDONLY)
		t.ok("futimes", unix.Futimes(fd, []unix.Timeval{{Sec: 5}, {Sec: 6}}))
		same(t, "the time of modification", t.fstat(fd).Mtim, unix.Timespec{Sec: 6})
	})
	add("utimensat with wrong nanoseconds", func(t *T) {
		wrong := unix.Timespec{Nsec: 1_000_000_000}
		t.is("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, t.file("f", ""), []unix.Timespec{wrong, wrong}, 0), unix.EINVAL)
	})
	// Who may write, and who may not, and the owner.
	for _, w := range []struct {
		name     string
		uid      int
		mode     uint32
		now, set []unix.Errno
	}{
		{"the owner", 1000, 0o444, nil, nil},
		{"who may write", 1001, 0o666, nil, []unix.Errno{unix.EPERM}},
		{"who may read", 1001, 0o644, []unix.Errno{unix.EACCES}, []unix.Errno{unix.EPERM}},
	} {
		cases = append(cases, testCase{name: "utimensat by " + w.name, root: true, run: func(t *T) {
			path := t.file("f", "")
			t.ok("chown", unix.Chown(path, 1000, 1000))
			t.ok("chmod", unix.Chmod(path, w.mode))
			t.as(w.uid, w.uid, nil, func() {
				check := func(what string, err error, want []unix.Errno) {
					if want == nil {
						t.ok(what, err)
					} else {
						t.is(what, err, want...)
					}
				}
				check("utimensat to now", unix.UtimesNanoAt(unix.AT_FDCWD, path, nil, 0), w.now)
				check("utimensat to a time", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{old, old}, 0), w.set)
			})
		}})
	}
	add("a file is made now, as others are", func(t *T) {
		a, b := t.stat(t.file("a", "")), t.stat(t.mkdir("b"))
		if d := b.Mtim.Nano() - a.Mtim.Nano(); d < 0 || d > int64(time.Hour) {
			t.fail("a directory made later has a time %v later", time.Duration(d))
		}
	})
	return append(cases, updateCases()...)
}

// updateCases are the calls that update the times of modification and change.
func updateCases() (cases []testCase) {
	for _, c := range []struct {
		name      string
		file, dir bool // modified
		change    bool // the file's status
		do        func(t *T, path string, fd int) error
	}{
		{name: "write", file: true, change: true, do: func(t *T, _ string, fd int) error { _, err := unix.Pwrite(fd, []byte("X"), 0); return err }},
		{name: "truncate to less", file: true, change: true, do: func(_ *T, p string, _ int) error { return unix.Truncate(p, 1) }},
		{name: "truncate to more", file: true, change: true, do: func(_ *T, p string, _ int) error { return unix.Truncate(p, 100) }},
		{name: "ftruncate", file: true, change: true, do: func(_ *T, _ string, fd int) error { return unix.Ftruncate(fd, 1) }},
		{name: "open with O_TRUNC", file: true, change: true, do: func(_ *T, p string, _ int) error { return opened(p, unix.O_WRONLY|unix.O_TRUNC, 0) }},
		{name: "chmod", change: true, do: func(_ *T, p string, _ int) error { return unix.Chmod(p, 0o600) }},
		{name: "chown", change: true, do: func(t *T, p string, _ int) error { return unix.Chown(p, unix.Getuid(), unix.Getgid()) }},
		{name: "link", change: true, dir: true, do: func(t *T, p string, _ int) error { return unix.Link(p, t.at("d/l")) }},
		{name: "rename", dir: true, do: func(t *T, p string, _ int) error { return unix.Rename(p, p+"2") }},
		{name: "unlink", dir: true, do: func(t *T, p string, _ int) error { return unix.Unlink(p) }},
		{name: "creat", dir: true, do: func(t *T, p string, _ int) error { return opened(t.at("d/new"), unix.O_WRONLY|unix.O_CREAT, 0o600) }},
		{name: "mkdir", dir: true, do: func(t *T, _ string, _ int) error { return unix.Mkdir(t.at("d/new"), 0o755) }},
		{name: "rmdir", dir: true, do: func(t *T, _ string, _ int) error { return unix.Rmdir(t.at("d/sub")) }},
		{name: "symlink", dir: true, do: func(t *T, _ string, _ int) error { return unix.Symlink("x", t.at("d/new")) }},
		{name: "mkfifo", dir: true, do: func(t *T, _ string, _ int) error { return unix.Mkfifo(t.at("d/new"), 0o600) }},
		{name: "read", do: func(t *T, _ string, fd int) error { t.pread(fd, 4, 0); return nil }},
		{name: "stat", do: func(t *T, p string, _ int) error { t.stat(p); return nil }},
		{name: "a chmod that fails", do: func(t *T, p string, _ int) error {
			t.is("chmod", unix.Chmod(p+"none", 0o600), unix.ENOENT)
			return nil
		}},
		{name: "a creat that fails", do: func(t *T, p string, _ int) error {
			t.is("open", opened(p, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600), unix.EEXIST)
			return nil
		}},
	} {
		cases = append(cases, testCase{name: "times after " + c.name, run: func(t *T) {
			dir := t.mkdir("d")
			t.mkdir("d/sub")
			path := t.file("d/f", "data")
			fd := t.open(path, unix.O_RDWR)
			t.age(path)
			t.age(dir)
			file, in := t.fstat(fd), t.stat(dir)
			t.tick(file.Ctim)
			t.tick(in.Ctim)
			t.ok(c.name, c.do(t, path, fd))
			changed := func(what string, got, before unix.Timespec, must bool) {
				if (got != before) != must {
					t.fail("%s is %d.%09d and was %d.%09d", what, got.Sec, got.Nsec, before.Sec, before.Nsec)
				}
			}
			after, inAfter := t.fstat(fd), t.stat(dir)
			changed("the file's time of modification", after.Mtim, file.Mtim, c.file)
			if c.name != "rename" && c.name != "unlink" { // those may or must, by file system
				changed("the file's time of change", after.Ctim, file.Ctim, c.change)
			}
			changed("the directory's time of modification", inAfter.Mtim, in.Mtim, c.dir)
			changed("the directory's time of change", inAfter.Ctim, in.Ctim, c.dir)
		}})
	}
	return cases
}
