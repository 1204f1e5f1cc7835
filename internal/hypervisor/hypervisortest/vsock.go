package hypervisortest

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

// exchange sends data, ends its side, and returns what comes back.
func exchange(conn net.Conn, data []byte) ([]byte, error) {
	var wg sync.WaitGroup
	var werr error
	wg.Go(func() {
		if _, werr = conn.Write(data); werr == nil {
			werr = conn.(interface{ CloseWrite() error }).CloseWrite()
		}
	})
	back, err := io.ReadAll(conn)
	wg.Wait()
	if err == nil {
		err = werr
	}
	return back, err
}

// echo has the guest send back a text.
func (m *Machine) echo(text string) (string, error) {
	conn, err := m.Dial(testguest.PortEcho)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	back, err := exchange(conn, []byte(text))
	return string(back), err
}

// sizes are of streams: nothing, a byte, more than any buffer on the way.
var sizes = []int{0, 1, 4096, 3<<20 + 7}

func (m *Machine) vsockFromHost(t *testing.T) {
	for i, n := range sizes {
		data := randomBytes(byte(i), n)
		conn, err := m.Dial(testguest.PortEcho)
		if err != nil {
			t.Fatal(err)
		}
		back, err := exchange(conn, data)
		conn.Close()
		if err != nil || !bytes.Equal(back, data) {
			t.Errorf("%d bytes come back as %d, equal: %v (%v)", n, len(back), bytes.Equal(back, data), err)
		}
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			text := string(randomBytes(byte(i), 50_000))
			if back, err := m.echo(text); err != nil || back != text {
				t.Errorf("connection %d of 20: %d bytes come back, %v", i, len(back), err)
			}
		})
	}
	wg.Wait()
}

// hostEchoPort is where the guest dials the host to echo.
const hostEchoPort = 2000

func (m *Machine) vsockFromGuest(t *testing.T, l net.Listener) {
	for i, n := range sizes {
		data := randomBytes(byte(i), n)
		var wg sync.WaitGroup
		wg.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(limit))
			back, err := exchange(conn, data)
			if err != nil || !bytes.Equal(back, data) {
				t.Errorf("%d bytes come back as %d, equal: %v (%v)", n, len(back), bytes.Equal(back, data), err)
			}
		})
		r := m.MustAsk(t, testguest.Request{Op: testguest.OpDial, Port: hostEchoPort})
		if r.Length != int64(n) {
			t.Errorf("the guest saw %d bytes, want %d", r.Length, n)
		}
		wg.Wait()
	}
}

func (m *Machine) vsockRefused(t *testing.T) {
	if conn, err := m.Dial(4000); err == nil {
		t.Error("a port of the guest that nobody listens on takes a connection")
		conn.Close()
	}
	if _, err := m.Ask(testguest.Request{Op: testguest.OpDial, Port: 4000}); err == nil {
		t.Error("a port of the host that nobody listens on takes a connection")
	}
	if back, err := m.echo("after it"); err != nil || back != "after it" {
		t.Errorf("after that: %q, %v", back, err)
	}
}

// lastBytesArrive powers the guest off, and finds that what it sent before is
// not lost.
func (m *Machine) lastBytesArrive(t *testing.T) hypervisor.Exit {
	t.Helper()
	conn, err := m.Dial(testguest.PortEcho)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// No more than the buffers of the way back hold: nobody reads yet.
	data := randomBytes(9, 64<<10)
	if _, err := conn.Write(data); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		t.Fatal(err)
	}
	if back, err := m.echo("a round trip"); err != nil || back != "a round trip" {
		t.Fatalf("%q, %v", back, err)
	}
	exit := m.End(t, testguest.OpPowerOff)
	rest, _ := io.ReadAll(conn) // the end may be a reset
	if got := append(first, rest...); !bytes.HasPrefix(data, got) || len(got) < 4096 {
		t.Errorf("%d of %d bytes arrived, equal: %v", len(got), len(data), bytes.HasPrefix(data, got))
	}
	return exit
}
