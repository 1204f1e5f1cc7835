package socks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"bake/internal/policy"
	"bake/internal/relay"
	"bake/internal/service/egress"
	"bake/internal/socks5"
	"bake/internal/wire"
)

// open is a policy that lets the test's servers on the loopback be reached.
type open struct{}

func (open) Check(_ policy.Proto, dst netip.AddrPort) error {
	if !dst.Addr().IsLoopback() {
		return &policy.Denied{What: dst.String(), Why: "the test says so"}
	}
	return nil
}
func (open) CheckHost(policy.Proto, uint16) error             { return nil }
func (open) CheckName(string) error                           { return nil }
func (open) CheckNamePort(policy.Proto, string, uint16) error { return nil }
func (open) Disabled() bool                                   { return false }

// A host is a server as a guest sees it.
type host struct {
	t    testing.TB
	path string
	gate *egress.Gate
}

// serveHost serves as the host does, on a Unix socket.
func serveHost(t testing.TB, gate Gate, dns StreamResolver) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "socks")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, path: filepath.Join(dir, "s_10")}
	if gate == nil {
		h.gate = egress.New(egress.Options{Network: wire.DefaultNetwork(true), Policy: open{}})
		gate = h.gate
	}
	l, err := net.Listen("unix", h.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, gate, dns) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		os.RemoveAll(dir)
	})
	return h
}

// dial is what the vsock device does when the guest connects.
func (h *host) dial() *net.UnixConn {
	h.t.Helper()
	for {
		c, err := net.Dial("unix", h.path)
		if errors.Is(err, syscall.EAGAIN) { // its backlog is full
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			h.t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute)) // a failure, not a hang
		return c.(*net.UnixConn)
	}
}

func (h *host) connect(to netip.AddrPort) (*relay.Stream, error) {
	return socks5.ConnectStream(context.Background(), h.dial(), socks5.Address{AddrPort: to})
}

func (h *host) mustConnect(to netip.AddrPort) *relay.Stream {
	h.t.Helper()
	s, err := h.connect(to)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { s.Close() })
	return s
}

func serveTCP(t testing.TB, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = relay.Serve(ctx, l, 1<<14, func(_ context.Context, c net.Conn) { f(c.(*net.TCPConn)) })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

func TestHalfClose(t *testing.T) {
	h := serveHost(t, nil, nil)
	s := h.mustConnect(serveTCP(t, echo))
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	go func() {
		_, _ = s.Write(data)
		_ = s.CloseWrite()
	}()
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}

	sent := make(chan string, 1)
	s = h.mustConnect(serveTCP(t, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		all, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		sent <- string(all)
	}))
	if got, err := io.ReadAll(s); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = io.WriteString(s, "still")
	_ = s.CloseWrite()
	if got := <-sent; got != "still" {
		t.Errorf("the server reads %q", got)
	}
}

func TestResets(t *testing.T) {
	h := serveHost(t, nil, nil)
	// From the outside.
	s := h.mustConnect(serveTCP(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1)) // or connecting itself may fail
		_, _ = c.Write([]byte("half of it"))
		relay.Reset(c)
	}))
	_, _ = io.WriteString(s, "x")
	if _, err := io.ReadAll(s); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the guest reads %v", err)
	}
	// From the outside, after the guest has ended.
	s = h.mustConnect(serveTCP(t, func(c *net.TCPConn) {
		_, _ = io.ReadAll(c)
		relay.Reset(c)
	}))
	_ = s.CloseWrite()
	if _, err := io.ReadAll(s); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the guest reads %v", err)
	}
	// From the guest, before and after the outside has ended.
	read := make(chan error, 1)
	for _, ended := range []bool{false, true} {
		s = h.mustConnect(serveTCP(t, func(c *net.TCPConn) {
			if ended {
				_ = c.CloseWrite()
			}
			_, err := io.ReadAll(c)
			read <- err
		}))
		if ended {
			_, _ = io.ReadAll(s)
		}
		_, _ = io.WriteString(s, "half of it")
		s.Close()
		if err := <-read; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("ended %v: the server reads %v", ended, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	h := serveHost(t, nil, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	if _, err := h.connect(unused); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := h.connect(netip.MustParseAddrPort("203.0.113.9:80")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("denied: %v", err)
	}
	if _, err := socks5.ConnectStream(t.Context(), h.dial(), socks5.Address{Name: "example.com"}); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a name: %v", err)
	}
	if n := h.gate.Denials(); n != 2 {
		t.Errorf("%d denials, want 2", n)
	}
	for in, want := range map[string]string{
		"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50": "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00",
		"\x05\x01\x80\x05\x01\x00\x09":                         "\x05\x80\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00",
		"\x05\x01\x02":                                         "\x05\xff",
		"\x04\x01":                                             "",
		"GET / HTTP/1.1\r\n\r\n":                               "",
		"\x05\x01\x00\x05":                                     "\x05\x00",
	} {
		c := h.dial()
		_, _ = io.WriteString(c, in)
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != want || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q is answered with %q, %v; want %q", in, got, err, want)
		}
		c.Close()
	}
}

