package udpio

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is far beyond what anything here takes.
const patience = 60 * time.Second

// pollers are this system's and the one that works everywhere.
var pollers = map[string]func() (Poller, error){
	"best":  New,
	"plain": func() (Poller, error) { return newPlain(), nil },
}

// forEach runs a test with each poller, which runs until the test ends.
func forEach(t *testing.T, f func(*testing.T, Poller)) {
	for name, open := range pollers {
		t.Run(name, func(t *testing.T) {
			p, err := open()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Errorf("run the poller: %v", err)
				}
			}()
			f(t, p)
		})
	}
}

// events is a handler that passes on copies.
type events struct {
	received chan Datagram
	failed   chan icmpError
}

type icmpError struct {
	peer   netip.AddrPort
	errno  syscall.Errno
	quoted []byte
}

func newEvents() *events {
	return &events{received: make(chan Datagram, 1000), failed: make(chan icmpError, 1000)}
}

func (e *events) Received(batch []Datagram) {
	for _, d := range batch {
		d.Payload = bytes.Clone(d.Payload)
		e.received <- d
	}
}

func (e *events) Failed(peer netip.AddrPort, errno syscall.Errno, quoted []byte) {
	e.failed <- icmpError{peer, errno, bytes.Clone(quoted)}
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

func noFailure(t *testing.T) func(int, error) {
	return func(i int, err error) { t.Errorf("send datagram %d: %v", i, err) }
}

// echoServer answers on an address until the test ends.
func echoServer(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	udp := conn.(*net.UDPConn)
	_ = udp.SetReadBuffer(4 << 20)
	var done sync.WaitGroup
	t.Cleanup(func() { conn.Close(); done.Wait() })
	done.Go(func() {
		buf := make([]byte, MaxPayload)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestEcho(t *testing.T) {
	servers := []netip.AddrPort{echoServer(t, "127.0.0.1:0"), echoServer(t, "[::1]:0")}
	forEach(t, func(t *testing.T, p Poller) {
		for _, server := range servers {
			for _, connected := range []bool{false, true} {
				h := newEvents()
				open := func() (Socket, error) { return p.Open(UDP(server.Addr()), h) }
				if connected {
					open = func() (Socket, error) { return p.Connect(server, h) }
				}
				s, err := open()
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{0, 1, 1400, 9000, 60000, 65507} {
					payload := bytes.Repeat([]byte{byte(n)}, n)
					s.Send([]Datagram{{Peer: server, Payload: payload}}, noFailure(t))
					got := await(t, h.received)
					if got.Peer != server || !bytes.Equal(got.Payload, payload) {
						t.Errorf("%d bytes came back as %d from %v, want from %v", n, len(got.Payload), got.Peer, server)
					}
				}
				s.Close()
			}
		}
	})
}

// More than one system call takes, to peers that differ.
func TestSendMany(t *testing.T) {
	servers := []netip.AddrPort{echoServer(t, "127.0.0.1:0"), echoServer(t, "127.0.0.1:0")}
	forEach(t, func(t *testing.T, p Poller) {
		h := newEvents()
		s, err := p.Open(UDP4, h)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var batch []Datagram
		for i := range 100 {
			batch = append(batch, Datagram{Peer: servers[i%2], Payload: []byte{byte(i)}})
		}
		s.Send(batch, noFailure(t))
		seen := make(map[byte]netip.AddrPort)
		for range batch {
			d := await(t, h.received)
			seen[d.Payload[0]] = d.Peer
		}
		for i, d := range batch {
			if seen[byte(i)] != d.Peer {
				t.Errorf("datagram %d came back from %v, want %v", i, seen[byte(i)], d.Peer)
			}
		}
	})
}

// freePort is an address where nobody listens, and until the test ends nobody will:
// the socket that has it hears one peer alone, which is none.
func freePort(t *testing.T, ip string) netip.AddrPort {
	t.Helper()
	local := &net.UDPAddr{IP: net.ParseIP(ip)}
	conn, err := net.DialUDP("udp", local, &net.UDPAddr{IP: local.IP, Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestRefused(t *testing.T) {
	forEach(t, func(t *testing.T, p Poller) {
		for _, ip := range []string{"127.0.0.1", "::1"} {
			peer := freePort(t, ip)
			h := newEvents()
			s, err := p.Connect(peer, h)
			if err != nil {
				t.Fatal(err)
			}
			s.Send([]Datagram{{Payload: []byte("anyone?")}}, noFailure(t))
			if f := await(t, h.failed); f.peer != peer || f.errno != syscall.ECONNREFUSED {
				t.Errorf("%v: %v, want it refused", f.peer, f.errno)
			}
			s.Close()
		}
	})
}

// An answer comes from the address that the client spoke to.
func TestAdopt(t *testing.T) {
	forEach(t, func(t *testing.T, p Poller) {
		for _, tt := range []struct{ listen, client, to string }{
			{"127.0.0.1", "udp4", "127.0.0.1"},
			{"::1", "udp6", "::1"},
			{"0.0.0.0", "udp4", "127.0.0.1"},
			{"0.0.0.0", "udp4", "127.0.0.2"},
			{"", "udp4", "127.0.0.3"}, // both families
			{"", "udp6", "::1"},
		} {
			if _, best := p.(*plain); best && (tt.to == "127.0.0.2" || tt.to == "127.0.0.3") {
				continue // documented: only Linux chooses the address
			}
			listen, err := net.ListenPacket("udp", net.JoinHostPort(tt.listen, "0"))
			if err != nil {
				t.Fatal(err)
			}
			h := newEvents()
			s, err := p.Adopt(listen, h)
			if err != nil {
				t.Fatal(err)
			}
			to := &net.UDPAddr{IP: net.ParseIP(tt.to), Port: listen.LocalAddr().(*net.UDPAddr).Port}
			// Connected: it hears nothing from another address.
			client, err := net.DialUDP(tt.client, nil, to)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Write([]byte("question")); err != nil {
				t.Fatal(err)
			}
			d := await(t, h.received)
			if want := client.LocalAddr().(*net.UDPAddr).AddrPort(); d.Peer != want || string(d.Payload) != "question" {
				t.Errorf("%+v: got %q from %v, want it from %v", tt, d.Payload, d.Peer, want)
			}
			s.Send([]Datagram{{Peer: d.Peer, Local: d.Local, Payload: []byte("answer")}}, noFailure(t))
			_ = client.SetReadDeadline(time.Now().Add(patience))
			buf := make([]byte, 100)
			if n, err := client.Read(buf); err != nil || string(buf[:n]) != "answer" {
				t.Errorf("%+v: the client got %q, %v", tt, buf[:n], err)
			}
			client.Close()
			s.Close()
			s.Close()
			// The owner's socket is as it was.
			_ = listen.SetReadDeadline(time.Time{})
			if _, err := listen.WriteTo([]byte("x"), listen.LocalAddr()); err != nil && tt.listen != "" && tt.listen != "0.0.0.0" {
				t.Errorf("%+v: the owner's socket after the adopted one was closed: %v", tt, err)
			}
			listen.Close()
		}
		if _, err := p.Adopt(unixConn(t), newEvents()); err == nil {
			t.Error("a Unix socket was adopted")
		}
	})
}

func unixConn(t *testing.T) net.PacketConn {
	c, err := net.ListenPacket("unixgram", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Sockets are opened, used and closed at once from many goroutines, and
// nothing of them is left.
func TestCloseWhileInUse(t *testing.T) {
	server := echoServer(t, "127.0.0.1:0")
	before := descriptors(t)
	forEach(t, func(t *testing.T, p Poller) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 100 {
					h := newEvents()
					s, err := p.Open(UDP4, h)
					if err != nil {
						t.Error(err)
						return
					}
					var closing sync.WaitGroup
					closing.Go(s.Close)
					s.Send([]Datagram{{Peer: server, Payload: []byte("x")}}, func(_ int, err error) {
						if !errors.Is(err, os.ErrClosed) && !errors.Is(err, net.ErrClosed) {
							t.Errorf("send on a socket that is being closed: %v", err)
						}
					})
					closing.Wait()
				}
			})
		}
		all.Wait()
	})
	if after := descriptors(t); after > before+2 { // Go's own poller opens some
		t.Errorf("%d descriptors were open before and %d are after", before, after)
	}
}

func TestAfterEnd(t *testing.T) {
	for name, open := range pollers {
		p, err := open()
		if err != nil {
			t.Fatal(err)
		}
		h := newEvents()
		s, err := p.Open(UDP4, h)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Run(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Open(UDP4, h); err == nil {
			t.Errorf("%s: a socket was opened after the end", name)
		}
		failures := 0
		s.Send([]Datagram{{Peer: netip.MustParseAddrPort("127.0.0.1:9")}}, func(int, error) { failures++ })
		if failures != 1 {
			t.Errorf("%s: a datagram was sent after the end", name)
		}
		s.Close()
	}
}

func descriptors(t *testing.T) int {
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
