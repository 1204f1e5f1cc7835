package udp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bake/internal/policy"
	"bake/internal/wire"
)

// patience is far beyond what anything here takes.
const patience = 60 * time.Second

var (
	guest4 = netip.MustParseAddr("198.18.0.1")
	guest6 = netip.MustParseAddr("fd62:616b:6500::1")
	host4  = netip.MustParseAddr("198.18.0.2")
)

// A gate lets all pass but what denied has, sends port 53 of the host to the
// resolver and its other ports to the loopback, and counts.
type gate struct {
	mu        sync.Mutex
	denied    map[netip.Addr]bool
	elsewhere map[netip.AddrPort]netip.AddrPort // where destinations really are
	asked     int
}

func (g *gate) Target(_ policy.Proto, dst netip.AddrPort) ([]netip.AddrPort, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	switch {
	case g.denied[dst.Addr()]:
		return nil, false, errors.New("denied")
	case dst.Addr() == host4 && dst.Port() == 53:
		return nil, true, nil
	case dst.Addr() == host4:
		return []netip.AddrPort{
			netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), dst.Port()),
			netip.AddrPortFrom(netip.IPv6Loopback(), dst.Port()),
		}, false, nil
	}
	if real, ok := g.elsewhere[dst]; ok {
		dst = real
	}
	return []netip.AddrPort{dst}, false, nil
}

func (g *gate) deny(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.denied = map[netip.Addr]bool{a: true}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

// A clock stands still.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A rig is a server with the guest's connection to it.
type rig struct {
	t      *testing.T
	server *server
	gate   *gate
	clock  *clock
	path   string
	conn   net.Conn
	frames *wire.DatagramReader
	stop   func()
	logMu  sync.Mutex
	log    []string
}

// start runs a server until the test ends, or stop is called.
func start(t *testing.T, o Options) *rig {
	t.Helper()
	r := &rig{t: t, gate: new(gate), clock: &clock{now: time.Unix(1e9, 0)}, path: filepath.Join(t.TempDir(), "s")}
	if o.Gate == nil {
		o.Gate = r.gate
	}
	o.now = r.clock.time
	o.Log = func(format string, args ...any) {
		r.logMu.Lock()
		defer r.logMu.Unlock()
		r.log = append(r.log, fmt.Sprintf(format, args...))
	}
	ln, err := net.Listen("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	if r.server, err = newServer(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.run(ctx, ln) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
		if r.conn != nil {
			r.conn.Close()
		}
	})
	t.Cleanup(r.stop)
	return r
}

// connect makes the guest's connection, instead of the one it had.
func (r *rig) connect() *rig {
	r.t.Helper()
	conn, err := net.Dial("unix", r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.conn != nil {
		r.conn.Close()
	}
	r.conn, r.frames = conn, wire.NewDatagramReader(conn)
	return r
}

func (r *rig) send(d wire.Datagram) {
	r.t.Helper()
	b, err := wire.AppendDatagram(nil, &d)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) udp(src, dst netip.AddrPort, payload string) {
	r.t.Helper()
	r.send(wire.Datagram{Kind: wire.DatagramUDP, Source: src, Destination: dst, Payload: []byte(payload)})
}

func (r *rig) next() wire.Datagram {
	r.t.Helper()
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	var d wire.Datagram
	if err := r.frames.Next(&d); err != nil {
		r.t.Fatalf("read a frame of the host: %v", err)
	}
	d.Payload = bytes.Clone(d.Payload)
	return d
}

// expect reads a UDP datagram to the guest.
func (r *rig) expect(src, dst netip.AddrPort, payload string) {
	r.t.Helper()
	d := r.next()
	if d.Kind != wire.DatagramUDP || d.Source != src || d.Destination != dst || string(d.Payload) != payload {
		r.t.Fatalf("got kind %d code %d from %v to %v with %d bytes, want %d bytes from %v to %v",
			d.Kind, d.Code, d.Source, d.Destination, len(d.Payload), len(payload), src, dst)
	}
}

func (r *rig) expectUnreachable(code uint16, src, dst netip.AddrPort) {
	r.t.Helper()
	d := r.next()
	if d.Kind != wire.DatagramUnreachable || d.Code != code || d.Source != src || d.Destination != dst || d.Flow != uint32(wire.DatagramUDP) {
		r.t.Fatalf("got kind %d code %d flow %d from %v to %v, want %v unreachable from %v with code %d", d.Kind, d.Code, d.Flow, d.Source, d.Destination, dst, src, code)
	}
}

// settled waits until the server has read all that was sent: it sends a
// query to itself.
func (r *rig) settled() {
	r.t.Helper()
	src := netip.AddrPortFrom(guest4, 65535)
	dst := netip.AddrPortFrom(netip.MustParseAddr("255.255.255.254"), 1)
	r.server.Gate.(*gate).deny(dst.Addr())
	r.udp(src, dst, "")
	r.expectUnreachable(wire.UnreachableDenied, src, dst)
}

func (r *rig) logged() []string {
	r.logMu.Lock()
	defer r.logMu.Unlock()
	return append([]string(nil), r.log...)
}

func (r *rig) counts() (flows, sources, sockets int) {
	n := r.server.nat
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.flows), len(n.mappings), n.open
}

// An echo server tells each datagram's sender, and sends it back.
type echo struct {
	netip.AddrPort
	conn *net.UDPConn
	from chan netip.AddrPort
}

func newEcho(t *testing.T, address string) *echo {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{conn: conn.(*net.UDPConn), from: make(chan netip.AddrPort, 100000)}
	e.AddrPort = e.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = e.conn.SetReadBuffer(4 << 20)
	var done sync.WaitGroup
	t.Cleanup(func() { conn.Close(); done.Wait() })
	done.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := e.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			e.from <- from
			_, _ = e.conn.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	return e
}

// nobody is an address where nobody listens, and until the test ends nobody will:
// the socket that has it hears one peer alone, which is none.
func nobody(t *testing.T, ip string) netip.AddrPort {
	t.Helper()
	local := &net.UDPAddr{IP: net.ParseIP(ip)}
	conn, err := net.DialUDP("udp", local, &net.UDPAddr{IP: local.IP, Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
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
