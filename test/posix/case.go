//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A testCase is one line of the table.
type testCase struct {
	name string
	root bool // needs root: it changes owners or is several users
	run  func(*T)
}

// cases is the table.
func cases() []testCase {
	return slices.Concat(pathCases(), existsCases(), modeCases(), ownerCases(), openCases(), linkCases(), renameCases(),
		stickyCases(), directoryCases(), nodeCases(), symlinkCases(), sizeCases(), holeCases(), unlinkCases(), timeCases(),
		attributeCases(), lockCases(), mmapCases(), permissionCases(), nameCases(), miscCases())
}

// A T is a case that runs. The first thing that is not as it must be ends it.
type T struct {
	*runner
	dir    string // the case's own, empty
	closes []int  // descriptors that the end closes
	ends   []func()
}

// failure is a panic's value that do turns into an error.
type failure struct{ error }

// notSupported is the same for what the file system cannot do.
type notSupported struct{ error }

// severalOwners is the same for what needs more than one owner.
type severalOwners struct{ error }

func (t *T) do(run func(*T)) (err error) {
	if err := os.Mkdir(t.dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(t.dir, 0o755); err != nil {
		return err
	}
	defer func() {
		for _, end := range t.ends {
			end()
		}
		for _, fd := range t.closes {
			unix.Close(fd)
		}
		if left := removeAll(t.dir); err == nil && left != nil {
			err = fmt.Errorf("remove what it made: %w", left)
		}
	}()
	return caught(func() { run(t) })
}

// caught runs f and returns what ended it.
func caught(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.error
		case notSupported:
			err = r
		case severalOwners:
			err = r
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

// removeAll removes what a case has made, whatever its modes are.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	// Not by name: directories of mode 0 do not show what is in them.
	open := func(path string, entry os.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	}
	for range 4 {
		filepath.WalkDir(dir, open)
	}
	return os.RemoveAll(dir)
}

func (t *T) fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// ok ends the case unless err is nil.
func (t *T) ok(what string, err error) {
	if t.oneOwner && strings.HasSuffix(what, "chown") && errors.Is(err, unix.EPERM) {
		panic(severalOwners{fmt.Errorf("%s: %w", what, err)})
	}
	if err != nil {
		t.fail("%s: %w, must succeed", what, named(err))
	}
}

// is ends the case unless err is one of want.
func (t *T) is(what string, err error, want ...unix.Errno) {
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	if err == nil {
		t.fail("%s succeeds, must be %s", what, list(want))
	}
	t.fail("%s: %w, must be %s", what, named(err), list(want))
}

func list(errnos []unix.Errno) string {
	var names []string
	for _, e := range errnos {
		names = append(names, unix.ErrnoName(e))
	}
	return strings.Join(names, " or ")
}

// named adds the name that errno(3) has.
func named(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return fmt.Errorf("%s (%w)", unix.ErrnoName(e), err)
	}
	return err
}

// has ends the case as not supported for the errnos that mean this.
func (t *T) has(what string, err error, lacking ...unix.Errno) {
	if err == nil {
		return
	}
	for _, e := range append(lacking, unix.EOPNOTSUPP, unix.ENOSYS) {
		if errors.Is(err, e) {
			panic(notSupported{fmt.Errorf("%s: %w", what, named(err))})
		}
	}
	t.ok(what, err)
}

// same ends the case unless both are equal.
func same[V comparable](t *T, what string, got, want V) {
	if got != want {
		t.fail("%s is %v, must be %v", what, got, want)
	}
}

// at is a path in the case's directory.
func (t *T) at(name string) string { return t.dir + "/" + name }

// file makes a file with data and returns its path.
func (t *T) file(name, data string) string {
	path := t.at(name)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
	t.ok("open "+name, err)
	if data != "" {
		n, err := unix.Write(fd, []byte(data))
		t.ok("write "+name, err)
		same(t, "bytes written", n, len(data))
	}
	t.ok("close "+name, unix.Close(fd))
	return path
}

func (t *T) mkdir(name string) string {
	t.ok("mkdir "+name, unix.Mkdir(t.at(name), 0o755))
	return t.at(name)
}

func (t *T) symlink(target, name string) string {
	t.ok("symlink "+name, unix.Symlink(target, t.at(name)))
	return t.at(name)
}

// open opens until the end of the case.
func (t *T) open(path string, flags int) int {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	t.ok(fmt.Sprintf("open %s", filepath.Base(path)), err)
	t.closes = append(t.closes, fd)
	return fd
}

// opened is open(2) for its errno.
func opened(path string, flags int, mode uint32) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func (t *T) stat(path string) unix.Stat_t {
	var st unix.Stat_t
	t.ok("lstat "+filepath.Base(path), unix.Lstat(path, &st))
	return st
}

func (t *T) fstat(fd int) unix.Stat_t {
	var st unix.Stat_t
	t.ok("fstat", unix.Fstat(fd, &st))
	return st
}

func missing(path string) bool {
	var st unix.Stat_t
	return errors.Is(unix.Lstat(path, &st), unix.ENOENT)
}

// holds ends the case unless the file has this content.
func (t *T) holds(path, want string) {
	got, err := os.ReadFile(path)
	t.ok("read "+filepath.Base(path), err)
	if string(got) != want {
		t.fail("%s holds %.60q, must be %.60q", filepath.Base(path), got, want)
	}
}

func (t *T) write(fd int, data string) {
	n, err := unix.Write(fd, []byte(data))
	t.ok("write", err)
	same(t, "bytes written", n, len(data))
}

func (t *T) pread(fd int, n int, offset int64) string {
	b := make([]byte, n)
	got := 0
	for got < n {
		m, err := unix.Pread(fd, b[got:], offset+int64(got))
		t.ok("pread", err)
		if m == 0 {
			break
		}
		got += m
	}
	return string(b[:got])
}

func (t *T) pwrite(fd int, data string, offset int64) {
	n, err := unix.Pwrite(fd, []byte(data), offset)
	t.ok("pwrite", err)
	same(t, "bytes written", n, len(data))
}

// as runs f as another user, on a thread of its own that ends with it: Linux
// has credentials by thread.
func (t *T) as(uid, gid int, groups []int, f func()) {
	ended := make(chan any, 1)
	go func() {
		runtime.LockOSThread()
		defer func() { ended <- recover() }()
		raw := func(trap, a, b, c uintptr) {
			if _, _, e := syscall.RawSyscall(trap, a, b, c); e != 0 {
				panic(failure{fmt.Errorf("become user %d: %w", uid, e)})
			}
		}
		var list [8]uint32
		for i, g := range groups {
			list[i] = uint32(g)
		}
		raw(syscall.SYS_SETGROUPS, uintptr(len(groups)), pointer(&list[0]), 0)
		raw(syscall.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid))
		raw(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
		f()
	}()
	if r := <-ended; r != nil {
		panic(r)
	}
}

// unprivileged runs f as a user who owns what own names.
func (t *T) unprivileged(f func(), own ...string) {
	if t.user {
		f()
		return
	}
	for _, path := range own {
		t.ok("chown", unix.Lchown(path, t.plain, t.plain))
	}
	t.as(t.plain, t.plain, nil, f)
}
