//go:build linux

package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newLoop is a loop that is closed with the test.
func newLoop(t testing.TB, hold bool) *Loop {
	t.Helper()
	l, err := NewLoop(hold)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// newLoopBridge is a bridge whose joints, the client's and the server's, are
// carried by loops; nil is Join.
func newLoopBridge(t testing.TB, loops [2]*Loop) *bridge {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	client, near := tcpPair(t)
	far, server := tcpPair(t)
	ua, ub := unixPair(t)
	br := &bridge{client: client, server: server, cancel: cancel, ended: [2]chan error{make(chan error, 1), make(chan error, 1)}}
	for i, end := range []struct {
		stream net.Conn
		conn   *net.TCPConn
	}{{ua, near}, {ub, far}} {
		go func() {
			if loops[i] == nil {
				br.ended[i] <- Join(ctx, NewStream(end.stream), end.conn)
			} else {
				br.ended[i] <- loops[i].Join(ctx, NewStream(end.stream), end.conn)
			}
		}()
	}
	t.Cleanup(cancel)
	return br
}

// forEachLoop runs f with every mix of loops and Join.
func forEachLoop(t *testing.T, f func(t *testing.T, bridge func() *bridge)) {
	for name, make := range map[string]func(t *testing.T) [2]*Loop{
		"one loop":        func(t *testing.T) [2]*Loop { l := newLoop(t, false); return [2]*Loop{l, l} },
		"holding loop":    func(t *testing.T) [2]*Loop { return [2]*Loop{newLoop(t, false), newLoop(t, true)} },
		"Join and loop":   func(t *testing.T) [2]*Loop { return [2]*Loop{nil, newLoop(t, false)} },
		"loop, then Join": func(t *testing.T) [2]*Loop { return [2]*Loop{newLoop(t, true), nil} },
	} {
		t.Run(name, func(t *testing.T) {
			loops := make(t)
			f(t, func() *bridge { return newLoopBridge(t, loops) })
		})
	}
}

func TestLoopHalfClose(t *testing.T) {
	forEachLoop(t, func(t *testing.T, newBridge func() *bridge) {
		for _, size := range []int{0, 1, 100, headSize, bufferSize - headSize, bufferSize, 10 << 20} {
			br := newBridge()
			request := bytes.Repeat([]byte("request "), size/8+1)[:size]
			go func() {
				_, _ = br.client.Write(request)
				_ = br.client.CloseWrite()
			}()
			got, err := io.ReadAll(br.server)
			if err != nil || !bytes.Equal(got, request) {
				t.Fatalf("the server reads %d bytes of %d, %v", len(got), len(request), err)
			}
			go func() {
				_, _ = br.server.Write(request)
				_ = br.server.CloseWrite()
			}()
			if got, err := io.ReadAll(br.client); !bytes.Equal(got, request) || err != nil {
				t.Errorf("the client reads %d bytes of %d, %v", len(got), len(request), err)
			}
			if a, b := br.wait(); a != nil || b != nil {
				t.Errorf("the joints end with %v and %v", a, b)
			}
		}
	})
}

func TestLoopCounts(t *testing.T) {
	near, far := newLoop(t, false), newLoop(t, false)
	br := newLoopBridge(t, [2]*Loop{near, far})
	there, back := bytes.Repeat([]byte("there"), 100_000), bytes.Repeat([]byte("back"), 1000)
	go func() {
		_, _ = br.client.Write(there)
		_ = br.client.CloseWrite()
	}()
	if _, err := io.ReadAll(br.server); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = br.server.Write(back)
		_ = br.server.CloseWrite()
	}()
	if _, err := io.ReadAll(br.client); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		loop               *Loop
		toConns, toStreams int
	}{
		"near": {near, len(back), len(there)},
		"far":  {far, len(there), len(back)},
	} {
		if c, s := test.loop.Carried(); c != uint64(test.toConns) || s != uint64(test.toStreams) {
			t.Errorf("%s: %d bytes to connections and %d to streams, want %d and %d", name, c, s, test.toConns, test.toStreams)
		}
	}
}

func TestLoopReset(t *testing.T) {
	forEachLoop(t, func(t *testing.T, newBridge func() *bridge) {
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
			br := newBridge()
			reader := do(br)
			if _, err := io.ReadAll(reader); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: the other end reads %v, not a reset", name, err)
			}
			if a, b := br.wait(); a == nil || b == nil {
				t.Errorf("%s: the joints end with %v and %v", name, a, b)
			}
		}
	})
}

// A client that has said all and is then reset is missed at once, and not only
// when the server's answer finds nobody.
func TestLoopResetOfWhoHasEnded(t *testing.T) {
	l := newLoop(t, false)
	br := newLoopBridge(t, [2]*Loop{l, l})
	_ = br.client.CloseWrite()
	if _, err := io.ReadAll(br.server); err != nil {
		t.Fatal(err)
	}
	Reset(br.client)
	if a, b := br.wait(); a == nil || b == nil {
		t.Errorf("the joints end with %v and %v", a, b)
	}
	if _, err := br.server.Write([]byte("answer")); err == nil {
		t.Error("the server's connection lives on")
	}
}

