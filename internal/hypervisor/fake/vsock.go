package fake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// errRefused is what dialing a port finds that nobody listens on.
var errRefused = errors.New("connection refused")

// ports is what one side listens on.
type ports struct {
	guests bool // the guest listens and the host dials

	mu        sync.Mutex
	closed    bool
	listeners map[uint32]*listener
	conns     []net.Conn // the guest's ends
}

func newPorts(guests bool) *ports {
	return &ports{guests: guests, listeners: map[uint32]*listener{}}
}

type listener struct {
	ports *ports
	port  uint32
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *ports) listen(port uint32) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("listen on vsock port %d: the VM has ended", port)
	}
	if p.listeners[port] != nil {
		return nil, fmt.Errorf("listen on vsock port %d: %w", port, unix.EADDRINUSE)
	}
	l := &listener{ports: p, port: port, queue: make(chan net.Conn, 1024), done: make(chan struct{})}
	p.listeners[port] = l
	return l, nil
}

// dial connects to a listener of p.
func (p *ports) dial(ctx context.Context, port uint32) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[port]
	if l == nil || p.closed {
		return nil, fmt.Errorf("connect to vsock port %d: %w", port, errRefused)
	}
	near, far, err := pair()
	if err != nil {
		return nil, fmt.Errorf("connect to vsock port %d: %w", port, err)
	}
	select {
	case l.queue <- far:
		if p.guests {
			p.conns = append(p.conns, far)
		} else {
			p.conns = append(p.conns, near)
		}
		return near, nil
	default:
		err = errors.New("too many connections wait")
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	near.Close()
	far.Close()
	return nil, fmt.Errorf("connect to vsock port %d: %w", port, err)
}

// pair is two connected streams with CloseWrite.
func pair() (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "fake vsock")
		c, ferr := net.FileConn(f)
		f.Close()
		if ferr != nil {
			err = ferr
			continue
		}
		conns[i] = c
	}
	if err != nil {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		return nil, nil, err
	}
	return conns[0], conns[1], nil
}

// close does what the end of a VM does: the guest's ends of connections and its
// listeners are gone, and nobody dials any more. The host reads what was sent
// before, and its listeners are its own to close.
func (p *ports) close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
	var open []*listener
	if p.guests {
		for _, l := range p.listeners {
			open = append(open, l)
		}
	}
	p.mu.Unlock()
	for _, l := range open {
		l.Close()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.ports.mu.Lock()
		defer l.ports.mu.Unlock()
		if l.ports.listeners[l.port] == l {
			delete(l.ports.listeners, l.port)
		}
		close(l.done)
		for { // what nobody accepted
			select {
			case c := <-l.queue:
				c.Close()
				continue
			default:
			}
			return
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.port) }

type addr uint32

func (addr) Network() string  { return "vsock" }
func (a addr) String() string { return fmt.Sprintf("fake:%d", uint32(a)) }
