//go:build linux

package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// DefaultWorkers is how many requests are handled at a time unless told
	// otherwise.
	DefaultWorkers = 32
	// maxRequestQueues bounds RequestConfig.Queues. A vring's index has 8 bits.
	maxRequestQueues = 64
)

// RequestConfig describes a device whose queues all carry requests: buffers
// with a part that the device reads and a part for its answer. The file system
// device is one (virtio 1.2, 5.11). QEMU has its configuration space.
type RequestConfig struct {
	// Queues is how many queues the device has, 1 to 64.
	Queues int
	// Workers bounds the requests at a time. 0 is DefaultWorkers. Each may take
	// a thread.
	Workers int
	// Handle handles a request: it reads in, writes the answer to out from its
	// beginning on, and returns how many bytes it wrote there. Both are parts
	// of the guest's memory, none empty, at most 1024 of them together, and the
	// guest may change them at any time. It runs for several requests at a
	// time, and is to give up when ctx ends: the guest's driver or QEMU waits
	// for it.
	Handle func(ctx context.Context, queue int, in, out [][]byte) int
	// Reset is told that the guest's driver has left the device, and no request
	// is handled any more. It may be nil.
	Reset func()
	// Logf is told what a person should know, rarely. It may be nil.
	Logf func(format string, args ...any)
}

// ServeRequests is the back end of such a device for one front end, as
// [Device.Serve] is for vsock: front is one end of a pair of connected Unix
// stream sockets whose other end QEMU has. It takes front over and closes it.
//
// It returns nil after the front end has hung up, the context's error when ctx
// ends, and another error when the front end breaks the protocol or the guest's
// memory is taken away. Whatever the guest does, it goes on. When it returns,
// every request has been handled, and nothing that it started or opened is
// left.
func ServeRequests(ctx context.Context, front *os.File, cfg RequestConfig) error {
	defer front.Close()
	if cfg.Queues < 1 || cfg.Queues > maxRequestQueues {
		return fmt.Errorf("a device with %d request queues is not possible; 1 to %d are", cfg.Queues, maxRequestQueues)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = DefaultWorkers
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	s, err := newRequestServer(cfg)
	if err != nil {
		return err
	}
	err = s.serve(ctx, int(front.Fd()))
	return errors.Join(err, s.close())
}

func newRequestServer(cfg RequestConfig) (*requestServer, error) {
	s := &requestServer{config: cfg, epoll: -1, more: -1, end: -1}
	s.returned.L = &s.mu
	m := model{queues: make([]direction, cfg.Queues)}
	for i := range m.queues {
		m.queues[i] = bothWays
	}
	s.session = newSession(m, s)
	s.renew()
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	for fd, events := range map[*int]uint32{
		&s.more: unix.EPOLLIN | unix.EPOLLET,
		&s.end:  unix.EPOLLIN, // wakes them all
	} {
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return nil, errors.Join(fmt.Errorf("make an eventfd: %w", err), s.close())
		}
		if err = s.control(unix.EPOLL_CTL_ADD, *fd, events, tokenMore); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// tokenMore is an event of requestServer.more or end. Others are rings.
const tokenMore = -1

func (s *requestServer) control(how, fd int, events uint32, token int) error {
	err := unix.EpollCtl(s.epoll, how, fd, &unix.EpollEvent{Events: events, Fd: int32(token)})
	if err != nil {
		return fmt.Errorf("change what epoll watches: %w", err)
	}
	return nil
}

func (s *requestServer) close() error {
	s.session.close()
	s.stop()
	var errs []error
	for _, fd := range []int{s.more, s.end, s.epoll} {
		if fd >= 0 {
			errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
		}
	}
	return errors.Join(errs...)
}

// serve talks to the front end until it hangs up, ctx ends, or the workers
// fail.
func (s *requestServer) serve(ctx context.Context, front int) error {
	woken := make(chan struct{})
	cancelled := context.AfterFunc(ctx, func() {
		signal(s.end)
		close(woken)
	})
	defer func() {
		if !cancelled() {
			<-woken // it must not write to a descriptor that is someone else's by then
		}
	}()
	s.mu.Lock()
	s.spawn()
	s.mu.Unlock()
	err := s.talk(front)
	// The workers see the end, too.
	signal(s.end)
	s.mu.Lock()
	s.drain()
	s.mu.Unlock()
	s.workers.Wait()
	if s.config.Reset != nil {
		s.config.Reset()
	}
	if err == nil {
		err = s.fault
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// talk serves the messages of the front end. It returns nil when that hangs up
// or s.end is signalled.
func (s *requestServer) talk(front int) error {
	reader := messageReader{fd: front}
	defer reader.close()
	for {
		m, err := reader.next()
		if hungUp(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if m == nil {
			poll := []unix.PollFd{{Fd: int32(front), Events: unix.POLLIN}, {Fd: int32(s.end), Events: unix.POLLIN}}
			if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
				return fmt.Errorf("wait for the front end: %w", err)
			}
			if poll[1].Revents != 0 {
				return nil
			}
			continue
		}
		answer, err := s.handle(m)
		if answer != nil {
			if n, serr := send(front, [][]byte{answer}); serr != nil || n != len(answer) {
				err = errors.Join(err, fmt.Errorf("answer front end message %d: %d of %d bytes sent: %w", m.request, n, len(answer), serr))
			}
		}
		if err != nil {
			return err
		}
	}
}

// handle does what a message asks. While it changes what requests in work
// stand on, there are none.
func (s *requestServer) handle(m *message) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.request {
	case reqSetMemTable, reqGetVringBase, reqSetVringAddr, reqSetVringNum, reqSetVringBase:
		s.drain()
		defer s.renew()
	}
	stopped := s.session.stopped
	answer, err := s.session.handle(m)
	if s.session.stopped != stopped && !s.session.running() && s.config.Reset != nil {
		s.config.Reset()
	}
	// A ring that starts, or starts anew, may have buffers that nobody will
	// announce again.
	signal(s.more)
	return answer, err
}
