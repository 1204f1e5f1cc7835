package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"bake/internal/wire"
)

// guest opens streams as the agent does.
type guest struct {
	t    *testing.T
	addr string
}

func (g guest) open(s wire.Stream) *net.UnixConn {
	g.t.Helper()
	conn, err := net.Dial("unix", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := wire.WriteConsoleHello(conn, s); err != nil {
		g.t.Fatal(err)
	}
	return conn.(*net.UnixConn)
}

// start serves s and returns a guest for it and Serve's result.
func start(t *testing.T, ctx context.Context, s Streams) (guest, chan error) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, s) }()
	return guest{t, ln.Addr().String()}, done
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(b)
	return b
}

func TestPipeModeCarriesThreeStreams(t *testing.T) {
	stdin, feed := pipe(t)
	var stdout, stderr bytes.Buffer
	g, done := start(t, t.Context(), Streams{Stdin: stdin, Stdout: &stdout, Stderr: &stderr})
	in, out, errs := g.open(wire.Stdin), g.open(wire.Stdout), g.open(wire.Stderr)
	defer in.Close()

	sent := noise(3 << 20)
	go func() { feed.Write(sent); feed.Close() }()
	got, err := io.ReadAll(in) // ends: end of file is carried
	if err != nil || sha256.Sum256(got) != sha256.Sum256(sent) {
		t.Fatalf("stdin: %d bytes, %v", len(got), err)
	}
	for _, c := range []*net.UnixConn{out, errs} {
		c.Write(sent[:1<<20])
		c.CloseWrite()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the host did not say that it has everything: %v", err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !bytes.Equal(stdout.Bytes(), sent[:1<<20]) || !bytes.Equal(stderr.Bytes(), sent[:1<<20]) {
		t.Errorf("stdout has %d bytes and stderr %d, want 1 MiB each", stdout.Len(), stderr.Len())
	}
}

// A command that ends while our stdin stays open ends the console.
func TestOpenStdinDoesNotHoldTheEndUp(t *testing.T) {
	stdin, _ := pipe(t)
	g, done := start(t, t.Context(), Streams{Stdin: stdin, Stdout: io.Discard, Stderr: io.Discard})
	in := g.open(wire.Stdin)
	g.open(wire.Stdout).CloseWrite()
	g.open(wire.Stderr).CloseWrite()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := in.Read(make([]byte, 1)); err == nil {
		t.Error("stdin gave a byte that nobody wrote")
	}
}

// brokenPipe is an output whose reader has gone.
func TestBrokenPipeClosesTheGuestsStream(t *testing.T) {
	r, w := pipe(t)
	r.Close()
	stdin, _ := pipe(t)
	g, done := start(t, t.Context(), Streams{Stdin: stdin, Stdout: w, Stderr: io.Discard})
	out := g.open(wire.Stdout)
	var err error
	for range 1000 {
		if _, err = out.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("the guest could write for ever to an output that nobody reads")
	}
	g.open(wire.Stderr).CloseWrite()
	if err := <-done; err != nil {
		t.Errorf("a reader that went away was reported as an error: %v", err)
	}
}

func TestTerminalModeIsOneStream(t *testing.T) {
	stdin, feed := pipe(t)
	var stdout bytes.Buffer
	g, done := start(t, t.Context(), Streams{Stdin: stdin, Stdout: &stdout, Terminal: true})
	tty := g.open(wire.TTY)
	feed.Write([]byte("typed"))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(tty, buf); err != nil || string(buf) != "typed" {
		t.Fatalf("got %q, %v", buf, err)
	}
	feed.Close()
	if _, err := io.ReadFull(tty, buf[:2]); err != nil || string(buf[:2]) != "\x04\x04" {
		t.Fatalf("the end inside a line is typed as %q, %v", buf[:2], err)
	}
	tty.Write([]byte("shown"))
	tty.CloseWrite()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if stdout.String() != "shown" {
		t.Errorf("stdout has %q", stdout.String())
	}
}

func TestHostileStreams(t *testing.T) {
	stdin, _ := pipe(t)
	shown, stdout := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	g, done := start(t, ctx, Streams{Stdin: stdin, Stdout: stdout, Stderr: io.Discard})
	first := g.open(wire.Stdout)
	first.Write([]byte("first"))
	buf := make([]byte, 5) // once it is there, the stream is taken
	if _, err := io.ReadFull(shown, buf); err != nil || string(buf) != "first" {
		t.Fatalf("stdout has %q, %v", buf, err)
	}
	for _, s := range []wire.Stream{wire.Stdout, wire.TTY, "root"} {
		c := g.open(s)
		c.Write([]byte("second"))
		if _, err := io.Copy(io.Discard, c); err != nil && s == "" {
			t.Error(err)
		}
	}
	first.CloseWrite()
	rest, err := io.ReadAll(shown) // its writer is closed with the stream
	cancel()
	<-done
	if err != nil || len(rest) > 0 {
		t.Errorf("stdout has %q behind that, %v: a second connection could write to it", rest, err)
	}
}

func TestRegularFileAndDevNullAsStdin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{path: "from a file", os.DevNull: ""} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ctx, cancel := context.WithCancel(t.Context())
		g, done := start(t, ctx, Streams{Stdin: f, Stdout: io.Discard, Stderr: io.Discard})
		in := g.open(wire.Stdin)
		got, err := io.ReadAll(in)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		cancel()
		<-done
	}
}
