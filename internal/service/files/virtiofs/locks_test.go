//go:build linux

package virtiofs

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// A lockTest is a file open in some guest.
type lockTest struct {
	*server
	node, fh uint64
}

func openForLocks(t *testing.T, s *server) lockTest {
	t.Helper()
	f := s.lookup(t, 1, "f")
	b, err := s.ask(t, message(opOpen, f.NodeId, fuse.OpenIn{Flags: syscall.O_RDWR}))
	if err != 0 {
		t.Fatal(err)
	}
	return lockTest{s, f.NodeId, as[fuse.OpenOut](t, b).Fh}
}

func (l lockTest) in(kind, flags uint32, owner uint64) fuse.LkIn {
	return fuse.LkIn{Fh: l.fh, Owner: owner, LkFlags: flags, Lk: fuse.FileLock{Start: 0, End: 1<<63 - 1, Typ: kind, Pid: uint32(owner)}}
}

func (l lockTest) set(t *testing.T, kind, flags uint32, owner uint64) syscall.Errno {
	t.Helper()
	_, err := l.ask(t, message(opSetlk, l.node, l.in(kind, flags, owner)))
	return err
}

// other serves the same directory to another guest.
func other(t *testing.T, dir string) *server {
	t.Helper()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	shared, err := tree.Open(root, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(shared, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.fs.close()
		shared.Close()
	})
	return s
}

