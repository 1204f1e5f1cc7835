package socks5

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A script is a connection whose peer says in, whatever it is told.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *script) SetDeadline(time.Time) error { return nil }
func (s *script) Close() error                { return nil }

func says(in string) *script { return &script{in: bytes.NewReader([]byte(in))} }

func v4(s string) Address { return Address{AddrPort: netip.MustParseAddrPort(s)} }
func named(name string, port uint16) Address {
	return Address{Name: name, AddrPort: netip.AddrPortFrom(netip.Addr{}, port)}
}

// What one side writes the other reads, and nothing beyond.
func TestRequests(t *testing.T) {
	for _, to := range []Address{
		v4("203.0.113.9:80"), v4("[2001:db8::1]:443"), v4("0.0.0.0:0"),
		named("example.com", 8080), named(strings.Repeat("n", 255), 65535), named("a\x00\xff b", 1),
	} {
		b, err := appendRequest(nil, to)
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(append(b, "data"...))
		got, err := ReadRequest(r)
		if err != nil || got != to || r.Len() != len("data") {
			t.Errorf("%v is read as %v, %v; %d bytes are left", to, got, err, r.Len())
		}
	}
	// A mapped address has one form only.
	b, _ := appendRequest(nil, v4("[::ffff:10.0.0.1]:80"))
	if got, err := ReadRequest(bytes.NewReader(b)); err != nil || got != v4("10.0.0.1:80") {
		t.Errorf("%v, %v", got, err)
	}
	b = append([]byte{5, 1, 0, 4}, append(netip.MustParseAddr("::ffff:10.0.0.1").AsSlice(), 0, 80)...)
	if got, err := ReadRequest(bytes.NewReader(b)); err != nil || got != v4("10.0.0.1:80") {
		t.Errorf("%v, %v", got, err)
	}
}

func TestBadRequests(t *testing.T) {
	for in, want := range map[string]Reply{
		"\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50": ReplyFailure,
		"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50": ReplyCommand,
		"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50": ReplyCommand,
		"\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50": ReplyAddressType,
		"\x05\x01\x00\x03\x00\x00\x50":             ReplyNotAllowed,
	} {
		var refused *ReplyError
		if _, err := ReadRequest(strings.NewReader(in)); !errors.As(err, &refused) || refused.Reply != want {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
	whole := "\x05\x01\x00\x03\x03abc\x00\x50"
	for n := range len(whole) {
		_, err := ReadRequest(strings.NewReader(whole[:n]))
		if want := io.ErrUnexpectedEOF; n > 0 && !errors.Is(err, want) || n == 0 && !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v", whole[:n], err)
		}
	}
}

func TestGreetings(t *testing.T) {
	for _, c := range []struct {
		in, out string
		ours    []Method
		want    Method
		fails   bool
	}{
		{"\x05\x01\x00", "\x05\x00", []Method{MethodNone}, MethodNone, false},
		{"\x05\x01\x00", "\x05\x00", []Method{MethodStream, MethodNone}, MethodNone, false},
		{"\x05\x02\x00\x80", "\x05\x80", []Method{MethodStream, MethodNone}, MethodStream, false},
		{"\x05\x01\x80", "\x05\xff", []Method{MethodNone}, 0, true},
		{"\x05\x00", "\x05\xff", []Method{MethodNone}, 0, true},
		{"\x05\x01\xff", "\x05\xff", []Method{MethodNone}, 0, true},
		{"\x04\x01\x00", "", []Method{MethodNone}, 0, true},
		{"\x05\x02\x00", "", []Method{MethodNone}, 0, true},
	} {
		s := says(c.in)
		got, err := ReadGreeting(s, c.ours...)
		if got != c.want || (err != nil) != c.fails || s.out.String() != c.out {
			t.Errorf("%q: %v, %v, answer %q; want %v, %q", c.in, got, err, s.out.String(), c.want, c.out)
		}
	}
}

func TestWriteReply(t *testing.T) {
	for addr, want := range map[netip.AddrPort]string{
		{}: "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
		netip.MustParseAddrPort("127.0.0.1:8080"):          "\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90",
		netip.MustParseAddrPort("[::1]:80"):                "\x05\x00\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x50",
		netip.MustParseAddrPort("[::ffff:127.0.0.1]:8080"): "\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90",
	} {
		var b bytes.Buffer
		if err := WriteReply(&b, ReplySucceeded, addr); err != nil || b.String() != want {
			t.Errorf("%v: %q, %v; want %q", addr, b.String(), err, want)
		}
	}
}

// An error of connect(2) crosses the protocol as it is.
func TestErrnos(t *testing.T) {
	for _, errno := range []syscall.Errno{
		syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ETIMEDOUT, syscall.EPERM,
	} {
		host := fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)})
		reply := ReplyFor(host)
		s := says("\x05\x00\x05" + string([]byte{byte(reply)}) + "\x00\x01\x00\x00\x00\x00\x00\x00rest")
		err := Connect(context.Background(), s, v4("203.0.113.9:80"))
		if !errors.Is(err, errno) {
			t.Errorf("%v is reply %v, which is %v", errno, reply, err)
		}
		if again := ReplyFor(err); again != reply {
			t.Errorf("%v is reply %v once and %v twice", errno, reply, again)
		}
	}
	for err, want := range map[error]Reply{
		nil:                      ReplySucceeded,
		syscall.EACCES:           ReplyNotAllowed,
		syscall.EADDRNOTAVAIL:    ReplyHostUnreachable,
		context.DeadlineExceeded: ReplyTimeout,
		os.ErrDeadlineExceeded:   ReplyTimeout,
		syscall.EMFILE:           ReplyFailure,
		context.Canceled:         ReplyFailure,
	} {
		if got := ReplyFor(err); got != want {
			t.Errorf("%v is reply %v, want %v", err, got, want)
		}
	}
	for r := range Reply(20) {
		if r != ReplySucceeded && r.Errno() == 0 {
			t.Errorf("%v is no error", r)
		}
	}
}

