package socks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bake/internal/relay"
	"bake/internal/socks5"
)

func newServer(t *testing.T) *Server {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serveSOCKS starts a server and returns its address.
func serveSOCKS(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := newServer(t)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// serveTCP answers each connection with f.
func serveTCP(t *testing.T, network, addr string, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// request is a greeting and a CONNECT in one write, as an eager client sends.
func request(command byte, address []byte, port uint16) []byte {
	b := append([]byte{5, 1, 0, 5, command, 0}, address...)
	return binary.BigEndian.AppendUint16(b, port)
}

func ipv4(a, b, c, d byte) []byte { return []byte{1, a, b, c, d} }
func ipv6(s string) []byte        { return append([]byte{4}, netip.MustParseAddr(s).AsSlice()...) }
func name(s string) []byte        { return append([]byte{3, byte(len(s))}, s...) }

// dial sends a request and returns the connection and the reply.
func dial(t *testing.T, server string, request []byte) (*net.TCPConn, byte) {
	t.Helper()
	c, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 2+4)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(head[:3], []byte{5, 0, 5}) || head[4] != 0 {
		t.Fatalf("the server answers %v", head)
	}
	rest := make([]byte, map[byte]int{1: 6, 4: 18}[head[5]])
	if _, err := io.ReadFull(c, rest); err != nil || len(rest) == 0 {
		t.Fatalf("the server answers %v and %v, %v", head, rest, err)
	}
	return c.(*net.TCPConn), head[3]
}

func TestConnect(t *testing.T) {
	server := serveSOCKS(t)
	v4 := serveTCP(t, "tcp4", "127.0.0.1:0", echo)
	v6 := serveTCP(t, "tcp6", "[::1]:0", echo)
	for what, req := range map[string][]byte{
		"IPv4":                request(1, ipv4(127, 0, 0, 1), v4.Port()),
		"IPv6":                request(1, ipv6("::1"), v6.Port()),
		"mapped":              request(1, ipv6("::ffff:127.0.0.1"), v4.Port()),
		"localhost":           request(1, name("localhost"), v4.Port()),
		"LOCALHOST":           request(1, name("LOCALHOST"), v4.Port()),
		"localhost on IPv6":   request(1, name("localhost"), v6.Port()),
		"with data following": append(request(1, ipv4(127, 0, 0, 1), v4.Port()), "early "...),
	} {
		c, reply := dial(t, server, req)
		if reply != 0 {
			t.Errorf("%s: reply %d", what, reply)
			continue
		}
		_, _ = io.WriteString(c, "hello")
		_ = c.CloseWrite()
		got, err := io.ReadAll(c)
		if want := "hello"; err != nil || strings.TrimPrefix(string(got), "early ") != want {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	server := serveSOCKS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused := l.Addr().(*net.TCPAddr).AddrPort().Port()
	l.Close()
	for what, c := range map[string]struct {
		request []byte
		want    socks5.Reply
	}{
		"nobody listens":     {request(1, ipv4(127, 0, 0, 1), unused), socks5.ReplyRefused},
		"another network":    {request(1, ipv4(192, 0, 2, 1), 80), socks5.ReplyNotAllowed},
		"any address":        {request(1, ipv4(0, 0, 0, 0), 80), socks5.ReplyNotAllowed},
		"another IPv6":       {request(1, ipv6("2001:db8::1"), 80), socks5.ReplyNotAllowed},
		"another mapped":     {request(1, ipv6("::ffff:10.0.0.1"), 80), socks5.ReplyNotAllowed},
		"a name":             {request(1, name("example.org"), 80), socks5.ReplyNotAllowed},
		"no name":            {request(1, name(""), 80), socks5.ReplyNotAllowed},
		"almost":             {request(1, name("localhost\x00"), 80), socks5.ReplyNotAllowed},
		"BIND":               {request(2, ipv4(127, 0, 0, 1), 80), socks5.ReplyCommand},
		"UDP ASSOCIATE":      {request(3, ipv4(127, 0, 0, 1), 80), socks5.ReplyCommand},
		"unknown address":    {request(1, []byte{9}, 80), socks5.ReplyAddressType},
		"version 4 in there": {[]byte{5, 1, 0, 4, 1, 0, 1, 127, 0, 0, 1, 0, 80}, socks5.ReplyFailure},
	} {
		conn, got := dial(t, server, c.request)
		if got != byte(c.want) {
			t.Errorf("%s: reply %d, want %d", what, got, c.want)
		}
		if b, err := io.ReadAll(conn); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: after the reply comes %q, %v", what, b, err)
		}
	}
}

func TestGreetings(t *testing.T) {
	server := serveSOCKS(t)
	for what, c := range map[string]struct{ say, want string }{
		"version 4":          {"\x04\x01", ""},
		"HTTP":               {"GET / HTTP/1.1\r\n\r\n", ""},
		"password only":      {"\x05\x01\x02", "\x05\xff"},
		"no method":          {"\x05\x00", "\x05\xff"},
		"none among several": {"\x05\x03\x02\x01\x00", "\x05\x00"},
	} {
		conn, err := net.Dial("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, c.say)
		_ = conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(conn)
		if string(got) != c.want || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		conn.Close()
	}
}

// Each direction ends alone.
func TestHalfClose(t *testing.T) {
	server := serveSOCKS(t)
	addr := serveTCP(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		all, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		_, _ = c.Write(bytes.ToUpper(all))
	})
	c, _ := dial(t, server, request(1, ipv4(127, 0, 0, 1), addr.Port()))
	_, _ = io.WriteString(c, "all of it")
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "ALL OF IT" {
		t.Errorf("%q, %v", got, err)
	}

	sent := make(chan string, 1)
	addr = serveTCP(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		_ = c.CloseWrite()
		all, _ := io.ReadAll(c)
		sent <- string(all)
	})
	c, _ = dial(t, server, request(1, ipv4(127, 0, 0, 1), addr.Port()))
	if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = io.WriteString(c, "still")
	_ = c.CloseWrite()
	if got := <-sent; got != "still" {
		t.Errorf("the server reads %q", got)
	}
}

// The host's own client gets a stream that tells ends from resets.
func TestStream(t *testing.T) {
	server := serveSOCKS(t)
	connect := func(to netip.AddrPort) (*relay.Stream, error) {
		c, err := net.Dial("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		return socks5.ConnectStream(context.Background(), c, socks5.Address{AddrPort: to})
	}
	s, err := connect(serveTCP(t, "tcp4", "127.0.0.1:0", echo))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, _ = io.WriteString(s, "hello")
	_ = s.CloseWrite()
	if got, err := io.ReadAll(s); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}

	s, err = connect(serveTCP(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1)) // or connecting itself may fail
		_ = c.SetLinger(0)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, _ = io.WriteString(s, "x")
	if _, err := io.ReadAll(s); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %v", err)
	}
	if _, err := connect(netip.MustParseAddrPort("192.0.2.1:80")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("another network: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	server := serveSOCKS(t)
	addr := serveTCP(t, "tcp4", "127.0.0.1:0", echo)
	data := bytes.Repeat([]byte("0123456789"), 20_000)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			c, reply := dial(t, server, request(1, ipv4(127, 0, 0, 1), addr.Port()))
			if reply != 0 {
				t.Errorf("reply %d", reply)
				return
			}
			go func() {
				_, _ = c.Write(data)
				_ = c.CloseWrite()
			}()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d came back, %v", len(got), len(data), err)
			}
		})
	}
	all.Wait()
}

// The end of the context ends connections that are idle.
func TestServeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := serveTCP(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := newServer(t)
	go func() { done <- server.Serve(ctx, l) }()
	idle, _ := dial(t, l.Addr().String(), request(1, ipv4(127, 0, 0, 1), addr.Port()))
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives on")
	}
}

func TestServeReportsItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := newServer(t).Serve(context.Background(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, r := range [][]byte{ipv4(127, 0, 0, 1), ipv6("::1"), name("localhost"), name("x.org"), {9}} {
		f.Add(request(1, r, 80)[3:])
	}
	f.Add([]byte{5, 1, 0, 3, 255, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		addrs, err := readRequest(r)
		if err != nil {
			return
		}
		for _, a := range addrs {
			if !a.Addr().IsLoopback() {
				t.Errorf("%x leads to %v", b, a)
			}
		}
		if used := len(b) - r.Len(); used > 4+1+255+2 {
			t.Errorf("%x: %d bytes are read", b, used)
		}
	})
}
