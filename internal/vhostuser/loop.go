//go:build linux

package vhostuser

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// What an epoll event is for: a slot of the muxer from 0, or one of these.
const (
	tokenFront    = -1
	tokenListener = -2
	tokenWake     = -3
	tokenKick     = -8 // minus the number of the ring
)

const (
	// batch is how many packets are moved before the other side is considered:
	// whether it wants an interrupt, whether something else waits.
	batch = 16
	// batches is how many of them before epoll is asked again.
	batches = 8
	// maxComplaints bounds what a guest can have written to the log.
	maxComplaints = 10
)

// A loop serves one front end: everything, in one goroutine.
type loop struct {
	epoll    int
	wake     int // eventfd: the context has ended
	front    int // the front end's socket, or -1 after it has hung up
	listener int
	reader   messageReader
	session  *session
	mux      *muxer
	logf     func(string, ...any)

	rings       [numRings]ringWork
	stopped     int       // session.stopped, as far as handled
	guestReset  bool      // the guest broke its rings
	complaints  int       // about that
	listening   bool      // the listener is in the epoll set
	acceptAfter time.Time // when it may be again
}

// ringWork is what the loop knows of a ring that runs.
type ringWork struct {
	queue *virtqueue // the one that the rest is about
	idle  bool       // the driver was asked to notify, and has not
}

func newLoop(d *Device, front int) (*loop, error) {
	l := &loop{front: front, listener: d.listener, logf: d.config.Logf, wake: -1}
	l.reader.fd = front
	l.session = newSession(vsockModel(d.config.CID), l)
	l.mux = newMuxer(d.config.CID, d.config.Path, d.config.MaxConns, l, &d.counters)
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.close()
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	err = errors.Join(l.control(unix.EPOLL_CTL_ADD, l.wake, tokenWake, 0, unix.EPOLLIN),
		l.control(unix.EPOLL_CTL_ADD, l.front, tokenFront, 0, unix.EPOLLIN))
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// close releases all but the front end's socket and the listener, which are
// not the loop's.
func (l *loop) close() {
	l.mux.close()
	l.session.close()
	l.reader.close()
	if l.wake >= 0 {
		unix.Close(l.wake)
	}
	unix.Close(l.epoll)
}

// run serves until the front end has hung up and what the guest sent is
// delivered, or until ctx ends.
func (l *loop) run(ctx context.Context) error {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		signal(l.wake)
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken // it must not write to a descriptor that is someone else's by then
		}
	}()
	var events [128]unix.EpollEvent
	busy := false
	for {
		if l.mux.lingering && l.mux.open == 0 {
			return nil
		}
		l.listen()
		n, err := unix.EpollWait(l.epoll, events[:], l.timeout(busy))
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for events: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if err := l.dispatch(&e); err != nil {
				return err
			}
		}
		l.mux.expire(time.Now())
		busy = l.work()
	}
}

// timeout is for epoll_wait: milliseconds, rounded up, or -1 for no limit.
func (l *loop) timeout(busy bool) int {
	if busy {
		return 0
	}
	var at time.Time
	if len(l.mux.timers) > 0 {
		at = l.mux.timers[0].timer.at
	}
	if !l.listening && !l.mux.lingering && (at.IsZero() || l.acceptAfter.Before(at)) {
		at = l.acceptAfter
	}
	if at.IsZero() {
		return -1
	}
	return int(max(0, min(time.Until(at), time.Hour)+time.Millisecond-1) / time.Millisecond)
}

func (l *loop) dispatch(e *unix.EpollEvent) error {
	switch {
	case e.Fd >= 0:
		if c := l.mux.find(e.Fd, e.Pad); c != nil {
			l.mux.event(c, e.Events)
		}
	case e.Fd == tokenFront:
		return l.talk()
	case e.Fd == tokenListener:
		if !l.mux.accept(l.listener) {
			l.rest(acceptPause)
		}
	case e.Fd <= tokenKick:
		// The eventfd is never read: it is edge-triggered, and every
		// write to it is an edge.
		i := tokenKick - e.Fd
		l.rings[i].idle = false
		if q := l.session.rings[i].queue; q != nil {
			q.suppress()
		}
	}
	return nil
}

// listen puts the listener into the epoll set when its time has come.
func (l *loop) listen() {
	if l.listening || l.mux.lingering || time.Now().Before(l.acceptAfter) {
		return
	}
	if err := l.control(unix.EPOLL_CTL_ADD, l.listener, tokenListener, 0, unix.EPOLLIN); err != nil {
		l.acceptAfter = time.Now().Add(acceptPause)
		return
	}
	l.listening = true
}

// rest takes the listener out of the epoll set for a while.
func (l *loop) rest(pause time.Duration) {
	if l.listening {
		l.control(unix.EPOLL_CTL_DEL, l.listener, 0, 0, 0)
		l.listening = false
	}
	l.acceptAfter = time.Now().Add(pause)
}

