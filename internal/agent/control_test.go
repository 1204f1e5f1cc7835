//go:build linux

package agent

import (
	"errors"
	"net"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// A pipeConn is a connection in memory.
type pipeConn struct{ net.Conn }

func (pipeConn) CloseWrite() error { return nil }

// A recorder is a command and a terminal.
type recorder struct {
	mu      sync.Mutex
	signals []unix.Signal
	sizes   [][2]uint16
	err     error
}

func (r *recorder) Signal(s unix.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signals = append(r.signals, s)
	return r.err
}

func (r *recorder) Resize(rows, cols uint16) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sizes = append(r.sizes, [2]uint16{rows, cols})
	return r.err
}

// newTestControl returns a control and what sends to it as the host.
func newTestControl(t *testing.T) (*control, func(wire.HostMessage)) {
	t.Helper()
	c, host := newTestHost(t)
	return c, func(m wire.HostMessage) {
		t.Helper()
		if err := wire.WriteHostMessage(host, m); err != nil {
			t.Fatal(err)
		}
	}
}

// newTestHost returns a control and the host's end. The power-off that the end
// of the connection brings is waited for.
func newTestHost(t *testing.T) (*control, net.Conn) {
	t.Helper()
	guest, host := net.Pipe()
	gone := make(chan struct{})
	c := newControl(pipeConn{guest}, newLogger(), func() { close(gone) })
	t.Cleanup(func() {
		host.Close()
		<-gone
	})
	return c, host
}

// flush waits until everything sent was received: the pipe has no buffer, and
// this message is read only after the one before was dealt with.
func flush(send func(wire.HostMessage)) {
	send(wire.HostMessage{Type: "nothing"})
	send(wire.HostMessage{Type: "nothing"})
}

func TestSignalsWaitForTheCommand(t *testing.T) {
	c, send := newTestControl(t)
	send(wire.HostMessage{Type: wire.HostSignal, Signal: "SIGTERM"})
	send(wire.HostMessage{Type: wire.HostSignal, Signal: "nonsense"})
	send(wire.HostMessage{Type: wire.HostSignal, Signal: "9"})
	flush(send)
	r := new(recorder)
	c.setCommand(r)
	send(wire.HostMessage{Type: wire.HostSignal, Signal: "RTMIN+1"})
	flush(send)
	c.setCommand(nil)
	send(wire.HostMessage{Type: wire.HostSignal, Signal: "HUP"})
	flush(send)
	if c.output.Err() != nil {
		t.Error("SIGHUP ends the output")
	}
	send(wire.HostMessage{Type: wire.HostSignal, Signal: "KILL"})
	<-c.output.Done()
	if want := []unix.Signal{unix.SIGTERM, unix.SIGKILL, 35}; !slices.Equal(r.signals, want) {
		t.Errorf("the command got %v, want %v", r.signals, want)
	}
}

func TestEarlySignalsAreBounded(t *testing.T) {
	c, send := newTestControl(t)
	for range 2 * signalQueue {
		send(wire.HostMessage{Type: wire.HostSignal, Signal: "HUP"})
	}
	flush(send)
	r := &recorder{err: errors.New("the command minds")}
	c.setCommand(r)
	if len(r.signals) != signalQueue {
		t.Errorf("%d signals were kept", len(r.signals))
	}
}

func TestResizeWaitsForTheTerminal(t *testing.T) {
	c, send := newTestControl(t)
	send(wire.HostMessage{Type: wire.HostResize, Rows: 1, Cols: 2})
	send(wire.HostMessage{Type: wire.HostResize, Rows: 3, Cols: 4})
	flush(send)
	r := new(recorder)
	c.setTerminal(r)
	send(wire.HostMessage{Type: wire.HostResize, Rows: 5, Cols: 6})
	flush(send)
	if want := [][2]uint16{{3, 4}, {5, 6}}; !slices.Equal(r.sizes, want) {
		t.Errorf("the terminal got %v, want %v", r.sizes, want)
	}
}

// A holder is a resolv.conf.
type holder struct{ search []string }

func (h *holder) Update(r *wire.Resolver) error {
	h.search = append(h.search, r.Search...)
	return errors.New("the file minds")
}

func TestResolverWaitsForTheFile(t *testing.T) {
	c, send := newTestControl(t)
	send(wire.HostMessage{Type: wire.HostResolver, Resolver: &wire.Resolver{Search: []string{"a"}}})
	send(wire.HostMessage{Type: wire.HostResolver, Resolver: &wire.Resolver{Search: []string{"b"}}})
	send(wire.HostMessage{Type: wire.HostResolver})
	flush(send)
	h := new(holder)
	c.setResolvConf(h)
	send(wire.HostMessage{Type: wire.HostResolver, Resolver: &wire.Resolver{Search: []string{"c"}}})
	flush(send)
	if want := []string{"b", "c"}; !slices.Equal(h.search, want) {
		t.Errorf("the file got %v, want %v", h.search, want)
	}
	fresh, _ := newTestControl(t)
	h = new(holder)
	fresh.setResolvConf(h)
	if len(h.search) != 0 {
		t.Errorf("without a message the file got %v", h.search)
	}
}

func TestDenialsAreKept(t *testing.T) {
	c, send := newTestControl(t)
	send(wire.HostMessage{Type: wire.HostNetwork, Denied: 3})
	send(wire.HostMessage{Type: wire.HostNetwork, Denied: 1 << 40})
	flush(send)
	if n := c.denied.Load(); n != 1<<40 {
		t.Errorf("%d denials are known", n)
	}
}

func TestDone(t *testing.T) {
	c, send := newTestControl(t)
	select {
	case <-c.done:
		t.Error("the host is said to be done before it is")
	case <-c.output.Done():
		t.Error("the host is said to want no output")
	default:
	}
	send(wire.HostMessage{Type: wire.HostDone})
	send(wire.HostMessage{Type: wire.HostDone})
	c.waitForDone()
}
