package udp

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"bake/internal/udpio"
	"bake/internal/wire"
)

// scripted is a connection of a guest that has said all it will say.
type scripted struct {
	net.Conn
	stream []byte
}

func (s *scripted) Read(b []byte) (int, error) {
	if len(s.stream) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(b, s.stream)
	s.stream = s.stream[n:]
	return n, nil
}

// mirror is a poller whose sockets send everything back as if the peer had.
type mirror struct {
	udpio.Poller
	open int
}

type mirrored struct {
	mirror  *mirror
	handler udpio.Handler
	closed  bool
}

func (m *mirror) Open(_ udpio.Kind, h udpio.Handler) (udpio.Socket, error) {
	m.open++
	return &mirrored{mirror: m, handler: h}, nil
}

func (s *mirrored) Send(batch []udpio.Datagram, failed func(int, error)) {
	for i, d := range batch {
		switch {
		case s.closed:
			failed(i, net.ErrClosed)
		case d.Peer.Port()%4 == 1:
			failed(i, syscall.EHOSTUNREACH)
		case d.Peer.Port()%4 == 2:
			s.handler.Failed(d.Peer, syscall.ECONNREFUSED, d.Payload)
		}
	}
	s.handler.Received(batch)
}

func (s *mirrored) Close() {
	if !s.closed {
		s.closed = true
		s.mirror.open--
	}
}

// Whatever a guest sends, the server's books stay right.
func FuzzGuest(f *testing.F) {
	var seed []byte
	for _, d := range []wire.Datagram{
		{Kind: wire.DatagramUDP, Source: from4(1), Destination: netip.MustParseAddrPort("192.0.2.1:4"), Payload: []byte("x")},
		{Kind: wire.DatagramUDP, Source: from4(1), Destination: netip.AddrPortFrom(host4, 6), Payload: []byte("x")},
		{Kind: wire.DatagramEcho, Source: from4(2), Destination: netip.MustParseAddrPort("192.0.2.1:7"), Payload: []byte("\x00\x00\x00\x00\x00\x00\x00\x00")},
		{Kind: wire.DatagramEcho, Source: from4(2), Destination: netip.AddrPortFrom(host4, 7)},
		{Kind: wire.DatagramPublished, Flow: 1, Source: from4(2), Destination: netip.AddrPortFrom(host4, 7)},
	} {
		seed, _ = wire.AppendDatagram(seed, &d)
	}
	f.Add(seed)
	f.Add([]byte("\x00\x00\x00\x2c\x01\x04"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		m := new(mirror)
		c := &clock{now: time.Unix(1e9, 0)}
		s, err := newServer(Options{
			Network: wire.DefaultNetwork(true), Gate: new(gate), now: c.time,
			poller: func() (udpio.Poller, error) { return m, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.read(t.Context(), &scripted{stream: stream}); err == nil {
			t.Error("the connection's end is no error, though it broke")
		}
		n := s.nat
		peers := 0
		for _, source := range n.mappings {
			peers += len(source.peers)
		}
		if m.open != n.open || peers != len(n.flows) || len(n.flows) != n.usual.len()+n.queries.len() || len(n.mappings) != n.sources.len() {
			t.Errorf("%d sockets, %d counted; %d flows, %d of sources, %d idle; %d sources, %d idle",
				m.open, n.open, len(n.flows), peers, n.usual.len()+n.queries.len(), len(n.mappings), n.sources.len())
		}
		c.pass(idleTime)
		n.expire()
		if m.open != 0 || len(n.flows) != 0 || len(n.mappings) != 0 {
			t.Errorf("%d sockets, %d flows, %d sources live for ever", m.open, len(n.flows), len(n.mappings))
		}
	})
}
