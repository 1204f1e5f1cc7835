//go:build linux

package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// A host takes console connections, which are Unix sockets here.
type host struct {
	t     *testing.T
	mu    sync.Mutex
	conns map[wire.Stream]*net.UnixConn
}

func newHost(t *testing.T) *host { return &host{t: t, conns: map[wire.Stream]*net.UnixConn{}} }

func (h *host) dial(context.Context) (Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	guest, host := unixConn(h.t, pair[0]), unixConn(h.t, pair[1])
	h.t.Cleanup(func() { guest.Close(); host.Close() })
	return &helloConn{UnixConn: guest, host: h, end: host}, nil
}

// A helloConn hands the host's end over once the hello was written.
type helloConn struct {
	*net.UnixConn
	host *host
	end  *net.UnixConn
	said sync.Once
}

func (c *helloConn) Write(b []byte) (int, error) {
	n, err := c.UnixConn.Write(b)
	c.said.Do(func() {
		s, err := wire.ReadConsoleHello(c.end)
		if err != nil {
			c.host.t.Error(err)
			return
		}
		c.host.mu.Lock()
		c.host.conns[s] = c.end
		c.host.mu.Unlock()
	})
	return n, err
}

func unixConn(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "conn")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.UnixConn)
}

// dup is what the container holds after the agent closed its copy.
func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := os.NewFile(uintptr(fd), "container")
	t.Cleanup(func() { d.Close() })
	return d
}

type pipes struct {
	*Pipes
	host                  *host
	stdin, stdout, stderr *os.File // the container's
}

func openPipes(t *testing.T) pipes {
	t.Helper()
	h := newHost(t)
	p, err := OpenPipes(t.Context(), h.dial)
	if err != nil {
		t.Fatal(err)
	}
	c := pipes{p, h, dup(t, p.Stdin), dup(t, p.Stdout), dup(t, p.Stderr)}
	p.Start()
	t.Cleanup(p.Close)
	return c
}

func TestContainerEndsBlock(t *testing.T) {
	p := openPipes(t)
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("the flags of a container's stream are %#x, %v", flags, err)
		}
	}
}

func TestOutputArrivesWhole(t *testing.T) {
	p := openPipes(t)
	data := bytes.Repeat([]byte("0123456789abcdef\x00\xff"), 100_000)
	go func() {
		_, _ = p.stdout.Write(data)
		p.stdout.Close()
		_, _ = io.WriteString(p.stderr, "oh")
		p.stderr.Close()
	}()
	got, err := io.ReadAll(p.host.conns[wire.Stdout])
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), len(data), err)
	}
	if got, err := io.ReadAll(p.host.conns[wire.Stderr]); err != nil || string(got) != "oh" {
		t.Errorf("stderr is %q, %v", got, err)
	}
}

// Finish waits for the host to close what it has read to the end.
func TestFinishWaitsForTheHost(t *testing.T) {
	p := openPipes(t)
	_, _ = io.WriteString(p.stdout, "last words")
	p.stdout.Close()
	p.stderr.Close()
	finished := make(chan struct{})
	go func() {
		p.Finish(t.Context())
		close(finished)
	}()
	got, err := io.ReadAll(p.host.conns[wire.Stdout])
	if err != nil || string(got) != "last words" {
		t.Errorf("stdout is %q, %v", got, err)
	}
	select {
	case <-finished:
		t.Error("Finish returned before the host closed its end")
	default:
	}
	p.host.conns[wire.Stdout].Close()
	p.host.conns[wire.Stderr].Close()
	<-finished
}

func TestFinishEndsWithItsContext(t *testing.T) {
	p := openPipes(t) // its container does not even close its ends
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Finish(ctx)
	if _, err := p.stdout.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("writing after the end: %v", err)
	}
}

func TestInputAndItsEnd(t *testing.T) {
	p := openPipes(t)
	h := p.host.conns[wire.Stdin]
	_, _ = io.WriteString(h, "typed")
	if err := h.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(p.stdin)
	if err != nil || string(got) != "typed" {
		t.Errorf("the container reads %q, %v", got, err)
	}
}

