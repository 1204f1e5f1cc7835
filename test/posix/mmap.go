//go:build linux

package main

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (t *T) mmap(fd int, offset int64, n, prot, flags int) []byte {
	m, err := unix.Mmap(fd, offset, n, prot, flags)
	t.has("mmap", err, unix.ENODEV)
	t.ends = append(t.ends, func() { unix.Munmap(m) })
	return m
}

// mmapCases are mmap(2) and msync(2).
func mmapCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	const rw = unix.PROT_READ | unix.PROT_WRITE
	add("a shared mapping is read", func(t *T) {
		data := pattern(10_000, 0)
		m := t.mmap(t.open(t.file("f", data), unix.O_RDONLY), 0, 10_000, unix.PROT_READ, unix.MAP_SHARED)
		same(t, "what is there", string(m), data)
	})
	add("a private mapping is read and written", func(t *T) {
		m := t.mmap(t.open(t.file("f", "0123456789"), unix.O_RDONLY), 0, 10, rw, unix.MAP_PRIVATE)
		m[0] = 'X'
		same(t, "what is there", string(m), "X123456789")
		t.holds(t.at("f"), "0123456789")
	})
	add("a shared mapping is written", func(t *T) {
		fd := t.open(t.file("f", pattern(10_000, 0)), unix.O_RDWR)
		m := t.mmap(fd, 0, 10_000, rw, unix.MAP_SHARED)
		copy(m[5000:], "written by memory")
		t.ok("msync", unix.Msync(m, unix.MS_SYNC))
		same(t, "what is read", t.pread(fd, 17, 5000), "written by memory")
		same(t, "what another reads", t.pread(t.open(t.at("f"), unix.O_RDONLY), 17, 5000), "written by memory")
	})
	add("a shared mapping shows writes", func(t *T) {
		fd := t.open(t.file("f", pattern(10_000, 0)), unix.O_RDWR)
		m := t.mmap(fd, 0, 10_000, rw, unix.MAP_SHARED)
		same(t, "what is there", string(m[:100]), pattern(100, 0))
		t.pwrite(fd, "written by call", 50)
		same(t, "what is there", string(m[50:65]), "written by call")
	})
	add("two shared mappings", func(t *T) {
		path := t.file("f", pattern(10_000, 0))
		a := t.mmap(t.open(path, unix.O_RDWR), 0, 10_000, rw, unix.MAP_SHARED)
		b := t.mmap(t.open(path, unix.O_RDWR), 0, 10_000, rw, unix.MAP_SHARED)
		copy(a[100:], "from a")
		same(t, "what b has", string(b[100:106]), "from a")
		copy(b[4096:], "from b")
		same(t, "what a has", string(a[4096:4102]), "from b")
	})
	add("a mapping lives without its descriptor and name", func(t *T) {
		fd, err := unix.Open(t.file("f", pattern(8192, 0)), unix.O_RDWR, 0)
		t.ok("open", err)
		m := t.mmap(fd, 0, 8192, rw, unix.MAP_SHARED)
		t.ok("close", unix.Close(fd))
		t.ok("unlink", unix.Unlink(t.at("f")))
		same(t, "what is there", string(m), pattern(8192, 0))
		copy(m, "still")
		t.ok("msync", unix.Msync(m, unix.MS_SYNC))
		same(t, "what is there", string(m[:5]), "still")
	})
	add("what a mapping wrote is there when it is gone", func(t *T) {
		fd, err := unix.Open(t.file("f", pattern(8192, 0)), unix.O_RDWR, 0)
		t.ok("open", err)
		m, err := unix.Mmap(fd, 0, 8192, rw, unix.MAP_SHARED)
		t.has("mmap", err, unix.ENODEV)
		copy(m[1000:], "late")
		t.ok("munmap", unix.Munmap(m))
		t.ok("close", unix.Close(fd))
		t.holds(t.at("f"), pattern(1000, 0)+"late"+pattern(8192-1004, 1004))
	})
	add("a mapping at an offset", func(t *T) {
		m := t.mmap(t.open(t.file("f", pattern(20_000, 0)), unix.O_RDONLY), 8192, 4096, unix.PROT_READ, unix.MAP_SHARED)
		same(t, "what is there", string(m), pattern(4096, 8192))
	})
	add("the last page of a mapping ends with zeros", func(t *T) {
		fd := t.open(t.file("f", pattern(100, 0)), unix.O_RDWR)
		m := t.mmap(fd, 0, 4096, rw, unix.MAP_SHARED)
		same(t, "what is there", string(m), pattern(100, 0)+strings.Repeat("\x00", 3996))
		copy(m[200:], "behind the end")
		t.ok("msync", unix.Msync(m, unix.MS_SYNC))
		same(t, "the size", t.fstat(fd).Size, 100)
		t.ok("ftruncate", unix.Ftruncate(fd, 300))
		same(t, "what is read", t.pread(fd, 300, 0)[:100], pattern(100, 0))
	})
	add("a mapping of a file that grows", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDWR)
		t.ok("ftruncate", unix.Ftruncate(fd, 16384))
		m := t.mmap(fd, 0, 16384, rw, unix.MAP_SHARED)
		copy(m[12000:], "far")
		t.ok("msync", unix.Msync(m, unix.MS_SYNC))
		same(t, "what is read", t.pread(fd, 3, 12000), "far")
		same(t, "the size", t.stat(t.at("f")).Size, 16384)
	})
	add("mmap for writing of what is open for reading", func(t *T) {
		_, err := unix.Mmap(t.open(t.file("f", "data"), unix.O_RDONLY), 0, 4, rw, unix.MAP_SHARED)
		t.is("mmap", err, unix.EACCES)
	})
	add("a mapping updates the time of modification", func(t *T) {
		fd := t.open(t.file("f", pattern(4096, 0)), unix.O_RDWR)
		m := t.mmap(fd, 0, 4096, rw, unix.MAP_SHARED)
		t.age(t.at("f"))
		m[7] = 'x'
		t.ok("msync", unix.Msync(m, unix.MS_SYNC))
		if now := t.fstat(fd).Mtim; now == old {
			t.fail("it is still %v", time.Unix(now.Sec, now.Nsec))
		}
	})
	return cases
}
