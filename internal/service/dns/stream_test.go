package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// connect gives s one end of a connection and returns the other, and what is
// closed when s is done with it.
func connect(t *testing.T, ctx context.Context, s *Server) (*net.TCPConn, <-chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.ServeStream(ctx, server) }()
	client.SetDeadline(time.Now().Add(wait))
	t.Cleanup(func() { client.Close(); <-done })
	return client.(*net.TCPConn), done
}

func send(t *testing.T, w io.Writer, m *dns.Msg) {
	t.Helper()
	b := mustPack(m)
	if _, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, r io.Reader) *dns.Msg {
	t.Helper()
	b, err := readMessage(r)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m
}

// The second answer does not wait for the first, big ones are whole, and who
// has said all still gets all answers.
func TestStream(t *testing.T) {
	hold := make(chan struct{})
	var zone []string
	for range 200 {
		zone = append(zone, `big. 5 IN TXT "`+strings.Repeat("x", 200)+`"`)
	}
	for i := range zone {
		zone[i] = strings.Replace(zone[i], "xxx", string(rune('a'+i%26))+string(rune('a'+i/26))+"x", 1)
	}
	serve := records(t, append(zone, "slow. 5 IN A 192.0.2.1", "fast. 5 IN A 192.0.2.2")...)
	s := newServer(t, Options{Nameservers: []netip.AddrPort{nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Name == "slow." {
			<-hold
		}
		serve(w, q)
	})}, ResolvConf: options(t, "timeout:30")})
	conn, done := connect(t, t.Context(), s)
	slow := new(dns.Msg).SetQuestion("slow.", dns.TypeA)
	send(t, conn, slow)
	send(t, conn, new(dns.Msg).SetQuestion("fast.", dns.TypeA))
	if m := receive(t, conn); says(m) != "fast. A 192.0.2.2" {
		t.Errorf("first came %v", m)
	}
	send(t, conn, new(dns.Msg).SetQuestion("big.", dns.TypeTXT))
	if m := receive(t, conn); m.Truncated || len(m.Answer) != 200 {
		t.Errorf("a big answer: TC %v and %d records", m.Truncated, len(m.Answer))
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(hold)
	if m := receive(t, conn); says(m) != "slow. A 192.0.2.1" || m.Id != slow.Id {
		t.Errorf("last came %v", m)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the last answer: %v, want EOF", err)
	}
	<-done
}

func TestStreamWithGarbage(t *testing.T) {
	s := newServer(t, Options{Nameservers: []netip.AddrPort{nobody(t)}})
	for name, tt := range map[string]struct {
		bytes string
		rcode int // -1: nothing but the end
	}{
		"nothing":        {"", -1},
		"a cut length":   {"\x00", -1},
		"a cut message":  {"\xff\xffabc", -1},
		"length zero":    {"\x00\x00", -1},
		"not a question": {"\x00\x0c\x12\x34\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", dns.RcodeFormatError},
	} {
		conn, done := connect(t, t.Context(), s)
		io.WriteString(conn, tt.bytes)
		conn.CloseWrite()
		b, err := io.ReadAll(conn)
		if err != nil || (len(b) == 0) != (tt.rcode == -1) || len(b) > 5 && int(b[5]&0xf) != tt.rcode {
			t.Errorf("%s: %x, %v", name, b, err)
		}
		<-done
	}
}

// More queries than are answered at once wait their turn, on one connection.
func TestPipelineIsBounded(t *testing.T) {
	s := newServer(t, Options{Nameservers: []netip.AddrPort{answers(t, "192.0.2.1")}})
	conn, _ := connect(t, t.Context(), s)
	const n = 5 * maxPipelined
	var sending sync.WaitGroup
	sending.Go(func() {
		for range n {
			send(t, conn, new(dns.Msg).SetQuestion("q.", dns.TypeA))
		}
	})
	defer sending.Wait()
	for range n {
		if m := receive(t, conn); says(m) != "q. A 192.0.2.1" {
			t.Fatalf("got %v", m)
		}
	}
}

// The end of the context ends connections and the questions on them, and
// connections past the bound are closed.
func TestStreamsEnd(t *testing.T) {
	dead, asked := silent(t)
	s := newServer(t, Options{Nameservers: []netip.AddrPort{dead}, ResolvConf: options(t, "timeout:30")})
	s.streams = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	conn, done := connect(t, ctx, s)
	send(t, conn, new(dns.Msg).SetQuestion("q.", dns.TypeA))
	<-asked
	second, closed := connect(t, ctx, s)
	<-closed
	if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection past the bound: %d, %v", n, err)
	}
	cancel()
	<-done
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the end: %d, %v", n, err)
	}
}
