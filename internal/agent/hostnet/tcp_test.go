//go:build linux

package hostnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	server4 = netip.MustParseAddrPort("203.0.113.7:80")
	server6 = netip.MustParseAddrPort("[2001:db8::7]:80")
	servers = []netip.AddrPort{server4, server6}
)

func TestConnectFailsAsOnTheHost(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		for _, c := range []struct{ host, guest error }{
			{syscall.ECONNREFUSED, syscall.ECONNREFUSED},
			{syscall.ENETUNREACH, syscall.ENETUNREACH},
			{syscall.EHOSTUNREACH, syscall.EHOSTUNREACH},
			{syscall.EPERM, syscall.EHOSTUNREACH},
			{errors.New("what no errno says"), syscall.EHOSTUNREACH},
		} {
			for _, to := range servers {
				if _, pipe := r.guest.(*pipeGuest); pipe && to == server6 && c.guest == syscall.EHOSTUNREACH {
					continue // netstack does not know this code of ICMPv6
				}
				before := r.host.dialled()
				r.host.onConnect(func(_ context.Context, got netip.AddrPort, _ *stream) error {
					if got != to {
						t.Errorf("the host is asked for %v, not %v", got, to)
					}
					return fmt.Errorf("connect: %w", c.host)
				})
				conn, err := r.DialTCP(to)
				if err == nil {
					conn.Close()
				}
				if errnoOf(err) != c.guest {
					t.Errorf("%v: the host has %v, the guest %v, not %v", to, c.host, err, c.guest)
				}
				if r.host.dialled() == before {
					t.Errorf("%v: %v: the host was not asked", to, c.host)
				}
			}
		}
	})
}

func TestHandshakeWaitsForTheHost(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		asked, answer := make(chan struct{}, 10), make(chan struct{})
		r.host.onConnect(func(_ context.Context, _ netip.AddrPort, s *stream) error {
			asked <- struct{}{}
			<-answer
			r.host.serving.Go(func() { defer s.Close(); _ = s.CloseWrite(); _, _ = io.Copy(io.Discard, s) })
			return nil
		})
		connected := make(chan error, 1)
		go func() {
			conn, err := r.DialTCP(server4)
			if err == nil {
				conn.Close()
			}
			connected <- err
		}()
		<-asked
		// The guest sends its SYN again, and that asks nobody again.
		first := lastSYN(r)
		eventually(t, "the guest sends its SYN again", func() bool { return lastSYN(r).After(first) })
		select {
		case err := <-connected:
			t.Fatalf("the guest is connected before the host: %v", err)
		default:
		}
		close(answer)
		if err := <-connected; err != nil {
			t.Fatal(err)
		}
		if n := r.host.dialled(); n != 1 {
			t.Errorf("the host was asked %d times", n)
		}
	})
}

func lastSYN(r *rig) (last time.Time) {
	r.h.tcp.mu.Lock()
	defer r.h.tcp.mu.Unlock()
	for _, a := range r.h.tcp.attempts {
		last = a.last
	}
	return last
}

func TestHostIsToldWhenTheGuestGivesUp(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		patience := func(d time.Duration) {
			r.h.tcp.mu.Lock()
			defer r.h.tcp.mu.Unlock()
			r.h.tcp.patience = d
		}
		patience(0) // the guest says nothing more for as long as it did
		ended := make(chan struct{}, 1000)
		r.host.onConnect(func(ctx context.Context, _ netip.AddrPort, _ *stream) error {
			<-ctx.Done()
			ended <- struct{}{}
			return ctx.Err()
		})
		var dialling sync.WaitGroup
		dialling.Go(func() {
			if conn, err := r.DialTCP(server4); err == nil {
				conn.Close()
			}
		})
		select {
		case <-ended:
		case <-time.After(limit):
			t.Error("the host still connects")
		}
		patience(limit)
		r.host.onConnect(func(context.Context, netip.AddrPort, *stream) error { return syscall.ECONNREFUSED })
		dialling.Wait()
		eventually(t, "the attempt is forgotten", func() bool { return lastSYN(r).IsZero() })
	})
}

func TestSilenceIsPassedOn(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		asked := make(chan struct{}, 100)
		r.host.onConnect(func(context.Context, netip.AddrPort, *stream) error {
			asked <- struct{}{}
			if len(asked) > 1 {
				return syscall.ECONNREFUSED
			}
			return syscall.ETIMEDOUT
		})
		// Only the second SYN, after a second, gets an answer.
		if conn, err := r.DialTCP(server4); errnoOf(err) != syscall.ECONNREFUSED {
			t.Errorf("connected to %v, %v", conn, err)
		}
		if len(asked) != 2 {
			t.Errorf("the host was asked %d times", len(asked))
		}
	})
}

// blob is data whose loss or doubling shows.
func blob(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestDataBothWaysAndHalfClose(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		there, back := blob(5<<20), blob(3<<20+1)
		// The host answers when it has all, and the guest reads after its own FIN.
		r.host.serve(func(s *stream) {
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, there) {
				t.Errorf("the host reads %d bytes, %v", len(got), err)
			}
			if _, err := s.Write(back); err != nil {
				t.Error(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Error(err)
			}
			if n, err := s.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after its FIN the guest sends %d, %v", n, err)
			}
		})
		for _, to := range servers {
			conn := dial(t, r, to)
			if _, err := conn.Write(there); err != nil {
				t.Error(err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, back) {
				t.Errorf("the guest reads %d bytes, %v", len(got), err)
			}
			conn.Close()
		}
		// The other way round: the host ends first.
		r.host.serve(func(s *stream) {
			if _, err := s.Write(back); err != nil {
				t.Error(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, there) {
				t.Errorf("the host reads %d bytes, %v", len(got), err)
			}
		})
		conn := dial(t, r, server4)
		defer conn.Close()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, back) {
			t.Errorf("the guest reads %d bytes, %v", len(got), err)
		}
		if _, err := conn.Write(there); err != nil {
			t.Error(err)
		}
		conn.Close()
		r.host.serving.Wait()
	})
}

