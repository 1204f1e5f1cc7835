package udpio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// An epoll waits for its sockets with one epoll(7) descriptor, which itself
// waits in Go's poller, so that no thread is held while nothing comes.
type epoll struct {
	file *os.File
	conn syscall.RawConn

	mu      sync.Mutex
	closed  bool
	sockets map[int]*socket // by descriptor

	sending sync.Mutex
	out     *outBatch
}

func newEpoll() (*epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll descriptor to wait for datagrams: %w", err)
	}
	// Without it Go's poller does not take the descriptor.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make an epoll descriptor to wait for datagrams: %w", err)
	}
	p := &epoll{file: os.NewFile(uintptr(fd), "epoll"), sockets: make(map[int]*socket), out: newOutBatch()}
	if p.conn, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, fmt.Errorf("wait for datagrams: %w", err)
	}
	return p, nil
}

func (p *epoll) Run(ctx context.Context) error {
	defer p.close()
	stop := context.AfterFunc(ctx, func() { p.file.Close() })
	defer stop()
	events := make([]unix.EpollEvent, 64)
	in := newInBatch()
	for {
		var n int
		var err error
		waitErr := p.conn.Read(func(fd uintptr) bool {
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
		})
		if ctx.Err() != nil {
			return nil
		}
		if err = errors.Join(waitErr, err); err != nil {
			return fmt.Errorf("wait for datagrams: %w", err)
		}
		for _, e := range events[:n] {
			p.mu.Lock()
			s := p.sockets[int(e.Fd)]
			p.mu.Unlock()
			if s != nil {
				s.serve(e.Events, in)
			}
		}
	}
}

func (p *epoll) close() {
	p.mu.Lock()
	p.closed = true
	sockets := p.sockets
	p.sockets = nil
	p.mu.Unlock()
	for _, s := range sockets {
		s.closeDescriptor()
	}
	p.file.Close()
}

// add begins to wait for a socket. It closes one that it cannot take.
func (p *epoll) add(s *socket) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := net.ErrClosed
	if !p.closed {
		p.sockets[s.fd] = s
		cerr := p.conn.Control(func(fd uintptr) {
			err = unix.EpollCtl(int(fd), unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)})
		})
		if err = errors.Join(cerr, err); err == nil {
			return nil
		}
		delete(p.sockets, s.fd)
	}
	s.closeDescriptor()
	return fmt.Errorf("wait for datagrams of a socket: %w", err)
}

func (p *epoll) Open(kind Kind, h Handler) (Socket, error) {
	return p.open(kind, netip.AddrPort{}, h)
}

func (p *epoll) Connect(peer netip.AddrPort, h Handler) (Socket, error) {
	return p.open(UDP(peer.Addr()), peer, h)
}

func (p *epoll) open(kind Kind, peer netip.AddrPort, h Handler) (Socket, error) {
	domain, protocol := unix.AF_INET, 0
	switch kind {
	case UDP6:
		domain = unix.AF_INET6
	case Ping4:
		protocol = unix.IPPROTO_ICMP
	case Ping6:
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("make a datagram socket: %w", err)
	}
	s := &socket{poller: p, fd: fd, handler: h, six: domain == unix.AF_INET6, connected: peer.IsValid()}
	if err = s.configure(); err == nil && s.connected {
		err = unix.Connect(fd, sockaddr(peer))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("prepare a datagram socket: %w", err)
	}
	if err := p.add(s); err != nil {
		return nil, err
	}
	return s, nil
}

func (p *epoll) Adopt(conn net.PacketConn, h Handler) (Socket, error) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("take over a listening socket of %T: only UDP sockets of the system can be", conn)
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take over the listening socket %v: %w", conn.LocalAddr(), err)
	}
	s := &socket{poller: p, handler: h}
	cerr := raw.Control(func(fd uintptr) {
		s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(cerr, err); err != nil {
		return nil, fmt.Errorf("take over the listening socket %v: %w", conn.LocalAddr(), err)
	}
	if err := s.adopt(); err != nil {
		unix.Close(s.fd)
		return nil, fmt.Errorf("take over the listening socket %v: %w", conn.LocalAddr(), err)
	}
	if err := p.add(s); err != nil {
		return nil, err
	}
	return s, nil
}
