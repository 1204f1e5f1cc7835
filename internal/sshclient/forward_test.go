//go:build linux

package sshclient_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/socks5"
	"bake/internal/sshclient"
	"bake/internal/sshclient/guesttest"
)

// A reader collects what a terminal shows, and waits for it.
type reader struct {
	t    *testing.T
	mu   sync.Mutex
	text strings.Builder
}

func newReader(t *testing.T, from io.Reader) *reader {
	r := &reader{t: t}
	go func() { // ends with from
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			r.mu.Lock()
			r.text.Write(buf[:n])
			r.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return r
}

func (r *reader) until(want string) {
	r.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		text := r.text.String()
		r.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the terminal shows %q, and not %q", text, want)
		}
	}
}

func TestParseForward(t *testing.T) {
	tcp := func(a string) sshclient.Endpoint { return sshclient.Endpoint{Network: "tcp", Address: a} }
	socket := func(a string) sshclient.Endpoint { return sshclient.Endpoint{Network: "unix", Address: a} }
	for spec, want := range map[string]sshclient.Forward{
		"L 8080:web:80":             {Listen: tcp("localhost:8080"), Target: tcp("web:80")},
		"L 127.0.0.2:8080:web:80":   {Listen: tcp("127.0.0.2:8080"), Target: tcp("web:80")},
		"L *:8080:web:80":           {Listen: tcp(":8080"), Target: tcp("web:80")},
		"L :8080:web:80":            {Listen: tcp(":8080"), Target: tcp("web:80")},
		"L [::1]:8080:[fe80::1]:80": {Listen: tcp("[::1]:8080"), Target: tcp("[fe80::1]:80")},
		"L 8080:/run/s":             {Listen: tcp("localhost:8080"), Target: socket("/run/s")},
		"L /tmp/s:web:80":           {Listen: socket("/tmp/s"), Target: tcp("web:80")},
		"L /tmp/s:/run/s":           {Listen: socket("/tmp/s"), Target: socket("/run/s")},
		"R 0:localhost:22":          {Listen: tcp("localhost:0"), Target: tcp("localhost:22")},
		"R 1080":                    {Listen: tcp("localhost:1080")},
		"D 1080":                    {Listen: tcp("localhost:1080")},
		"D [::1]:1080":              {Listen: tcp("[::1]:1080")},
	} {
		want.Direction = sshclient.Direction(spec[0])
		if got, err := sshclient.ParseForward(want.Direction, spec[2:]); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", spec, got, err, want)
		}
	}
	for _, spec := range []string{
		"L ", "L 8080", "L 8080:web", "L 8080:web:0", "L 8080::80", "L 99999:web:80", "L -1:web:80", "L +1:web:80", "L x:web:80",
		"L [::1:8080:web:80", "L [::1]8080:web:80", "L [x]:8080:web:80", "L 1:2:3:4:5", "D 1080:web:80", "D /tmp/s", "D", "R x",
	} {
		spec += " "
		if got, err := sshclient.ParseForward(sshclient.Direction(spec[0]), strings.TrimSuffix(spec[2:], " ")); err == nil {
			t.Errorf("%q became %v", spec, got)
		}
	}
}

// server answers each connection when it has read all: the end of one direction
// has to arrive alone.
func server(t *testing.T, network, address string) net.Addr {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer conn.Close()
				data, _ := io.ReadAll(conn)
				conn.Write(append([]byte("got "), data...))
			}()
		}
	}()
	return ln.Addr()
}

func ask(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	const text = "this and that"
	if _, err := io.WriteString(conn, text); err != nil {
		t.Error(err)
		return
	}
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if data, err := io.ReadAll(conn); string(data) != "got "+text {
		t.Errorf("got %q, %v", data, err)
	}
}

// freeAddress is one that nobody else has: of all the loopback's, some are left.
func freeAddress() string {
	return fmt.Sprintf("127.%d.%d.%d:1080", 100+rand.IntN(100), rand.IntN(256), 1+rand.IntN(254))
}

func TestForwards(t *testing.T) {
	client := dial(t, guesttest.Start(t))
	dir, err := os.MkdirTemp("", "fwd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	tcp := server(t, "tcp", "127.0.0.1:0").String()
	unix := server(t, "unix", filepath.Join(dir, "server")).String()
	path := func(name string) string { return filepath.Join(dir, name) }
	var list []sshclient.Forward
	for _, spec := range []string{
		"L " + path("l") + ":" + tcp, "L " + path("lu") + ":" + unix, "R " + path("r") + ":" + tcp, "R " + path("ru") + ":" + unix,
	} {
		f, err := sshclient.ParseForward(sshclient.Direction(spec[0]), spec[2:])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	dynamic, err := sshclient.ParseForward(sshclient.Dynamic, freeAddress())
	if err != nil {
		t.Fatal(err)
	}
	remote, err := sshclient.ParseForward(sshclient.Remote, "0:"+tcp)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 16)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	if err := sshclient.Open(ctx, &wg, client, append(list, dynamic, remote), func(line string) { told <- line }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"l", "lu", "r", "ru"} {
		conn, err := net.Dial("unix", path(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ask(t, conn)
	}
	line := <-told
	port, ok := strings.CutPrefix(line, "the guest listens on port ")
	if !ok {
		t.Fatalf("told %q", line)
	}
	port, _, _ = strings.Cut(port, " ")
	conn, err := net.Dial("tcp", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, conn)

	socks := func(to string) (net.Conn, error) {
		conn, err := net.Dial("tcp", dynamic.Listen.Address)
		if err != nil {
			t.Fatal(err)
		}
		return conn, socks5.Connect(t.Context(), conn, socks5.Address{AddrPort: netip.MustParseAddrPort(to)})
	}
	conn, err = socks(tcp)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, conn)
	if conn, err = socks(freeAddress()); err == nil {
		t.Error("a port that nobody listens on was reached")
	}
	conn.Close()

	cancel()
	wg.Wait()
	if _, err := net.Dial("tcp", dynamic.Listen.Address); err == nil {
		t.Error("a port is still open")
	}
}

// If one port cannot be opened, none is.
func TestForwardsTogether(t *testing.T) {
	client := dial(t, guesttest.Start(t))
	taken := server(t, "tcp", "127.0.0.1:0").String()
	first, err := sshclient.ParseForward(sshclient.Local, freeAddress()+":localhost:1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := sshclient.ParseForward(sshclient.Local, taken+":localhost:1")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	if err := sshclient.Open(t.Context(), &wg, client, []sshclient.Forward{first, second}, nil); err == nil {
		t.Fatal("a port was opened twice")
	}
	wg.Wait()
	if _, err := net.Dial("tcp", first.Listen.Address); err == nil {
		t.Error("the first port is still open")
	}
}
