//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// A process is another process, which does what it is told on a file.
type process struct {
	t   *T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// child starts exe as "posix child ROLE FILE".
func (t *T) child(exe, role, file string) *process {
	p := &process{t: t, cmd: exec.Command(exe, "child", role, file)}
	var err error
	p.in, err = p.cmd.StdinPipe()
	t.ok("pipe", err)
	out, err := p.cmd.StdoutPipe()
	t.ok("pipe", err)
	p.out = bufio.NewReader(out)
	p.cmd.Stderr = os.Stderr
	t.ok("start a process", p.cmd.Start())
	t.ends = append(t.ends, func() { p.in.Close(); p.cmd.Process.Kill(); p.cmd.Wait() })
	return p
}

func (t *T) locker(file string) *process { return t.child("/proc/self/exe", "locks", file) }

func (p *process) tell(line string) {
	_, err := fmt.Fprintln(p.in, line)
	p.t.ok("tell the other process", err)
}

func (p *process) hear() string {
	line, err := p.out.ReadString('\n')
	p.t.ok("hear from the other process", err)
	return strings.TrimSpace(line)
}

func (p *process) ask(line string) string {
	p.tell(line)
	return p.hear()
}

func (t *T) execute(path string) error {
	return exec.Command(path, "child", "nothing", "").Run()
}

func (t *T) script(path string) error { return exec.Command(path).Run() }

// child is the other process. Its orders are lines:
//
//	fcntl|ofd|flock [wait] r|w|u START LEN
//	read, write TEXT, hello
func child(args []string) error {
	if len(args) < 2 || args[0] != "locks" {
		return nil // it was started, which is all that was wanted
	}
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		words := strings.Fields(orders.Text())
		switch words[0] {
		case "read":
			b := make([]byte, 64)
			n, err := f.ReadAt(b, 0)
			if err != nil && err != io.EOF {
				return err
			}
			fmt.Printf("%s\n", b[:n])
		case "write":
			if _, err := f.WriteAt([]byte(words[1]), 0); err != nil {
				return err
			}
			fmt.Println("ok")
		case "hello":
			fmt.Println("hello")
		default:
			l, wait := words[1:], false
			if l[0] == "wait" {
				l, wait = l[1:], true
			}
			var start, n int64
			fmt.Sscan(strings.Join(l[1:], " "), &start, &n)
			err := lock(f, words[0], wait, l[0], start, n)
			var e unix.Errno
			switch {
			case err == nil:
				fmt.Println("ok")
			case errors.As(err, &e):
				fmt.Println(unix.ErrnoName(e))
			default:
				return err
			}
		}
	}
	return orders.Err()
}

// lock locks a part of a file (fcntl, ofd: fcntl(2)) or all of it (flock(2)).
func lock(f *os.File, kind string, wait bool, what string, start, n int64) error {
	if kind == "flock" {
		op := map[string]int{"r": unix.LOCK_SH, "w": unix.LOCK_EX, "u": unix.LOCK_UN}[what]
		if !wait {
			op |= unix.LOCK_NB
		}
		return ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), op) })
	}
	cmd := map[string]map[bool]int{"fcntl": {false: unix.F_SETLK, true: unix.F_SETLKW}, "ofd": {false: unix.F_OFD_SETLK, true: unix.F_OFD_SETLKW}}[kind][wait]
	l := unix.Flock_t{Whence: unix.SEEK_SET, Start: start, Len: n, Type: map[string]int16{"r": unix.F_RDLCK, "w": unix.F_WRLCK, "u": unix.F_UNLCK}[what]}
	return ignoringEINTR(func() error { return unix.FcntlFlock(f.Fd(), cmd, &l) })
}

// locked runs a program under the lock of a file, as flock(1) does, but by
// fcntl(2): a guest's flock(2) comes out of 9P as that.
func locked(path string, args []string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	if err := lock(f, "fcntl", true, "w", 0, 0); err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return errors.Join(cmd.Run(), f.Close())
}