// A client that knows no streams is served, too.
func TestPlain(t *testing.T) {
	h := serveHost(t, nil, nil)
	server := serveTCP(t, echo)
	c := h.dial()
	defer c.Close()
	if err := socks5.Connect(t.Context(), c, socks5.Address{AddrPort: server}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "hello")
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

type resolver func(context.Context, net.Conn)

func (r resolver) ServeStream(ctx context.Context, conn net.Conn) { r(ctx, conn) }

func TestResolver(t *testing.T) {
	for what, end := range map[string]func(net.Conn){
		"it returns": func(net.Conn) {},
		"it closes":  func(c net.Conn) { c.Close() },
	} {
		h := serveHost(t, nil, resolver(func(_ context.Context, c net.Conn) {
			b := make([]byte, 5)
			_, _ = io.ReadFull(c, b)
			_, _ = c.Write(bytes.ToUpper(b))
			end(c)
		}))
		s := h.mustConnect(netip.MustParseAddrPort("198.18.0.2:53"))
		_, _ = io.WriteString(s, "query")
		if got, err := io.ReadAll(s); string(got) != "QUERY" || err != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

// dialling is a gate that connects to nothing, as long as it is let.
type dialling chan struct{}

func (dialling) IsResolver(netip.AddrPort) bool { return false }

func (d dialling) DialTCP(ctx context.Context, _ socks5.Address) (relay.Conn, error) {
	d <- struct{}{}
	<-ctx.Done()
	d <- struct{}{}
	return nil, ctx.Err()
}

// Who gives up while the host dials ends that; who has only ended its own
// direction, or sent data already, does not.
func TestGivesUp(t *testing.T) {
	gate := make(dialling)
	h := serveHost(t, gate, nil)
	c := h.dial()
	_, _ = io.WriteString(c, "\x05\x01\x80\x05\x01\x00\x01\xcb\x00\x71\x09\x00\x50"+"\x00\x00\x00\x05early")
	<-gate
	_ = c.CloseWrite()
	select {
	case <-gate:
		t.Error("a half-close ends the dialling")
	case <-time.After(50 * time.Millisecond):
	}
	c.Close()
	<-gate
}

// Who does not say what it wants is not waited for.
func TestSilentClient(t *testing.T) {
	ours, theirs := net.Pipe()
	s := server{requestTime: time.Millisecond}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve(t.Context(), theirs)
	}()
	<-done
	ours.Close()
}

// The end of Serve ends what is under way, with a reset and not an end.
func TestServeEnds(t *testing.T) {
	read := make(chan error, 1)
	server := serveTCP(t, func(c *net.TCPConn) {
		_, err := io.ReadAll(c)
		read <- err
	})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	gate := egress.New(egress.Options{Network: wire.DefaultNetwork(true), Policy: open{}})
	go func() { ended <- Serve(ctx, l, gate, nil) }()
	s := (&host{t: t, path: path}).mustConnect(server)
	silent := (&host{t: t, path: path}).dial()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the guest reads %v", err)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a client that has said nothing is still there")
	}
	if err := <-read; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server reads %v", err)
	}
	l.Close()
	if err := Serve(t.Context(), l, gate, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	h := serveHost(t, nil, nil)
	server := serveTCP(t, echo)
	before := use(t)
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			s, err := h.connect(server)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			_, _ = io.WriteString(s, "hello")
			_ = s.CloseWrite()
			if got, err := io.ReadAll(s); string(got) != "hello" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	all.Wait()
	before.isLeft(t)
}

// Ten thousand connections, of every kind of end, leave nothing behind.
func TestManyInSequence(t *testing.T) {
	h := serveHost(t, nil, nil)
	server := serveTCP(t, echo)
	reset := serveTCP(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1)) // or connecting itself may fail
		relay.Reset(c)
	})
	before := use(t)
	for i := range 10_000 {
		switch i % 4 {
		case 0: // a reset by the guest
			s, err := h.connect(server)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
		case 1: // a reset by the outside
			s, err := h.connect(reset)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(s, "x")
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			s.Close()
		case 2: // a denial
			if _, err := h.connect(netip.MustParseAddrPort("203.0.113.9:80")); !errors.Is(err, syscall.EPERM) {
				t.Fatal(err)
			}
		case 3:
			s, err := h.connect(server)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(s, "hello")
			_ = s.CloseWrite()
			if got, err := io.ReadAll(s); string(got) != "hello" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			s.Close()
		}
	}
	before.isLeft(t)
}