// talk serves the messages of the front end.
func (l *loop) talk() error {
	for {
		m, err := l.reader.next()
		if errors.Is(err, io.EOF) {
			l.hangUp()
			return nil
		}
		if err != nil {
			return err
		}
		if m == nil {
			return nil
		}
		answer, err := l.session.handle(m)
		if answer != nil {
			if n, serr := send(l.front, [][]byte{answer}); serr != nil || n != len(answer) {
				err = errors.Join(err, fmt.Errorf("answer front end message %d: %w", m.request, cmp.Or(serr, io.ErrShortWrite)))
			}
		}
		if err != nil {
			return err
		}
	}
}

// hangUp follows the front end's end: the machine is gone.
func (l *loop) hangUp() {
	l.control(unix.EPOLL_CTL_DEL, l.front, 0, 0, 0)
	l.front = -1
	l.rest(0)
	l.stopping()
	l.session.close()
	l.mux.linger()
}

// work moves packets in both directions. It reports whether some are left.
func (l *loop) work() (busy bool) {
	l.reset()
	for i := range l.rings {
		if r := &l.rings[i]; r.queue != l.session.rings[i].queue {
			*r = ringWork{queue: l.session.rings[i].queue}
		}
	}
	busy = l.fromGuest(&l.rings[queueTX], l.session.rings[queueTX].call)
	busy = l.toGuest(&l.rings[queueRX], l.session.rings[queueRX].call) || busy
	l.reset()
	return busy
}

// reset follows a stop of the rings: the guest's connections are gone.
func (l *loop) reset() {
	if l.stopped != l.session.stopped || l.guestReset {
		l.stopped, l.guestReset = l.session.stopped, false
		l.mux.guestReset()
	}
}

// fromGuest takes packets out of the transmit queue. It never waits for the
// receive queue: Linux stops taking from that one while its own answers wait
// in this one.
func (l *loop) fromGuest(r *ringWork, call int) (busy bool) {
	for range batches {
		if r.queue == nil || r.idle {
			return false
		}
		if err := l.take(r); err != nil {
			l.session.fail(fmt.Errorf("transmit queue: %w", err))
			r.queue = nil
			return false
		}
		if r.queue.wantsSignal() {
			signal(call)
		}
	}
	return true
}

func (l *loop) take(r *ringWork) error {
	for range batch {
		ch, err := r.queue.peek()
		if err != nil {
			return err
		}
		if ch == nil {
			return r.wait()
		}
		if err := l.mux.receive(ch); err != nil {
			return err
		}
		r.queue.pop(0)
	}
	return nil
}

// toGuest puts packets into the receive queue.
func (l *loop) toGuest(r *ringWork, call int) (busy bool) {
	for range batches {
		if r.queue == nil || r.idle {
			return false
		}
		starved, err := l.mux.fill(r.queue, batch)
		if err == nil && starved {
			err = r.wait()
		}
		if err != nil {
			l.session.fail(fmt.Errorf("receive queue: %w", err))
			r.queue = nil
			return false
		}
		if r.queue.wantsSignal() {
			signal(call)
		}
		if !l.mux.pending() {
			return false
		}
	}
	return true
}

// wait asks the driver for a notification when it has nothing for the device.
func (r *ringWork) wait() error {
	more, err := r.queue.listen()
	if more {
		r.queue.suppress()
	}
	r.idle = !more
	return err
}

// control changes the epoll set.
func (l *loop) control(how, fd int, token, generation int32, events uint32) error {
	err := unix.EpollCtl(l.epoll, how, fd, &unix.EpollEvent{Events: events, Fd: token, Pad: generation})
	if err != nil {
		return fmt.Errorf("change what epoll watches: %w", err)
	}
	return nil
}

const connEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// add implements poller.
func (l *loop) add(fd int, slot, generation int32) error {
	return l.control(unix.EPOLL_CTL_ADD, fd, slot, generation, connEvents)
}

// output implements poller.
func (l *loop) output(fd int, slot, generation int32, on bool) error {
	events := uint32(connEvents)
	if on {
		events |= unix.EPOLLOUT
	}
	return l.control(unix.EPOLL_CTL_MOD, fd, slot, generation, events)
}

// watch implements watcher.
func (l *loop) watch(ring, fd int) error {
	return l.control(unix.EPOLL_CTL_ADD, fd, tokenKick-int32(ring), 0, unix.EPOLLIN|unix.EPOLLET)
}

// unwatch implements watcher.
func (l *loop) unwatch(fd int) { l.control(unix.EPOLL_CTL_DEL, fd, 0, 0, 0) }

// stopping implements watcher. A guest that sends something and powers off does
// not wait until it is taken.
func (l *loop) stopping() {
	r := ringWork{queue: l.session.rings[queueTX].queue}
	if r.queue == nil {
		return
	}
	for taken := 0; taken < r.queue.size && !r.idle; taken += batch {
		if err := l.take(&r); err != nil {
			return // it ends anyway
		}
	}
}

// broken implements watcher.
func (l *loop) broken(err error) {
	l.guestReset = true
	if l.complaints++; l.complaints > maxComplaints {
		return
	}
	l.logf("the guest broke the rings of its vsock device, which rests until its driver resets it: %v", err)
}