// Locks keep apart the programs of one guest, two guests, and the host.
func TestLocks(t *testing.T) {
	for name, flags := range map[string]uint32{"fcntl": 0, "flock": fuse.LK_FLOCK} {
		t.Run(name, func(t *testing.T) {
			s, dir := testServer(t, Options{}, tree.Options{})
			a, b := openForLocks(t, s), openForLocks(t, s)
			c := openForLocks(t, other(t, dir))
			check := func(what string, got, want syscall.Errno) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			check("lock", a.set(t, unix.F_WRLCK, flags, 1), 0)
			check("lock again", a.set(t, unix.F_WRLCK, flags, 1), 0)
			check("another program", b.set(t, unix.F_WRLCK, flags, 2), syscall.EAGAIN)
			check("another program, to read", b.set(t, unix.F_RDLCK, flags, 2), syscall.EAGAIN)
			check("another guest", c.set(t, unix.F_WRLCK, flags, 1), syscall.EAGAIN)
			host, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			onHost := func() error {
				if flags != 0 {
					return unix.Flock(int(host.Fd()), unix.LOCK_EX|unix.LOCK_NB)
				}
				return unix.FcntlFlock(host.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
			}
			if err := onHost(); err != syscall.EAGAIN {
				t.Errorf("the host: %v", err)
			}
			if flags == 0 {
				b2, err := b.ask(t, message(opGetlk, b.node, b.in(unix.F_WRLCK, 0, 2)))
				if got := as[fuse.LkOut](t, b2).Lk; err != 0 || got.Typ != unix.F_WRLCK || got.Pid != 1 {
					t.Errorf("who is in the way: %+v, %v", got, err)
				}
			}
			// Each kind ends with what ends it: a close, the last close.
			if flags == 0 {
				_, errno := a.ask(t, message(opFlush, a.node, fuse.FlushIn{Fh: a.fh, LockOwner: 1}))
				check("close", errno, 0)
			} else {
				a.ask(t, message(opRelease, a.node, fuse.ReleaseIn{Fh: a.fh}))
			}
			check("another guest, afterwards", c.set(t, unix.F_RDLCK, flags, 1), 0)
			check("a reader beside it", b.set(t, unix.F_RDLCK, flags, 2), 0)
			check("a writer beside it", b.set(t, unix.F_WRLCK, flags, 2), syscall.EAGAIN)
			c.fs.reset()
			check("after the other guest has ended", b.set(t, unix.F_WRLCK, flags, 2), 0)
			check("unlock", b.set(t, unix.F_UNLCK, flags, 2), 0)
			if err := onHost(); err != nil {
				t.Errorf("the host, afterwards: %v", err)
			}
			check("while the host has it", b.set(t, unix.F_RDLCK, flags, 2), syscall.EAGAIN)
		})
	}
}

// A lock that is waited for comes when it is free, and the wait ends when the
// guest leaves its device.
func TestLockWait(t *testing.T) {
	s, _ := testServer(t, Options{}, tree.Options{})
	a, b := openForLocks(t, s), openForLocks(t, s)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	wait := func() <-chan syscall.Errno {
		done := make(chan syscall.Errno, 1)
		before := s.fs.waiting.Load()
		go func() {
			out := make([]byte, 100)
			s.handle(ctx, 1, [][]byte{message(opSetlkw, b.node, b.in(unix.F_WRLCK, 0, 2))}, [][]byte{out})
			h := as[fuse.OutHeader](t, out)
			done <- syscall.Errno(-h.Status)
		}()
		for s.fs.waiting.Load() == before {
			select {
			case err := <-done:
				t.Fatalf("it does not wait: %v", err)
			default:
			}
		}
		return done
	}
	if err := a.set(t, unix.F_WRLCK, 0, 1); err != 0 {
		t.Fatal(err)
	}
	done := wait()
	if err := a.set(t, unix.F_UNLCK, 0, 1); err != 0 {
		t.Fatal(err)
	}
	// This request comes without the context of the others.
	if err := <-done; err != 0 {
		t.Errorf("waited for: %v", err)
	}
	b.set(t, unix.F_UNLCK, 0, 2)
	if err := a.set(t, unix.F_WRLCK, 0, 1); err != 0 {
		t.Fatal(err)
	}
	done = wait()
	leave()
	if err := <-done; err != syscall.EAGAIN {
		t.Errorf("after the guest has left: %v", err)
	}

	// Not every worker waits.
	s.fs.waiting.Store(maxWaiting)
	if _, err := s.ask(t, message(opSetlkw, b.node, b.in(unix.F_WRLCK, 0, 2))); err != syscall.ENOLCK {
		t.Errorf("one too many: %v", err)
	}
	s.fs.waiting.Store(0)
}

// What a change by somebody without privileges takes from a file.
func TestKillPrivileges(t *testing.T) {
	s, dir := testServer(t, Options{}, tree.Options{})
	f := openForLocks(t, s)
	path := filepath.Join(dir, "f")
	for name, test := range map[string]struct {
		in      []byte
		mode    uint32
		want    uint32
		content string
	}{
		"write":                      {message(opWrite, f.node, fuse.WriteIn{Fh: f.fh, Size: 1, WriteFlags: fuse.WRITE_KILL_SUIDGID}, "x"), 0o6775, 0o775, "x"},
		"write with mandatory locks": {message(opWrite, f.node, fuse.WriteIn{Fh: f.fh, Size: 1, WriteFlags: fuse.WRITE_KILL_SUIDGID}, "y"), 0o6765, 0o2765, "y"},
		"write as root":              {message(opWrite, f.node, fuse.WriteIn{Fh: f.fh, Size: 1}, "z"), 0o755, 0o755, "z"},
		"truncate": {message(opSetattr, f.node, fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{
			Valid: fuse.FATTR_SIZE | fuse.FATTR_KILL_SUIDGID}}), 0o6775, 0o775, ""},
		"open": {message(opOpen, f.node, fuse.OpenIn{Flags: syscall.O_WRONLY | syscall.O_TRUNC, Mode: fuse.OPEN_KILL_SUIDGID}), 0o4755, 0o755, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := unix.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ask(t, test.in); err != 0 {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			if got := st.Mode & 0o7777; got != test.want {
				t.Errorf("mode %o, want %o", got, test.want)
			}
			if b, _ := os.ReadFile(path); string(b) != test.content {
				t.Errorf("contents %q, want %q", b, test.content)
			}
		})
	}
}
