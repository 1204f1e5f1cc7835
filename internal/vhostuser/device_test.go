//go:build linux

package vhostuser

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"bake/internal/vsock"
)

func hybrid(td *testDevice) vsock.Hybrid { return vsock.Hybrid{Path: td.path} }

func dialHost(t testing.TB, td *testDevice, port uint32) vsock.Conn {
	t.Helper()
	c, err := hybrid(td).Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(vsock.Conn)
}

func listenHost(t testing.TB, td *testDevice, port uint32) net.Listener {
	t.Helper()
	l, err := hybrid(td).Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func random(n int, seed int64) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

// Every combination of what QEMU and a guest may negotiate.
var negotiations = map[string]guestOptions{
	"event index":    {},
	"no event index": {driverOptions: driverOptions{noEventIdx: true}},
	"indirect":       {indirect: true},
	"old front end":  {driverOptions: driverOptions{noProtocol: true}},
	"small buffer":   {bufAlloc: 3000},
}

func TestEchoHostDials(t *testing.T) {
	for name, opt := range negotiations {
		t.Run(name, func(t *testing.T) {
			td := newTestDevice(t)
			g := newGuest(t, td, opt)
			accept := g.listen(22)
			var wg sync.WaitGroup
			wg.Go(func() {
				c := <-accept
				io.Copy(c, c)
				c.Close()
			})
			conn := dialHost(t, td, 22)
			want := random(3<<20, 1)
			wg.Go(func() {
				conn.Write(want)
				conn.CloseWrite()
			})
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("echo of %d bytes: %d bytes, equal %v, %v", len(want), len(got), bytes.Equal(got, want), err)
			}
			wg.Wait()
			s := td.Stats()
			if s.FromHost != 1 || s.BytesToGuest != uint64(len(want)) || s.BytesToHost != uint64(len(want)) || s.Resets != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestEchoGuestDials(t *testing.T) {
	for name, opt := range negotiations {
		t.Run(name, func(t *testing.T) {
			td := newTestDevice(t)
			g := newGuest(t, td, opt)
			l := listenHost(t, td, 10)
			var wg sync.WaitGroup
			wg.Go(func() {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				io.Copy(c, c)
			})
			conn, err := g.dial(10)
			if err != nil {
				t.Fatal(err)
			}
			want := random(3<<20, 2)
			wg.Go(func() {
				conn.Write(want)
				conn.CloseWrite()
			})
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("echo of %d bytes: %d bytes, equal %v, %v", len(want), len(got), bytes.Equal(got, want), err)
			}
			conn.Close()
			wg.Wait()
			if s := td.Stats(); s.FromGuest != 1 || s.Resets != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestHalfClose(t *testing.T) {
	t.Run("host first", func(t *testing.T) {
		td := newTestDevice(t)
		g := newGuest(t, td, guestOptions{})
		accept := g.listen(5)
		conn := dialHost(t, td, 5)
		c := <-accept
		io.WriteString(conn, "question")
		conn.CloseWrite()
		got, _ := io.ReadAll(c)
		if string(got) != "question" {
			t.Errorf("guest read %q", got)
		}
		if c.peerShut != shutdownSend {
			t.Errorf("guest was told of shutdown %d, want %d (send only)", c.peerShut, shutdownSend)
		}
		io.WriteString(c, "late answer")
		c.Close()
		if got, err := io.ReadAll(conn); string(got) != "late answer" || err != nil {
			t.Errorf("host read %q, %v", got, err)
		}
	})
	t.Run("guest first", func(t *testing.T) {
		td := newTestDevice(t)
		g := newGuest(t, td, guestOptions{})
		accept := g.listen(5)
		conn := dialHost(t, td, 5)
		c := <-accept
		io.WriteString(c, "question")
		c.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "question" || err != nil {
			t.Errorf("host read %q, %v", got, err)
		}
		io.WriteString(conn, "late answer")
		conn.Close()
		if got, _ := io.ReadAll(c); string(got) != "late answer" {
			t.Errorf("guest read %q", got)
		}
	})
	t.Run("guest stops receiving", func(t *testing.T) {
		td := newTestDevice(t)
		g := newGuest(t, td, guestOptions{})
		accept := g.listen(5)
		conn := dialHost(t, td, 5)
		c := <-accept
		c.shutdown(shutdownReceive)
		for { // the host learns when it writes
			if _, err := conn.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		io.WriteString(c, "the other way works")
		c.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "the other way works" || err != nil {
			t.Errorf("host read %q, %v", got, err)
		}
	})
	t.Run("host stops reading", func(t *testing.T) {
		td := newTestDevice(t)
		g := newGuest(t, td, guestOptions{})
		accept := g.listen(5)
		conn := dialHost(t, td, 5).(*net.UnixConn)
		c := <-accept
		conn.CloseRead()
		if _, err := c.Write(make([]byte, 2<<20)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("guest wrote to a host that does not read: %v", err)
		}
		io.WriteString(conn, "the other way works")
		conn.CloseWrite()
		if got, _ := io.ReadAll(c); string(got) != "the other way works" {
			t.Errorf("guest read %q", got)
		}
	})
}

// A host that has closed, with data on the way to a guest that reads later.
func TestHostClosesEarly(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{bufAlloc: 8 << 10})
	accept := g.listen(5)
	conn := dialHost(t, td, 5)
	c := <-accept
	want := random(100<<10, 3) // fits the socket's buffer, not the guest's
	if _, err := conn.Write(want); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	got, _ := io.ReadAll(c)
	if !bytes.Equal(got, want) {
		t.Errorf("guest read %d bytes of %d", len(got), len(want))
	}
	if c.peerShut != shutdownBoth {
		t.Errorf("guest was told of shutdown %d, want both", c.peerShut)
	}
}

// A guest that has closed, and a host that reads what it sent much later.
func TestGuestClosesEarly(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	accept := g.listen(5)
	conn := dialHost(t, td, 5)
	c := <-accept
	io.WriteString(conn, "nobody will read this")
	want := random(300<<10, 4) // more than the socket's buffer
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	c.Close() // returns when the device has confirmed
	if s := td.Stats(); s.Open != 1 {
		t.Errorf("%d connections, want the one that the host has not read", s.Open)
	}
	if _, err := conn.Write([]byte("x")); err == nil {
		t.Error("the host could write to a guest that has closed")
	}
	got, err := io.ReadAll(conn)
	if !bytes.Equal(got, want) || err != nil {
		t.Errorf("host read %d bytes of %d, %v", len(got), len(want), err)
	}
	waitFor(t, "the connection to go", func() bool { return td.Stats().Open == 0 })
}

// waitFor waits for something that comes by itself.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestRefused(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	if _, err := hybrid(td).Dial(t.Context(), 99); !errors.Is(err, vsock.ErrRefused) {
		t.Errorf("host dials a port nobody listens on: %v, want ErrRefused", err)
	}
	if _, err := g.dial(99); !errors.Is(err, errReset) {
		t.Errorf("guest dials a port nobody listens on: %v, want a reset", err)
	}
	if s := td.Stats(); s.Refused != 2 || s.Open != 0 {
		t.Errorf("stats %+v", s)
	}
}

// Clients that come before the guest's driver wait for it.
func TestDialBeforeDriver(t *testing.T) {
	td := newTestDevice(t)
	result := make(chan error, 1)
	go func() {
		c, err := hybrid(td).Dial(t.Context(), 7)
		if err == nil {
			c.Close()
		}
		result <- err
	}()
	waitFor(t, "the client to be taken up", func() bool { return td.Stats().Open == 1 })
	newGuest(t, td, guestOptions{}, 7)
	if err := <-result; err != nil {
		t.Errorf("Dial = %v", err)
	}
}

func TestCreditExhaustion(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	accept := g.listen(5)
	l := listenHost(t, td, 6)

	// Two connections whose readers stall, one each way, filled to the brim.
	stalledHost := dialHost(t, td, 5)
	c := <-accept
	fromGuest := random(4<<20, 5)
	var wg sync.WaitGroup
	wg.Go(func() { c.Write(fromGuest); c.CloseWrite() })

	stalledGuest, err := g.dial(6)
	if err != nil {
		t.Fatal(err)
	}
	hostEnd, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer hostEnd.Close()
	fromHost := random(4<<20, 6)
	wg.Go(func() { hostEnd.Write(fromHost); hostEnd.(vsock.Conn).CloseWrite() })

	waitFor(t, "the guest's window to fill", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return c.tx-c.peerFwd == bufAlloc
	})
	waitFor(t, "the guest's buffer to fill", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(stalledGuest.in) > int(g.bufAlloc)-minWindow
	})

	// Others are not held up.
	for range 20 {
		conn := dialHost(t, td, 5)
		other := <-accept
		go func() { io.Copy(other, other); other.Close() }()
		msg := random(200<<10, 7)
		go func() { conn.Write(msg); conn.CloseWrite() }()
		if got, err := io.ReadAll(conn); !bytes.Equal(got, msg) || err != nil {
			t.Fatalf("beside the stalled ones: %d bytes, %v", len(got), err)
		}
	}

	// And the stalled ones are whole.
	if got, err := io.ReadAll(stalledHost); !bytes.Equal(got, fromGuest) || err != nil {
		t.Errorf("stalled host read %d bytes of %d, %v", len(got), len(fromGuest), err)
	}
	if got, _ := io.ReadAll(stalledGuest); !bytes.Equal(got, fromHost) {
		t.Errorf("stalled guest read %d bytes of %d", len(got), len(fromHost))
	}
	wg.Wait()
	if s := td.Stats(); s.Resets != 0 {
		t.Errorf("stats %+v", s)
	}
}

const many = 1000

func TestManyFromHost(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	accept := g.listen(5)
	var conns atomic.Int64
	go func() {
		for c := range accept {
			conns.Add(1)
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	var all errgroup.Group
	open := make(chan struct{})
	var connected sync.WaitGroup
	connected.Add(many)
	for i := range many {
		all.Go(func() error {
			conn, err := hybrid(td).Dial(t.Context(), 5)
			connected.Done()
			if err != nil {
				return err
			}
			defer conn.Close()
			<-open // all at once
			return echo(conn.(vsock.Conn), i)
		})
	}
	connected.Wait()
	if s := td.Stats(); s.Open != many {
		t.Errorf("%d connections open, want %d", s.Open, many)
	}
	close(open)
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	if s := td.Stats(); s.FromHost != many || s.Refused != 0 || s.Resets != 0 {
		t.Errorf("stats %+v", s)
	}
}

// echo sends a message, ends its direction, and checks what comes back.
func echo(c interface {
	io.ReadWriter
	CloseWrite() error
}, seed int) error {
	msg := random(2000, int64(seed))
	if _, err := c.Write(msg); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(got, msg) {
		err = fmt.Errorf("connection %d: %d bytes came back, or others", seed, len(got))
	}
	return err
}

func TestManyFromGuest(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	l := listenHost(t, td, 6)
	var served errgroup.Group
	served.Go(func() error {
		for range many {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			served.Go(func() error {
				defer c.Close()
				_, err := io.Copy(c, c)
				return err
			})
		}
		return nil
	})
	var all errgroup.Group
	open := make(chan struct{})
	var connected sync.WaitGroup
	connected.Add(many)
	for i := range many {
		all.Go(func() error {
			c, err := g.dial(6)
			connected.Done()
			if err != nil {
				return err
			}
			<-open
			msg := random(2000, int64(i))
			c.Write(msg)
			c.CloseWrite()
			got, _ := io.ReadAll(c)
			c.Close()
			if !bytes.Equal(got, msg) {
				return fmt.Errorf("connection %d: %d bytes came back, or others", i, len(got))
			}
			return nil
		})
	}
	connected.Wait()
	close(open)
	if err := errors.Join(all.Wait(), served.Wait()); err != nil {
		t.Error(err)
	}
	if s := td.Stats(); s.FromGuest != many || s.Refused != 0 || s.Resets != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestMaxConns(t *testing.T) {
	td := newTestDevice(t, func(c *Config) { c.MaxConns = 3 })
	g := newGuest(t, td, guestOptions{})
	l := listenHost(t, td, 6)
	var conns []*guestConn
	var ends []net.Conn
	for range 3 {
		c, err := g.dial(6)
		if err != nil {
			t.Fatal(err)
		}
		end, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns, ends = append(conns, c), append(ends, end)
	}
	if _, err := g.dial(6); !errors.Is(err, errReset) {
		t.Errorf("the guest's fourth connection: %v, want a reset", err)
	}
	// The host's waits in the backlog until one goes.
	g.listen(5)
	result := make(chan error, 1)
	go func() {
		conn, err := hybrid(td).Dial(t.Context(), 5)
		if err == nil {
			conn.Close()
		}
		result <- err
	}()
	time.Sleep(20 * time.Millisecond)
	select {
	case err := <-result:
		t.Fatalf("the host's fourth connection: %v, want it to wait", err)
	default:
	}
	conns[0].Close()
	if err := <-result; err != nil {
		t.Error(err)
	}
	for _, end := range ends {
		end.Close()
	}
}

// A place that is held for a host that does not read goes to a new connection.
func TestStalledDrainGivesWay(t *testing.T) {
	td := newTestDevice(t, func(c *Config) { c.MaxConns = 1 })
	g := newGuest(t, td, guestOptions{})
	l := listenHost(t, td, 6)
	c, err := g.dial(6)
	if err != nil {
		t.Fatal(err)
	}
	end, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	c.Write(make([]byte, 300<<10))
	c.Close()
	if td.Stats().Open != 1 {
		t.Fatal("the unread connection is gone already")
	}
	waitFor(t, "the place", func() bool {
		next, err := g.dial(6)
		if err != nil {
			return false
		}
		next.Close()
		return true
	})
}

func TestGreeting(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	accept := g.listen(7)
	t.Run("data behind the line", func(t *testing.T) {
		conn, err := net.Dial("unix", td.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, part := range []string{"CON", "NECT 7", "\nhel", "lo"} {
			io.WriteString(conn, part)
			time.Sleep(time.Millisecond)
		}
		conn.(*net.UnixConn).CloseWrite()
		c := <-accept
		if got, _ := io.ReadAll(c); string(got) != "hello" {
			t.Errorf("guest read %q", got)
		}
		c.Close()
	})
	for _, line := range []string{"CONNECT\n", "CONNECT \n", "CONNECT x\n", "CONNECT 4294967295\n", "CONNECT 4294967296\n", "CONNECT -1\n", "CONNECT 1 \n", "\n", "GET / HTTP/1.1\n", strings.Repeat("C", 100)} {
		t.Run(fmt.Sprintf("%.20q", line), func(t *testing.T) {
			conn, err := net.Dial("unix", td.path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, line)
			if got, _ := io.ReadAll(conn); len(got) != 0 {
				t.Errorf("answer %q, want none", got)
			}
		})
	}
	t.Run("half a line", func(t *testing.T) {
		conn, err := net.Dial("unix", td.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "CONNECT 7")
		conn.(*net.UnixConn).CloseWrite()
		if got, _ := io.ReadAll(conn); len(got) != 0 {
			t.Errorf("answer %q, want none", got)
		}
	})
	waitFor(t, "all to go", func() bool { return td.Stats().Open == 0 })
}

func TestGuestReset(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	accept := g.listen(5)
	conn := dialHost(t, td, 5)
	c := <-accept
	io.WriteString(c, "last words")
	waitFor(t, "the words to pass", func() bool { return td.Stats().BytesToHost == 10 })
	g.pause()
	var base [numRings]uint32
	for i := range base {
		base[i] = g.stopRing(i)
	}
	if got, err := io.ReadAll(conn); string(got) != "last words" || err != nil {
		t.Errorf("after the guest's reset the host read %q, %v", got, err)
	}
	waitFor(t, "the connection to go", func() bool { return td.Stats().Open == 0 })
	for i := range base {
		if want := uint32(g.ring[i].avail); i == queueTX && base[i] != want {
			t.Errorf("ring %d stopped at %d, want %d", i, base[i], want)
		}
		g.startRing(i, base[i], true)
	}
	clear(g.conns)
	g.resume()
	again := dialHost(t, td, 5)
	c = <-accept
	go func() { io.Copy(c, c); c.Close() }()
	if err := echo(again, 1); err != nil {
		t.Error(err)
	}
}

// The memory table may change while the rings run.
func TestMemoryTableAgain(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	accept := g.listen(5)
	conn := dialHost(t, td, 5)
	c := <-accept
	go func() { io.Copy(c, c); c.Close() }()
	want := random(8<<20, 8)
	go func() { conn.Write(want); conn.CloseWrite() }()
	first := make([]byte, 1<<20)
	if _, err := io.ReadFull(conn, first); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		g.setMemory(0x100000)
		g.front.ask(reqGetFeatures)
	}
	rest, err := io.ReadAll(conn)
	if got := append(first, rest...); !bytes.Equal(got, want) || err != nil {
		t.Errorf("echo: %d bytes of %d, %v", len(got), len(want), err)
	}
}

func TestServeEnds(t *testing.T) {
	t.Run("front end hangs up", func(t *testing.T) {
		td := newTestDevice(t)
		g := newGuest(t, td, guestOptions{})
		accept := g.listen(5)
		conn := dialHost(t, td, 5)
		c := <-accept
		want := random(300<<10, 9)
		c.Write(want)
		waitFor(t, "the data to pass", func() bool { return td.Stats().BytesToHost == uint64(len(want)) })
		g.front.close()
		// What the guest sent is read after its end.
		if got, err := io.ReadAll(conn); !bytes.Equal(got, want) || err != nil {
			t.Errorf("host read %d bytes of %d, %v", len(got), len(want), err)
		}
		if err := td.stop(); err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
		// A new machine on the same device.
		td.start()
		g = newGuest(t, td, guestOptions{})
		accept = g.listen(5)
		again := dialHost(t, td, 5)
		c = <-accept
		go func() { io.Copy(c, c); c.Close() }()
		if err := echo(again, 1); err != nil {
			t.Error(err)
		}
	})
	t.Run("stalled host", func(t *testing.T) {
		td := newTestDevice(t)
		g := newGuest(t, td, guestOptions{})
		accept := g.listen(5)
		conn := dialHost(t, td, 5)
		c := <-accept
		c.Write(make([]byte, 300<<10))
		if err := td.stop(); err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
		conn.Close()
	})
	t.Run("context", func(t *testing.T) {
		td := newTestDevice(t)
		g := newGuest(t, td, guestOptions{})
		g.listen(5)
		conn := dialHost(t, td, 5)
		td.end()
		if got, err := io.ReadAll(conn); len(got) != 0 || err != nil {
			t.Errorf("host read %q, %v", got, err)
		}
		if err := td.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve = %v, want context.Canceled", err)
		}
	})
	t.Run("close", func(t *testing.T) {
		td := newTestDevice(t)
		newGuest(t, td, guestOptions{})
		if err := td.Close(); err != nil {
			t.Error(err)
		}
		if err := td.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve = %v, want context.Canceled", err)
		}
		if _, err := os.Stat(td.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
		td.start()
		if err := td.stop(); !errors.Is(err, ErrClosed) {
			t.Errorf("Serve after Close = %v", err)
		}
	})
}

// What a guest has put into its ring before its end arrives, although nobody
// has taken it yet.
func TestLastPackets(t *testing.T) {
	for name, end := range map[string]func(*driver){
		"hang-up":    func(d *driver) { d.front.close() },
		"ring stops": func(d *driver) { d.stopRing(queueRX); d.stopRing(queueTX) },
	} {
		t.Run(name, func(t *testing.T) {
			td := newTestDevice(t)
			d := newDriver(t, td.front, driverOptions{})
			host, key := openRaw(t, td, d)
			tx := d.ring[queueTX]
			var want []byte
			for i := range 100 {
				p := []byte(fmt.Sprintf("message %d\n", i))
				want = append(want, p...)
				h := packet(opData, key.guest, key.host)
				h.length = uint32(len(p))
				b := h.marshal()
				at := buffers + 256*i
				copy(d.mem[at:], append(b[:], p...))
				d.desc(tx.descAt(), i, guestBase+uint64(at), uint32(headerSize+len(p)), 0, 0)
				le.PutUint16(d.mem[tx.availAt()+4+2*(int(tx.avail)%ringSize):], uint16(i))
				tx.avail++
			}
			store32(d.mem, tx.availAt(), uint32(tx.avail)<<16) // and no doorbell
			end(d)
			if got, err := io.ReadAll(host); !bytes.Equal(got, want) || err != nil {
				t.Errorf("host read %d bytes of %d, %v", len(got), len(want), err)
			}
		})
	}
}

// Nothing is left behind: descriptors, mappings, goroutines.
func TestServeLeavesNothing(t *testing.T) {
	round := func(t *testing.T) {
		td := newTestDevice(t)
		g := newGuest(t, td, guestOptions{})
		accept := g.listen(5)
		for range 10 {
			dialHost(t, td, 5)
			<-accept
		}
		td.stop()
		if err := td.Close(); err != nil {
			t.Error(err)
		}
	}
	count := func() (fds, maps, loops int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return len(entries), strings.Count(string(b), "memfd:guest"), bytes.Count(stacks, []byte("vhostuser.(*loop)"))
	}
	var fds int
	for i := range 3 {
		t.Run("round", round)
		f, maps, loops := count()
		if i > 0 && f > fds || maps != 0 || loops != 0 {
			t.Errorf("after round %d: %d descriptors (before %d), %d mappings, %d frames of the loop", i, f, fds, maps, loops)
		}
		fds = f
	}
}

// A memory file that is cut short is an error, not the process's death.
func TestMemoryFileShrinks(t *testing.T) {
	td := newTestDevice(t)
	d := newDriver(t, td.front, driverOptions{})
	if err := os.Truncate(fmt.Sprintf("/proc/self/fd/%d", d.memfd), 0); err != nil {
		t.Fatal(err)
	}
	d.ring[queueTX].doorbell()
	err := <-td.serve
	td.serve = nil
	if err == nil || !strings.Contains(err.Error(), "memory is not there any more") {
		t.Errorf("Serve = %v", err)
	}
	td.front.close()
}

func TestNewRejects(t *testing.T) {
	dir := socketDir(t)
	for name, test := range map[string]struct {
		cfg  Config
		want string
	}{
		"the host's CID": {Config{CID: 2, Path: dir + "/v"}, "cannot be a guest's"},
		"any CID":        {Config{CID: 1<<32 - 1, Path: dir + "/v"}, "cannot be a guest's"},
		"no path":        {Config{CID: 3}, "use a shorter directory"},
		"long path":      {Config{CID: 3, Path: dir + "/" + strings.Repeat("p", 108)}, "use a shorter directory"},
		"no directory":   {Config{CID: 3, Path: dir + "/absent/v"}, "no such file"},
		"negative":       {Config{CID: 3, Path: dir + "/v", MaxConns: -1}, "makes no sense"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := New(test.cfg)
			if err == nil {
				d.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New = %v, want an error with %q", err, test.want)
			}
		})
	}
	d, err := New(Config{CID: 3, Path: dir + "/v"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := New(Config{CID: 3, Path: dir + "/v"}); err == nil || !strings.Contains(err.Error(), "left it behind") {
		t.Errorf("second New = %v", err)
	}
}

// Hashed streams in both directions at once, with readers of different speed.
func TestMixedStreams(t *testing.T) {
	td := newTestDevice(t)
	g := newGuest(t, td, guestOptions{})
	accept := g.listen(5)
	var all errgroup.Group
	for i := range 10 {
		all.Go(func() error {
			conn, err := hybrid(td).Dial(t.Context(), 5)
			if err != nil {
				return err
			}
			defer conn.Close()
			want := random(1<<20+i, int64(i))
			all.Go(func() error {
				_, err := conn.Write(want)
				return errors.Join(err, conn.(vsock.Conn).CloseWrite())
			})
			sum := sha256.New()
			buf := make([]byte, 1+i*777)
			if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{conn}, buf); err != nil {
				return err
			}
			if !bytes.Equal(sum.Sum(nil), hash(want)) {
				return fmt.Errorf("stream %d came back changed", i)
			}
			return nil
		})
		all.Go(func() error {
			c := <-accept
			io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 100+i*3000))
			c.Close()
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

func hash(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
