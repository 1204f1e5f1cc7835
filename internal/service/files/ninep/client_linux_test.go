package ninep

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// client is a raw 9P client: it writes what it is told to and believes nothing.
type client struct {
	t    testing.TB
	conn net.Conn
	end  chan error // what Serve returned

	mu      sync.Mutex
	tag     uint16
	waiting map[uint16]chan reply
	dead    chan struct{}
}

type reply struct {
	kind uint8
	body []byte
}

func TestMain(m *testing.M) {
	syscall.Umask(0) // as the file server's process has it
	os.Exit(m.Run())
}

func openTree(t testing.TB, dir string, o tree.Options) *tree.Tree {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr, err := tree.Open(f, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

func socketpair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := [2]net.Conn{}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "9p")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return ends[0], ends[1]
}

// serve starts a server and returns a client that has said nothing yet.
func serve(t testing.TB, tr *tree.Tree, l Limits) *client {
	t.Helper()
	a, b := socketpair(t)
	c := &client{t: t, conn: a, end: make(chan error, 1), waiting: map[uint16]chan reply{}, dead: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.end <- Serve(ctx, b, tr, l)
	}()
	go c.read()
	t.Cleanup(func() {
		a.Close()
		cancel()
		<-c.dead
		<-ended
	})
	return c
}

// mount starts a server for dir, agrees on a version and attaches fid 0.
func mount(t testing.TB, dir string, o tree.Options, l Limits) *client {
	t.Helper()
	c := serve(t, openTree(t, dir, o), l)
	c.hello(maxMessage)
	return c
}

func (c *client) hello(msize uint32) {
	c.t.Helper()
	d := decode(c.must(tVersion, msize, version))
	if _, v := d.u32(), d.str(); v != version {
		c.t.Fatalf("the server speaks %q", v)
	}
	c.must(tAttach, uint32(0), noFid, "", "", uint32(0))
}

func (c *client) read() {
	defer close(c.dead)
	for {
		var h [headerSize]byte
		if _, err := io.ReadFull(c.conn, h[:]); err != nil {
			break
		}
		body := make([]byte, binary.LittleEndian.Uint32(h[:])-headerSize)
		if _, err := io.ReadFull(c.conn, body); err != nil {
			break
		}
		tag := binary.LittleEndian.Uint16(h[5:])
		c.mu.Lock()
		ch := c.waiting[tag]
		delete(c.waiting, tag)
		c.mu.Unlock()
		if ch == nil {
			c.t.Errorf("a reply of type %d for tag %d, which waits for none", h[4], tag)
			continue
		}
		ch <- reply{h[4], body}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for tag, ch := range c.waiting {
		close(ch)
		delete(c.waiting, tag)
	}
	c.waiting = nil
}

// message9 makes a request of uint8, 16, 32, 64, string and []byte fields.
func message9(kind uint8, tag uint16, fields ...any) []byte {
	e := encoder{b: make([]byte, headerSize)}
	for _, f := range fields {
		switch v := f.(type) {
		case uint8:
			e.u8(v)
		case uint16:
			e.u16(v)
		case uint32:
			e.u32(v)
		case int:
			e.u32(uint32(v))
		case uint64:
			e.u64(v)
		case string:
			e.str(v)
		case []byte:
			e.b = append(e.b, v...)
		default:
			panic(fmt.Sprintf("a field of type %T", f))
		}
	}
	header(e.b, kind, tag)
	return e.b
}

// start sends a request and returns where its reply will come, and its tag.
func (c *client) start(kind uint8, fields ...any) (uint16, <-chan reply) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	for {
		c.tag++
		if _, used := c.waiting[c.tag]; !used && c.tag != 0xffff {
			break
		}
	}
	tag := c.tag
	if c.waiting == nil {
		close(ch)
	} else {
		c.waiting[tag] = ch
	}
	c.mu.Unlock()
	c.conn.Write(message9(kind, tag, fields...)) // the reader notices an error
	return tag, ch
}

// call sends a request and waits for its reply.
func (c *client) call(kind uint8, fields ...any) ([]byte, error) {
	c.t.Helper()
	_, ch := c.start(kind, fields...)
	return result(kind, ch)
}