func TestConnect(t *testing.T) {
	const reply = "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"
	me := url.UserPassword("me", "secret")
	for what, c := range map[string]struct {
		user     *url.Userinfo
		in, sent string
		fails    string
	}{
		"no user":           {nil, "\x05\x00" + reply, "\x05\x01\x00" + "\x05\x01\x00\x03\x01x\x00\x50", ""},
		"a name in a reply": {nil, "\x05\x00\x05\x00\x00\x03\x02ab\x00\x50", "\x05\x01\x00" + "\x05\x01\x00\x03\x01x\x00\x50", ""},
		"a user unasked":    {me, "\x05\x00" + reply, "\x05\x02\x00\x02" + "\x05\x01\x00\x03\x01x\x00\x50", ""},
		"a user":            {me, "\x05\x02\x01\x00" + reply, "\x05\x02\x00\x02" + "\x01\x02me\x06secret" + "\x05\x01\x00\x03\x01x\x00\x50", ""},
		"a wrong password":  {me, "\x05\x02\x01\x01", "\x05\x02\x00\x02" + "\x01\x02me\x06secret", "does not take the user name"},
		"a user is wanted":  {nil, "\x05\xff", "\x05\x01\x00", "wants a user name"},
		"no common method":  {me, "\x05\xff", "\x05\x02\x00\x02", "none of the authentication methods"},
		"not offered":       {nil, "\x05\x02", "\x05\x01\x00", "not offered"},
		"HTTP":              {nil, "HTTP/1.1 400", "\x05\x01\x00", "no SOCKS5 server"},
		"a hang-up":         {nil, "\x05", "\x05\x01\x00", "unexpected EOF"},
		"a short reply":     {nil, "\x05\x00\x05\x00\x00\x01\x7f", "\x05\x01\x00" + "\x05\x01\x00\x03\x01x\x00\x50", "unexpected EOF"},
		"a strange reply":   {nil, "\x05\x00\x05\x00\x00\x09\x7f", "\x05\x01\x00" + "\x05\x01\x00\x03\x01x\x00\x50", "address type 9"},
	} {
		s := says(c.in + "data")
		if c.fails != "" {
			s = says(c.in)
		}
		err := ConnectAs(context.Background(), s, named("x", 80), c.user)
		if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%s: %v, want %q", what, err, c.fails)
		}
		if got := s.out.String(); got != c.sent {
			t.Errorf("%s: it is sent %q, want %q", what, got, c.sent)
		}
		if rest, _ := io.ReadAll(s.in); c.fails == "" && string(rest) != "data" {
			t.Errorf("%s: it leaves %q", what, rest)
		}
	}
	for what, to := range map[string]Address{"nothing": {}, "a long name": named(strings.Repeat("x", 256), 1)} {
		s := says("\x05\x00" + reply)
		if err := Connect(context.Background(), s, to); !errors.Is(err, syscall.EHOSTUNREACH) || s.out.Len() > 0 {
			t.Errorf("%s: %v, sent %q", what, err, s.out.String())
		}
	}
}

