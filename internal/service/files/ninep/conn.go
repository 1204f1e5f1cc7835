package ninep

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bake/internal/service/files/tree"
)

// Limits bound what one connection may take. Zero fields get the default.
type Limits struct {
	MessageSize int           // largest msize agreed to, in bytes; at most and by default 1 MiB + 4 KiB
	Requests    int           // handled at once (16), each with a message coming and going
	Fids        int           // numbers in use (262144)
	Locks       int           // record locks (65536)
	LockWaits   int           // requests that wait for a lock (256)
	LockWait    time.Duration // before the client is told to ask again (20 s)
	// Cacheable lets the kernel's client keep what it reads of a file for as
	// long as anything in the guest holds the file's inode. It does not ask
	// whether the file has changed meanwhile, so this is for files that nobody
	// else changes.
	Cacheable bool
	// Uncached says that the client keeps no data and maps no file to be
	// written. All that it writes to a file that is open for appending is then
	// what programs append, and goes to the file's end, where others may have
	// moved it.
	Uncached bool
}

func (l *Limits) fill() {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&l.MessageSize, maxMessage)
	l.MessageSize = min(max(l.MessageSize, minMessage), maxMessage)
	def(&l.Requests, 16)
	def(&l.Fids, 1<<18)
	def(&l.Locks, 1<<16)
	def(&l.LockWaits, 256)
	if l.LockWait <= 0 {
		l.LockWait = 20 * time.Second
	}
}

// maxXattrBytes bounds the values of attributes that one connection is in the
// middle of reading or writing.
const maxXattrBytes = 4 << 20

// conn is one connection. Its workers take turns at reading: who has read a
// message lets the next one read, handles it and writes the reply. So data is
// passed on to nobody, and there are never more requests than workers.
type conn struct {
	net    net.Conn
	tree   *tree.Tree
	limits Limits
	locks  *tree.Locks
	ctx    context.Context

	readMu  sync.Mutex // reading, and the fields below
	in      *bufio.Reader
	workers int
	dead    error // why nothing is read any more
	idle    atomic.Int32
	wg      sync.WaitGroup

	msize atomic.Uint32
	large sync.Pool // *[]byte of limits.MessageSize

	sendMu sync.Mutex
	faults atomic.Pointer[error] // what a request did that ends the connection

	tagMu sync.Mutex
	tags  map[uint16]*request

	fidMu      sync.Mutex
	fids       map[uint32]*fid
	xattrBytes atomic.Int64
	waits      atomic.Int32
}

// request is what is known of a tag while it has no reply.
type request struct {
	flushes []uint16 // the Tflush that wait for it
	cancel  chan struct{}
}

// Serve answers the requests that come over nc until the guest closes it, ctx
// ends, or a message breaks the protocol, and closes it. It returns when
// nothing of the connection is left; nil if the guest closed it between two
// messages or ctx ended. t stays the caller's, and may be served to others too.
func Serve(ctx context.Context, nc net.Conn, t *tree.Tree, limits Limits) error {
	limits.fill()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &conn{
		net: nc, tree: t, limits: limits, ctx: ctx,
		locks: tree.NewLocks(false, limits.Locks),
		in:    bufio.NewReaderSize(nc, smallSize),
		tags:  make(map[uint16]*request),
		fids:  make(map[uint32]*fid),
	}
	c.large.New = func() any { b := make([]byte, limits.MessageSize); return &b }
	c.msize.Store(firstSize)
	stop := context.AfterFunc(ctx, func() { nc.Close() })

	c.workers = 1
	c.wg.Add(1)
	c.work()
	cancel() // waits for locks end
	c.wg.Wait()

	ended := !stop()
	nc.Close()
	c.removeAll()
	c.locks.Close()
	if err := c.faults.Load(); err != nil {
		return *err
	}
	if c.dead == io.EOF || ended && errors.Is(c.dead, net.ErrClosed) {
		return nil
	}
	return c.dead
}

// A message is one request on its way.
type message struct {
	kind uint8
	tag  uint16
	body []byte // behind the header
}

// worker has what handling a request needs.
type worker struct {
	*conn
	message
	small   [2][smallSize]byte // for a message in and out
	in, out *[]byte            // large ones, while they are needed
}

func (c *conn) work() {
	defer c.wg.Done()
	w := &worker{conn: c}
	for w.next() {
		if out := w.handle(); out != nil {
			c.reply(w.tag, out)
		}
		w.release()
	}
}

func (w *worker) release() {
	for _, p := range [2]**[]byte{&w.in, &w.out} {
		if *p != nil {
			w.large.Put(*p)
			*p = nil
		}
	}
}

