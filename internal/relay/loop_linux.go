package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Loop carries many pairs of connections in one goroutine with one epoll
// instance. It does what [Join] does, at less cost a message: it makes no read
// that finds nothing, and between two messages nothing of Go's scheduler runs.
// It also sees a reset of a connection that nobody reads any more.
//
// A Loop that is busy holds one of the processors that Go runs goroutines on,
// see [NewLoop].
type Loop struct {
	epoll, wake int
	hold        bool
	done        chan struct{}
	carried     [2]atomic.Uint64 // to conns, to streams

	mu     sync.Mutex
	inbox  []func() // what others have the goroutine do
	closed bool

	// The goroutine's own.
	slots  []slot
	free   []int32
	again  []*pair // with more to do than was done
	buf    *buffer // for the next read
	broken error   // of epoll
}

// A slot holds a pair; the generation tells a late event for its predecessor
// from one for itself.
type slot struct {
	pair       *pair
	generation int32
}

// wakeSlot is the event of the eventfd.
const wakeSlot = -1

// errLoopClosed ends what a loop carried when it is closed.
var errLoopClosed = errors.New("nothing is carried any more")

// NewLoop starts a loop, which must be closed.
//
// With hold, it waits for the next message in a system call that Go knows
// nothing of, for a millisecond at most; only after that as any goroutine does.
// This saves half of what a message costs where Go's bookkeeping is dear, in an
// emulated guest above all, and takes one processor from all other goroutines:
// GOMAXPROCS must be one more than the machine has.
func NewLoop(hold bool) (*Loop, error) {
	l := &Loop{epoll: -1, wake: -1, hold: hold, done: make(chan struct{})}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(l.epoll)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	// Never read: it is edge-triggered, and every write to it is an edge.
	if err := l.control(unix.EPOLL_CTL_ADD, l.wake, wakeSlot, 0, unix.EPOLLIN|unix.EPOLLET); err != nil {
		unix.Close(l.epoll)
		unix.Close(l.wake)
		return nil, err
	}
	go l.run()
	return l, nil
}

// Close resets what the loop carries and waits until all of it is gone.
func (l *Loop) Close() {
	l.post(func() { l.broken = errLoopClosed })
	<-l.done
}

// Join carries s's data to c and c's to s as the function [Join] does, which it
// falls back on for connections without a descriptor.
func (l *Loop) Join(ctx context.Context, s *Stream, c Conn) error {
	p, err := newPair(s, c)
	if err != nil {
		Reset(c)
		_ = s.Close()
		return err
	}
	if p == nil {
		return Join(ctx, s, c)
	}
	// The descriptors are ours now; Go's poller forgets its own.
	_ = s.conn.Close()
	_ = c.Close()
	if !l.post(func() { l.add(p) }) {
		p.end(errLoopClosed)
	}
	select {
	case err := <-p.result:
		return err
	case <-ctx.Done():
		l.post(func() { l.finish(p, context.Cause(ctx)) })
		return <-p.result
	}
}

// Carried is how many bytes the loop has carried from streams to their
// connections and back so far, without relay's frames.
func (l *Loop) Carried() (toConns, toStreams uint64) {
	return l.carried[0].Load(), l.carried[1].Load()
}

// newPair takes a descriptor of its own for each connection, or returns nil if
// they have none.
func newPair(s *Stream, c Conn) (*pair, error) {
	var fds [2]int
	for i, conn := range []net.Conn{s.conn, c} {
		fd, err := duplicate(conn)
		if err != nil || fd < 0 {
			if i > 0 {
				unix.Close(fds[0])
			}
			return nil, err
		}
		fds[i] = fd
	}
	p := &pair{in: s.in, result: make(chan error, 1)}
	p.stream.fd, p.conn.fd = fds[0], fds[1]
	// Whatever has come already is no event.
	p.stream.readable, p.conn.readable = true, true
	p.toConn.ended = s.readErr == io.EOF
	p.toStream.ended, p.toStream.said = s.finished, s.finished
	return p, nil
}

