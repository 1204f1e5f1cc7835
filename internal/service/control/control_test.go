package control

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"bake/internal/wire"
)

func serve(t *testing.T, c *Control) (ln net.Listener, done chan error, cancel context.CancelFunc) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done = make(chan error, 1)
	go func() { done <- c.Serve(ctx, ln) }()
	return ln, done, cancel
}

func TestMessagesBothWays(t *testing.T) {
	c := New()
	// Sent before the agent connects: kept.
	if err := c.Send(wire.HostMessage{Type: wire.HostSignal, Signal: "SIGTERM"}); err != nil {
		t.Fatal(err)
	}
	ln, done, cancel := serve(t, c)
	defer cancel()
	agent, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if m, err := wire.ReadHostMessage(agent); err != nil || m.Signal != "SIGTERM" {
		t.Fatalf("kept message: %+v, %v", m, err)
	}
	if err := c.Send(wire.HostMessage{Type: wire.HostResize, Rows: 5, Cols: 7}); err != nil {
		t.Fatal(err)
	}
	if m, err := wire.ReadHostMessage(agent); err != nil || m.Rows != 5 || m.Cols != 7 {
		t.Fatalf("direct message: %+v, %v", m, err)
	}
	go func() {
		wire.WriteGuestMessage(agent, wire.GuestMessage{Type: wire.GuestStarted})
		wire.WriteGuestMessage(agent, wire.GuestMessage{Type: wire.GuestExit, Code: 3})
		agent.Close()
	}()
	var got []string
	for m := range c.Events() {
		got = append(got, m.Type)
	}
	if len(got) != 2 || got[0] != wire.GuestStarted || got[1] != wire.GuestExit {
		t.Errorf("events %v", got)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	c := New()
	var err error
	for range maxQueued + 1 {
		err = c.Send(wire.HostMessage{Type: wire.HostSignal, Signal: "SIGUSR1"})
	}
	if !errors.Is(err, ErrBusy) {
		t.Errorf("the message past the bound: %v, want ErrBusy", err)
	}
}

// A pipeListener has one connection.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) { return <-l, nil }
func (pipeListener) Close() error                { return nil }
func (pipeListener) Addr() net.Addr              { return nil }

// A VM that is stopped reads nothing for a time. What was said meanwhile arrives
// whole and in order, and what did not fit was refused.
func TestAgentThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent, host := net.Pipe()
		ln := make(pipeListener, 1)
		ln <- host
		c := New()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Serve(ctx, ln) }()
		synctest.Wait()
		sent := 0
		var err error
		for ; err == nil; sent++ {
			err = c.Send(wire.HostMessage{Type: wire.HostNetwork, Denied: uint64(sent)})
		}
		if sent--; !errors.Is(err, ErrBusy) || sent < maxQueued {
			t.Fatalf("after %d messages: %v, want ErrBusy", sent, err)
		}
		time.Sleep(time.Hour)
		for i := range sent {
			if m, err := wire.ReadHostMessage(agent); err != nil || m.Denied != uint64(i) {
				t.Fatalf("message %d: %+v, %v", i, m, err)
			}
		}
		if err := c.Send(wire.HostMessage{Type: wire.HostDone}); err != nil {
			t.Error(err)
		}
		if m, err := wire.ReadHostMessage(agent); err != nil || m.Type != wire.HostDone {
			t.Errorf("after that: %+v, %v", m, err)
		}
		// One that waits for a place does not wait for an agent that is gone.
		for range sent {
			if err := c.Send(wire.HostMessage{Type: wire.HostNetwork}); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(time.Second, func() { agent.Close() })
		if err := c.Send(wire.HostMessage{Type: wire.HostNetwork}); !errors.Is(err, ErrGone) {
			t.Errorf("as the agent goes: %v, want ErrGone", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := c.Send(wire.HostMessage{Type: wire.HostNetwork}); !errors.Is(err, ErrGone) {
			t.Errorf("after that: %v, want ErrGone", err)
		}
	})
}

func TestMessageThatIsTooLong(t *testing.T) {
	err := New().Send(wire.HostMessage{Type: wire.HostVolume, Path: make([]byte, wire.ControlLimit)})
	if !errors.Is(err, wire.ErrFrameTooLong) {
		t.Errorf("Send: %v, want ErrFrameTooLong", err)
	}
}

func TestHostileFrame(t *testing.T) {
	c := New()
	ln, done, cancel := serve(t, c)
	defer cancel()
	agent, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	agent.Write([]byte{0xff, 0xff, 0xff, 0xff})
	for range c.Events() {
		t.Error("an event came of a hostile frame")
	}
	if err := <-done; !errors.Is(err, wire.ErrFrameTooLong) {
		t.Errorf("Serve: %v, want ErrFrameTooLong", err)
	}
}

func TestEndsWithContext(t *testing.T) {
	c := New()
	_, done, cancel := serve(t, c)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve after cancel: %v", err)
	}
	if _, ok := <-c.Events(); ok {
		t.Error("Events was not closed")
	}
}
