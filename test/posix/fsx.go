//go:build linux

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// An exerciser does random operations on a file and knows what it must hold.
type exerciser struct {
	path   string
	fd     int
	random *rand.Rand
	model  []byte // the file's content
	most   int    // bytes
	punch  bool   // holes can be punched
	last   []string
}

func fsxMain(args []string) error {
	flags := flag.NewFlagSet("fsx", flag.ContinueOnError)
	seed := flags.Uint64("seed", 1, "the `number` that all that is random comes from")
	ops := flags.Int("ops", 10_000, "`number` of operations")
	most := flags.Int("size", 1<<18, "the file's greatest size, in `bytes`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: posix fsx [-seed N] [-ops N] [-size N] FILE")
	}
	x := &exerciser{path: flags.Arg(0), random: rand.New(rand.NewPCG(*seed, 5)), most: *most, punch: true}
	var err error
	if x.fd, err = unix.Open(x.path, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, 0o644); err != nil {
		return err
	}
	for i := range *ops {
		if err := x.one(i); err != nil {
			text := fmt.Sprintf("operation %d with seed %d: %v; the last operations:", i, *seed, err)
			for _, l := range x.last {
				text += "\n  " + l
			}
			return errors.New(text)
		}
	}
	if err := unix.Fsync(x.fd); err != nil {
		return err
	}
	if err := unix.Close(x.fd); err != nil {
		return err
	}
	got, err := os.ReadFile(x.path)
	if err != nil {
		return err
	}
	if err := x.compare("the file at the end", got, x.model); err != nil {
		return err
	}
	fmt.Printf("%d operations, %d bytes at the end\n", *ops, len(x.model))
	return os.Remove(x.path)
}

func (x *exerciser) note(format string, args ...any) {
	x.last = append(x.last, fmt.Sprintf(format, args...))
	if len(x.last) > 20 {
		x.last = x.last[1:]
	}
}

// part is a random part of a file with a limit; short ones are as likely as
// long ones.
func (x *exerciser) part(limit int) (at, n int) {
	at = x.random.IntN(limit)
	n = 1 + x.random.IntN(min(limit-at, 1<<(1+x.random.IntN(17))))
	return at, n
}

func (x *exerciser) data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(x.random.Uint32())
	}
	return b
}

func (x *exerciser) grow(size int) {
	if size > len(x.model) {
		x.model = append(x.model, make([]byte, size-len(x.model))...)
	}
}

func (x *exerciser) one(i int) error {
	switch op := x.random.IntN(100); {
	case op < 30:
		return x.read()
	case op < 55:
		return x.write(x.fd)
	case op < 65:
		return x.readMapped()
	case op < 77:
		return x.writeMapped()
	case op < 85:
		return x.truncate()
	case op < 90:
		return x.punchHole()
	case op < 93:
		x.note("%d fsync", i)
		return unix.Fsync(x.fd)
	case op < 96:
		return x.reopen()
	default:
		return x.size()
	}
}

func (x *exerciser) compare(what string, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("%s has %#02x at %d, must have %#02x", what, got[i], i, want[i])
		}
	}
	return fmt.Errorf("%s has %d bytes, must have %d", what, len(got), len(want))
}

func (x *exerciser) read() error {
	at, n := x.part(x.most)
	x.note("read %d at %d", n, at)
	got := make([]byte, n)
	done := 0
	for done < n {
		m, err := unix.Pread(x.fd, got[done:], int64(at+done))
		if err != nil {
			return err
		}
		if m == 0 {
			break
		}
		done += m
	}
	return x.compare(fmt.Sprintf("what is read at %d", at), got[:done], x.slice(at, n))
}

// slice is what a read gives.
func (x *exerciser) slice(at, n int) []byte {
	if at >= len(x.model) {
		return nil
	}
	return x.model[at:min(at+n, len(x.model))]
}

func (x *exerciser) write(fd int) error {
	at, n := x.part(x.most)
	x.note("write %d at %d", n, at)
	data := x.data(n)
	for done := 0; done < n; {
		m, err := unix.Pwrite(fd, data[done:], int64(at+done))
		if err != nil {
			return err
		}
		done += m
	}
	x.grow(at + n)
	copy(x.model[at:], data)
	return nil
}

// mapping maps the pages that hold a part.
func (x *exerciser) mapping(at, n, prot int) (m []byte, first int, err error) {
	first = at &^ (os.Getpagesize() - 1)
	m, err = unix.Mmap(x.fd, int64(first), at+n-first, prot, unix.MAP_SHARED)
	return m, first, err
}

func (x *exerciser) readMapped() error {
	if len(x.model) == 0 {
		return nil
	}
	at, n := x.part(len(x.model))
	x.note("read %d at %d by memory", n, at)
	m, first, err := x.mapping(at, n, unix.PROT_READ)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	err = x.compare(fmt.Sprintf("what is mapped at %d", at), m[at-first:], x.model[at:at+n])
	return errors.Join(err, unix.Munmap(m))
}

func (x *exerciser) writeMapped() error {
	if len(x.model) == 0 {
		return nil
	}
	at, n := x.part(len(x.model))
	x.note("write %d at %d by memory", n, at)
	m, first, err := x.mapping(at, n, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	data := x.data(n)
	copy(m[at-first:], data)
	copy(x.model[at:], data)
	if x.random.IntN(2) == 0 {
		x.note("msync")
		err = unix.Msync(m, unix.MS_SYNC)
	}
	return errors.Join(err, unix.Munmap(m))
}

func (x *exerciser) truncate() error {
	size := x.random.IntN(x.most)
	x.note("truncate %d to %d", len(x.model), size)
	var err error
	if x.random.IntN(2) == 0 {
		err = unix.Ftruncate(x.fd, int64(size))
	} else {
		err = unix.Truncate(x.path, int64(size))
	}
	x.grow(size)
	x.model = x.model[:size]
	clear(x.model[size:cap(x.model)])
	return err
}

func (x *exerciser) punchHole() error {
	if len(x.model) == 0 || !x.punch {
		return nil
	}
	at, n := x.part(len(x.model))
	x.note("punch %d at %d", n, at)
	err := unix.Fallocate(x.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(n))
	if errors.Is(err, unix.EOPNOTSUPP) {
		x.punch = false
		return nil
	}
	clear(x.model[at : at+n])
	return err
}

func (x *exerciser) reopen() error {
	x.note("close and open")
	if err := unix.Close(x.fd); err != nil {
		return err
	}
	var err error
	x.fd, err = unix.Open(x.path, unix.O_RDWR, 0)
	return err
}

func (x *exerciser) size() error {
	x.note("stat")
	var st unix.Stat_t
	if err := unix.Stat(x.path, &st); err != nil {
		return err
	}
	if st.Size != int64(len(x.model)) {
		return fmt.Errorf("the size is %d, must be %d", st.Size, len(x.model))
	}
	return nil
}
