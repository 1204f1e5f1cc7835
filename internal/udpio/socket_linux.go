package udpio

import (
	"errors"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// socketBuffer is asked for both ways: bursts must survive the moment
	// until the poller comes by. The kernel gives what net.core.rmem_max and
	// wmem_max allow.
	socketBuffer = 1 << 20
	// sendWait bounds, in milliseconds, how long one batch waits for a slow
	// interface before the rest of it is dropped. A program of the host would
	// wait there too, but behind this socket are others.
	sendWait = 20
)

type socket struct {
	poller    *epoll
	handler   Handler
	six       bool // of IPv6
	connected bool
	info      bool // has the address that each datagram came to

	// The lock keeps the descriptor from being closed, and its number from
	// being given to another file, while a call uses it.
	mu     sync.RWMutex
	closed bool
	fd     int
}

// configure sets the options of a socket of ours.
func (s *socket) configure() error {
	for _, o := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o, socketBuffer); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	// ICMP errors with the destination they belong to (ip(7), IP_RECVERR).
	if !s.six {
		return os.NewSyscallError("setsockopt IP_RECVERR", unix.SetsockoptInt(s.fd, unix.SOL_IP, unix.IP_RECVERR, 1))
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
	}
	return os.NewSyscallError("setsockopt IPV6_RECVERR", unix.SetsockoptInt(s.fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1))
}

// adopt learns what somebody else's socket is.
func (s *socket) adopt() error {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		if s.info = sa.Addr == [4]byte{}; s.info {
			return os.NewSyscallError("setsockopt IP_PKTINFO", unix.SetsockoptInt(s.fd, unix.SOL_IP, unix.IP_PKTINFO, 1))
		}
	case *unix.SockaddrInet6:
		s.six = true
		// For IPv4 clients of an IPv6 socket too: the kernel gives the
		// address in IPv6's form (net/ipv6/datagram.c).
		if s.info = sa.Addr == [16]byte{}; s.info {
			return os.NewSyscallError("setsockopt IPV6_RECVPKTINFO", unix.SetsockoptInt(s.fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1))
		}
	default:
		return errors.New("it is not a socket of IPv4 or IPv6")
	}
	return nil
}

// serve takes what an event announces, at most one batch, so that no socket
// starves another; what stays announces itself again.
func (s *socket) serve(events uint32, in *inBatch) {
	if events&unix.EPOLLERR != 0 {
		s.serveErrors(in)
	}
	s.mu.RLock()
	var batch []Datagram
	if !s.closed {
		// An error here is an ICMP error that the error queue has told.
		batch, _ = in.receive(s)
	}
	s.mu.RUnlock()
	if len(batch) > 0 {
		s.handler.Received(batch)
	}
}

func (s *socket) Send(batch []Datagram, failed func(int, error)) {
	for _, f := range s.sendAll(batch) {
		failed(f.index, f.err)
	}
}

type failure struct {
	index int
	err   error
}

func (s *socket) sendAll(batch []Datagram) (failures []failure) {
	s.poller.sending.Lock()
	defer s.poller.sending.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for start := 0; start < len(batch); start += batchLen {
		failures = s.send(batch, start, min(start+batchLen, len(batch)), failures)
	}
	return failures
}

// send sends batch[next:end]. sendmmsg(2) tells an error only if it is the
// first datagram's.
func (s *socket) send(batch []Datagram, next, end int, failures []failure) []failure {
	if s.closed {
		for ; next < end; next++ {
			failures = append(failures, failure{next, os.ErrClosed})
		}
		return failures
	}
	out := s.poller.out
	base := next
	for i := base; i < end; i++ {
		out.set(i-base, s, &batch[i])
	}
	again, waited := false, false
	for next < end {
		n, err := out.send(s.fd, next-base, end-base)
		switch {
		case err == nil:
			next += n
			again = false
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && !waited:
			waited = true
			s.waitToSend()
		case !again && !errors.Is(err, unix.EAGAIN):
			// It may be the ICMP error of an earlier datagram, which the call
			// has now cleared.
			again = true
		default:
			failures = append(failures, failure{next, err})
			next++
			again = false
		}
	}
	out.release(end - base)
	return failures
}

func (s *socket) waitToSend() {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
	_, _ = unix.Poll(fds, sendWait)
}

func (s *socket) Close() {
	p := s.poller
	p.mu.Lock()
	if p.sockets[s.fd] == s { // else it is closed already
		delete(p.sockets, s.fd)
	}
	p.mu.Unlock()
	s.closeDescriptor()
}

func (s *socket) closeDescriptor() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	// An adopted socket lives on in its owner's descriptor, and epoll waits
	// for files, not descriptors (epoll(7), question 6).
	_ = s.poller.conn.Control(func(fd uintptr) {
		_ = unix.EpollCtl(int(fd), unix.EPOLL_CTL_DEL, s.fd, nil)
	})
	unix.Close(s.fd)
}

// sockaddr is a in the form of system calls that are not batched.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port()), ZoneId: zoneID(a.Addr())}
}
