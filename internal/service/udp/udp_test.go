package udp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"bake/internal/udpio"
	"bake/internal/wire"
)

func from4(port uint16) netip.AddrPort { return netip.AddrPortFrom(guest4, port) }

func TestEcho(t *testing.T) {
	r := start(t, Options{}).connect()
	for _, tt := range []struct {
		server *echo
		source netip.AddrPort
	}{
		{newEcho(t, "127.0.0.1:0"), from4(1000)},
		{newEcho(t, "[::1]:0"), netip.AddrPortFrom(guest6, 1000)},
	} {
		for _, n := range []int{0, 1, 1400, 9000, 60000, wire.MaxDatagram} {
			payload := strings.Repeat("x", n)
			r.udp(tt.source, tt.server.AddrPort, payload)
			r.expect(tt.server.AddrPort, tt.source, payload)
		}
	}
	if flows, sources, sockets := r.counts(); flows != 2 || sources != 2 || sockets != 2 {
		t.Errorf("%d flows of %d sources with %d sockets, want 2 each", flows, sources, sockets)
	}
	// The gate is asked once for a flow that is answered.
	if r.gate.count() != 2 {
		t.Errorf("the gate was asked %d times about 2 flows", r.gate.count())
	}
}

// A source has one port whomever it speaks to, and another source another.
func TestMapping(t *testing.T) {
	r := start(t, Options{}).connect()
	a, b := newEcho(t, "127.0.0.1:0"), newEcho(t, "127.0.0.1:0")
	for _, s := range []*echo{a, b} {
		r.udp(from4(1), s.AddrPort, "x")
		r.expect(s.AddrPort, from4(1), "x")
	}
	r.udp(from4(2), a.AddrPort, "y")
	r.expect(a.AddrPort, from4(2), "y")
	one, same, other := await(t, a.from), await(t, b.from), await(t, a.from)
	if one != same || one == other {
		t.Errorf("source 1 had %v and %v, source 2 %v", one, same, other)
	}
}

// Only peers that the source has spoken to come in.
func TestFiltering(t *testing.T) {
	r := start(t, Options{}).connect()
	server, stranger := newEcho(t, "127.0.0.1:0"), newEcho(t, "127.0.0.1:0")
	r.udp(from4(1), server.AddrPort, "hello")
	r.expect(server.AddrPort, from4(1), "hello")
	ours := await(t, server.from)
	ours = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ours.Port())
	if _, err := stranger.conn.WriteToUDPAddrPort([]byte("let me in"), ours); err != nil {
		t.Fatal(err)
	}
	// Datagrams to one socket stay in order on the loopback.
	if _, err := server.conn.WriteToUDPAddrPort([]byte("after"), ours); err != nil {
		t.Fatal(err)
	}
	r.expect(server.AddrPort, from4(1), "after")
	// Once spoken to, it does.
	r.udp(from4(1), stranger.AddrPort, "who?")
	r.expect(stranger.AddrPort, from4(1), "who?")
	if _, err := stranger.conn.WriteToUDPAddrPort([]byte("me"), ours); err != nil {
		t.Fatal(err)
	}
	r.expect(stranger.AddrPort, from4(1), "me")
}

func TestDenied(t *testing.T) {
	r := start(t, Options{}).connect()
	dst := netip.MustParseAddrPort("127.9.9.9:9")
	r.gate.deny(dst.Addr())
	for range 3 {
		r.udp(from4(5), dst, "x")
		r.expectUnreachable(wire.UnreachableDenied, from4(5), dst)
	}
	if flows, sources, sockets := r.counts(); flows+sources+sockets != 0 {
		t.Errorf("what was denied left %d flows, %d sources, %d sockets", flows, sources, sockets)
	}
}

// A verdict does not outlive its time, unless the peer has answered.
func TestVerdicts(t *testing.T) {
	r := start(t, Options{}).connect()
	silent, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 5)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	dst := silent.LocalAddr().(*net.UDPAddr).AddrPort()
	server := newEcho(t, "127.0.0.1:0")

	r.udp(from4(1), server.AddrPort, "x")
	r.expect(server.AddrPort, from4(1), "x")
	r.udp(from4(1), dst, "x")
	r.settled()
	r.gate.deny(dst.Addr())
	asked := r.gate.count()
	r.clock.pass(verdictTime - 1)
	r.udp(from4(1), dst, "x")
	r.udp(from4(1), server.AddrPort, "y") // in order behind it
	r.expect(server.AddrPort, from4(1), "y")
	if r.gate.count() != asked {
		t.Error("the gate was asked before the verdict's time was over")
	}
	r.clock.pass(1)
	r.udp(from4(1), dst, "x")
	r.expectUnreachable(wire.UnreachableDenied, from4(1), dst)
	if flows, _, _ := r.counts(); flows != 1 {
		t.Errorf("%d flows, want just the one that was answered", flows)
	}
	r.gate.deny(server.Addr())
	r.clock.pass(idleTime - 1)
	r.udp(from4(1), server.AddrPort, "z")
	r.expect(server.AddrPort, from4(1), "z")
}