// next reads a message, in turn.
func (w *worker) next() bool {
	c := w.conn
	c.idle.Add(1)
	c.readMu.Lock()
	defer c.readMu.Unlock()
	c.idle.Add(-1)
	if c.dead != nil {
		return false
	}
	if c.dead = w.read(); c.dead != nil {
		return false
	}
	if c.idle.Load() == 0 && c.workers < c.limits.Requests {
		c.workers++
		c.wg.Add(1)
		go c.work()
	}
	return true
}

func (w *worker) read() error {
	c := w.conn
	var h [headerSize]byte
	if _, err := io.ReadFull(c.in, h[:]); err != nil {
		if err == io.EOF {
			return err
		}
		return fmt.Errorf("read a 9P message: %w", err)
	}
	size := binary.LittleEndian.Uint32(h[:])
	w.kind, w.tag = h[4], binary.LittleEndian.Uint16(h[5:])
	if size < headerSize || size > c.msize.Load() {
		return fmt.Errorf("the guest's 9P client sent a message of type %d with %d bytes; 7 to %d are possible", w.kind, size, c.msize.Load())
	}
	size -= headerSize
	if size <= smallSize {
		w.body = w.small[0][:size]
	} else {
		w.in = c.large.Get().(*[]byte)
		w.body = (*w.in)[:size]
	}
	if _, err := io.ReadFull(c.in, w.body); err != nil {
		return fmt.Errorf("read a 9P message of type %d with %d bytes: %w", w.kind, size, err)
	}
	c.tagMu.Lock()
	defer c.tagMu.Unlock()
	if c.tags[w.tag] != nil {
		return fmt.Errorf("the guest's 9P client used the tag %d a second time before it had an answer", w.tag)
	}
	c.tags[w.tag] = &request{}
	return nil
}

// reply sends out, a whole message for tag, and after it the replies to the
// Tflush of it. From then on the tag can be used again.
func (c *conn) reply(tag uint16, out []byte) {
	var flushed [headerSize]byte
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	for queue := c.finish(tag); ; queue = append(queue[1:], c.finish(tag)...) {
		if _, err := c.net.Write(out); err != nil {
			c.net.Close() // the reader finds out
			return
		}
		if len(queue) == 0 {
			return
		}
		tag = queue[0]
		out = flushed[:]
		header(out, tFlush+1, tag)
	}
}

// fault ends the connection for what a request did.
func (c *conn) fault(format string, args ...any) {
	err := fmt.Errorf("the guest's 9P client "+format, args...)
	c.faults.CompareAndSwap(nil, &err)
	c.net.Close()
}

// finish forgets a tag and returns those that wait for it.
func (c *conn) finish(tag uint16) []uint16 {
	c.tagMu.Lock()
	defer c.tagMu.Unlock()
	r := c.tags[tag]
	delete(c.tags, tag)
	if r == nil {
		return nil
	}
	return r.flushes
}

// flush waits for the old tag without a worker: its reply brings that of the
// flush along. It says false if there is nothing to wait for.
func (c *conn) flush(tag, old uint16) bool {
	c.tagMu.Lock()
	defer c.tagMu.Unlock()
	r := c.tags[old]
	if r == nil || old == tag {
		return false
	}
	r.flushes = append(r.flushes, tag)
	if r.cancel != nil {
		close(r.cancel)
		r.cancel = nil
	}
	return true
}

// cancellation is closed when the request is flushed.
func (c *conn) cancellation(tag uint16) <-chan struct{} {
	c.tagMu.Lock()
	defer c.tagMu.Unlock()
	r := c.tags[tag]
	ch := make(chan struct{})
	if len(r.flushes) > 0 {
		close(ch)
	} else {
		r.cancel = ch
	}
	return ch
}

// qidVersion is 0 where the client must not keep data: it then reads and writes
// directly whatever its cache mode is (Linux, fs/9p/fid.h, v9fs_fid_add_modes),
// but maps files as that says.
func (c *conn) qidVersion() uint32 {
	if c.limits.Cacheable {
		return 1
	}
	return 0
}

// start begins a reply that fits into a small buffer.
func (w *worker) start() encoder { return encoder{b: w.small[1][:headerSize], version: w.qidVersion()} }

// done ends a reply to the request.
func (w *worker) done(e encoder) []byte {
	header(e.b, w.kind+1, w.tag)
	return e.b
}

// fail is the reply that says why not.
func (w *worker) fail(err error) []byte {
	e := w.start()
	no, ok := err.(syscall.Errno)
	if !ok {
		no = syscall.EIO
	}
	e.u32(linuxErrno(no))
	header(e.b, rLerror, w.tag)
	return e.b
}

// room is a buffer for a reply of size bytes.
func (w *worker) room(size int) []byte {
	if size <= smallSize {
		return w.small[1][:size]
	}
	if w.out == nil {
		w.out = w.large.Get().(*[]byte)
	}
	return (*w.out)[:size]
}