// ignoringEINTR: Go's runtime sends itself signals.
func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// lockCases are the locks of fcntl(2) and flock(2) between two processes.
func lockCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	for _, kind := range []string{"fcntl", "ofd", "flock"} {
		for _, c := range []struct {
			first, second string
			shared        bool
		}{{"r", "r", true}, {"r", "w", false}, {"w", "r", false}, {"w", "w", false}} {
			add(fmt.Sprintf("%s: %s against %s", kind, c.second, c.first), func(t *T) {
				path := t.file("f", "data")
				a, b := t.locker(path), t.locker(path)
				same(t, "the first lock", a.ask(kind+" "+c.first+" 0 0"), "ok")
				got := b.ask(kind + " " + c.second + " 0 0")
				if c.shared {
					same(t, "the second lock", got, "ok")
				} else if got != "EAGAIN" && got != "EACCES" {
					t.fail("the second lock is %s, must be EAGAIN", got)
				}
				same(t, "the unlock", a.ask(kind+" u 0 0"), "ok")
				same(t, "the second lock", b.ask(kind+" "+c.second+" 0 0"), "ok")
			})
		}
		add(kind+": a lock is waited for", func(t *T) {
			path := t.file("f", "1")
			a, b := t.locker(path), t.locker(path)
			same(t, "the first lock", a.ask(kind+" w 0 0"), "ok")
			b.tell(kind + " wait w 0 0")
			same(t, "the write", a.ask("write 2"), "ok")
			same(t, "the unlock", a.ask(kind+" u 0 0"), "ok")
			same(t, "the second lock", b.hear(), "ok")
			same(t, "what is read under the lock", b.ask("read"), "2")
		})
		add(kind+": the end of a process ends its locks", func(t *T) {
			path := t.file("f", "1")
			a, b := t.locker(path), t.locker(path)
			same(t, "the first lock", a.ask(kind+" w 0 0"), "ok")
			b.tell(kind + " wait w 0 0")
			t.ok("kill", a.cmd.Process.Kill())
			same(t, "the second lock", b.hear(), "ok")
		})
	}
	for _, kind := range []string{"fcntl", "ofd"} {
		add(kind+": parts of a file", func(t *T) {
			path := t.file("f", "data")
			a, b := t.locker(path), t.locker(path)
			for _, s := range []struct{ who, order, want string }{
				{"a", "w 0 10", "ok"}, {"b", "w 10 10", "ok"}, {"b", "w 9 1", "EAGAIN"}, {"a", "r 15 1", "EAGAIN"},
				{"b", "r 20 0", "ok"}, {"a", "r 1000000 5", "ok"}, {"a", "w 1000000 5", "EAGAIN"},
				// Unlocking the middle leaves both sides.
				{"a", "u 4 2", "ok"}, {"b", "w 4 2", "ok"}, {"b", "w 3 1", "EAGAIN"}, {"b", "w 6 1", "EAGAIN"},
				// A lock is changed in place.
				{"a", "r 0 4", "ok"}, {"b", "r 0 4", "ok"}, {"a", "w 0 4", "EAGAIN"},
				{"a", "w 4611686018427387904 10", "EAGAIN"}, {"b", "u 20 0", "ok"}, {"a", "w 4611686018427387904 10", "ok"},
			} {
				who := map[string]*process{"a": a, "b": b}[s.who]
				got := who.ask(kind + " " + s.order)
				if got == "EACCES" {
					got = "EAGAIN"
				}
				same(t, s.who+": "+s.order, got, s.want)
			}
		})
	}
	add("fcntl: F_GETLK tells the lock of another", func(t *T) {
		path := t.file("f", "data")
		a := t.locker(path)
		same(t, "the lock", a.ask("fcntl w 5 10"), "ok")
		l := unix.Flock_t{Type: unix.F_RDLCK, Start: 0, Len: 100}
		t.ok("fcntl", unix.FcntlFlock(uintptr(t.open(path, unix.O_RDWR)), unix.F_GETLK, &l))
		same(t, "the lock", fmt.Sprint(l.Type, l.Start, l.Len), fmt.Sprint(unix.F_WRLCK, 5, 10))
		l = unix.Flock_t{Type: unix.F_RDLCK, Start: 20, Len: 100}
		t.ok("fcntl", unix.FcntlFlock(uintptr(t.open(path, unix.O_RDWR)), unix.F_GETLK, &l))
		same(t, "no lock", l.Type, unix.F_UNLCK)
	})
	add("fcntl: closing any descriptor ends the locks of a process", func(t *T) {
		path := t.file("f", "data")
		mine := t.open(path, unix.O_RDWR)
		t.ok("fcntl", unix.FcntlFlock(uintptr(mine), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
		b := t.locker(path)
		same(t, "the second lock", b.ask("fcntl w 0 0"), "EAGAIN")
		t.ok("open and close", opened(path, unix.O_RDONLY, 0))
		same(t, "the second lock", b.ask("fcntl w 0 0"), "ok")
	})
	add("fcntl: a write lock of what is open for reading", func(t *T) {
		fd := t.open(t.file("f", ""), unix.O_RDONLY)
		t.is("fcntl", unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}), unix.EBADF)
		t.ok("fcntl", unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK}))
	})
	add("flock: two descriptors of one process", func(t *T) {
		path := t.file("f", "")
		a, b := t.open(path, unix.O_RDWR), t.open(path, unix.O_RDWR)
		t.ok("flock", unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
		t.is("flock", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
		t.ok("flock", unix.Flock(a, unix.LOCK_UN))
		t.ok("flock", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
	})
	add("flock: a copy of the descriptor has the same lock", func(t *T) {
		path := t.file("f", "")
		a := t.open(path, unix.O_RDWR)
		t.ok("flock", unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
		dup, err := unix.Dup(a)
		t.ok("dup", err)
		t.ok("flock", unix.Flock(dup, unix.LOCK_EX|unix.LOCK_NB))
		t.ok("close", unix.Close(dup))
		t.is("flock", unix.Flock(t.open(path, unix.O_RDWR), unix.LOCK_SH|unix.LOCK_NB), unix.EAGAIN)
	})
	add("flock and fcntl do not meet", func(t *T) {
		path := t.file("f", "")
		a, b := t.locker(path), t.locker(path)
		same(t, "flock", a.ask("flock w"), "ok")
		same(t, "fcntl", b.ask("fcntl w 0 0"), "ok")
	})
	return cases
}