func TestRefused(t *testing.T) {
	r := start(t, Options{}).connect()
	server := newEcho(t, "127.0.0.1:0")
	for _, tt := range []struct{ source, dst netip.AddrPort }{
		{from4(7), nobody(t, "127.0.0.1")},
		{netip.AddrPortFrom(guest6, 7), nobody(t, "::1")},
	} {
		for range 3 { // the error of one must not swallow the next
			r.udp(tt.source, tt.dst, "anyone?")
			r.expectUnreachable(wire.UnreachablePort, tt.source, tt.dst)
		}
	}
	r.udp(from4(7), server.AddrPort, "you?")
	r.expect(server.AddrPort, from4(7), "you?")
}

// The host's loopback is both 127.0.0.1 and ::1.
func TestHostLoopback(t *testing.T) {
	r := start(t, Options{}).connect()
	server4, server6 := newEcho(t, "127.0.0.1:0"), newEcho(t, "[::1]:0")
	for _, port := range []uint16{server4.Port(), server6.Port()} {
		dst := netip.AddrPortFrom(host4, port)
		for _, s := range []string{"first", "second"} {
			r.udp(from4(3), dst, s)
			r.expect(dst, from4(3), s)
		}
	}
	none := netip.AddrPortFrom(host4, nobody(t, "127.0.0.1").Port())
	r.udp(from4(3), none, "x")
	r.expectUnreachable(wire.UnreachablePort, from4(3), none)
	if _, sources, sockets := r.counts(); sources != 1 || sockets != 2 {
		t.Errorf("%d sources with %d sockets, want 1 with 2", sources, sockets)
	}
}

func TestUnsendable(t *testing.T) {
	r := start(t, Options{}).connect()
	server := newEcho(t, "127.0.0.1:0")
	// Port 0, and an address without a route or with one that nobody has.
	r.udp(from4(1), netip.MustParseAddrPort("127.0.0.1:0"), "x")
	nowhere := netip.MustParseAddrPort("255.255.255.255:9")
	r.udp(from4(1), nowhere, "x") // EACCES, or ENETUNREACH on a host without a network
	if d := r.next(); d.Kind != wire.DatagramUnreachable || d.Destination != nowhere ||
		(d.Code != wire.UnreachableDenied && d.Code != wire.UnreachableNetwork) {
		t.Errorf("got %+v", d)
	}
	r.udp(from4(1), server.AddrPort, "still alive")
	r.expect(server.AddrPort, from4(1), "still alive")
}

func TestIdle(t *testing.T) {
	r := start(t, Options{}).connect()
	server := newEcho(t, "127.0.0.1:0")
	query := netip.MustParseAddrPort("192.0.2.53:53")
	r.gate.elsewhere = map[netip.AddrPort]netip.AddrPort{query: newEcho(t, "127.0.0.1:0").AddrPort}
	exchange := func(src, dst netip.AddrPort) {
		t.Helper()
		r.udp(src, dst, "x")
		r.expect(dst, src, "x")
	}
	expect := func(flows, sources int) {
		t.Helper()
		r.server.nat.expire()
		if f, s, sockets := r.counts(); f != flows || s != sources || sockets != sources {
			t.Errorf("%d flows of %d sources with %d sockets, want %d of %d", f, s, sockets, flows, sources)
		}
	}
	exchange(from4(1), query)           // asks only
	exchange(from4(2), query)           // asks,
	exchange(from4(2), server.AddrPort) // and speaks
	exchange(from4(3), server.AddrPort) // speaks only
	expect(4, 3)
	r.clock.pass(queryTime - 1)
	expect(4, 3)
	r.clock.pass(1)
	expect(2, 2)
	await(t, server.from)
	port := await(t, server.from)
	r.clock.pass(idleTime - queryTime - 1)
	exchange(from4(3), server.AddrPort)
	if p := await(t, server.from); p != port {
		t.Errorf("a source in use changed its port from %v to %v", port, p)
	}
	r.clock.pass(1)
	expect(1, 1)
	// What a peer sends keeps a flow too.
	r.clock.pass(idleTime - 2)
	if _, err := server.conn.WriteToUDPAddrPort([]byte("news"), port); err != nil {
		t.Fatal(err)
	}
	r.expect(server.AddrPort, from4(3), "news")
	r.clock.pass(idleTime - 1)
	expect(1, 1)
	r.clock.pass(1)
	expect(0, 0)
	exchange(from4(3), server.AddrPort)
	expect(1, 1)
}