// A reader that does not read holds up its own connection and no other, and
// nothing is lost when it does.
func TestLoopBackpressure(t *testing.T) {
	l := newLoop(t, true)
	slow := newLoopBridge(t, [2]*Loop{l, l})
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<20)
	sent := make(chan error, 1)
	go func() {
		_, err := slow.client.Write(data)
		sent <- errors.Join(err, slow.client.CloseWrite())
	}()
	if _, err := io.ReadFull(slow.server, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		br := newLoopBridge(t, [2]*Loop{l, l})
		_, _ = io.WriteString(br.client, "ping")
		_ = br.client.CloseWrite()
		if got, err := io.ReadAll(br.server); string(got) != "ping" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
	got, err := io.ReadAll(slow.server)
	if err != nil || !bytes.Equal(got, data[16:]) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data)-16, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestLoopManyAtOnce(t *testing.T) {
	forEachLoop(t, func(t *testing.T, newBridge func() *bridge) {
		var all sync.WaitGroup
		for i := range 50 {
			br := newBridge()
			all.Go(func() { _, _ = io.Copy(br.server, br.server); _ = br.server.CloseWrite() })
			data := bytes.Repeat([]byte{byte(i)}, 1<<(i%20))
			all.Go(func() {
				for part := data; len(part) > 0; {
					n := min(len(part), 1+i*777)
					_, _ = br.client.Write(part[:n])
					part = part[n:]
				}
				_ = br.client.CloseWrite()
			})
			all.Go(func() {
				if got, err := io.ReadAll(br.client); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d: %d bytes of %d, %v", i, len(got), len(data), err)
				}
				if a, b := br.wait(); a != nil || b != nil {
					t.Errorf("%d: the joints end with %v and %v", i, a, b)
				}
			})
		}
		all.Wait()
	})
}

// Close ends what is carried, and afterwards nothing can be.
func TestLoopClose(t *testing.T) {
	l, err := NewLoop(true)
	if err != nil {
		t.Fatal(err)
	}
	br := newLoopBridge(t, [2]*Loop{l, l})
	_, _ = io.WriteString(br.client, "x")
	if _, err := io.ReadFull(br.server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, c := range []net.Conn{br.client, br.server} {
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection ends with %v, not a reset", err)
		}
	}
	if a, b := br.wait(); !errors.Is(a, errLoopClosed) || !errors.Is(b, errLoopClosed) {
		t.Errorf("the joints end with %v and %v", a, b)
	}
	late := newLoopBridge(t, [2]*Loop{l, l})
	if a, b := late.wait(); !errors.Is(a, errLoopClosed) || !errors.Is(b, errLoopClosed) {
		t.Errorf("late joints end with %v and %v", a, b)
	}
	l.Close()
}

// A stream that ends amid a frame, or says more after its end, is a reset.
func TestLoopBrokenStreams(t *testing.T) {
	l := newLoop(t, false)
	for name, say := range map[string]string{
		"nothing":           "",
		"half a length":     "\x00\x00",
		"half a frame":      "\x00\x00\x00\x05ab",
		"frame without FIN": "\x00\x00\x00\x02ab",
		"more after FIN":    "\x00\x00\x00\x02ab\x00\x00\x00\x00\x00",
	} {
		client, near := tcpPair(t)
		ours, peer := unixPair(t)
		done := make(chan error, 1)
		go func() { done <- l.Join(context.Background(), NewStream(ours), near) }()
		_, _ = io.WriteString(peer, say)
		peer.Close()
		if got, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the client reads %q, %v", name, got, err)
		}
		if err := <-done; err == nil {
			t.Errorf("%s: it ends well", name)
		}
	}
}

// What has been read and written before the loop takes over counts.
func TestLoopTakesOver(t *testing.T) {
	l := newLoop(t, false)
	client, near := tcpPair(t)
	ours, peer := unixPair(t)
	_, _ = io.WriteString(peer, "\x00\x00\x00\x05hello\x00\x00\x00\x00")
	s := NewStream(ours)
	if _, err := io.ReadFull(s, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(s, "first")
	go func() { _ = l.Join(context.Background(), s, near) }()
	if got, err := io.ReadAll(client); string(got) != "llo" || err != nil {
		t.Errorf("the client reads %q, %v", got, err)
	}
	_ = client.CloseWrite()
	if got, err := io.ReadAll(peer); string(got) != "\x00\x00\x00\x05first\x00\x00\x00\x00" || err != nil {
		t.Errorf("the peer reads %q, %v", got, err)
	}
}

// Connections without descriptors are carried as well.
func TestLoopWithoutDescriptor(t *testing.T) {
	l := newLoop(t, false)
	client, near := tcpPair(t)
	ua, ub := unixPair(t)
	go func() { _ = l.Join(context.Background(), NewStream(ua), without{near}) }()
	far := NewStream(ub)
	_, _ = io.WriteString(client, "hello")
	_ = client.CloseWrite()
	if got, err := io.ReadAll(far); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = far.CloseWrite()
	if _, err := io.ReadAll(client); err != nil {
		t.Error(err)
	}
}

// Nothing is left of connections that have ended, however they did.
func TestLoopLeavesNothing(t *testing.T) {
	descriptors := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	l := newLoop(t, false)
	before := descriptors()
	for i := range 100 {
		br := newLoopBridge(t, [2]*Loop{l, l})
		fmt.Fprint(br.client, i)
		switch i % 3 {
		case 0:
			_ = br.client.CloseWrite()
			_ = br.server.CloseWrite()
		case 1:
			Reset(br.server)
		case 2:
			br.cancel()
		}
		br.wait()
		br.client.Close()
		br.server.Close()
	}
	if after := descriptors(); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	// What the test looks at is the goroutine's: it ends first.
	l.Close()
	if len(l.free) != len(l.slots) {
		t.Errorf("%d of %d slots are free", len(l.free), len(l.slots))
	}
}

func BenchmarkLoopPingPong(b *testing.B) {
	for _, hold := range []bool{false, true} {
		b.Run(fmt.Sprintf("hold=%v", hold), func(b *testing.B) {
			l := newLoop(b, hold)
			pingPong(b, newLoopBridge(b, [2]*Loop{l, l}))
		})
	}
}

func pingPong(b *testing.B, br *bridge) {
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
