//go:build linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openCases are open(2)'s flags.
func openCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	access := []struct {
		name        string
		flag        int
		read, write bool
	}{{"O_RDONLY", unix.O_RDONLY, true, false}, {"O_WRONLY", unix.O_WRONLY, false, true}, {"O_RDWR", unix.O_RDWR, true, true}}
	for _, a := range access {
		for _, extra := range []struct {
			name string
			flag int
		}{{"", 0}, {" O_CREAT", unix.O_CREAT}, {" O_APPEND", unix.O_APPEND}, {" O_SYNC", unix.O_SYNC}, {" O_DSYNC", unix.O_DSYNC},
			{" O_NONBLOCK", unix.O_NONBLOCK}, {" O_NOFOLLOW", unix.O_NOFOLLOW}, {" O_NOCTTY", unix.O_NOCTTY}} {
			add("open "+a.name+extra.name, func(t *T) {
				fd := t.open(t.file("f", "0123456789"), a.flag|extra.flag)
				buf := make([]byte, 4)
				n, err := unix.Pread(fd, buf, 2)
				if a.read {
					t.ok("pread", err)
					same(t, "what is read", string(buf[:n]), "2345")
				} else {
					t.is("pread", err, unix.EBADF)
				}
				_, err = unix.Write(fd, []byte("AB"))
				if a.write {
					t.ok("write", err)
				} else {
					t.is("write", err, unix.EBADF)
				}
				want := "0123456789"
				if a.write && extra.flag == unix.O_APPEND {
					want = "0123456789AB"
				} else if a.write {
					want = "AB23456789"
				}
				t.holds(t.at("f"), want)
			})
		}
		add("open a directory "+a.name, func(t *T) {
			err := opened(t.mkdir("d"), a.flag, 0)
			if a.write {
				t.is("open", err, unix.EISDIR)
			} else {
				t.ok("open", err)
			}
		})
		add("open a link with O_NOFOLLOW "+a.name, func(t *T) {
			t.file("f", "")
			t.is("open", opened(t.symlink("f", "l"), a.flag|unix.O_NOFOLLOW, 0), unix.ELOOP)
		})
		add("open a file with O_DIRECTORY "+a.name, func(t *T) {
			t.is("open", opened(t.file("f", ""), a.flag|unix.O_DIRECTORY, 0), unix.ENOTDIR)
		})
		add("open a file with a slash behind "+a.name, func(t *T) {
			t.is("open", opened(t.file("f", "")+"/", a.flag, 0), unix.ENOTDIR)
		})
		add("open with O_CREAT|O_EXCL "+a.name, func(t *T) {
			t.ok("open", opened(t.at("f"), a.flag|unix.O_CREAT|unix.O_EXCL, 0o600))
			t.is("open", opened(t.at("f"), a.flag|unix.O_CREAT|unix.O_EXCL, 0o600), unix.EEXIST)
		})
		add("open a socket "+a.name, func(t *T) {
			t.ok("mknod", unix.Mknod(t.at("s"), unix.S_IFSOCK|0o644, 0))
			t.is("open", opened(t.at("s"), a.flag, 0), unix.ENXIO)
		})
		if a.write {
			add("O_TRUNC "+a.name, func(t *T) {
				path := t.file("f", "some data")
				other := t.open(path, unix.O_RDONLY)
				t.ok("open", opened(path, a.flag|unix.O_TRUNC, 0))
				same(t, "the size", t.stat(path).Size, 0)
				same(t, "what another descriptor reads", t.pread(other, 9, 0), "")
			})
			add("O_CREAT through a dangling link "+a.name, func(t *T) {
				t.ok("open", opened(t.symlink("target", "l"), a.flag|unix.O_CREAT, 0o600))
				same(t, "the target's type", t.stat(t.at("target")).Mode, unix.S_IFREG|0o600)
			})
			add("O_CREAT on a directory "+a.name, func(t *T) {
				t.is("open", opened(t.mkdir("d"), a.flag|unix.O_CREAT, 0o600), unix.EISDIR)
			})
		}
	}
	add("O_TRUNC with O_CREAT of a new file", func(t *T) {
		t.ok("open", opened(t.at("f"), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600))
		same(t, "the size", t.stat(t.at("f")).Size, 0)
	})
	add("O_TRUNC of a file of mode 0444 for who may not write", func(t *T) {
		path := t.file("f", "data")
		t.ok("chmod", unix.Chmod(path, 0o444))
		t.unprivileged(func() {
			t.is("open", opened(path, unix.O_WRONLY|unix.O_TRUNC, 0), unix.EACCES)
		}, path)
		t.holds(path, "data")
	})
	add("O_APPEND of two descriptors", func(t *T) {
		path := t.file("f", "")
		a, b := t.open(path, unix.O_WRONLY|unix.O_APPEND), t.open(path, unix.O_WRONLY|unix.O_APPEND)
		want := ""
		for i := range 20 {
			line := fmt.Sprintf("line %d\n", i)
			t.write([]int{a, b}[i%2], line)
			want += line
		}
		t.holds(path, want)
	})
	add("O_APPEND after a seek", func(t *T) {
		fd := t.open(t.file("f", "0123456789"), unix.O_RDWR|unix.O_APPEND)
		_, err := unix.Seek(fd, 0, unix.SEEK_SET)
		t.ok("lseek", err)
		t.write(fd, "end")
		t.holds(t.at("f"), "0123456789end")
		at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		t.ok("lseek", err)
		same(t, "the offset", at, 13)
	})
	add("O_APPEND after a truncation", func(t *T) {
		fd := t.open(t.file("f", "0123456789"), unix.O_RDWR|unix.O_APPEND)
		t.ok("truncate", unix.Truncate(t.at("f"), 3))
		t.write(fd, "end")
		t.holds(t.at("f"), "012end")
	})
	add("O_APPEND set by fcntl", func(t *T) {
		fd := t.open(t.file("f", "0123456789"), unix.O_RDWR)
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND)
		t.ok("fcntl", err)
		t.write(fd, "end")
		t.holds(t.at("f"), "0123456789end")
	})
	add("O_PATH", func(t *T) {
		fd := t.open(t.file("f", "data"), unix.O_PATH)
		same(t, "the size", t.fstat(fd).Size, 4)
		_, err := unix.Read(fd, make([]byte, 4))
		t.is("read", err, unix.EBADF)
		again := t.open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY)
		same(t, "what is read", t.pread(again, 4, 0), "data")
	})
	add("O_TMPFILE", func(t *T) {
		fd, err := unix.Open(t.dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
		t.has("open", err, unix.EISDIR)
		t.closes = append(t.closes, fd)
		t.write(fd, "data")
		same(t, "the names", t.fstat(fd).Nlink, 0)
		list, err := names(t.dir)
		t.ok("readdir", err)
		same(t, "the entries", len(list), 0)
		t.ok("linkat", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, t.at("f"), unix.AT_SYMLINK_FOLLOW))
		t.holds(t.at("f"), "data")
	})
	add("O_DIRECT", func(t *T) {
		path := t.file("f", "")
		fd, err := unix.Open(path, unix.O_DIRECT|unix.O_RDWR, 0)
		t.has("open", err, unix.EINVAL)
		t.closes = append(t.closes, fd)
		buf, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		t.ok("mmap", err)
		defer unix.Munmap(buf)
		for i := range buf {
			buf[i] = byte(i % 251)
		}
		n, err := unix.Pwrite(fd, buf[:4096], 4096)
		t.ok("pwrite", err)
		same(t, "bytes written", n, 4096)
		n, err = unix.Pread(fd, buf[4096:], 4096)
		t.ok("pread", err)
		same(t, "bytes read", n, 4096)
		same(t, "what is read", string(buf[4096:]), string(buf[:4096]))
	})
	add("pread and pwrite leave the offset", func(t *T) {
		fd := t.open(t.file("f", "0123456789"), unix.O_RDWR)
		t.pwrite(fd, "AB", 4)
		same(t, "what is read", t.pread(fd, 3, 3), "3AB")
		at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		t.ok("lseek", err)
		same(t, "the offset", at, 0)
	})
	add("readv and writev", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDWR)
		n, err := unix.Pwritev(fd, [][]byte{[]byte("one"), []byte("two"), []byte("three")}, 1)
		t.ok("pwritev", err)
		same(t, "bytes written", n, 11)
		a, b := make([]byte, 5), make([]byte, 10)
		n, err = unix.Preadv(fd, [][]byte{a, b}, 0)
		t.ok("preadv", err)
		same(t, "what is read", string(append(a, b...)[:n]), "\x00onetwothree")
	})
	add("a read at the end and behind it", func(t *T) {
		fd := t.open(t.file("f", "0123456789"), unix.O_RDONLY)
		same(t, "what is read at the end", t.pread(fd, 5, 10), "")
		same(t, "what is read behind it", t.pread(fd, 5, 1<<40), "")
		same(t, "what is read across it", t.pread(fd, 5, 8), "89")
	})
	add("a write of no bytes", func(t *T) {
		fd := t.open(t.file("f", "x"), unix.O_RDWR)
		n, err := unix.Write(fd, nil)
		t.ok("write", err)
		same(t, "bytes written", n, 0)
		t.holds(t.at("f"), "x")
	})
	add("fsync, fdatasync, syncfs", func(t *T) {
		fd := t.open(t.file("f", "data"), unix.O_RDWR)
		t.ok("fsync", unix.Fsync(fd))
		t.ok("fdatasync", unix.Fdatasync(fd))
		t.ok("fsync of a directory", unix.Fsync(t.open(t.dir, unix.O_RDONLY|unix.O_DIRECTORY)))
		t.ok("syncfs", unix.Syncfs(fd))
	})
	add("200 descriptors of one file", func(t *T) {
		path := t.file("f", "data")
		for range 200 {
			same(t, "what is read", t.pread(t.open(path, unix.O_RDWR), 4, 0), "data")
		}
	})
	add("reads and writes of odd sizes at odd places", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDWR)
		at := int64(0)
		for _, n := range []int{1, 511, 4095, 4097, 65535, 131073, 1 << 20, 3<<20 + 1} {
			t.pwrite(fd, pattern(n, at), at)
			at += int64(n)
		}
		same(t, "the size", t.fstat(fd).Size, at)
		if t.pread(fd, int(at), 0) != pattern(int(at), 0) {
			t.fail("what is read is not what was written")
		}
	})
	return cases
}

// pattern is the content of a file whose bytes tell where they are.
func pattern(n int, at int64) string {
	b := make([]byte, n)
	for i := range b {
		p := at + int64(i)
		b[i] = byte(p ^ p>>8*7 ^ p>>16*13)
	}
	return string(b)
}
