package udpio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
)

// A plain Poller has a goroutine for each socket and works on any system.
type plain struct {
	readers sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	sockets map[*plainSocket]struct{}
}

func newPlain() *plain { return &plain{sockets: make(map[*plainSocket]struct{})} }

func (p *plain) Run(ctx context.Context) error {
	<-ctx.Done()
	p.mu.Lock()
	p.closed = true
	for s := range p.sockets {
		s.end()
	}
	p.sockets = nil
	p.mu.Unlock()
	p.readers.Wait()
	return nil
}

func (p *plain) Open(kind Kind, h Handler) (Socket, error) {
	var conn net.PacketConn
	var err error
	switch kind {
	case UDP4:
		conn, err = net.ListenUDP("udp4", nil)
	case UDP6:
		conn, err = net.ListenUDP("udp6", nil)
	case Ping4:
		conn, err = icmp.ListenPacket("udp4", "0.0.0.0")
	default:
		conn, err = icmp.ListenPacket("udp6", "::")
	}
	if err != nil {
		return nil, fmt.Errorf("make a datagram socket: %w", err)
	}
	return p.add(&plainSocket{conn: conn, handler: h, own: true, ping: kind == Ping4 || kind == Ping6})
}

func (p *plain) Connect(peer netip.AddrPort, h Handler) (Socket, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return nil, fmt.Errorf("make a datagram socket: %w", err)
	}
	return p.add(&plainSocket{conn: conn, handler: h, own: true, peer: peer})
}

func (p *plain) Adopt(conn net.PacketConn, h Handler) (Socket, error) {
	if _, ok := conn.(*net.UDPConn); !ok {
		return nil, fmt.Errorf("take over a listening socket of %T: only UDP sockets of the system can be", conn)
	}
	return p.add(&plainSocket{conn: conn, handler: h})
}

func (p *plain) add(s *plainSocket) (Socket, error) {
	s.poller = p
	if udp, ok := s.conn.(*net.UDPConn); ok {
		// BSD refuses datagrams that are longer than the buffer.
		_ = udp.SetWriteBuffer(2 * MaxPayload)
		_ = udp.SetReadBuffer(4 * MaxPayload)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		s.end()
		return nil, fmt.Errorf("wait for datagrams of a socket: %w", net.ErrClosed)
	}
	p.sockets[s] = struct{}{}
	p.readers.Go(s.read)
	return s, nil
}

type plainSocket struct {
	poller  *plain
	conn    net.PacketConn
	handler Handler
	own     bool           // conn is not somebody else's
	ping    bool           // of ICMP
	peer    netip.AddrPort // the only one, or none
}

// readFailures is how many errors in a row a reader takes for ICMP errors.
const readFailures = 100

// read runs until the socket is closed.
func (s *plainSocket) read() {
	buf := make([]byte, MaxPayload)
	for failures := 0; failures < readFailures; failures++ {
		n, peer, err := s.receive(buf)
		var errno syscall.Errno
		switch {
		case err == nil:
			failures = -1
			s.handler.Received([]Datagram{{Peer: peer, Payload: buf[:n]}})
		case s.peer.IsValid() && errors.As(err, &errno):
			s.handler.Failed(s.peer, errno, nil)
		case !errors.As(err, &errno):
			return // closed
		}
	}
}

func (s *plainSocket) receive(buf []byte) (int, netip.AddrPort, error) {
	if udp, ok := s.conn.(*net.UDPConn); ok {
		n, peer, err := udp.ReadFromUDPAddrPort(buf)
		return n, netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), err
	}
	n, from, err := s.conn.ReadFrom(buf)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	a, _ := from.(*net.UDPAddr)
	if a == nil {
		return 0, netip.AddrPort{}, fmt.Errorf("a datagram came from the strange address %v", from)
	}
	return n, netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), 0), nil
}

func (s *plainSocket) Send(batch []Datagram, failed func(int, error)) {
	for i, d := range batch {
		var err error
		switch conn := s.conn.(type) {
		case *net.UDPConn:
			if s.peer.IsValid() {
				_, err = conn.Write(d.Payload)
			} else {
				_, err = conn.WriteToUDPAddrPort(d.Payload, d.Peer)
			}
		default:
			_, err = conn.WriteTo(d.Payload, net.UDPAddrFromAddrPort(d.Peer))
		}
		if err != nil {
			failed(i, err)
		}
	}
}

func (s *plainSocket) Close() {
	s.poller.mu.Lock()
	defer s.poller.mu.Unlock()
	if _, ok := s.poller.sockets[s]; ok {
		delete(s.poller.sockets, s)
		s.end()
	}
}

// end makes the reader return.
func (s *plainSocket) end() {
	if s.own {
		s.conn.Close()
		return
	}
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
}
