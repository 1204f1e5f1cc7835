//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// sizeCases are truncate(2), ftruncate(2) and large files.
func sizeCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	how := []struct {
		name     string
		truncate func(t *T, path string, size int64) error
	}{
		{"truncate", func(_ *T, path string, size int64) error { return unix.Truncate(path, size) }},
		{"ftruncate", func(t *T, path string, size int64) error { return unix.Ftruncate(t.open(path, unix.O_RDWR), size) }},
	}
	for _, h := range how {
		for _, size := range []int64{0, 1, 4095, 4096, 4097, 70_000, 1<<32 - 1, 1 << 32, 5<<32 + 7} {
			add(fmt.Sprintf("%s to %d", h.name, size), func(t *T) {
				data := pattern(10_000, 0)
				path := t.file("f", data)
				t.ok(h.name, h.truncate(t, path, size))
				same(t, "the size", t.stat(path).Size, size)
				fd := t.open(path, unix.O_RDONLY)
				kept := min(size, 10_000)
				if t.pread(fd, int(kept), 0) != data[:kept] {
					t.fail("what is kept is another")
				}
				if size > kept {
					at := max(kept, size-100)
					same(t, "what is new", t.pread(fd, 200, at), strings.Repeat("\x00", int(size-at)))
				}
			})
		}
		add(h.name+" down and up gives zeros", func(t *T) {
			path := t.file("f", pattern(9000, 0))
			t.ok(h.name, h.truncate(t, path, 100))
			t.ok(h.name, h.truncate(t, path, 9000))
			t.holds(path, pattern(100, 0)+strings.Repeat("\x00", 8900))
		})
		add(h.name+" to a negative size", func(t *T) { t.is(h.name, h.truncate(t, t.file("f", ""), -1), unix.EINVAL) })
	}
	add("truncate of a directory", func(t *T) { t.is("truncate", unix.Truncate(t.mkdir("d"), 0), unix.EISDIR) })
	add("ftruncate of what is open for reading", func(t *T) {
		t.is("ftruncate", unix.Ftruncate(t.open(t.file("f", "data"), unix.O_RDONLY), 0), unix.EINVAL, unix.EBADF)
		t.holds(t.at("f"), "data")
	})
	add("truncate is seen by who has the file open", func(t *T) {
		path := t.file("f", pattern(8192, 0))
		fd := t.open(path, unix.O_RDWR)
		t.pread(fd, 8192, 0)
		t.ok("truncate", unix.Truncate(path, 10))
		same(t, "the size", t.fstat(fd).Size, 10)
		same(t, "what is read", t.pread(fd, 100, 0), pattern(10, 0))
		same(t, "what is read behind the end", t.pread(fd, 100, 4096), "")
	})
	add("a write far behind the end", func(t *T) {
		fd := t.open(t.file("f", "start"), unix.O_RDWR)
		t.pwrite(fd, "end", 1<<20)
		same(t, "the size", t.fstat(fd).Size, 1<<20+3)
		same(t, "what is between", t.pread(fd, 100, 1<<19), strings.Repeat("\x00", 100))
		same(t, "what is read", t.pread(fd, 8, 1<<20-2), "\x00\x00end")
	})
	for _, at := range []int64{1<<31 - 2, 1 << 31, 1<<32 - 2, 1 << 32, 5 << 30} {
		add(fmt.Sprintf("data at %d", at), func(t *T) {
			fd := t.open(t.file("f", ""), unix.O_RDWR)
			t.pwrite(fd, "across", at)
			same(t, "what is read", t.pread(fd, 10, at), "across")
			same(t, "the size", t.stat(t.at("f")).Size, at+6)
			pos, err := unix.Seek(fd, 0, unix.SEEK_END)
			t.ok("lseek", err)
			same(t, "the end", pos, at+6)
		})
	}
	add("lseek", func(t *T) {
		fd := t.open(t.file("f", "0123456789"), unix.O_RDWR)
		for _, s := range []struct {
			offset       int64
			whence, want int
		}{{3, unix.SEEK_SET, 3}, {2, unix.SEEK_CUR, 5}, {-1, unix.SEEK_END, 9}, {100, unix.SEEK_END, 110}} {
			at, err := unix.Seek(fd, s.offset, s.whence)
			t.ok("lseek", err)
			same(t, "the offset", at, int64(s.want))
		}
		_, err := unix.Seek(fd, -1, unix.SEEK_SET)
		t.is("lseek", err, unix.EINVAL)
		_, err = unix.Seek(fd, 0, 77)
		t.is("lseek", err, unix.EINVAL)
	})
	add("a file is larger than its limit", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDWR)
		_, err := unix.Pwrite(fd, []byte("x"), 1<<63-1)
		t.is("pwrite", err, unix.EFBIG, unix.EINVAL, unix.EOVERFLOW)
	})
	return cases
}

