package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bake/internal/agent/socks"
	"bake/internal/wire"
)

// guard bounds every wait of the tests.
const guard = time.Minute

// startGuest runs the agent's own SOCKS5 server behind a Unix socket, as it is
// behind vsock, and returns how to reach it. The guest's loopback is this
// machine's.
func startGuest(t *testing.T) Dial {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server, err := socks.New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the guest: %v", err)
		}
	})
	return func(ctx context.Context, port uint32) (net.Conn, error) {
		if port != wire.PortSOCKS {
			t.Errorf("the guest was dialled on port %d", port)
		}
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// guestServer answers each connection to a port of the guest with f.
func guestServer(t *testing.T, f func(*net.TCPConn)) uint16 {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	serveGuest(t, ln, f)
	return portOf(ln.Addr())
}

func serveGuest(t *testing.T, ln *net.TCPListener, f func(*net.TCPConn)) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(guard))
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
}

func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// publish serves a port of the guest until the test ends, or cancel.
func publish(t *testing.T, vm uint16, o Options) (addr net.Addr, cancel func()) {
	t.Helper()
	p, err := Listen([]Port{port(TCP, quiet(), 0, 0, vm)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, o) }()
	cancel = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(cancel)
	return p.TCP[0].Addr(), cancel
}

// client connects to a published port. Its reads and writes do not hang.
func client(t *testing.T, addr net.Addr) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(guard))
	return c.(*net.TCPConn)
}

// refused fails the test unless a connection to addr is reset.
func refused(t *testing.T, addr net.Addr) {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return // it came before connect(2) returned
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(guard))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
}

func TestCarriesBothWays(t *testing.T) {
	addr, _ := publish(t, guestServer(t, echo), Options{Dial: startGuest(t)})
	sent := bytes.Repeat([]byte("0123456789"), 200_000)
	c := client(t, addr)
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(sent), err)
	}
}

// Each direction ends alone, whichever is first.
func TestHalfClose(t *testing.T) {
	guest := startGuest(t)
	upper := guestServer(t, func(c *net.TCPConn) {
		all, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("the server reads: %v", err)
		}
		_, _ = c.Write(bytes.ToUpper(all))
	})
	addr, _ := publish(t, upper, Options{Dial: guest})
	c := client(t, addr)
	_, _ = io.WriteString(c, "all of it")
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "ALL OF IT" {
		t.Errorf("%q, %v", got, err)
	}

	heard := make(chan string, 1)
	first := guestServer(t, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		all, err := io.ReadAll(c)
		heard <- fmt.Sprint(string(all), err)
	})
	addr, _ = publish(t, first, Options{Dial: guest})
	c = client(t, addr)
	if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = io.WriteString(c, "still")
	_ = c.CloseWrite()
	if got := <-heard; got != "still<nil>" {
		t.Errorf("the server reads %q", got)
	}
}

// A client that is reset resets the guest's connection, before and after the
// server has ended its own direction, and the other way round.
func TestReset(t *testing.T) {
	guest := startGuest(t)
	for _, ended := range []bool{false, true} {
		got := make(chan error, 1)
		vm := guestServer(t, func(c *net.TCPConn) {
			if ended {
				_ = c.CloseWrite()
			} else {
				_, _ = c.Write([]byte{'x'})
			}
			_, err := io.ReadAll(c)
			got <- err
		})
		addr, _ := publish(t, vm, Options{Dial: guest})
		c := client(t, addr)
		_, _ = c.Write([]byte("half of a"))
		_, _ = c.Read(make([]byte, 1)) // the connection stands
		_ = c.SetLinger(0)
		c.Close()
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("server ended first: %v; a client that is reset ends as %v in the guest", ended, err)
		}

		vm = guestServer(t, func(c *net.TCPConn) {
			if ended {
				_, _ = io.ReadAll(c)
			} else {
				_, _ = c.Read(make([]byte, 1))
			}
			_ = c.SetLinger(0)
		})
		addr, _ = publish(t, vm, Options{Dial: guest})
		c = client(t, addr)
		_, _ = c.Write([]byte("x"))
		if ended {
			_ = c.CloseWrite()
		}
		if b, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client ended first: %v; a server that resets ends as %q, %v", ended, b, err)
		}
	}
}

func TestRefusedInTheGuestIsAReset(t *testing.T) {
	ln, err := net.Listen("tcp4", quiet()+":0")
	if err != nil {
		t.Fatal(err)
	}
	vm := portOf(ln.Addr()) // bound on another address, so free on 127.0.0.1 and not given away
	defer ln.Close()
	var dials atomic.Int32
	guest := startGuest(t)
	started := make(chan struct{})
	close(started)
	for name, dial := range map[string]Dial{
		"nobody listens": func(ctx context.Context, port uint32) (net.Conn, error) {
			dials.Add(1)
			return guest(ctx, port)
		},
		"the guest is gone": func(context.Context, uint32) (net.Conn, error) {
			dials.Add(1)
			return nil, errors.New("gone")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dials.Store(0)
			addr, _ := publish(t, vm, Options{Dial: dial, Started: started})
			refused(t, addr)
			if n := dials.Load(); n != 1 {
				t.Errorf("the guest was dialled %d times", n)
			}
		})
	}
}