// duplicate returns another descriptor of conn's socket, or -1.
func duplicate(conn net.Conn) (int, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, nil
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if dupErr != nil {
		return -1, fmt.Errorf("duplicate the descriptor of a connection: %w", dupErr)
	}
	return fd, nil
}

// post has the goroutine call f. It reports false when there is no goroutine
// any more.
func (l *Loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.inbox = append(l.inbox, f)
	if len(l.inbox) == 1 {
		// A counter that is full is an event all the same.
		_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

// control changes the epoll set.
func (l *Loop) control(how, fd int, token, generation int32, events uint32) error {
	err := unix.EpollCtl(l.epoll, how, fd, &unix.EpollEvent{Events: events, Fd: token, Pad: generation})
	if err != nil {
		return fmt.Errorf("change what epoll watches: %w", err)
	}
	return nil
}

func (l *Loop) run() {
	defer close(l.done)
	var events [128]unix.EpollEvent
	for l.broken == nil {
		n, err := l.wait(events[:])
		if err != nil {
			l.broken = fmt.Errorf("wait for events: %w", err)
			break
		}
		for _, e := range events[:n] {
			l.event(&e)
		}
		again := l.again
		l.again = nil
		for _, p := range again {
			p.queued = false
			l.carry(p)
		}
	}
	l.end()
}

// end resets all that is left.
func (l *Loop) end() {
	l.mu.Lock()
	l.closed = true
	inbox := l.inbox
	l.mu.Unlock()
	for _, f := range inbox {
		f()
	}
	for _, s := range l.slots {
		if s.pair != nil {
			l.finish(s.pair, l.broken)
		}
	}
	if l.buf != nil {
		putBuffer(l.buf)
	}
	unix.Close(l.epoll)
	unix.Close(l.wake)
}

func (l *Loop) event(e *unix.EpollEvent) {
	if e.Fd == wakeSlot {
		l.mu.Lock()
		inbox := l.inbox
		l.inbox = nil
		l.mu.Unlock()
		for _, f := range inbox {
			f()
		}
		return
	}
	s := l.slots[e.Fd>>1]
	if s.pair == nil || s.generation != e.Pad {
		return
	}
	end := &s.pair.stream
	if e.Fd&1 != 0 {
		end = &s.pair.conn
	}
	const gone = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	end.readable = end.readable || e.Events&(unix.EPOLLIN|gone) != 0
	end.hung = end.hung || e.Events&gone != 0
	end.failed = end.failed || e.Events&unix.EPOLLERR != 0
	end.full = end.full && e.Events&(unix.EPOLLOUT|gone) == 0
	l.carry(s.pair)
}

const pairEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// add begins to carry p.
func (l *Loop) add(p *pair) {
	if l.broken != nil {
		p.end(l.broken)
		return
	}
	if len(l.free) == 0 {
		l.slots = append(l.slots, slot{})
		l.free = append(l.free, int32(len(l.slots)-1))
	}
	p.slot = l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	l.slots[p.slot].pair = p
	p.generation = l.slots[p.slot].generation
	p.stream.token, p.conn.token = p.slot<<1, p.slot<<1|1
	for _, e := range []*end{&p.stream, &p.conn} {
		if err := l.control(unix.EPOLL_CTL_ADD, e.fd, e.token, p.generation, pairEvents); err != nil {
			l.finish(p, err)
			return
		}
	}
	l.carry(p)
}

// watch has epoll tell of room in e's socket, or not.
func (l *Loop) watch(p *pair, e *end, on bool) error {
	if e.watched == on {
		return nil
	}
	e.watched = on
	events := uint32(pairEvents)
	if on {
		events |= unix.EPOLLOUT
	}
	return l.control(unix.EPOLL_CTL_MOD, e.fd, e.token, p.generation, events)
}

// finish ends p: in good order if err is nil, else by resets.
func (l *Loop) finish(p *pair, err error) {
	if p.finished {
		return
	}
	if s := &l.slots[p.slot]; s.pair == p {
		*s = slot{generation: s.generation + 1}
		l.free = append(l.free, p.slot)
	}
	p.end(err)
}
