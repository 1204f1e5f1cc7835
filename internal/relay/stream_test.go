package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

// unixPair is two ends of a Unix stream, as the host's end of vsock is.
func unixPair(t testing.TB) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.UnixConn), b.(*net.UnixConn)
}

func frame(payload string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(payload)))) + payload
}

const fin = "\x00\x00\x00\x00"

// decode is what a stream of b says, by a reader without state.
func decode(b []byte) (payload []byte, end error) {
	for {
		if len(b) < headSize {
			return payload, syscall.ECONNRESET
		}
		n := uint64(binary.BigEndian.Uint32(b))
		b = b[headSize:]
		if n == 0 {
			return payload, io.EOF
		}
		if n > uint64(len(b)) {
			return append(payload, b...), syscall.ECONNRESET
		}
		payload, b = append(payload, b[:n]...), b[n:]
	}
}

// A fakeConn is read from r, and from nothing else.
type fakeConn struct {
	net.Conn
	r io.Reader
}

func (c fakeConn) Read(b []byte) (int, error) { return c.r.Read(b) }
func (fakeConn) LocalAddr() net.Addr          { return nil }
func (fakeConn) RemoteAddr() net.Addr         { return nil }

func TestDecode(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 3*bufferSize/16)
	for name, in := range map[string]string{
		"nothing":        "",
		"FIN":            fin,
		"half a head":    "\x00\x00",
		"one":            frame("hello") + fin,
		"without FIN":    frame("hello"),
		"cut":            frame("hello")[:6],
		"many":           frame("a") + frame("bc") + frame("def") + fin,
		"long":           frame(long) + frame(long) + fin,
		"long, no FIN":   frame(long),
		"boundless":      "\xff\xff\xff\xffdata",
		"many and a cut": frame("a") + frame("bc") + "\x00",
	} {
		t.Run(name, func(t *testing.T) { checkDecode(t, []byte(in)) })
	}
}

func checkDecode(t *testing.T, in []byte) {
	t.Helper()
	want, wantErr := decode(in)
	check := func(how string, got []byte, err error) {
		t.Helper()
		if err == nil {
			err = io.EOF // io.ReadAll and WriteTo
		}
		if !bytes.Equal(got, want) || !errors.Is(err, wantErr) {
			t.Errorf("%s: %d bytes, %v; want %d bytes, %v", how, len(got), err, len(want), wantErr)
		}
	}
	for how, r := range map[string]func() io.Reader{
		"whole":   func() io.Reader { return bytes.NewReader(in) },
		"bytes":   func() io.Reader { return iotest.OneByteReader(bytes.NewReader(in)) },
		"halves":  func() io.Reader { return iotest.HalfReader(bytes.NewReader(in)) },
		"EOF too": func() io.Reader { return iotest.DataErrReader(bytes.NewReader(in)) },
	} {
		got, err := io.ReadAll(NewStream(fakeConn{r: r()}))
		check(how+" by Read", got, err)
		got, err = io.ReadAll(iotest.OneByteReader(NewStream(fakeConn{r: r()})))
		check(how+" by Read of a byte", got, err)
		var out bytes.Buffer
		_, err = NewStream(fakeConn{r: r()}).WriteTo(&out)
		check(how+" by WriteTo", out.Bytes(), err)
	}
}

// Who sends on after FIN is out of step.
func TestAfterFIN(t *testing.T) {
	s := NewStream(fakeConn{r: strings.NewReader(frame("x") + fin + "y")})
	got, err := io.ReadAll(s)
	if string(got) != "x" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("then: %v", err)
	}
}

func TestStream(t *testing.T) {
	ua, ub := unixPair(t)
	a, b := NewStream(ua), NewStream(ub)
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	sent := make(chan error, 1)
	go func() {
		_, err := a.Write(data[:1])
		if err == nil {
			_, err = a.Write(data[1:200_000])
		}
		if err == nil {
			_, err = a.ReadFrom(bytes.NewReader(data[200_000:]))
		}
		sent <- errors.Join(err, a.CloseWrite(), a.CloseWrite())
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after FIN: %v", err)
	}
	if _, err := a.ReadFrom(strings.NewReader("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("ReadFrom after FIN: %v", err)
	}
	// The other direction lives on, and breaks.
	if _, err := b.Write([]byte("back")); err != nil {
		t.Fatal(err)
	}
	b.Close()
	got, err = io.ReadAll(a)
	if string(got) != "back" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v; want a reset", got, err)
	}
}

// A read that met its deadline lost nothing.
func TestReadDeadline(t *testing.T) {
	ua, ub := unixPair(t)
	b := NewStream(ub)
	all := frame("hello") + fin
	if _, err := io.WriteString(ua, all[:6]); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	n, err := b.Read(p)
	if string(p[:n]) != "he" || err != nil {
		t.Fatalf("%q, %v", p[:n], err)
	}
	if err := b.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
	if _, err := b.WriteTo(io.Discard); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("WriteTo: %v", err)
	}
	_ = b.SetReadDeadline(time.Time{})
	if _, err := io.WriteString(ua, all[6:]); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != "llo" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(frame("hello") + frame("you") + fin))
	f.Add([]byte(frame("hello")[:7]))
	f.Add([]byte("\xff\xff\xff\xff..."))
	f.Fuzz(func(t *testing.T, b []byte) {
		// What follows FIN is another test's.
		rest, end := b, 0
		for len(rest) >= headSize {
			n := int(binary.BigEndian.Uint32(rest))
			if n == 0 {
				end += headSize
				b = b[:end]
				break
			}
			n = min(n, len(rest)-headSize)
			rest, end = rest[headSize+n:], end+headSize+n
		}
		checkDecode(t, b)
	})
}
