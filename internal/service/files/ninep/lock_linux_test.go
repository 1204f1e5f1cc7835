package ninep

import (
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

func (c *client) lock(fid int, kind uint8, flags int, start, length uint64, pid int) (uint8, error) {
	b, err := c.call(tLock, fid, kind, flags, start, length, pid, "guest")
	if err != nil {
		return 0xff, err
	}
	return b[0], nil
}

func (c *client) wantLock(status uint8, fid int, kind uint8, start, length uint64, pid int) {
	c.t.Helper()
	if s, err := c.lock(fid, kind, 0, start, length, pid); s != status || err != nil {
		c.t.Errorf("a lock of type %d from %d is answered with %d, %v; want %d", kind, start, s, err, status)
	}
}

// hostTry locks as a program of the host does, and unlocks.
func hostTry(t *testing.T, path string, kind int16, start, length int64) error {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fl := unix.Flock_t{Type: kind, Start: start, Len: length}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &fl)
}

func TestLocks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "0123456789")
	tr := openTree(t, dir, tree.Options{})
	guest, other := serve(t, tr, Limits{}), serve(t, tr, Limits{})
	for _, c := range []*client{guest, other} {
		c.hello(maxMessage)
		c.mustWalk(0, 1, "f")
		c.must(tLopen, 1, oRdwr)
	}
	guest.mustWalk(0, 2, "f")
	guest.must(tLopen, 2, oRdwr)

	// Two processes of the guest share [0,10); one gives it up, the other has it.
	guest.wantLock(lockSuccess, 1, lockRead, 0, 10, 100)
	guest.wantLock(lockSuccess, 2, lockRead, 5, 10, 200)
	other.wantLock(lockBlocked, 1, lockWrite, 0, 0, 1)
	other.wantLock(lockSuccess, 1, lockRead, 0, 0, 1)
	other.wantLock(lockSuccess, 1, lockNone, 0, 0, 1)
	guest.wantLock(lockSuccess, 2, lockNone, 0, 0, 100) // by the other fid, as POSIX has it
	other.wantLock(lockSuccess, 1, lockWrite, 0, 5, 1)
	other.wantLock(lockBlocked, 1, lockWrite, 5, 1, 1)
	other.wantLock(lockBlocked, 1, lockWrite, 14, 1, 1)
	other.wantLock(lockSuccess, 1, lockWrite, 15, 0, 1)
	if err := hostTry(t, path, unix.F_WRLCK, 20, 1); err != syscall.EAGAIN {
		t.Errorf("a program of the host locks what a guest has: %v", err)
	}
	other.wantLock(lockSuccess, 1, lockNone, 0, 0, 1)

	// A conflict in a part leaves all as it was.
	other.wantLock(lockSuccess, 1, lockWrite, 50, 10, 1)
	guest.wantLock(lockBlocked, 1, lockWrite, 0, 100, 200)
	if err := hostTry(t, path, unix.F_WRLCK, 0, 5); err != nil {
		t.Errorf("a lock that failed left something behind: %v", err)
	}
	if err := hostTry(t, path, unix.F_RDLCK, 5, 10); err != nil {
		t.Errorf("a lock that failed left something behind: %v", err)
	}
	if err := hostTry(t, path, unix.F_WRLCK, 5, 1); err != syscall.EAGAIN {
		t.Errorf("a lock that failed took an older one away: %v", err)
	}

	// What is in the way.
	d := decode(guest.must(tGetlock, 1, uint8(lockNone), uint64(0), uint64(0), 200, "guest"))
	if kind, start, length := d.u8(), d.u64(), d.u64(); kind != lockWrite || start != 50 || length != 10 {
		t.Errorf("in the way is %d from %d for %d", kind, start, length)
	}
	d = decode(guest.must(tGetlock, 1, uint8(lockNone), uint64(0), uint64(50), 200, "guest"))
	if kind := d.u8(); kind != lockNone {
		t.Errorf("in the way is %d", kind)
	}

	// Closing gives up what was locked with the fid.
	guest.must(tClunk, 2)
	if err := hostTry(t, path, unix.F_WRLCK, 0, 50); err != nil {
		t.Errorf("after the fid is gone: %v", err)
	}
	guest.want(syscall.EOVERFLOW, tLock, 1, uint8(lockWrite), 0, uint64(10), uint64(math.MaxUint64), 1, "x")
	guest.want(syscall.EINVAL, tLock, 1, uint8(lockWrite), 0, uint64(1<<63), uint64(0), 1, "x")
	guest.want(syscall.EINVAL, tLock, 1, uint8(9), 0, uint64(0), uint64(0), 1, "x")
}

func TestLockWaits(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	tr := openTree(t, dir, tree.Options{})
	guest, other := serve(t, tr, Limits{LockWait: time.Hour}), serve(t, tr, Limits{LockWait: time.Millisecond})
	for _, c := range []*client{guest, other} {
		c.hello(maxMessage)
		c.mustWalk(0, 1, "f")
		c.must(tLopen, 1, oRdwr)
	}
	other.wantLock(lockSuccess, 1, lockWrite, 0, 0, 1)
	tag, wait := guest.start(tLock, 1, uint8(lockWrite), lockBlock, uint64(0), uint64(0), 7, "guest")
	guest.must(tGetattr, 1, uint64(0)) // others go on
	_, flush := guest.start(tFlush, tag)
	if b, err := result(tLock, wait); err != nil || b[0] != lockBlocked {
		t.Errorf("a lock that is given up: %v, %v", b, err)
	}
	if _, err := result(tFlush, flush); err != nil {
		t.Error(err)
	}
	_, wait = guest.start(tLock, 1, uint8(lockWrite), lockBlock, uint64(0), uint64(0), 7, "guest")
	guest.must(tGetattr, 1, uint64(0))
	other.wantLock(lockSuccess, 1, lockNone, 0, 0, 1)
	if b, err := result(tLock, wait); err != nil || b[0] != lockSuccess {
		t.Errorf("a lock that was waited for: %v, %v", b, err)
	}
	// Too long is not for ever.
	if s, err := other.lock(1, lockWrite, lockBlock, 0, 0, 1); s != lockBlocked || err != nil {
		t.Error(s, err)
	}
	// The connection ends while somebody waits.
	_, wait = other.start(tLock, 1, uint8(lockWrite), lockBlock, uint64(0), uint64(0), 7, "guest")
	other.conn.Close()
	if err := <-other.end; err != nil {
		t.Log(err)
	}
}
