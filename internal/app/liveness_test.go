package app

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/wire"
)

// startPulse runs a pulse that ticks when the test says so.
func startPulse(t *testing.T) (p *pulse, tick chan time.Time, pings chan wire.HostMessage) {
	pings = make(chan wire.HostMessage)
	p = newPulse(func(m wire.HostMessage) error {
		select {
		case pings <- m:
			return nil
		case <-t.Context().Done():
			return t.Context().Err()
		}
	})
	tick = make(chan time.Time)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		p.run(ctx, tick)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return p, tick, pings
}

// The guest that does not answer is pinged once, and again as soon as it has
// answered.
func TestPulse(t *testing.T) {
	p, tick, pings := startPulse(t)
	p.pong(wire.GuestMessage{}) // which nobody asked for
	first := <-pings
	if first.Type != wire.HostPing || first.WantStats || first.UnixNano > time.Now().UnixNano() || first.UnixNano == 0 {
		t.Errorf("the first ping is %+v", first)
	}
	for range 3 {
		tick <- time.Time{}
	}
	if p.alive(0) || !p.alive(time.Hour) {
		t.Error("a ping is unanswered, and not for an hour")
	}
	p.pong(wire.GuestMessage{Type: wire.GuestPong})
	if late := <-pings; late.UnixNano < first.UnixNano {
		t.Errorf("the clock that the guest is told goes back from %d to %d", first.UnixNano, late.UnixNano)
	}
}

func TestPulseEnds(t *testing.T) {
	p := newPulse(func(wire.HostMessage) error { return errors.New("the guest takes nothing") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.run(ctx, nil)
	if !p.alive(0) {
		t.Error("a guest that is not pinged is waited for")
	}
}

func TestPulseStats(t *testing.T) {
	p, _, pings := startPulse(t)
	<-pings // the first one is under way when they are asked for
	got := make(chan wire.Stats, 2)
	for range cap(got) {
		go func() {
			s, err := p.stats(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- s
		}()
	}
	for n := 0; n < cap(got); {
		p.pong(wire.GuestMessage{Type: wire.GuestPong})
		select {
		case m := <-pings:
			if m.WantStats {
				p.pong(wire.GuestMessage{Type: wire.GuestPong, Stats: &wire.Stats{PIDs: 5}})
			}
		case s := <-got:
			n++
			if s.PIDs != 5 {
				t.Errorf("got %+v", s)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.stats(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) != 0 {
		t.Errorf("%d still wait", len(p.waiting))
	}
}

// manager is a service manager's end of a notifier's socket.
func manager(t *testing.T, watchdog string) (*notifier, *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", watchdog)
	t.Setenv("WATCHDOG_PID", "")
	n, err := newNotifier()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("%s is still %q for others", name, v)
		}
	}
	return n, conn
}

func heard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 4096)
	conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotifier(t *testing.T) {
	n, conn := manager(t, "4000")
	n.say("READY=1", "STATUS=it runs")
	if got := heard(t, conn); got != "READY=1\nSTATUS=it runs" {
		t.Errorf("the manager was told %q", got)
	}
	// A sign of life comes while there is life, and ends with it.
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	n.watch(ctx, func(within time.Duration) bool {
		if within != 2*time.Millisecond {
			t.Errorf("asked for %v", within)
		}
		if asked++; asked > 4 {
			cancel()
		}
		return asked <= 2
	})
	n.say("STOPPING=1")
	var all []string
	for len(all) == 0 || all[len(all)-1] != "STOPPING=1" {
		all = append(all, heard(t, conn))
	}
	if got := strings.Join(all, " "); got != "WATCHDOG=1 WATCHDOG=1 STOPPING=1" {
		t.Errorf("the manager was told %s", got)
	}
}

func TestNoManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000")
	n, err := newNotifier()
	if err != nil || n != nil {
		t.Fatalf("got %v, %v", n, err)
	}
	n.say("READY=1")
	n.watch(t.Context(), func(time.Duration) bool { return true })
	n.close()
	t.Setenv("WATCHDOG_USEC", "x")
	if _, err := newNotifier(); err == nil {
		t.Error("a watchdog that is no number is taken")
	}
}