func dial(t *testing.T, r *rig, to netip.AddrPort) tcpConn {
	t.Helper()
	conn, err := r.DialTCP(to)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	return conn
}

// Both directions are full at once, and neither end reads before it has
// written all.
func TestBothDirectionsAtOnce(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		data := blob(8 << 20)
		both := func(name string, c interface {
			io.ReadWriter
			CloseWrite() error
		}) {
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := c.Write(data); err != nil {
					t.Errorf("%s writes: %v", name, err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s reads %d bytes, %v", name, len(got), err)
			}
			wg.Wait()
		}
		r.host.serve(func(s *stream) { both("the host", s) })
		conn := dial(t, r, server4)
		defer conn.Close()
		both("the guest", conn)
		r.host.serving.Wait()
	})
}

// A connection whose data nobody takes must not keep the other direction.
func TestOneDirectionStands(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		full, drained := make(chan struct{}), make(chan struct{})
		data := blob(4 << 20)
		r.host.serve(func(s *stream) {
			<-full
			if _, err := s.Write(data); err != nil { // the guest reads this
				t.Error(err)
			}
			<-drained
			_, _ = io.Copy(io.Discard, s)
			_ = s.CloseWrite()
		})
		conn := dial(t, r, server4)
		defer conn.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			big := make([]byte, 40<<20) // more than all buffers hold
			if _, err := conn.Write(big); err != nil {
				t.Error(err)
			}
			_ = conn.CloseWrite()
		})
		close(full)
		got := make([]byte, len(data))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the guest cannot read while the host does not: %v", err)
		}
		close(drained)
		wg.Wait()
		if _, err := io.ReadAll(conn); err != nil {
			t.Error(err)
		}
	})
}

func TestResetOfTheGuest(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		ended := make(chan error, 1)
		r.host.serve(func(s *stream) {
			_, err := io.Copy(io.Discard, s)
			ended <- err
		})
		conn := dial(t, r, server4)
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		conn.Reset()
		if err := <-ended; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the host reads %v", err)
		}
	})
}

// A socket that is closed with data in it says RST (RFC 2525, 2.17).
func TestCloseWithUnreadData(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		ended := make(chan error, 1)
		r.host.serve(func(s *stream) {
			if _, err := s.Write(make([]byte, 1000)); err != nil {
				t.Error(err)
			}
			_, err := io.Copy(io.Discard, s)
			ended <- err
		})
		conn := dial(t, r, server4)
		if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
			t.Error(err)
		}
		conn.Close()
		if err := <-ended; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the host reads %v", err)
		}
	})
}

func TestResetOfTheHost(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		r.host.serve(func(s *stream) {
			if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
				t.Error(err)
			}
		})
		for _, to := range servers {
			conn := dial(t, r, to)
			if _, err := conn.Write([]byte("hello")); err != nil {
				t.Error(err)
			}
			if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("the guest reads %d bytes, %v", n, err)
			}
			conn.Close()
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		r.h.tcp.mu.Lock()
		r.h.tcp.maxConns = 2
		r.h.tcp.mu.Unlock()
		r.host.serve(func(s *stream) { _, _ = io.Copy(io.Discard, s); _ = s.CloseWrite() })
		first, second := dial(t, r, server4), dial(t, r, server6)
		third := make(chan error, 1)
		go func() {
			conn, err := r.DialTCP(server4)
			if err == nil {
				conn.Close()
			}
			third <- err
		}()
		// Its first SYN, too, has come when a datagram behind it has.
		if n := r.host.dialled(); n != 2 {
			t.Errorf("the host was asked %d times", n)
		}
		first.Close()
		if err := <-third; err != nil {
			t.Errorf("the third connection, when there is room for it: %v", err)
		}
		second.Close()
		eventually(t, "all connections end", func() bool { return conns(r) == 0 })
	})
}

func conns(r *rig) int {
	r.h.tcp.mu.Lock()
	defer r.h.tcp.mu.Unlock()
	return r.h.tcp.conns
}

func TestManyConnectionsLeaveNothing(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		r.host.serve(func(s *stream) { _, _ = io.Copy(s, s); _ = s.CloseWrite() })
		use := func() {
			conn, err := r.DialTCP(server4)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(limit))
			if _, err := conn.Write([]byte("ping")); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Error(err)
			}
		}
		use()
		eventually(t, "the first connection ends", func() bool { return conns(r) == 0 })
		before := runtime.NumGoroutine()
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(use)
		}
		wg.Wait()
		for range 300 {
			use()
		}
		eventually(t, "all connections end", func() bool { return conns(r) == 0 })
		eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
		eventually(t, "netstack forgets the connections", func() bool {
			return r.h.tcp.stack.Stats().TCP.CurrentConnected.Value() == 0
		})
	})
}

func TestCloseResetsConnections(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		ended := make(chan error, 1)
		r.host.serve(func(s *stream) {
			_, err := io.Copy(io.Discard, s)
			ended <- err
		})
		conn := dial(t, r, server4)
		defer conn.Close()
		r.h.Close()
		if err := <-ended; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the host reads %v", err)
		}
		r.h.Close() // a second time is nothing
	})
}