// A container that no longer reads makes the host's writing fail.
func TestContainerDoesNotRead(t *testing.T) {
	p := openPipes(t)
	p.stdin.Close()
	h := p.host.conns[wire.Stdin]
	for {
		if _, err := h.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if _, err := io.ReadAll(h); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the host reads %v", err)
	}
}

// A host that no longer reads makes the container's writing fail, also when
// it has nothing to write at that moment.
func TestHostDoesNotRead(t *testing.T) {
	p := openPipes(t)
	p.host.conns[wire.Stdout].Close()
	poll := []unix.PollFd{{Fd: int32(p.stdout.Fd())}}
	if n, err := unix.Poll(poll, -1); n != 1 || err != nil || poll[0].Revents&unix.POLLERR == 0 {
		t.Errorf("the container's end is %#x, %v", poll[0].Revents, err)
	}
	if _, err := p.stdout.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("writing is %v", err)
	}
	// The other stream lives.
	_, _ = io.WriteString(p.stderr, "oh")
	p.stderr.Close()
	if got, err := io.ReadAll(p.host.conns[wire.Stderr]); err != nil || string(got) != "oh" {
		t.Errorf("stderr is %q, %v", got, err)
	}
}

func TestOpenFails(t *testing.T) {
	broken := errors.New("no route")
	for after := range 3 {
		h := newHost(t)
		n := 0
		dial := func(ctx context.Context) (Conn, error) {
			if n++; n > after {
				return nil, broken
			}
			return h.dial(ctx)
		}
		if _, err := OpenPipes(t.Context(), dial); !errors.Is(err, broken) {
			t.Errorf("after %d connections: %v", after, err)
		}
	}
}

func openTerminal(t *testing.T) (*Terminal, *net.UnixConn, *os.File) {
	t.Helper()
	h := newHost(t)
	term, err := OpenTerminal(t.Context(), h.dial)
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Resize(1, 1); err != nil {
		t.Errorf("resize before the start: %v", err)
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	// As the agent has it from runc.
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master.Close()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	term.Start(os.NewFile(uintptr(fd), "master"))
	t.Cleanup(term.Close)
	return term, h.conns[wire.TTY], slave
}

func TestTerminal(t *testing.T) {
	term, host, slave := openTerminal(t)
	if err := term.Resize(33, 99); err != nil {
		t.Fatal(err)
	}
	if size, err := pty.GetsizeFull(slave); err != nil || size.Rows != 33 || size.Cols != 99 {
		t.Errorf("the size is %+v, %v", size, err)
	}
	if err := term.Resize(0, 5); err != nil {
		t.Errorf("an impossible size: %v", err)
	}
	_, _ = io.WriteString(host, "typed\r")
	line := make([]byte, 100)
	if n, err := slave.Read(line); err != nil || string(line[:n]) != "typed\n" {
		t.Errorf("the container reads %q, %v", line[:n], err)
	}
	_, _ = io.WriteString(slave, "shown\n")
	slave.Close()
	got, err := io.ReadAll(host)
	if err != nil || !strings.HasSuffix(string(got), "shown\r\n") {
		t.Errorf("the terminal shows %q, %v", got, err)
	}
	// What is typed now goes nowhere, and does not end the wait for the host.
	_, _ = io.WriteString(host, "too late\r")
	finished := make(chan struct{})
	go func() {
		term.Finish(t.Context())
		close(finished)
	}()
	select {
	case <-finished:
		t.Error("Finish returned before the host closed its end")
	default:
	}
	host.Close()
	<-finished
	if err := term.Resize(5, 5); err != nil {
		t.Errorf("resize after the end: %v", err)
	}
}

// A host that is gone hangs the terminal up.
func TestHangUp(t *testing.T) {
	_, host, slave := openTerminal(t)
	host.Close()
	if n, err := slave.Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("the container reads %d bytes, %v", n, err)
	}
}
