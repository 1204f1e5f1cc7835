//go:build linux

package hostnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// limit is for waits that end at once unless something is broken.
const limit = 60 * time.Second

var network = wire.DefaultNetwork(true)

// A tcpConn is an application's connection.
type tcpConn interface {
	net.Conn
	CloseWrite() error
	// Reset closes the connection with RST.
	Reset()
}

// A guest is what has hostnet for its network: a network namespace of this
// machine, or, where that cannot be made, another netstack at the end of a
// socket pair.
type guest interface {
	// DialTCP's error is an errno.
	DialTCP(to netip.AddrPort) (tcpConn, error)
	// DialUDP's connection gives errnos.
	DialUDP(to netip.AddrPort) (net.Conn, error)
}

// A rig is a guest, its hostnet and a host.
type rig struct {
	guest
	h    *Hostnet
	host *host
}

// everyGuest runs a test in each kind of guest.
func everyGuest(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Run("kernel", func(t *testing.T) { f(t, kernelRig(t)) })
	t.Run("pipe", func(t *testing.T) { f(t, pipeRig(t)) })
}

func kernelRig(t *testing.T) *rig {
	ns, err := newNamespace(t)
	if err != nil {
		t.Skipf("no network namespace can be made here, so that only the pipe is tested: %v", err)
	}
	host := newHost(t)
	var h *Hostnet
	ns.do(func() { h, err = Start(t.Context(), network, host.options()) })
	if err != nil {
		t.Skipf("no TUN device can be made here, so that only the pipe is tested: %v", err)
	}
	t.Cleanup(h.Close)
	host.h = h
	return &rig{guest: &kernelGuest{ns: ns}, h: h, host: host}
}

// A namespace is a thread in a network namespace of its own.
type namespace struct {
	work chan func()
	path string // of its file, while the test runs
}

func newNamespace(t *testing.T) (*namespace, error) {
	ns := &namespace{work: make(chan func())}
	made := make(chan error)
	var wg sync.WaitGroup
	wg.Go(func() {
		// The thread ends with the goroutine: it is in no state to be used again.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		ns.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		made <- err
		for f := range ns.work {
			f()
		}
	})
	t.Cleanup(func() { close(ns.work); wg.Wait() })
	return ns, <-made
}

// do runs f in the namespace. Sockets that f makes stay in it.
func (ns *namespace) do(f func()) {
	done := make(chan struct{})
	ns.work <- func() { defer close(done); f() }
	<-done
}

type kernelGuest struct {
	ns *namespace
	// port is what an IPv4 connection comes from, if it is not 0.
	port int
}

type kernelTCP struct{ *net.TCPConn }

func (c kernelTCP) Reset() { c.SetLinger(0); c.Close() }

// DialTCP connects without waiting in the namespace's thread.
func (g *kernelGuest) DialTCP(to netip.AddrPort) (tcpConn, error) {
	f, err := g.connect(to, unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return kernelTCP{c.(*net.TCPConn)}, nil
}

func (g *kernelGuest) DialUDP(to netip.AddrPort) (net.Conn, error) {
	f, err := g.connect(to, unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}

func (g *kernelGuest) connect(to netip.AddrPort, kind int) (*os.File, error) {
	domain := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(to.Port()), Addr: as4(to.Addr())}
	if to.Addr().Is6() {
		domain, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	var fd int
	var err error
	g.ns.do(func() { fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) })
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	if g.port != 0 {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Port: g.port}),
		)
		if err != nil {
			f.Close()
			return nil, err
		}
	}
	if err = unix.Connect(fd, sa); err == unix.EINPROGRESS {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		for {
			if _, err = unix.Poll(p, int(2*limit/time.Millisecond)); err != unix.EINTR {
				break
			}
		}
		var soError int
		if soError, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && soError != 0 {
			err = unix.Errno(soError)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// A host is the far end of hostnet: it connects as it is told, and answers
// datagrams with answer.
type host struct {
	t *testing.T
	h *Hostnet

	mu      sync.Mutex
	dials   int
	connect func(ctx context.Context, to netip.AddrPort, s *stream) error
	answer  func(d *wire.Datagram)
	serving sync.WaitGroup
}

func newHost(t *testing.T) *host {
	h := &host{t: t}
	h.connect = func(context.Context, netip.AddrPort, *stream) error { return syscall.ECONNREFUSED }
	t.Cleanup(h.serving.Wait)
	return h
}

func (h *host) options() Options { return Options{DialTCP: h.dial, Datagrams: h} }

// Send is for datagrams that the guest sends.
func (h *host) Send(d *wire.Datagram) {
	h.mu.Lock()
	f := h.answer
	h.mu.Unlock()
	if f != nil {
		f(d)
	}
}

// onConnect says what becomes of connections: an error, or a stream that f
// keeps and serves.
func (h *host) onConnect(f func(ctx context.Context, to netip.AddrPort, s *stream) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connect = f
}

func (h *host) onDatagram(f func(d *wire.Datagram)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = f
}

// serve answers each connection with f, and closes the stream after it.
func (h *host) serve(f func(s *stream)) {
	h.onConnect(func(_ context.Context, _ netip.AddrPort, s *stream) error {
		h.serving.Go(func() {
			defer s.Close()
			f(s)
		})
		return nil
	})
}

func (h *host) dialled() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dials
}

func (h *host) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var conns [2]net.Conn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "stream")
		conns[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	h.dials++
	connect := h.connect
	h.mu.Unlock()
	if err := connect(ctx, to, &stream{Conn: conns[1]}); err != nil {
		conns[0].Close()
		conns[1].Close()
		return nil, err
	}
	return conns[0], nil
}

// A stream is the host's end of a connection, in frames.
type stream struct {
	net.Conn
	left  int
	ended bool
}

func (s *stream) Read(b []byte) (int, error) {
	if s.ended {
		return 0, io.EOF
	}
	if s.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
			return 0, fmt.Errorf("the stream broke: %w", io.ErrUnexpectedEOF)
		}
		if s.left = int(binary.BigEndian.Uint32(head[:])); s.left == 0 {
			s.ended = true
			return 0, io.EOF
		}
	}
	n, err := s.Conn.Read(b[:min(len(b), s.left)])
	s.left -= n
	if err != nil {
		err = fmt.Errorf("the stream broke: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

func (s *stream) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		p := b[done:min(len(b), done+100_000)]
		if _, err := s.Conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...)); err != nil {
			return done, err
		}
		done += len(p)
	}
	return len(b), nil
}

func (s *stream) CloseWrite() error {
	_, err := s.Conn.Write(make([]byte, 4))
	return err
}

// errnoOf is the errno in err.
func errnoOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !f(); {
		if time.Now().After(end) {
			t.Fatalf("it never happened that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func as4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}
