//go:build linux

package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
)

// A requestServer serves one front end. Its workers wait in one epoll instance,
// whose kernel wakes one of them for each notification; that one handles
// requests itself until none is left, so that a guest with one request at a
// time costs one wake-up for each. There is always a worker that waits, up to
// the limit.
type requestServer struct {
	config  RequestConfig
	epoll   int
	more    int // eventfd: requests are left, another worker may come
	end     int // eventfd: it is over
	workers sync.WaitGroup

	// mu guards all below, the rings in the guest's memory, and what else
	// session has. It is held for moments, except while no request is handled.
	mu         sync.Mutex
	session    *session
	returned   sync.Cond       // handling has become 0
	handling   int             // requests that are handled
	draining   bool            // none is taken
	ctx        context.Context // of the requests
	stop       context.CancelFunc
	running    int // workers
	waiting    int // workers that wait for notifications
	fault      error
	complaints int
}

// renew lets requests be taken. It is called with mu held, as drain, spawn and
// the methods of watcher are.
func (s *requestServer) renew() {
	if s.stop != nil {
		s.stop()
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.draining = false
}

// drain waits until no request is handled, and lets none be taken.
func (s *requestServer) drain() {
	s.draining = true
	s.stop()
	for s.handling > 0 {
		s.returned.Wait()
	}
}

// spawn starts a worker, if there may be one more.
func (s *requestServer) spawn() {
	if s.running < s.config.Workers {
		s.running++
		s.waiting++
		s.workers.Go(s.work)
	}
}

// work is a worker's life.
func (s *requestServer) work() {
	// This goroutine's alone; see contain.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var c chain
	for {
		var events [1]unix.EpollEvent
		n, err := unix.EpollWait(s.epoll, events[:], -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.fail(fmt.Errorf("wait for notifications: %w", err))
			return
		}
		if n < 1 {
			continue
		}
		ring := int(events[0].Fd)
		from, to := ring, ring+1
		if ring == tokenMore {
			if s.ended() {
				return
			}
			from, to = 0, s.config.Queues
		}
		for ring := from; ring < to; ring++ {
			if err := s.drainRing(ring, &c); err != nil {
				s.fail(err)
				return
			}
		}
	}
}

func (s *requestServer) ended() bool {
	poll := []unix.PollFd{{Fd: int32(s.end), Events: unix.POLLIN}}
	n, _ := unix.Poll(poll, 0)
	return n > 0
}

func (s *requestServer) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil {
		s.fault = err
	}
	signal(s.end)
}

// drainRing handles requests of a ring until it is empty. What the guest does
// is no error.
func (s *requestServer) drainRing(ring int, c *chain) (err error) {
	defer func() { contain(recover(), &err) }()
	for first := true; ; first = false {
		ctx, more := s.take(ring, c, first)
		if ctx == nil {
			return nil
		}
		if more {
			signal(s.more)
		}
		n := s.handleOne(ctx, ring, c)
		s.give(ring, c.head, n)
	}
}

// handleOne sees to it that a request whose handler panics does not count as
// handled for ever.
func (s *requestServer) handleOne(ctx context.Context, ring int, c *chain) int {
	done := false
	defer func() {
		if !done {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.release()
		}
	}()
	n := s.config.Handle(ctx, ring, c.request(), c.answer())
	done = true
	return n
}

func (s *requestServer) release() {
	if s.handling--; s.handling == 0 {
		s.returned.Broadcast()
	}
}

// take makes c the next request of a ring. It returns the request's context, or
// nil when there is none, and whether another worker should come for more.
// first says that the caller counts as waiting; it does again when there is no
// request.
func (s *requestServer) take(ring int, c *chain, first bool) (ctx context.Context, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		switch {
		case ctx == nil && !first:
			s.waiting++
		case ctx != nil && first:
			if s.waiting--; s.waiting == 0 {
				s.spawn()
			}
		}
		more = more && s.waiting > 0
	}()
	q := s.session.rings[ring].queue
	for q != nil && !s.draining {
		ok, err := q.take(c)
		if err == nil {
			// From here on the driver notifies of what comes behind.
			more, err = q.listen()
		}
		if err != nil {
			s.session.fail(fmt.Errorf("queue %d: %w", ring, err))
			break
		}
		if ok {
			s.handling++
			return s.ctx, more
		}
		if !more {
			break
		}
	}
	return nil, false
}

// give gives a request back with n bytes of answer.
func (s *requestServer) give(ring int, head uint16, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.release()
	r := &s.session.rings[ring]
	if r.queue == nil {
		return // the guest broke its rings meanwhile
	}
	r.queue.give(head, n)
	if r.queue.wantsSignal() {
		signal(r.call)
	}
}

// watch implements watcher.
func (s *requestServer) watch(ring, fd int) error {
	return s.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLET, ring)
}

// unwatch implements watcher.
func (s *requestServer) unwatch(fd int) { s.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }

// stopping implements watcher.
func (s *requestServer) stopping() {}

// broken implements watcher.
func (s *requestServer) broken(err error) {
	if s.complaints++; s.complaints > maxComplaints {
		return
	}
	s.config.Logf("the guest broke the rings of its device, which rests until its driver resets it: %v", err)
}

func hungUp(err error) bool { return errors.Is(err, io.EOF) }