// sockets is a poller without sockets of the system.
type sockets struct {
	udpio.Poller
	opened, closed int
}

type nothing struct{ sockets *sockets }

func (s *sockets) Open(udpio.Kind, udpio.Handler) (udpio.Socket, error) {
	s.opened++
	return &nothing{s}, nil
}
func (n *nothing) Send([]udpio.Datagram, func(int, error)) {}
func (n *nothing) Close()                                  { n.sockets.closed++ }

func TestBounds(t *testing.T) {
	s := new(sockets)
	c := &clock{now: time.Unix(1e9, 0)}
	n := newNAT(s, wire.NewDatagramQueue(queueLimit), c.time, t.Logf)
	dst := netip.MustParseAddrPort("192.0.2.1:9")
	allow := func(source, peer int) flowKey {
		t.Helper()
		c.pass(time.Millisecond)
		key := flowKey{wire.DatagramUDP, from4(uint16(source)), netip.AddrPortFrom(dst.Addr(), uint16(peer))}
		if f, _ := n.use(key); f == nil {
			if _, to, err := n.allow(key, []netip.AddrPort{key.destination}, nil); err != nil || to.socket == nil {
				t.Fatalf("allow %v: %v", key, err)
			}
		}
		return key
	}
	check := func(flows, sources int) {
		t.Helper()
		if len(n.flows) != flows || len(n.mappings) != sources || n.open != sources || s.opened-s.closed != sources ||
			n.sources.len() != sources || n.usual.len()+n.queries.len() != flows {
			t.Fatalf("%d flows of %d sources with %d sockets (opened %d, closed %d), want %d of %d",
				len(n.flows), len(n.mappings), n.open, s.opened, s.closed, flows, sources)
		}
	}
	first := allow(1, 1)
	second := allow(2, 1)
	for i := 3; i <= maxSockets; i++ {
		allow(i, 1)
	}
	check(maxSockets, maxSockets)
	allow(1, 1) // now the second is idle the longest
	allow(maxSockets+1, 1)
	check(maxSockets, maxSockets)
	if n.flows[first] == nil || n.flows[second] != nil {
		t.Error("it was not the longest idle that made room")
	}
	// One source that speaks to everybody: its own oldest flows, and other
	// sources', make room, not itself.
	for i := range maxFlows {
		allow(1, 2+i)
	}
	check(maxFlows, 1)
	for i := range maxFlows {
		allow(1, 2+maxFlows+i)
	}
	check(maxFlows, 1)
	c.pass(idleTime)
	n.expire()
	check(0, 0)
}

type resolver func(ctx context.Context, query []byte) []byte

func (f resolver) Exchange(ctx context.Context, query []byte) []byte { return f(ctx, query) }

func TestDNS(t *testing.T) {
	r := start(t, Options{DNS: resolver(func(_ context.Context, query []byte) []byte {
		if string(query) == "nothing" {
			return nil
		}
		return append([]byte("re: "), query...)
	})}).connect()
	dst := netip.AddrPortFrom(host4, 53)
	r.udp(from4(1), dst, "nothing")
	r.udp(from4(2), dst, "name")
	r.expect(dst, from4(2), "re: name")
	if flows, sources, n := r.counts(); flows+sources+n != 0 {
		t.Errorf("queries to the resolver left %d flows, %d sources, %d sockets", flows, sources, n)
	}
}

// A resolver that hangs bounds what waits for it, and the server ends anyway.
func TestDNSHangs(t *testing.T) {
	asked := make(chan struct{}, 2*maxQueries)
	r := start(t, Options{DNS: resolver(func(ctx context.Context, _ []byte) []byte {
		asked <- struct{}{}
		<-ctx.Done()
		return nil
	})}).connect()
	for i := range 2 * maxQueries {
		r.udp(from4(uint16(1+i)), netip.AddrPortFrom(host4, 53), "x")
	}
	for range maxQueries {
		await(t, asked)
	}
	r.settled()
	if len(asked) > 0 {
		t.Errorf("more than %d queries are being answered", maxQueries)
	}
	r.stop()
}