// The end of the context ends a handshake with a server that is silent.
func TestConnectEnds(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = theirs.Read(make([]byte, 3))
		cancel()
	}()
	if err := Connect(ctx, ours, v4("203.0.113.9:80")); !errors.Is(err, context.Canceled) {
		t.Errorf("Connect: %v", err)
	}
	if _, err := ConnectStream(ctx, ours, v4("203.0.113.9:80")); !errors.Is(err, context.Canceled) {
		t.Errorf("ConnectStream: %v", err)
	}
	if _, err := ours.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("ConnectStream leaves the connection open: %v", err)
	}
}

// A stream's client and server agree, and the first data may follow at once.
func TestConnectStream(t *testing.T) {
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			if m, err := ReadGreeting(theirs, MethodStream, MethodNone); err != nil || m != MethodStream {
				return fmt.Errorf("method %v, %v", m, err)
			}
			if to, err := ReadRequest(theirs); err != nil || to != v4("203.0.113.9:80") {
				return fmt.Errorf("request %v, %v", to, err)
			}
			return WriteReply(theirs, ReplySucceeded, netip.AddrPort{})
		}()
	}()
	// A pipe has no buffer, and the client writes all before it reads.
	s, err := ConnectStream(context.Background(), buffered{ours}, v4("203.0.113.9:80"))
	if err != nil {
		t.Fatal(err, <-served)
	}
	defer s.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// buffered is a connection that takes a small write at once.
type buffered struct{ net.Conn }

func (b buffered) Write(p []byte) (int, error) {
	go b.Conn.Write(bytes.Clone(p))
	return len(p), nil
}

func TestAddressString(t *testing.T) {
	for want, a := range map[string]Address{
		"203.0.113.9:80":       v4("203.0.113.9:80"),
		"[2001:db8::1]:80":     v4("[2001:db8::1]:80"),
		"example.com:80":       named("example.com", 80),
		`"evil\nname":80`:      named("evil\nname", 80),
		`["with:colon\x00"]:1`: named("with:colon\x00", 1),
	} {
		if got := a.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, a := range []Address{v4("127.0.0.1:80"), v4("[::1]:80"), named("localhost", 80)} {
		b, _ := appendRequest(nil, a)
		f.Add(b)
	}
	f.Add([]byte{5, 1, 0, 3, 255, 'a'})
	f.Add([]byte{5, 1, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := ReadRequest(r)
		used := len(b) - r.Len()
		if used > 4+1+255+2 {
			t.Errorf("%x: %d bytes are read", b, used)
		}
		if err != nil {
			return
		}
		if again, err := appendRequest(nil, a); err != nil || !bytes.Equal(again[3:], b[3:used]) && b[3] != typeIPv6 {
			t.Errorf("%x is written back as %x, %v", b[:used], again, err)
		}
	})
}

func FuzzReadGreeting(f *testing.F) {
	f.Add([]byte{5, 1, 0})
	f.Add([]byte{5, 2, 0, 0x80})
	f.Add([]byte{5, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := says(string(b))
		m, err := ReadGreeting(s, MethodStream, MethodNone)
		if err == nil && s.out.String() != string([]byte{5, byte(m)}) {
			t.Errorf("%x is answered with %q", b, s.out.String())
		}
	})
}

func FuzzConnect(f *testing.F) {
	f.Add("\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
	f.Add("\x05\x02\x01\x00\x05\x05\x00\x03\x01x\x00\x50")
	f.Fuzz(func(t *testing.T, in string) {
		s := says(in)
		err := ConnectAs(context.Background(), s, named("x", 80), url.UserPassword("a", "b"))
		if used := len(in) - s.in.Len(); used > 2+2+4+1+255+2 || err == nil && used < 2+4+1+2 {
			t.Errorf("%q: %d bytes are read, %v", in, used, err)
		}
	})
}
