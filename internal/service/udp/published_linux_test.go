package udp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bake/internal/agent/datagram"
	"bake/internal/wire"
)

func publish(t *testing.T, address string, vmPort uint16) (Published, netip.AddrPort) {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	return Published{Conn: conn, VMPort: vmPort}, conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// agent joins the guest's part to a rig.
func (r *rig) agent() *datagram.Conn {
	r.t.Helper()
	c, err := datagram.Dial(context.Background(), func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", r.path)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// dial makes a client that hears its peer alone.
func dial(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func write(t *testing.T, c *net.UDPConn, payload string) {
	t.Helper()
	if _, err := c.Write([]byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c *net.UDPConn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// Both halves together: clients on the host, servers in the guest, which here
// is the same machine.
func TestPublished(t *testing.T) {
	server4, server6 := newEcho(t, "127.0.0.1:0"), newEcho(t, "[::1]:0")
	p4, at4 := publish(t, "127.0.0.1:0", server4.Port())
	p6, at6 := publish(t, "[::1]:0", server6.Port())
	all, atAll := publish(t, "0.0.0.0:0", server6.Port())
	r := start(t, Options{Published: []Published{p4, p6, all}})
	r.agent()
	for name, to := range map[string]netip.AddrPort{
		"IPv4": at4, "IPv6": at6,
		"another address": netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), atAll.Port()),
	} {
		one, two := dial(t, to), dial(t, to)
		for _, n := range []int{1, 0, 1400, 60000, wire.MaxDatagram} {
			for i, c := range []*net.UDPConn{one, two} {
				payload := strings.Repeat(string(rune('a'+i)), n)
				write(t, c, payload)
				if got := read(t, c); got != payload {
					t.Errorf("%s: %d bytes came back as %d", name, n, len(got))
				}
			}
		}
	}
	seen := make(map[netip.AddrPort]bool)
	for len(server6.from) > 0 {
		seen[<-server6.from] = true
	}
	for len(server4.from) > 0 {
		seen[<-server4.from] = true
	}
	if len(seen) != 6 {
		t.Errorf("the servers saw %d clients, want 6", len(seen))
	}
}

// What comes while the guest boots waits for it.
func TestPublishedBeforeTheGuest(t *testing.T) {
	server := newEcho(t, "127.0.0.1:0")
	p, at := publish(t, "127.0.0.1:0", server.Port())
	r := start(t, Options{Published: []Published{p}})
	c := dial(t, at)
	for i := range 5 {
		write(t, c, fmt.Sprint(i))
	}
	waitFor(t, func() bool { return r.server.queue.Len() > 0 })
	r.agent()
	for i := range 5 {
		if got := read(t, c); got != fmt.Sprint(i) {
			t.Errorf("got %q, want %d", got, i)
		}
	}
}

// The guest can answer clients that it was told of, at their own addresses,
// and nobody else.
func TestPublishedAnswers(t *testing.T) {
	p, at := publish(t, "127.0.0.1:0", 80)
	r := start(t, Options{Published: []Published{p}}).connect()
	c := dial(t, at)
	write(t, c, "question")
	d := r.next()
	client := c.LocalAddr().(*net.UDPAddr).AddrPort()
	if d.Kind != wire.DatagramPublished || d.Source != client || d.Destination != netip.MustParseAddrPort("127.0.0.1:80") || string(d.Payload) != "question" {
		t.Fatalf("the guest was told %+v", d)
	}
	stranger := newEcho(t, "127.0.0.1:0")
	answer := wire.Datagram{Kind: wire.DatagramPublished, Source: d.Destination, Destination: stranger.AddrPort}
	answer.Flow, answer.Payload = d.Flow+1, []byte("nobody's")
	r.send(answer)
	answer.Flow, answer.Payload = d.Flow, []byte("answer")
	r.send(answer)
	if got := read(t, c); got != "answer" {
		t.Errorf("the client got %q", got)
	}
	r.settled()
	if len(stranger.from) > 0 {
		t.Error("the guest chose where its answer went")
	}
	// An idle client is forgotten, and its number not used again.
	r.clock.pass(idleTime)
	r.server.published.expire()
	answer.Payload = []byte("late")
	r.send(answer)
	write(t, c, "again")
	if d2 := r.next(); d2.Flow == d.Flow || string(d2.Payload) != "again" {
		t.Errorf("after the flow %d expired came %+v", d.Flow, d2)
	}
}

func TestPublishedClientsAreBounded(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	queue := wire.NewDatagramQueue(queueLimit)
	p, err := newPublished(nil, queue, c.time, nil)
	if err != nil {
		t.Fatal(err)
	}
	port := &publishedPort{published: p}
	key := func(i int) clientKey { return clientKey{port: port, peer: from4(uint16(i))} }
	for i := range 2 * maxClients {
		p.client(key(i), c.time())
	}
	if len(p.clients) != maxClients || len(p.flows) != maxClients || p.used.len() != maxClients {
		t.Errorf("%d clients with %d flows, want %d", len(p.clients), len(p.flows), maxClients)
	}
	if p.clients[key(0)] != nil || p.clients[key(2*maxClients-1)] == nil {
		t.Error("it was not the longest idle that made room")
	}
	// Numbers that are taken are passed over when they wrap.
	p.next = p.clients[key(maxClients)].flow - 1
	if n := p.client(key(-1), c.time()); n.flow <= p.clients[key(2*maxClients-1)].flow && p.flows[n.flow] != n {
		t.Errorf("the number %d was given twice", n.flow)
	}
}

func TestUnpublishable(t *testing.T) {
	conn, err := net.ListenPacket("unixgram", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ln, err := net.Listen("unix", t.TempDir()+"/l")
	if err != nil {
		t.Fatal(err)
	}
	err = Serve(t.Context(), ln, Options{Gate: new(gate), Published: []Published{{Conn: conn, VMPort: 80}}})
	if err == nil || !strings.Contains(err.Error(), "publish UDP port 80") {
		t.Errorf("Serve with a socket that cannot be published: %v", err)
	}
}
