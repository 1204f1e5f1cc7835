package vsock

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var _ Conn = (*net.UnixConn)(nil)

// socketDir is short: t.TempDir names the test, and a socket path is bounded.
func socketDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "vs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serve plays the machine's side of one connection on PATH.
func serve(t testing.TB, path string, answer func(*net.UnixConn)) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		answer(conn)
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func TestDialHandshake(t *testing.T) {
	tests := []struct {
		name    string
		reply   string
		want    string // part of the error; empty: success
		refused bool
	}{
		{name: "accepted", reply: "OK 1073741824\nhello"},
		{name: "refused", reply: "", want: "no process in the guest", refused: true},
		{name: "refused halfway", reply: "OK 1", want: "no process in the guest", refused: true},
		{name: "not a number", reply: "OK x\n", want: `not "OK <port>"`},
		{name: "number too large", reply: "OK 4294967296\n", want: `not "OK <port>"`},
		{name: "other word", reply: "NO 1\n", want: `not "OK <port>"`},
		{name: "endless line", reply: strings.Repeat("O", 4096), want: "longer than"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := Hybrid{Path: filepath.Join(socketDir(t), "v.sock")}
			var request string
			serve(t, h.Path, func(c *net.UnixConn) {
				request, _ = bufio.NewReader(c).ReadString('\n')
				io.WriteString(c, test.reply)
			})
			conn, err := h.Dial(t.Context(), 4294967294)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("error %v, want one with %q", err, test.want)
				}
				if got := errors.Is(err, ErrRefused); got != test.refused {
					t.Errorf("errors.Is(%v, ErrRefused) = %v", err, got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			rest, err := io.ReadAll(conn)
			if err != nil || string(rest) != "hello" {
				t.Errorf("after OK read %q, %v; want %q", rest, err, "hello")
			}
			if want := "CONNECT 4294967294\n"; request != want {
				t.Errorf("the machine read %q, want %q", request, want)
			}
		})
	}
}

func TestDialHonoursContext(t *testing.T) {
	h := Hybrid{Path: filepath.Join(socketDir(t), "v.sock")}
	accepted := make(chan struct{})
	serve(t, h.Path, func(c *net.UnixConn) {
		close(accepted)
		io.Copy(io.Discard, c) // reads the line and never answers
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-accepted; cancel() }()
	conn, err := h.Dial(ctx, 1)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Dial = %v, %v; want context.Canceled", conn, err)
	}
}

func TestDialContextEndsWithHandshakeOnly(t *testing.T) {
	h := Hybrid{Path: filepath.Join(socketDir(t), "v.sock")}
	serve(t, h.Path, func(c *net.UnixConn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "OK 1\n")
		io.Copy(c, c)
	})
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := h.Dial(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	if _, err := io.WriteString(conn, "still here"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "still here" {
		t.Errorf("echo = %q, %v", got, err)
	}
}

func TestDialNobodyThere(t *testing.T) {
	h := Hybrid{Path: filepath.Join(socketDir(t), "absent")}
	_, err := h.Dial(t.Context(), 5)
	if !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrRefused) {
		t.Errorf("Dial = %v, want one that wraps os.ErrNotExist and not ErrRefused", err)
	}
}

func TestDialWaitsForBacklog(t *testing.T) {
	path := filepath.Join(socketDir(t), "v.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// A backlog of 0 holds one: the second Dial finds it full.
	first, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (Hybrid{path}).Dial(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("with a full backlog Dial = %v, want deadline exceeded", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2 {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if line, _ := bufio.NewReader(c).ReadString('\n'); line != "" {
				io.WriteString(c, "OK 7\n")
			}
		}
	})
	first.Close()
	conn, err := (Hybrid{path}).Dial(t.Context(), 1)
	if err != nil {
		t.Fatalf("after the backlog had room: %v", err)
	}
	conn.Close()
	wg.Wait()
}

func TestListen(t *testing.T) {
	h := Hybrid{Path: filepath.Join(socketDir(t), "v.sock")}
	l, err := h.Listen(15)
	if err != nil {
		t.Fatal(err)
	}
	path := h.Path + "_15"
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Listen(15); err == nil || !strings.Contains(err.Error(), "left it behind") {
		t.Errorf("second Listen = %v, want an error that names the leftover", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "question")
		conn.(Conn).CloseWrite()
		if got, err := io.ReadAll(conn); err != nil || string(got) != "answer" {
			t.Errorf("guest read %q, %v", got, err)
		}
	})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "question" {
		t.Errorf("host read %q, %v", got, err)
	}
	io.WriteString(conn, "answer")
	conn.Close()
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close the socket is still there: %v", err)
	}
}

func TestLongPath(t *testing.T) {
	dir := socketDir(t)
	// PATH itself fits and PATH_<port> does not.
	path := filepath.Join(dir, strings.Repeat("p", maxPath-len(dir)-1))
	if len(path) != maxPath {
		t.Fatalf("the test's path has %d bytes, want %d", len(path), maxPath)
	}
	want := fmt.Sprintf("holds %d; use a shorter directory", maxPath)
	if _, err := (Hybrid{path}).Listen(1); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Listen = %v, want %q", err, want)
	}
	if _, err := (Hybrid{path + "p"}).Dial(t.Context(), 1); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Dial = %v, want %q", err, want)
	}
	if _, err := (Hybrid{path}).Dial(t.Context(), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Dial of a path that fits = %v, want not exist", err)
	}
}

// FuzzHandshake feeds the client any answer: it must end, and accept only
// what the convention says.
func FuzzHandshake(f *testing.F) {
	for _, seed := range []string{"OK 1\n", "OK 4294967295\nrest", "", "OK", "OK \n", "OK -1\n", "\n", "ok 1\n", "OK 1 2\n", strings.Repeat("9", 64)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		conn := &scripted{Reader: bytes.NewReader(reply)}
		err := handshake(conn, 52)
		if conn.written.String() != "CONNECT 52\n" {
			t.Fatalf("wrote %q", conn.written.String())
		}
		line, _, found := bytes.Cut(reply, []byte("\n"))
		if err != nil {
			return
		}
		if !found || !bytes.HasPrefix(line, []byte("OK ")) {
			t.Fatalf("accepted %q", reply)
		}
		if rest := conn.Reader.Len(); rest != len(reply)-len(line)-1 {
			t.Fatalf("%d bytes left of %q: the line took too much or too little", rest, reply)
		}
	})
}

// scripted is a peer whose answer is known beforehand.
type scripted struct {
	net.Conn
	*bytes.Reader
	written bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error)  { return s.Reader.Read(p) }
func (s *scripted) Write(p []byte) (int, error) { return s.written.Write(p) }