// Connections that come while the guest boots wait for the container to start,
// and then for the server in it.
func TestWaitsForABootingGuest(t *testing.T) {
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	vm := portOf(ln.Addr())
	started := make(chan struct{})
	var up atomic.Bool
	var dials, early atomic.Int32
	guest := startGuest(t)
	booting := make(chan struct{})
	var accepted sync.WaitGroup
	accepted.Add(20)
	addr, _ := publish(t, vm, Options{Started: started, accepted: accepted.Done, Dial: func(ctx context.Context, port uint32) (net.Conn, error) {
		select {
		case <-started:
		default:
			t.Error("the guest was dialled before it had started")
		}
		if n := dials.Add(1); n == 3 {
			close(booting)
		}
		if !up.Load() {
			// It is up, but its server is not: a port of the guest on which
			// nobody listens.
			early.Add(1)
			return guestRefusing(), nil
		}
		return guest(ctx, port)
	}})
	var all sync.WaitGroup
	for i := range 20 {
		c := client(t, addr)
		all.Go(func() {
			fmt.Fprint(c, i)
			_ = c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != fmt.Sprint(i) {
				t.Errorf("connection %d: %q, %v", i, got, err)
			}
		})
	}
	serveGuest(t, ln, echo)
	accepted.Wait()
	close(started)
	<-booting
	up.Store(true)
	all.Wait()
	if n := dials.Load() - early.Load(); n != 20 {
		t.Errorf("20 connections made %d to the server", n)
	}
}

// guestRefusing is a connection to a guest that answers as one where nobody
// listens on the port.
func guestRefusing() net.Conn {
	host, guest := net.Pipe()
	go func() {
		defer guest.Close()
		request := make([]byte, 64)
		if _, err := guest.Read(request); err == nil { // all that is written at once
			_, _ = guest.Write([]byte{5, request[2], 5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		}
	}()
	return host
}

// Who waits for a server that does not come is refused in the end.
func TestPatienceEnds(t *testing.T) {
	started := make(chan struct{})
	var accepted sync.WaitGroup
	accepted.Add(2)
	addr, _ := publish(t, 9, Options{Started: started, patience: time.Millisecond, accepted: accepted.Done, Dial: func(context.Context, uint32) (net.Conn, error) {
		return guestRefusing(), nil
	}})
	c := client(t, addr)
	d := client(t, addr)
	accepted.Wait()
	close(started)
	for _, c := range []*net.TCPConn{c, d} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the connection ended with %v, want a reset", err)
		}
	}
}

// The end of the context ends connections whatever they are doing.
func TestCancel(t *testing.T) {
	guest := startGuest(t)
	running := make(chan struct{})
	vm := guestServer(t, func(c *net.TCPConn) {
		close(running)
		_, _ = io.Copy(io.Discard, c)
	})
	open, cancelOpen := publish(t, vm, Options{Dial: guest})
	idle := client(t, open)
	<-running
	cancelOpen()
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an open connection ended with %v, want a reset", err)
	}

	dialling := make(chan struct{})
	stuck, cancelStuck := publish(t, vm, Options{Dial: func(ctx context.Context, _ uint32) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	c := client(t, stuck)
	<-dialling
	cancelStuck()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection under way ended with %v, want a reset", err)
	}

	booting, cancelBooting := publish(t, vm, Options{Dial: guest, Started: make(chan struct{})})
	c = client(t, booting)
	cancelBooting()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that waited ended with %v, want a reset", err)
	}
}

// A server in the guest may listen on ::1 alone.
func TestServerOnIPv6(t *testing.T) {
	ln, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Logf("this machine has no IPv6: %v", err)
		return
	}
	serveGuest(t, ln, echo)
	addr, _ := publish(t, portOf(ln.Addr()), Options{Dial: startGuest(t)})
	c := client(t, addr)
	_, _ = io.WriteString(c, "six")
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "six" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	addr, _ := publish(t, guestServer(t, echo), Options{Dial: startGuest(t)})
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	var all sync.WaitGroup
	for range 100 {
		c := client(t, addr)
		all.Go(func() {
			_, _ = c.Write(data)
			_ = c.CloseWrite()
		})
		all.Go(func() {
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d came back, %v", len(got), len(data), err)
			}
		})
	}
	all.Wait()
}

// What the server reads begins with who the client is.
func TestProxyProtocol(t *testing.T) {
	heard := make(chan string, 1)
	vm := guestServer(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		heard <- string(all)
	})
	guest := startGuest(t)
	for _, version := range []ProxyProtocol{ProxyNone, ProxyV1, ProxyV2} {
		addr, _ := publish(t, vm, Options{Dial: guest, ProxyProtocol: version})
		c := client(t, addr)
		_, _ = io.WriteString(c, "hello")
		_ = c.CloseWrite()
		want := string(version.appendHeader(nil, addrPort(c.LocalAddr()), addrPort(addr))) + "hello"
		if got := <-heard; got != want {
			t.Errorf("v%d: the server reads %q, want %q", version, got, want)
		}
		if version == ProxyV1 && !strings.HasPrefix(want, "PROXY TCP4 127.0.0.1 "+quiet()+" ") {
			t.Errorf("the header is %q", want)
		}
	}
}

// A lack of descriptors passes; a closed listener does not.
func TestPassing(t *testing.T) {
	for err, want := range map[error]bool{
		&net.OpError{Op: "accept", Err: syscall.EMFILE}: true,
		syscall.ECONNABORTED:                            true,
		net.ErrClosed:                                   false,
		syscall.EINVAL:                                  false,
	} {
		if passing(err) != want {
			t.Errorf("%v passes: %v", err, !want)
		}
	}
}
