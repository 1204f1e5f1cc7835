package ninep

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// arena makes a shared directory and, beside it, what nobody may reach.
func arena(t *testing.T) (shared, outside string) {
	top := t.TempDir()
	shared, outside = filepath.Join(top, "shared"), filepath.Join(top, "outside")
	for _, d := range []string{shared, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(outside, "secret"), "secret")
	return shared, outside
}

// untouched checks that outside is as arena made it.
func untouched(t *testing.T, outside string) {
	t.Helper()
	es, err := os.ReadDir(outside)
	if err != nil || len(es) != 1 || content(t, outside, "secret") != "secret" {
		t.Errorf("outside of the shared directory there is %v (%v)", es, err)
	}
	if fi, _ := os.Stat(filepath.Join(outside, "secret")); fi != nil && fi.Mode() != 0o644 {
		t.Errorf("the secret has mode %v", fi.Mode())
	}
}

func TestHostileNames(t *testing.T) {
	shared, outside := arena(t)
	write(t, filepath.Join(shared, "f"), "x")
	os.Symlink(outside, filepath.Join(shared, "way"))
	c := mount(t, shared, tree.Options{}, Limits{})
	c.mustWalk(0, 1, "f")
	for _, name := range []string{
		"", ".", "..", "/", "../outside", "/etc/passwd", "way/secret", "a/b", "f\x00", "\x00", "..\x00", "f/", "./f",
		strings.Repeat("n", 256), strings.Repeat("n", 65535), strings.Repeat("../", 100) + outside,
	} {
		want := syscall.EINVAL
		if len(name) > 255 {
			want = syscall.ENAMETOOLONG
		}
		for _, m := range [][]any{
			{tWalk, 0, 5, uint16(1), name},
			{tMkdir, 0, name, 0o755, 0},
			{tSymlink, 0, name, "x", 0},
			{tMknod, 0, name, unix.S_IFIFO | 0o644, 0, 0, 0},
			{tLink, 0, 1, name},
			{tRenameat, 0, "f", 0, name},
			{tRenameat, 0, name, 0, "g"},
			{tUnlinkat, 0, name, 0},
			{tUnlinkat, 0, name, unix.AT_REMOVEDIR},
		} {
			c.want(want, uint8(m[0].(int)), m[1:]...)
		}
		c.mustWalk(0, 6)
		c.want(want, tLcreate, 6, name, oRdwr, 0o644, 0)
		c.must(tClunk, 6)
	}
	// Through links that lead out, by the host's hand or the guest's.
	for _, link := range []string{outside, "../outside", "/", "..", filepath.Join(outside, "secret")} {
		c.must(tSymlink, 0, "link", link, 0)
		c.mustWalk(0, 7, "link")
		if err := c.walk(0, 8, "link", "secret"); err != syscall.ENOENT { // it went one step
			t.Errorf("walked through a link to %s: %v", link, err)
		}
		c.want(syscall.ENOTDIR, tWalk, 7, 8, uint16(1), "secret")
		c.want(syscall.ELOOP, tLopen, 7, 0)
		c.want(syscall.ELOOP, tLopen, 7, oWronly|oTrunc)
		c.want(syscall.ENOTDIR, tLcreate, 7, "new", oRdwr, 0o644, 0)
		c.want(syscall.ENOTDIR, tMkdir, 7, "new", 0o755, 0)
		c.want(syscall.ENOTDIR, tUnlinkat, 7, "secret", 0)
		c.want(syscall.ENOTDIR, tRenameat, 0, "f", 7, "f")
		c.want(syscall.ENOTDIR, tRenameat, 7, "secret", 0, "s")
		c.want(syscall.EOPNOTSUPP, tSetattr, 7, attrMode, 0o777, 0, 0, uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
		c.want(syscall.EINVAL, tSetattr, 7, attrSize, 0, 0, 0, uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
		c.must(tSetattr, 7, attrUID, 0, os.Getuid(), 0, uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
		c.must(tClunk, 7)
		c.must(tUnlinkat, 0, "link", 0)
	}
	c.want(syscall.ENOENT, tSymlink, 0, "link", "", 0)
	c.want(syscall.ENAMETOOLONG, tSymlink, 0, "link", strings.Repeat("t", 5000), 0)
	untouched(t, outside)
}

func TestHostileFids(t *testing.T) {
	shared, outside := arena(t)
	write(t, filepath.Join(shared, "f"), "x")
	tr := openTree(t, shared, tree.Options{})
	c := serve(t, tr, Limits{Fids: 5000})
	c.hello(maxMessage)
	for _, m := range [][]any{
		{tWalk, 99, 1, uint16(0)}, {tLopen, 99, 0}, {tLcreate, 99, "x", 0, 0, 0}, {tRead, 99, uint64(0), 1},
		{tWrite, 99, uint64(0), 1, []byte("x")}, {tClunk, 99}, {tGetattr, 99, uint64(0)}, {tStatfs, 99},
		{tReaddir, 99, uint64(0), 100}, {tReadlink, 99}, {tFsync, 99, 0}, {tLink, 0, 99, "x"}, {tLink, 99, 0, "x"},
		{tRenameat, 0, "f", 99, "x"}, {tXattrwalk, 99, 1, "user.x"}, {tXattrcreate, 99, "user.x", uint64(0), 0},
		{tLock, 99, uint8(0), 0, uint64(0), uint64(0), 1, "x"}, {tGetlock, 99, uint8(0), uint64(0), uint64(0), 1, "x"},
		{tReaddir, 0, uint64(0), 100}, {tRead, 0, uint64(0), 1}, {tFsync, 0, 0}, // not open
	} {
		c.want(syscall.EBADF, uint8(m[0].(int)), m[1:]...)
	}
	c.want(syscall.EINVAL, tAttach, 1, 7, "", "", 0) // an authentication that never was
	c.want(syscall.ENOENT, tAttach, 1, noFid, "", "../outside", 0)
	c.want(syscall.EEXIST, tAttach, 0, noFid, "", "", 0)
	c.want(syscall.EOPNOTSUPP, tAuth, 1, "", "", 0)
	c.want(syscall.EOPNOTSUPP, tRemove, 0)
	c.want(syscall.EOPNOTSUPP, tRename, 0, 0, "x")
	c.want(syscall.EOPNOTSUPP, 255)
	c.want(syscall.EINVAL, tWalk, 0, noFid, uint16(0))

	// A number stands for another object at once, and for the old until then.
	c.mustWalk(0, 1, "f")
	c.want(syscall.EEXIST, tWalk, 0, 1, uint16(0))
	c.must(tLopen, 1, oRdwr)
	c.mustWalk(1, 2) // a walk from an open fid makes one that is not
	c.want(syscall.EBADF, tRead, 2, uint64(0), 1)
	c.mustWalk(1, 1) // in place: it is closed
	c.want(syscall.EBADF, tRead, 1, uint64(0), 1)
	c.want(syscall.ENOTDIR, tWalk, 1, 3, uint16(1), "x")

	// Ten thousand of them.
	var refused int
	for i := range 10000 {
		switch err := c.walk(0, 1000+i, "f"); err {
		case nil:
		case syscall.ENFILE:
			refused++
		default:
			t.Fatal(err)
		}
	}
	if refused < 5000 || refused > 5010 {
		t.Errorf("%d of 10000 were refused at a limit of 5000", refused)
	}
	for i := range 10000 - refused {
		c.must(tClunk, 1000+i)
	}
	c.mustWalk(0, 3, "f")
	untouched(t, outside)
}

// TestDescriptorsAreGivenBack leaves everything open and hangs up.
func TestDescriptorsAreGivenBack(t *testing.T) {
	count := func() int {
		es, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(es)
	}
	tr := openTree(t, t.TempDir(), tree.Options{})
	before := count()
	c := serve(t, tr, Limits{})
	c.hello(maxMessage)
	for i := range 100 {
		c.create(1+i, fmt.Sprint(i), oRdwr, 0o644)
		c.must(tLock, 1+i, uint8(lockWrite), 0, uint64(0), uint64(0), 1, "x")
	}
	if count() < before+200 {
		t.Error("the test opened nothing")
	}
	c.conn.Close()
	if err := <-c.end; err != nil {
		t.Error(err)
	}
	// The process has others, of the runtime too, which come and go.
	after := count()
	for end := time.Now().Add(time.Minute); after > before && time.Now().Before(end); after = count() {
		time.Sleep(10 * time.Millisecond)
	}
	if after > before {
		t.Errorf("%d descriptors are still open", after-before)
	}
}

// TestBrokenMessages sends what is no message: the connection ends, and with it
// nothing else.
func TestBrokenMessages(t *testing.T) {
	tr := openTree(t, t.TempDir(), tree.Options{})
	raw := func(size uint32, kind uint8, tag uint16, body ...byte) []byte {
		e := encoder{}
		e.u32(size)
		e.u8(kind)
		e.u16(tag)
		return append(e.b, body...)
	}
	for name, b := range map[string][]byte{
		"size 0":                raw(0, tWalk, 1),
		"size 6":                raw(6, tWalk, 1),
		"size 4 GiB":            raw(1<<32-1, tWrite, 1),
		"beyond msize":          raw(maxMessage+1, tWrite, 1),
		"no fields":             raw(7, tWalk, 1),
		"too many fields":       message9(tClunk, 1, 0, 0),
		"count beyond the data": message9(tWrite, 1, 0, uint64(0), 100, []byte("x")),
		"data beyond the count": message9(tWrite, 1, 0, uint64(0), 1, []byte("xx")),
		"a string cut off":      message9(tMkdir, 1, 0, uint16(500), []byte("x")),
		"17 names":              message9(tWalk, 1, append([]any{0, 1, uint16(17)}, strings17()...)...),
		"65535 names":           message9(tWalk, 1, 0, 1, uint16(65535)),
	} {
		c := serve(t, tr, Limits{})
		c.hello(maxMessage)
		c.conn.Write(b)
		if err := <-c.end; err == nil || !strings.Contains(err.Error(), "9P") {
			t.Errorf("%s: the server ended with %v", name, err)
		}
		<-c.dead
	}
	// Cut off in the middle of a message.
	c := serve(t, tr, Limits{})
	c.hello(maxMessage)
	c.conn.Write(raw(1000, tWrite, 1, 'x'))
	c.conn.Close()
	if err := <-c.end; err == nil {
		t.Error("half a message is no end")
	}
	// Large before anything was agreed.
	c = serve(t, tr, Limits{})
	c.conn.Write(raw(firstSize+1, tVersion, 1))
	if err := <-c.end; err == nil {
		t.Error("a large message before Tversion was read")
	}
}

func strings17() (names []any) {
	for range 17 {
		names = append(names, "x")
	}
	return names
}

func TestVersions(t *testing.T) {
	c := serve(t, openTree(t, t.TempDir(), tree.Options{}), Limits{})
	for _, m := range []struct {
		msize uint32
		v     string
		size  uint32
		got   string
	}{
		{8192, "9P2000", 8192, "unknown"},
		{8192, "9P2000.u", 8192, "unknown"},
		{0, version, 0, "unknown"},
		{4095, version, 4095, "unknown"},
		{1<<32 - 1, version, maxMessage, version},
		{65536, version, 65536, version},
	} {
		d := decode(c.must(tVersion, m.msize, m.v))
		if size, v := d.u32(), d.str(); size != m.size || v != m.got {
			t.Errorf("Tversion %d %s is answered with %d %s", m.msize, m.v, size, v)
		}
	}
	// A new session forgets the numbers of the old.
	c.must(tAttach, 0, noFid, "", "", 0)
	c.must(tVersion, 65536, version)
	c.want(syscall.EBADF, tGetattr, 0, uint64(0))
	// What is read or written fits the msize.
	c.must(tAttach, 0, noFid, "", "", 0)
	c.create(1, "f", oRdwr, 0o644)
	if _, err := c.write(1, 0, bytes.Repeat([]byte("x"), 65536-ioHeader)); err != nil {
		t.Fatal(err)
	}
	c.write(1, 65000, bytes.Repeat([]byte("x"), 60000))
	if b, err := c.pread(1, 0, 1<<31-1); err != nil || len(b) != 65536-readHeader {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestStorms sends flushes, duplicate tags and requests whose replies nobody
// reads.
func TestStorms(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), strings.Repeat("x", 1<<20))
	tr := openTree(t, dir, tree.Options{})

	c := serve(t, tr, Limits{})
	c.hello(maxMessage)
	c.mustWalk(0, 1, "f")
	c.must(tLopen, 1, 0)
	var all []<-chan reply
	for range 3000 {
		tag, ch := c.start(tRead, 1, uint64(0), 5000)
		_, f1 := c.start(tFlush, tag)
		_, f2 := c.start(tFlush, tag)
		_, f3 := c.start(tFlush, uint16(0xfff0)) // of nothing
		all = append(all, ch, f1, f2, f3)
	}
	for _, ch := range all {
		if _, ok := <-ch; !ok {
			t.Fatal("the server hung up")
		}
	}
	c.must(tGetattr, 1, uint64(0))

	// The same tag twice, while the first has no answer.
	c.mustWalk(0, 2, "f")
	c.must(tLopen, 2, oRdwr)
	other := serve(t, tr, Limits{})
	other.hello(maxMessage)
	other.mustWalk(0, 1, "f")
	other.must(tLopen, 1, oRdwr)
	other.must(tLock, 1, uint8(lockWrite), 0, uint64(0), uint64(0), 1, "other")
	lock := message9(tLock, 0x7777, 2, uint8(lockWrite), lockBlock, uint64(0), uint64(0), 1, "x")
	c.mu.Lock()
	c.waiting[0x7777] = make(chan reply, 1) // it may have one answer at the end
	c.mu.Unlock()
	c.conn.Write(append(lock, lock...))
	if err := <-c.end; err == nil || !strings.Contains(err.Error(), "tag") {
		t.Errorf("the server ended with %v", err)
	}

	// Nobody reads: there are never more requests than workers, so memory is
	// bounded and the writer is held up.
	a, b := socketpair(t)
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), b, tr, Limits{}) }()
	a.Write(message9(tVersion, 1, uint32(maxMessage), version))
	a.Write(message9(tAttach, 2, 0, noFid, "", "", 0))
	a.Write(message9(tWalk, 3, 0, 1, uint16(1), "f"))
	a.Write(message9(tLopen, 4, 1, 0))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	a.SetWriteDeadline(time.Now().Add(2 * time.Second))
	for i := range 60000 {
		if _, err := a.Write(message9(tRead, uint16(100+i), 1, uint64(0), 1<<20)); err != nil {
			break // the deadline: the server takes no more
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("the server's memory grew by %d MiB", grown>>20)
	}
	a.Close()
	<-done
}

// TestRenameRaces walks, opens, creates and removes below a directory that
// somebody on the host exchanges for a link to the outside all the time.
func TestRenameRaces(t *testing.T) {
	shared, outside := arena(t)
	for _, d := range []string{"dir", "spare"} {
		os.Mkdir(filepath.Join(shared, d), 0o755)
		write(t, filepath.Join(shared, d, "secret"), "mine")
	}
	os.Symlink(outside, filepath.Join(shared, "link"))
	tr := openTree(t, shared, tree.Options{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			unix.Renameat2(unix.AT_FDCWD, filepath.Join(shared, "dir"), unix.AT_FDCWD, filepath.Join(shared, "link"), unix.RENAME_EXCHANGE)
		}
	}()
	var went, hindered atomic.Int64
	var guests sync.WaitGroup
	for g := range 3 {
		c := serve(t, tr, Limits{})
		c.hello(maxMessage)
		guests.Add(1)
		go func() {
			defer guests.Done()
			name := fmt.Sprint("new", g)
			for range 500 {
				if err := c.walk(0, 1, "dir", "secret"); err == nil {
					went.Add(1)
					if _, err := c.call(tLopen, 1, oRdwr); err == nil {
						if b, err := c.pread(1, 0, 10); err != nil || string(b) != "mine" {
							t.Errorf("read %q, %v", b, err)
						}
						c.write(1, 0, []byte("mine"))
					}
					c.call(tSetattr, 1, attrMode, 0o600, 0, 0, uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
					c.call(tClunk, 1)
				} else {
					hindered.Add(1)
				}
				if c.walk(0, 1, "dir") == nil {
					c.call(tMkdir, 1, name, 0o755, 0)
					c.call(tUnlinkat, 1, name, unix.AT_REMOVEDIR)
					c.call(tSymlink, 1, name, "x", 0)
					c.call(tRenameat, 1, name, 0, name)
					c.call(tRenameat, 0, name, 1, name)
					c.call(tUnlinkat, 1, name, 0)
					if _, err := c.call(tLcreate, 1, name, oRdwr, 0o644, 0); err == nil {
						c.write(1, 0, []byte("mine"))
					}
					c.call(tClunk, 1)
					if c.walk(0, 1, "dir") == nil {
						c.call(tUnlinkat, 1, name, 0)
						c.call(tClunk, 1)
					}
				}
			}
		}()
	}
	guests.Wait()
	close(stop)
	wg.Wait()
	if went.Load() == 0 || hindered.Load() == 0 {
		t.Logf("no race: %d walks went through, %d did not", went.Load(), hindered.Load())
	}
	untouched(t, outside)
}
