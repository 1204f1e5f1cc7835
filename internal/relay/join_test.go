package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tcpPair is two ends of a TCP connection.
func tcpPair(t testing.TB) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(time.Minute)) // a failure, not a hang
	}
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// A bridge is a client and a server with two joints between them, as in a run:
// client, TCP, joint, stream, joint, TCP, server.
type bridge struct {
	client, server *net.TCPConn
	cancel         context.CancelFunc
	ended          [2]chan error
}

func newBridge(t testing.TB) *bridge {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	client, near := tcpPair(t)
	far, server := tcpPair(t)
	ua, ub := unixPair(t)
	br := &bridge{client: client, server: server, cancel: cancel, ended: [2]chan error{make(chan error, 1), make(chan error, 1)}}
	go func() { br.ended[0] <- Join(ctx, NewStream(ua), near) }()
	go func() { br.ended[1] <- Join(ctx, NewStream(ub), far) }()
	t.Cleanup(cancel)
	return br
}

func (br *bridge) wait() (error, error) { return <-br.ended[0], <-br.ended[1] }

func TestHalfClose(t *testing.T) {
	br := newBridge(t)
	request := bytes.Repeat([]byte("request "), 100_000)
	go func() {
		_, _ = br.client.Write(request)
		_ = br.client.CloseWrite()
	}()
	got, err := io.ReadAll(br.server)
	if err != nil || !bytes.Equal(got, request) {
		t.Fatalf("the server reads %d bytes of %d, %v", len(got), len(request), err)
	}
	_, _ = io.WriteString(br.server, "answer")
	_ = br.server.CloseWrite()
	if got, err := io.ReadAll(br.client); string(got) != "answer" || err != nil {
		t.Errorf("the client reads %q, %v", got, err)
	}
	if a, b := br.wait(); a != nil || b != nil {
		t.Errorf("the joints end with %v and %v", a, b)
	}
}

// A reset comes through, whoever sends it and whatever has ended before.
func TestReset(t *testing.T) {
	for name, do := range map[string]func(*bridge) (reader *net.TCPConn){
		"by the client": func(br *bridge) *net.TCPConn {
			Reset(br.client)
			return br.server
		},
		"by the server": func(br *bridge) *net.TCPConn {
			Reset(br.server)
			return br.client
		},
		"by the server after the client's FIN": func(br *bridge) *net.TCPConn {
			_ = br.client.CloseWrite()
			_, _ = io.ReadAll(br.server)
			Reset(br.server)
			return br.client
		},
		"by the client after the server's FIN": func(br *bridge) *net.TCPConn {
			_ = br.server.CloseWrite()
			_, _ = io.ReadAll(br.client)
			Reset(br.client)
			return br.server
		},
		"by the context": func(br *bridge) *net.TCPConn {
			br.cancel()
			return br.server
		},
	} {
		t.Run(name, func(t *testing.T) {
			br := newBridge(t)
			reader := do(br)
			if _, err := io.ReadAll(reader); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the other end reads %v, not a reset", err)
			}
			if a, b := br.wait(); a == nil || b == nil {
				t.Errorf("the joints end with %v and %v", a, b)
			}
		})
	}
}

// What was sent before a reset arrives in whole or not, but a cut is no end.
func TestResetAfterData(t *testing.T) {
	br := newBridge(t)
	data := bytes.Repeat([]byte("data"), 1<<20)
	go func() {
		_, _ = br.server.Write(data)
		Reset(br.server)
	}()
	got, err := io.ReadAll(br.client)
	if !errors.Is(err, syscall.ECONNRESET) || !bytes.HasPrefix(data, got) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	br.wait()
}

// Connections that are not streams are joined, too.
func TestJoinPlain(t *testing.T) {
	client, near := tcpPair(t)
	far, server := tcpPair(t)
	done := make(chan error, 1)
	go func() { done <- Join(context.Background(), near, far) }()
	_, _ = io.WriteString(client, "ping")
	_ = client.CloseWrite()
	if got, err := io.ReadAll(server); string(got) != "ping" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = io.WriteString(server, "pong")
	_ = server.CloseWrite()
	if got, err := io.ReadAll(client); string(got) != "pong" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// without hides what a connection can do beside being one.
type without struct{ Conn }

func TestJoinWithoutDescriptor(t *testing.T) {
	client, near := tcpPair(t)
	ua, ub := unixPair(t)
	go Join(context.Background(), NewStream(ua), without{near})
	far := NewStream(ub)
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = client.Write(data)
		_ = client.CloseWrite()
	})
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	wg.Wait()
	_ = far.CloseWrite()
	if _, err := io.ReadAll(client); err != nil {
		t.Error(err)
	}
}

// BenchmarkJoin is a bulk transfer across two joints.
func BenchmarkJoin(b *testing.B) {
	br := newBridge(b)
	_ = br.client.SetDeadline(time.Time{})
	_ = br.server.SetDeadline(time.Time{})
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 256<<10)
		for {
			if _, err := br.server.Read(buf); err != nil {
				return
			}
		}
	}()
	for b.Loop() {
		if _, err := br.client.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	_ = br.client.CloseWrite()
	<-done
	_ = br.server.CloseWrite()
	_, _ = io.ReadAll(br.client)
}

// BenchmarkPingPong is a round trip of 64 bytes across two joints.
func BenchmarkPingPong(b *testing.B) {
	br := newBridge(b)
	_ = br.client.SetDeadline(time.Time{})
	_ = br.server.SetDeadline(time.Time{})
	go func() { _, _ = io.Copy(br.server, br.server) }()
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := br.client.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(br.client, buf); err != nil {
			b.Fatal(err)
		}
	}
}
