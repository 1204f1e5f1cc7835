package instance

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/relay"
	"bake/internal/wire"
)

// ask sends raw bytes and returns all that comes back.
func ask(t testing.TB, i Instance, raw []byte) []byte {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(i.Dir, apiSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(raw) // which it may refuse to read to the end
	conn.(*net.UnixConn).CloseWrite()
	got, _ := io.ReadAll(conn)
	return got
}

func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func hostileApp() *app {
	return &app{
		stats: func(context.Context) (Stats, error) { return Stats{}, nil },
		guest: func(context.Context) (relay.Conn, error) { panic("the guest was asked for by one who hung up") },
	}
}

func TestHostileRequests(t *testing.T) {
	alone(t)
	i, _ := register(t, Info{}, hostileApp())
	for name, raw := range map[string][]byte{
		"nothing":       nil,
		"half a length": {0, 0},
		"half a frame":  frame("{}")[:5],
		"a long frame":  binary.BigEndian.AppendUint32(nil, requestLimit+1),
		"the longest":   {0xff, 0xff, 0xff, 0xff},
		"no JSON":       frame("x"),
		"a number":      frame("7"),
		"no operation":  frame("{}"),
		"another":       frame(`{"op":"` + strings.Repeat("x", 100) + `"}`),
		"a wrong type":  frame(`{"op":"stop","timeout":"x"}`),
		"a big timeout": frame(`{"op":"stop","timeout":1e300}`),
	} {
		var r response
		got := ask(t, i, raw)
		if err := wire.ReadJSON(strings.NewReader(string(got)), &r, responseLimit); err != nil || r.Error == "" {
			t.Errorf("%s: answered %q, %v", name, got, err)
		}
	}
	if _, err := i.Stats(t.Context()); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// Many connections that say nothing are bounded, and when they go there is room.
func TestManyConnections(t *testing.T) {
	alone(t)
	i, _ := register(t, Info{}, hostileApp())
	var conns []net.Conn
	for range maxConns {
		c, err := net.Dial("unix", filepath.Join(i.Dir, apiSocket))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if _, err := i.Stats(t.Context()); err == nil || !strings.Contains(err.Error(), "connections to this instance are open") {
		t.Errorf("one more: %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
	for { // until it has seen them go
		_, err := i.Stats(t.Context())
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "connections to this instance are open") {
			t.Fatal(err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, seed := range [][]byte{
		nil, {0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, frame("{}"), frame(`{"op":"stats"}`), frame(`{"op":"key"}`),
		frame(`{"op":"signal","signal":"SIGNOT"}`), frame(`{"op":"none"}`), append(frame(`{"op":"wait"}`), "more"...),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a := hostileApp()
		near, far := socketPair(t)
		defer far.Close()
		s := &server{handler: noGuest{a}, ended: make(chan struct{})}
		s.ctx, s.cancel = context.WithCancel(t.Context())
		defer s.cancel()
		go func() {
			far.Write(raw)
			far.CloseWrite()
		}()
		go io.Copy(io.Discard, far)
		s.one(near) // ends, whatever was said
		near.Close()
	})
}

// noGuest ends at once what an app would do.
type noGuest struct{ *app }

func (noGuest) Stop(context.Context, time.Duration) error { return nil }

func (noGuest) Signal(string) error { return nil }

func (noGuest) Guest(context.Context, uint32) (relay.Conn, error) { return nil, io.EOF }