// holeCases are fallocate(2), SEEK_HOLE and the blocks that a file has.
func holeCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	add("a sparse file has few blocks", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDWR)
		t.ok("ftruncate", unix.Ftruncate(fd, 1<<33))
		t.pwrite(fd, "x", 1<<32)
		t.ok("fsync", unix.Fsync(fd))
		if n := t.fstat(fd).Blocks * 512; n > 1<<20 {
			t.fail("it has %d bytes of blocks", n)
		}
	})
	add("a file that is full has blocks", func(t *T) {
		fd := t.open(t.file("f", pattern(1<<20, 0)), unix.O_RDWR)
		t.ok("fsync", unix.Fsync(fd))
		if n := t.fstat(fd).Blocks * 512; n < 1<<19 {
			t.fail("it has %d bytes of blocks for 1 MiB", n)
		}
	})
	add("SEEK_DATA and SEEK_HOLE", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDWR)
		const step = 1 << 20
		t.ok("ftruncate", unix.Ftruncate(fd, 4*step))
		t.pwrite(fd, pattern(4096, step), step)
		t.ok("fsync", unix.Fsync(fd))
		seek := func(from int64, whence int) int64 {
			at, err := unix.Seek(fd, from, whence)
			t.ok("lseek", err)
			return at
		}
		if at := seek(0, unix.SEEK_DATA); at == 0 {
			panic(notSupported{errors.New("all of a sparse file is told to be data")})
		} else if at > step || at < step-1<<17 {
			t.fail("data is at %d, must be at %d", at, step)
		}
		same(t, "the hole", seek(0, unix.SEEK_HOLE), 0)
		if at := seek(step, unix.SEEK_HOLE); at < step+4096 || at > 2*step {
			t.fail("the hole behind the data is at %d", at)
		}
		_, err := unix.Seek(fd, 3*step, unix.SEEK_DATA)
		t.is("lseek", err, unix.ENXIO)
		_, err = unix.Seek(fd, 5*step, unix.SEEK_HOLE)
		t.is("lseek", err, unix.ENXIO)
	})
	add("the hole at the end of a file without holes", func(t *T) {
		fd := t.open(t.file("f", pattern(8192, 0)), unix.O_RDONLY)
		at, err := unix.Seek(fd, 0, unix.SEEK_HOLE)
		t.ok("lseek", err)
		same(t, "the hole", at, 8192)
		at, err = unix.Seek(fd, 5000, unix.SEEK_DATA)
		t.ok("lseek", err)
		same(t, "the data", at, 5000)
	})
	add("fallocate", func(t *T) {
		fd := t.open(t.file("f", "data"), unix.O_RDWR)
		t.has("fallocate", unix.Fallocate(fd, 0, 0, 1<<20))
		same(t, "the size", t.fstat(fd).Size, 1<<20)
		same(t, "what is read", t.pread(fd, 8, 0), "data\x00\x00\x00\x00")
	})
	add("fallocate that keeps the size", func(t *T) {
		fd := t.open(t.file("f", "data"), unix.O_RDWR)
		t.has("fallocate", unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20))
		same(t, "the size", t.fstat(fd).Size, 4)
	})
	add("punching a hole", func(t *T) {
		data := pattern(64<<10, 0)
		fd := t.open(t.file("f", data), unix.O_RDWR)
		t.pread(fd, len(data), 0)
		t.has("fallocate", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 10_000, 20_000))
		if t.pread(fd, len(data), 0) != data[:10_000]+strings.Repeat("\x00", 20_000)+data[30_000:] {
			t.fail("not the hole alone is zeros")
		}
		same(t, "the size", t.fstat(fd).Size, 64<<10)
	})
	add("zeroing a range", func(t *T) {
		data := pattern(64<<10, 0)
		fd := t.open(t.file("f", data), unix.O_RDWR)
		t.has("fallocate", unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 10_000, 20_000))
		if t.pread(fd, len(data), 0) != data[:10_000]+strings.Repeat("\x00", 20_000)+data[30_000:] {
			t.fail("not the range alone is zeros")
		}
	})
	add("fallocate of what is open for reading", func(t *T) {
		t.is("fallocate", unix.Fallocate(t.open(t.file("f", ""), unix.O_RDONLY), 0, 0, 100), unix.EBADF)
	})
	add("copy_file_range", func(t *T) {
		data := pattern(300_000, 0)
		from, to := t.open(t.file("a", data), unix.O_RDONLY), t.open(t.file("b", ""), unix.O_RDWR)
		for done := 0; done < len(data); {
			n, err := unix.CopyFileRange(from, nil, to, nil, len(data)-done, 0)
			t.has("copy_file_range", err, unix.EXDEV, unix.EINVAL)
			if n == 0 {
				t.fail("it ends after %d bytes of %d", done, len(data))
			}
			done += n
		}
		t.holds(t.at("b"), data)
	})
	add("sendfile", func(t *T) {
		data := pattern(300_000, 0)
		from, to := t.open(t.file("a", data), unix.O_RDONLY), t.open(t.file("b", ""), unix.O_RDWR)
		for done := 0; done < len(data); {
			n, err := unix.Sendfile(to, from, nil, len(data)-done)
			t.ok("sendfile", err)
			if n == 0 {
				t.fail("it ends after %d bytes of %d", done, len(data))
			}
			done += n
		}
		t.holds(t.at("b"), data)
	})
	return cases
}