// A guest that does not read makes the server drop, not wait.
func TestBackpressure(t *testing.T) {
	r := start(t, Options{}).connect()
	server := newEcho(t, "127.0.0.1:0")
	payload := strings.Repeat("x", 60000)
	queue := r.server.queue
	for queue.Dropped() == 0 {
		r.udp(from4(1), server.AddrPort, payload)
		await(t, server.from)
	}
	if queue.Len() > queueLimit {
		t.Errorf("%d bytes wait, more than %d", queue.Len(), queueLimit)
	}
	// All else goes on: the server still gets what the guest sends.
	r.udp(from4(2), server.AddrPort, "y")
	await(t, server.from)
	// And once the guest reads, so does the guest.
	for {
		r.expect(server.AddrPort, from4(1), payload)
		if queue.Len() == 0 {
			break
		}
	}
	r.stop()
	if log := strings.Join(r.logged(), "\n"); !strings.Contains(log, "datagrams that the guest did not take in time") {
		t.Errorf("the drops were not told: %q", log)
	}
}

// The guest's agent can connect again: its flows are still there.
func TestReconnect(t *testing.T) {
	r := start(t, Options{}).connect()
	server := newEcho(t, "127.0.0.1:0")
	r.udp(from4(1), server.AddrPort, "x")
	r.expect(server.AddrPort, from4(1), "x")
	port := await(t, server.from)
	old := r.conn
	r.conn = nil
	r.connect()
	_ = old.SetReadDeadline(time.Now().Add(patience))
	if _, err := old.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first connection does not end: %v", err)
	}
	old.Close()
	r.udp(from4(1), server.AddrPort, "y")
	r.expect(server.AddrPort, from4(1), "y")
	if p := await(t, server.from); p != port {
		t.Errorf("the source's port changed from %v to %v", port, p)
	}
}

// What a hostile guest sends ends its connection at most.
func TestHostileFrames(t *testing.T) {
	r := start(t, Options{})
	server := newEcho(t, "127.0.0.1:0")
	for _, s := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x01x", strings.Repeat("\x00", 100)} {
		r.connect()
		if _, err := r.conn.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		_ = r.conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := r.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q does not end the connection: %v", s, err)
		}
	}
	r.connect()
	r.send(wire.Datagram{Kind: wire.DatagramUnreachable, Source: from4(1), Destination: server.AddrPort})
	r.send(wire.Datagram{Kind: wire.DatagramPublished, Flow: 77, Source: from4(1), Destination: server.AddrPort})
	r.udp(from4(1), server.AddrPort, "x")
	r.expect(server.AddrPort, from4(1), "x")
}

// 10,000 datagrams from 1,000 sources leave nothing behind.
func TestNothingIsLeft(t *testing.T) {
	server := newEcho(t, "127.0.0.1:0")
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)
	r := start(t, Options{}).connect()
	// As many at a time as surely fit in a socket's buffer.
	const sources, rounds, atOnce = 1000, 10, 50
	for round := range rounds {
		seen := make(map[netip.AddrPort]bool)
		for i := range sources {
			r.udp(from4(uint16(1+i)), server.AddrPort, "0123456789")
			if (i+1)%atOnce != 0 {
				continue
			}
			for range atOnce {
				d := r.next()
				if d.Kind != wire.DatagramUDP || d.Source != server.AddrPort {
					t.Fatalf("round %d: got %+v", round, d)
				}
				seen[d.Destination] = true
			}
		}
		if len(seen) != sources {
			t.Fatalf("round %d: answers for %d sources, want %d", round, len(seen), sources)
		}
	}
	if flows, s, n := r.counts(); flows != sources || s != sources || n != sources {
		t.Errorf("%d flows of %d sources with %d sockets, want %d each", flows, s, n, sources)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 20 {
		t.Errorf("%d goroutines carry %d sources", n, sources)
	}
	r.clock.pass(idleTime)
	r.server.nat.expire()
	if n := openFiles(t) - descriptors; n > 20 {
		t.Errorf("%d descriptors are open after all sources have expired", n)
	}
	r.stop()
	waitFor(t, func() bool { return runtime.NumGoroutine() <= goroutines && openFiles(t) <= descriptors })
}

// waitFor waits for what has no event.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("waited in vain; %d goroutines, %d descriptors:\n%s", runtime.NumGoroutine(), openFiles(t), buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	dir := "/proc/self/fd"
	if runtime.GOOS != "linux" {
		dir = "/dev/fd"
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
