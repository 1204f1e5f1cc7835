//go:build linux

package datagram

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/udpio"
	"bake/internal/wire"
)

// patience is far beyond what anything here takes.
const patience = 60 * time.Second

var (
	source = netip.MustParseAddrPort("198.18.0.1:1000")
	peer   = netip.MustParseAddrPort("192.0.2.1:9")
)

// A host takes the guest's connections.
type host struct {
	t     *testing.T
	conns chan net.Conn
	mu    sync.Mutex
	fail  error // of dialling
}

func newHost(t *testing.T) *host { return &host{t: t, conns: make(chan net.Conn, 100)} }

// dial gives the guest one end of a connection and keeps the other.
func (h *host) dial(context.Context) (net.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return nil, h.fail
	}
	guest, host := net.Pipe()
	h.conns <- host
	return guest, nil
}

func (h *host) refuse(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = err
}

func (h *host) next() (net.Conn, *wire.DatagramReader) {
	h.t.Helper()
	c := await(h.t, h.conns)
	h.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c, wire.NewDatagramReader(c)
}

func (h *host) start() *Conn {
	h.t.Helper()
	c, err := Dial(context.Background(), h.dial)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return c
}

func await[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}

func write(t *testing.T, c net.Conn, list ...wire.Datagram) {
	t.Helper()
	var b []byte
	for _, d := range list {
		var err error
		if b, err = wire.AppendDatagram(b, &d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, r *wire.DatagramReader) wire.Datagram {
	t.Helper()
	var d wire.Datagram
	if err := r.Next(&d); err != nil {
		t.Fatal(err)
	}
	d.Payload = bytes.Clone(d.Payload)
	return d
}

func TestBothWays(t *testing.T) {
	h := newHost(t)
	c := h.start()
	received := make(chan wire.Datagram, 10)
	var together []wire.Datagram // as they are valid until the flush
	c.Receive(func(d *wire.Datagram) { together = append(together, *d) }, func() {
		for _, d := range together {
			d.Payload = bytes.Clone(d.Payload)
			received <- d
		}
		together = nil
	})
	conn, frames := h.next()
	for _, n := range []int{0, 1, 1400, 60000, wire.MaxDatagram} {
		payload := strings.Repeat("x", n)
		c.Send(&wire.Datagram{Kind: wire.DatagramUDP, Source: source, Destination: peer, Payload: []byte(payload)})
		if d := read(t, frames); d.Kind != wire.DatagramUDP || d.Source != source || d.Destination != peer || string(d.Payload) != payload {
			t.Errorf("the host got %v to %v with %d bytes, want %d", d.Source, d.Destination, len(d.Payload), n)
		}
		for _, kind := range []wire.DatagramKind{wire.DatagramUDP, wire.DatagramUnreachable, wire.DatagramEcho} {
			write(t, conn, wire.Datagram{Kind: kind, Code: 3, Source: peer, Destination: source, Payload: []byte(payload)})
			if d := await(t, received); d.Kind != kind || d.Code != 3 || d.Source != peer || string(d.Payload) != payload {
				t.Errorf("received kind %d with %d bytes, want kind %d with %d", d.Kind, len(d.Payload), kind, n)
			}
		}
	}
	c.Close()
	if err := c.Err(); err != nil {
		t.Errorf("after Close: %v", err)
	}
	c.Send(&wire.Datagram{Kind: wire.DatagramUDP, Source: source, Destination: peer}) // nothing, and no wait
}

// A host that does not read costs datagrams, not time: only the first one
// waits.
func TestSendDrops(t *testing.T) {
	h := newHost(t)
	c := h.start()
	h.next()
	d := &wire.Datagram{Kind: wire.DatagramUDP, Source: source, Destination: peer, Payload: make([]byte, 60000)}
	for c.Dropped() < 10 {
		c.Send(d)
	}
	if n := c.queue.Len(); n > queueLimit {
		t.Errorf("%d bytes wait, more than %d", n, queueLimit)
	}
}

func TestSendAllocatesNothing(t *testing.T) {
	q := wire.NewDatagramQueue(queueLimit)
	c := &Conn{queue: q}
	payload := make([]byte, 1400)
	for range queueLimit / len(payload) { // the buffer has its size
		c.Send(&wire.Datagram{Kind: wire.DatagramUDP, Source: source, Destination: peer, Payload: payload})
	}
	if n := testing.AllocsPerRun(100, func() {
		d := wire.Datagram{Kind: wire.DatagramUDP, Source: source, Destination: peer, Payload: payload}
		c.Send(&d)
	}); n > 0 {
		t.Errorf("Send allocates %v times", n)
	}
}

func TestReconnect(t *testing.T) {
	h := newHost(t)
	c := h.start()
	conn, _ := h.next()
	conn.Close()
	_, frames := h.next()
	c.Send(&wire.Datagram{Kind: wire.DatagramUDP, Source: source, Destination: peer, Payload: []byte("again")})
	if d := read(t, frames); string(d.Payload) != "again" {
		t.Errorf("the host got %q after a new connection", d.Payload)
	}
}

func TestHostGone(t *testing.T) {
	h := newHost(t)
	c := h.start()
	conn, _ := h.next()
	h.refuse(errors.New("no such port"))
	conn.Close()
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("the guest never gives up")
	}
	if err := c.Err(); err == nil || !strings.Contains(err.Error(), "no such port") || !strings.Contains(err.Error(), "broke") {
		t.Errorf("the end is told as %v", err)
	}
	if c, err := Dial(t.Context(), h.dial); err == nil {
		c.Close()
		t.Error("Dial succeeded with a host that cannot be reached")
	}
}

func TestContextEnds(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Dial(ctx, h.dial)
	if err != nil {
		t.Fatal(err)
	}
	h.next()
	cancel()
	await(t, c.Done())
	c.Close()
	if err := c.Err(); err != nil {
		t.Errorf("after its context's end: %v", err)
	}
}

// echo answers until it is stopped, and tells who asked.
func echo(t *testing.T, address string) (at netip.AddrPort, from <-chan netip.AddrPort, stop func()) {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	udp := conn.(*net.UDPConn)
	asked := make(chan netip.AddrPort, 10000)
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			asked <- from
			_, _ = udp.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	stop = sync.OnceFunc(func() { conn.Close(); done.Wait() })
	t.Cleanup(stop)
	return udp.LocalAddr().(*net.UDPAddr).AddrPort(), asked, stop
}

func question(flow uint32, port uint16, payload string) wire.Datagram {
	return wire.Datagram{
		Kind: wire.DatagramPublished, Flow: flow, Source: peer,
		Destination: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Payload: []byte(payload),
	}
}

// Each flow has a socket of its own, and its answers carry its number.
func TestPublishedFlows(t *testing.T) {
	at, from, _ := echo(t, "127.0.0.1:0")
	h := newHost(t)
	h.start()
	conn, frames := h.next()
	sockets := make(map[uint32]netip.AddrPort)
	for range 3 {
		for _, flow := range []uint32{5, 1 << 31} {
			q := question(flow, at.Port(), "hello")
			write(t, conn, q)
			d := read(t, frames)
			if d.Kind != wire.DatagramPublished || d.Flow != flow || d.Source != q.Destination || d.Destination != peer || string(d.Payload) != "hello" {
				t.Errorf("the answer is %+v", d)
			}
			socket := await(t, from)
			if old, ok := sockets[flow]; ok && old != socket {
				t.Errorf("flow %d changed its socket from %v to %v", flow, old, socket)
			}
			sockets[flow] = socket
		}
	}
	if sockets[5] == sockets[1<<31] {
		t.Error("two flows have one socket")
	}
}

// A server on ::1 alone is found, the first datagram is not lost, and when it
// goes and comes back on 127.0.0.1 it is found there.
func TestServerMoves(t *testing.T) {
	at, _, stop := echo(t, "[::1]:0")
	h := newHost(t)
	h.start()
	conn, frames := h.next()
	ask := func(s string) string {
		write(t, conn, question(1, at.Port(), s))
		return string(read(t, frames).Payload)
	}
	for _, s := range []string{"first", "second"} {
		if got := ask(s); got != s {
			t.Errorf("got %q, want %q", got, s)
		}
	}
	stop()
	_, from4, _ := echo(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port()).String())
	// The first one may be lost on the old address: the server is found when
	// that refuses it.
	for i := 0; len(from4) == 0; i++ {
		if i == 1000 {
			t.Fatal("the server is not found again")
		}
		write(t, conn, question(1, at.Port(), "third"))
		time.Sleep(time.Millisecond)
	}
	if d := read(t, frames); string(d.Payload) != "third" {
		t.Errorf("got %q", d.Payload)
	}
}