// unlinkCases are unlink(2) and files that are open without a name.
func unlinkCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	for _, k := range kinds {
		add("unlink of "+k.name, func(t *T) {
			k.make(t, "x")
			err := unix.Unlink(t.at("x"))
			if k.dir {
				t.is("unlink", err, unix.EISDIR, unix.EPERM)
				t.stat(t.at("x"))
				return
			}
			t.ok("unlink", err)
			if !missing(t.at("x")) {
				t.fail("it is still there")
			}
		})
	}
	add("unlink while open", func(t *T) {
		fd := t.open(t.file("f", "data"), unix.O_RDWR)
		t.ok("unlink", unix.Unlink(t.at("f")))
		same(t, "the names", t.fstat(fd).Nlink, 0)
		same(t, "what is read", t.pread(fd, 4, 0), "data")
		t.pwrite(fd, "more", 4)
		same(t, "what is read", t.pread(fd, 8, 0), "datamore")
		same(t, "the size", t.fstat(fd).Size, 8)
		t.ok("ftruncate", unix.Ftruncate(fd, 3))
		same(t, "what is read", t.pread(fd, 8, 0), "dat")
		t.ok("fchmod", unix.Fchmod(fd, 0o640))
		same(t, "the mode", t.fstat(fd).Mode&0o7777, 0o640)
		t.ok("fsync", unix.Fsync(fd))
		list, err := names(t.dir)
		t.ok("readdir", err)
		same(t, "the entries", len(list), 0)
	})
	add("unlink while two have it open", func(t *T) {
		path := t.file("f", "data")
		a, b := t.open(path, unix.O_RDWR), t.open(path, unix.O_RDONLY)
		t.ok("unlink", unix.Unlink(path))
		t.pwrite(a, "DATA", 0)
		same(t, "what the other reads", t.pread(b, 4, 0), "DATA")
	})
	add("a file made again is another", func(t *T) {
		path := t.file("f", "old")
		fd := t.open(path, unix.O_RDONLY)
		t.ok("unlink", unix.Unlink(path))
		t.file("f", "new")
		same(t, "what is read of the old", t.pread(fd, 3, 0), "old")
		t.holds(path, "new")
		if t.stat(path).Ino == t.fstat(fd).Ino {
			t.fail("both have the same inode")
		}
	})
	add("unlink of one name of an open file", func(t *T) {
		path := t.file("f", "data")
		t.ok("link", unix.Link(path, t.at("l")))
		fd := t.open(path, unix.O_RDWR)
		t.ok("unlink", unix.Unlink(path))
		same(t, "the names", t.fstat(fd).Nlink, 1)
		t.pwrite(fd, "DATA", 0)
		t.holds(t.at("l"), "DATA")
	})
	add("unlink of a file of mode 0", func(t *T) {
		path := t.file("f", "")
		t.ok("chmod", unix.Chmod(path, 0))
		t.ok("unlink", unix.Unlink(path))
	})
	add("unlink with a slash behind", func(t *T) {
		t.is("unlink", unix.Unlink(t.file("f", "")+"/"), unix.ENOTDIR)
		t.stat(t.at("f"))
	})
	return cases
}

func sorted(cases []testCase) []testCase {
	slices.SortFunc(cases, func(a, b testCase) int { return strings.Compare(a.name, b.name) })
	return cases
}