func result(kind uint8, ch <-chan reply) ([]byte, error) {
	r, ok := <-ch
	switch {
	case !ok:
		return nil, io.ErrUnexpectedEOF
	case r.kind == rLerror:
		d := decode(r.body)
		return nil, syscall.Errno(d.u32())
	case r.kind != kind+1:
		return nil, fmt.Errorf("the reply to %d is of type %d", kind, r.kind)
	}
	return r.body, nil
}

func (c *client) must(kind uint8, fields ...any) []byte {
	c.t.Helper()
	b, err := c.call(kind, fields...)
	if err != nil {
		c.t.Fatalf("request of type %d with %v: %v", kind, fields, err)
	}
	return b
}

// want sends a request that is to fail.
func (c *client) want(no syscall.Errno, kind uint8, fields ...any) {
	c.t.Helper()
	if _, err := c.call(kind, fields...); err != no {
		c.t.Errorf("request of type %d with %v: %v, want %v", kind, fields, err, no)
	}
}

// walk makes newfid stand for what the names lead to.
func (c *client) walk(fid, newfid int, names ...string) error {
	fields := []any{fid, newfid, uint16(len(names))}
	for _, n := range names {
		fields = append(fields, n)
	}
	b, err := c.call(tWalk, fields...)
	if err == nil {
		if d := decode(b); int(d.u16()) != len(names) {
			return syscall.ENOENT
		}
	}
	return err
}

func (c *client) mustWalk(fid, newfid int, names ...string) {
	c.t.Helper()
	if err := c.walk(fid, newfid, names...); err != nil {
		c.t.Fatalf("walk to %q: %v", names, err)
	}
}

// create makes a file in the directory of fid 0 and opens it as newfid.
func (c *client) create(newfid int, name string, flags, mode int) {
	c.t.Helper()
	c.mustWalk(0, newfid)
	c.must(tLcreate, newfid, name, flags, mode, 0)
}

func (c *client) write(fid int, off uint64, data []byte) (int, error) {
	b, err := c.call(tWrite, fid, off, len(data), data)
	if err != nil {
		return 0, err
	}
	d := decode(b)
	return int(d.u32()), nil
}

func (c *client) pread(fid int, off uint64, n int) ([]byte, error) {
	b, err := c.call(tRead, fid, off, n)
	if err != nil {
		return nil, err
	}
	d := decode(b)
	k := d.u32()
	if int(k) != len(d.b) {
		return nil, fmt.Errorf("Rread says %d bytes and has %d", k, len(d.b))
	}
	return d.b, nil
}

type attr9 struct {
	tree.Attr
	valid uint64
	rdev  uint64
}

func (c *client) stat(fid int) (attr9, error) {
	b, err := c.call(tGetattr, fid, ^uint64(0))
	if err != nil {
		return attr9{}, err
	}
	d := decode(b)
	var a attr9
	a.valid = d.u64()
	d.take(5)
	a.Ino = d.u64()
	a.Mode, a.UID, a.GID = d.u32(), d.u32(), d.u32()
	a.Nlink = uint32(d.u64())
	a.rdev = d.u64()
	a.Size = int64(d.u64())
	a.BlockSize = uint32(d.u64())
	a.Blocks = d.u64()
	for _, t := range []*tree.Timespec{&a.Atime, &a.Mtime, &a.Ctime, &a.Btime} {
		t.Sec, t.Nsec = int64(d.u64()), uint32(d.u64())
	}
	a.Gen = uint32(d.u64())
	d.u64()
	if !d.end() {
		return a, fmt.Errorf("Rgetattr has %d bytes", len(b))
	}
	return a, nil
}

func (c *client) mustStat(fid int) attr9 {
	c.t.Helper()
	a, err := c.stat(fid)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

type entry struct {
	name   string
	offset uint64
}

// list reads one Treaddir.
func (c *client) list(fid int, off uint64, count int) ([]entry, error) {
	b, err := c.call(tReaddir, fid, off, count)
	if err != nil {
		return nil, err
	}
	d := decode(b)
	d.u32()
	var es []entry
	for len(d.b) > 0 {
		d.take(qidSize)
		e := entry{offset: d.u64()}
		d.u8()
		e.name = d.str()
		if !d.ok {
			return nil, fmt.Errorf("an entry is cut off")
		}
		es = append(es, e)
	}
	return es, nil
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fileDescriptor is the number of a connection's socket, which stays the
// connection's.
func fileDescriptor(t testing.TB, c net.Conn) (fd uintptr) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(n uintptr) { fd = n })
	return fd
}
