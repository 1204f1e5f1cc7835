package udp

import (
	"context"
	"errors"
	"io"
	"net"

	"bake/internal/policy"
	"bake/internal/udpio"
	"bake/internal/wire"
)

// An outbound gathers the guest's datagrams for the host's sockets. They lie
// in the reader's memory and must leave before it reads on. Their tag is their
// flow, nil for published ports.
type outbound = udpio.Row[*flow]

// read takes the guest's frames until its connection ends.
func (s *server) read(ctx context.Context, conn net.Conn) error {
	frames := wire.NewDatagramReader(conn)
	out := &outbound{Failed: s.nat.notSent}
	var d wire.Datagram
	for {
		if !frames.Buffered() {
			out.Flush()
		}
		if err := frames.Next(&d); err != nil {
			out.Flush()
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
		switch d.Kind {
		case wire.DatagramUDP:
			s.sendUDP(ctx, &d, out)
		case wire.DatagramEcho:
			s.sendEcho(&d, out)
		case wire.DatagramPublished:
			s.published.answer(&d, out)
		case wire.DatagramUnreachable:
			// It goes to the guest only.
		}
	}
}

// sendUDP sends a datagram of the guest. A flow that a peer has answered is
// not judged again: rules by name expire and connections outlive them.
func (s *server) sendUDP(ctx context.Context, d *wire.Datagram, out *outbound) {
	key := flowKey{wire.DatagramUDP, d.Source, d.Destination}
	f, to := s.nat.use(key)
	if f == nil {
		targets, resolver, err := s.Gate.Target(policy.UDP, d.Destination)
		switch {
		case err != nil:
			s.nat.forget(key)
			s.nat.unreachable(key, wire.UnreachableDenied)
			return
		case resolver:
			s.dns.ask(ctx, d)
			return
		}
		if f, to, err = s.nat.allow(key, targets, d.Payload); err != nil {
			s.nat.notOpened(key, err)
			return
		}
	}
	out.Add(to.socket, udpio.Datagram{Peer: to.peer, Payload: d.Payload}, f)
}
