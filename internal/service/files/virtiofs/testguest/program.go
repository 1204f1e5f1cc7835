//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// program is what a shell does not have.
func program(args []string) error {
	if len(args) < 2 {
		return errors.New("nothing to do")
	}
	switch path := args[1]; args[0] {
	case "posixlock":
		return posixLock(path)
	case "mapped":
		return mapped(path)
	case "appended":
		return appended(path)
	case "unlinked":
		return unlinked(path)
	case "holes":
		return holes(path)
	case "copy":
		return copyRange(path, args[2])
	}
	return fmt.Errorf("no such program: %s", args[0])
}

// posixLock takes a write lock, without waiting.
func posixLock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 5, Len: 10})
}

// mapped writes through a shared mapping, and sees a write in it.
func mapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(8192); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[4000:], "mapped, across pages: "+string(bytes.Repeat([]byte("x"), 200)))
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte("written"), 0); err != nil {
		return err
	}
	if got := string(m[:7]); got != "written" {
		return fmt.Errorf("the mapping has %q", got)
	}
	return unix.Munmap(m)
}

// appended writes through a mapping of a file that is open for appending.
func appended(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte("0123456789")); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[2:], "AB")
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return err
	}
	return unix.Munmap(m)
}

// unlinked goes on with a file that has no name any more.
func unlinked(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(path); err != nil {
		return err
	}
	if _, err := f.WriteString("still here"); err != nil {
		return err
	}
	if err := f.Truncate(5); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, 10)
	n, _ := f.ReadAt(b, 0)
	if st.Size() != 5 || string(b[:n]) != "still" {
		return fmt.Errorf("%d bytes, %q", st.Size(), b[:n])
	}
	return nil
}

// holes makes and finds holes.
func holes(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const at = 8 << 30 // more than 4 GiB
	if _, err := f.WriteAt([]byte("end"), at); err != nil {
		return err
	}
	data, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if err != nil {
		return err
	}
	if data != at {
		return fmt.Errorf("data at %d, not %d", data, at)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, at, 4096); err != nil {
		return err
	}
	if _, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != unix.ENXIO {
		return fmt.Errorf("after the hole was made: %w", err)
	}
	return nil
}

func copyRange(from, to string) error {
	a, err := os.Open(from)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Create(to)
	if err != nil {
		return err
	}
	defer b.Close()
	st, err := a.Stat()
	if err != nil {
		return err
	}
	n, err := unix.CopyFileRange(int(a.Fd()), nil, int(b.Fd()), nil, int(st.Size()), 0)
	if err == nil && int64(n) != st.Size() {
		err = fmt.Errorf("%d of %d bytes", n, st.Size())
	}
	return err
}
