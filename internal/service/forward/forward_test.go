package forward

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"bake/internal/wire"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Port
		err  string
	}{
		{in: "8080:80", want: Port{"127.0.0.1", 8080, 80}},
		{in: "0:80", want: Port{"127.0.0.1", 0, 80}},
		{in: "0.0.0.0:8080:80", want: Port{"0.0.0.0", 8080, 80}},
		{in: "[::1]:8080:80/tcp", want: Port{"::1", 8080, 80}},
		{in: "80", err: "no colon"},
		{in: "80:0", err: "1 to 65535"},
		{in: "65536:80", err: "0 to 65535"},
		{in: "x:80", err: "0 to 65535"},
		{in: "host:80:80", err: "not an IP address"},
		{in: "80:80/udp", err: "udp"},
		{in: "", err: "no colon"},
	} {
		got, err := Parse(tt.in)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Parse(%q): %v, want an error with %q", tt.in, err, tt.err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
	}
}

func TestPortInUseIsAnErrorWithTheCure(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Port{"127.0.0.1", uint16(ln.Addr().(*net.TCPAddr).Port), 80}.Listen()
	if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "choose another") {
		t.Errorf("got %v", err)
	}
}

// socksGuest answers as the agent's SOCKS5 server does: code 0 joins the
// connection to an echo that ends with the peer's half-close.
func socksGuest(t *testing.T, code byte, wantPort uint16) Dial {
	return func(ctx context.Context, port uint32) (net.Conn, error) {
		if port != wire.PortSOCKS {
			t.Errorf("the guest was dialled on port %d", port)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		go func() {
			defer ln.Close()
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			head := make([]byte, 2)
			io.ReadFull(c, head)
			io.ReadFull(c, make([]byte, head[1]))
			c.Write([]byte{5, 0})
			req := make([]byte, 10)
			if _, err := io.ReadFull(c, req); err != nil {
				return
			}
			if !bytes.Equal(req[:8], []byte{5, 1, 0, 1, 127, 0, 0, 1}) || binary.BigEndian.Uint16(req[8:]) != wantPort {
				t.Errorf("the request is % x", req)
			}
			c.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0})
			if code == 0 {
				io.Copy(c, c)
			}
		}()
		return net.Dial("tcp", ln.Addr().String())
	}
}

func serve(t *testing.T, p Port, dial Dial) net.Addr {
	t.Helper()
	ln, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, ln, dial) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr()
}

func TestCarriesBothWaysWithHalfClose(t *testing.T) {
	addr := serve(t, Port{"127.0.0.1", 0, 6379}, socksGuest(t, 0, 6379))
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := bytes.Repeat([]byte("0123456789"), 100_000)
	go func() {
		conn.Write(sent)
		conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(sent), err)
	}
}

func TestRefusedInTheGuestIsAReset(t *testing.T) {
	addr := serve(t, Port{"127.0.0.1", 0, 81}, socksGuest(t, 5, 81))
	conn, err := net.Dial("tcp", addr.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return // it came before connect(2) returned
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a refused connection ended with %v, want a reset", err)
	}
}

func TestWaitsForABootingGuest(t *testing.T) {
	var tries atomic.Int32
	up := socksGuest(t, 0, 80)
	addr := serve(t, Port{"127.0.0.1", 0, 80}, func(ctx context.Context, port uint32) (net.Conn, error) {
		if tries.Add(1) < 3 {
			return nil, errors.New("nobody listens")
		}
		return up(ctx, port)
	})
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("after %d tries: %v", tries.Load(), err)
	}
}