// sockets is a poller without sockets of the system.
type sockets struct {
	udpio.Poller
	opened, closed int
}

type nothing struct{ sockets *sockets }

func (s *sockets) Connect(netip.AddrPort, udpio.Handler) (udpio.Socket, error) {
	s.opened++
	return &nothing{s}, nil
}
func (n *nothing) Send([]udpio.Datagram, func(int, error)) {}
func (n *nothing) Close()                                  { n.sockets.closed++ }

func TestFlowsEnd(t *testing.T) {
	s := new(sockets)
	now := time.Unix(1e9, 0)
	p := newPorts(s, wire.NewDatagramQueue(queueLimit), func() time.Time { return now })
	row := p.newRow()
	use := func(flow uint32, port uint16) {
		d := question(flow, port, "x")
		p.deliver(&d, row)
	}
	for i := range uint32(maxFlows) {
		use(i, 80)
	}
	use(0, 80) // now 1 is the longest idle
	use(maxFlows, 80)
	if len(p.flows) != maxFlows || p.used.Len() != maxFlows || s.opened-s.closed != maxFlows || p.flows[1] != nil || p.flows[0] == nil {
		t.Errorf("%d flows with %d sockets", len(p.flows), s.opened-s.closed)
	}
	now = now.Add(idleTime - 1)
	p.expire()
	use(2, 80)
	use(3, 81) // the number now belongs to another port
	now = now.Add(1)
	p.expire()
	if len(p.flows) != 2 || s.opened-s.closed != 2 || p.used.Len() != 2 {
		t.Errorf("%d flows with %d sockets after the others' time, want 2", len(p.flows), s.opened-s.closed)
	}
	if p.flows[3].server.Port() != 81 {
		t.Error("a flow's number took a datagram to another port")
	}
}

// 10,000 datagrams of 1,000 flows leave nothing behind.
func TestNothingIsLeft(t *testing.T) {
	at, _, _ := echo(t, "127.0.0.1:0")
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	h := newHost(t)
	c := h.start()
	conn, frames := h.next()
	const flows, rounds, atOnce = 1000, 10, 50
	for range rounds {
		for i := range uint32(flows / atOnce) {
			var list []wire.Datagram
			for j := range uint32(atOnce) {
				list = append(list, question(i*atOnce+j, at.Port(), "0123456789"))
			}
			write(t, conn, list...)
			for range list {
				if d := read(t, frames); string(d.Payload) != "0123456789" {
					t.Fatalf("got %+v", d)
				}
			}
		}
	}
	if n := runtime.NumGoroutine() - goroutines; n > 20 {
		t.Errorf("%d goroutines carry %d flows", n, flows)
	}
	c.Close()
	conn.Close()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines || openFiles(t) > files; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines and %d descriptors are left, there were %d and %d", runtime.NumGoroutine(), openFiles(t), goroutines, files)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
