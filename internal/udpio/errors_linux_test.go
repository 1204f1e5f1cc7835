package udpio

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
)

// An error names its destination, and the datagrams to others still go.
func TestRefusedAmongOthers(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		good, bad := echoServer(t, net.JoinHostPort(ip, "0")), freePort(t, ip)
		p, err := New()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { _ = p.Run(ctx) })
		h := newEvents()
		s, err := p.Open(UDP(good.Addr()), h)
		if err != nil {
			t.Fatal(err)
		}
		const rounds = 50
		for i := range rounds {
			s.Send([]Datagram{
				{Peer: good, Payload: []byte{byte(i), 1}}, {Peer: bad, Payload: []byte{byte(i), 2}},
				{Peer: good, Payload: []byte{byte(i), 3}}, {Peer: good, Payload: []byte{byte(i), 4}},
			}, func(i int, err error) {
				// The same error twice in a row is told as this datagram's.
				if i != 1 || !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("send datagram %d: %v", i, err)
				}
			})
			for range 3 {
				if d := await(t, h.received); d.Peer != good || d.Payload[0] != byte(i) {
					t.Fatalf("round %d: got %v from %v", i, d.Payload, d.Peer)
				}
			}
		}
		if f := await(t, h.failed); f.peer != bad || f.errno != syscall.ECONNREFUSED || !bytes.Equal(f.quoted, []byte{0, 2}) {
			t.Errorf("%v: %v, quoting %v", f.peer, f.errno, f.quoted)
		}
		cancel()
		done.Wait()
	}
}
