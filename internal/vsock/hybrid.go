// Package vsock gives a host net.Conn and net.Listener ends of a guest's
// vsock, over the "hybrid" Unix-socket convention that Firecracker defined and
// that bake's own vhost-user back end follows (Firecracker,
// docs/vsock.md, "Firecracker Virtio-vsock Design"):
//
//   - Host to guest: connect to the Unix socket PATH and write
//     "CONNECT <port>\n". When a guest process listens on that port the answer
//     is "OK <n>\n", n being the port that stands for the host's end, and the
//     socket is then the raw stream. When none listens, the socket is closed.
//   - Guest to host: a guest that connects to port P of the host (CID 2)
//     reaches whoever listens on the Unix socket PATH_P.
//
// The package knows nothing of what is said over the streams, nor of who
// serves PATH. It does not speak AF_VSOCK: that is the guest's side.
package vsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrRefused says that the machine is there but no process in it listens on
// the port (yet). It is what a caller that waits for a guest to come up tries
// again on.
var ErrRefused = errors.New("no process in the guest listens on this port")

// maxPath is the longest path a Unix socket address holds, without the NUL
// that ends it: 107 bytes on Linux (unix(7)), 103 on Darwin.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// maxReply bounds the answer to CONNECT: "OK 4294967295\n" is 14 bytes.
const maxReply = 32

// backlogRetry is how long Dial waits before it tries a full backlog again. A
// Unix socket has no event for room in a backlog: connect(2) answers EAGAIN.
const backlogRetry = 5 * time.Millisecond

// A Conn is what Dial returns and what the listeners accept: a stream with
// half-close. CloseWrite ends the sending direction; the peer, in the guest or
// on the host, reads EOF and can still send.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Hybrid is the host's end of one machine's vsock.
type Hybrid struct {
	// Path is the Unix socket PATH that takes CONNECT lines. It also names
	// the sockets PATH_<port> for what the guest dials. At most 107 bytes on
	// Linux and 103 on Darwin, the "_<port>" included.
	Path string
}

// Dial connects to a port in the guest. It tries once: an error that wraps
// [ErrRefused] means that no guest process listens there. ctx bounds the
// attempt and has no effect on the connection that is returned, which is a
// [Conn].
func (h Hybrid) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	conn, err := h.dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of the guest behind %s: %w", port, h.Path, err)
	}
	return conn, nil
}

func (h Hybrid) dial(ctx context.Context, port uint32) (*net.UnixConn, error) {
	if err := checkPath(h.Path); err != nil {
		return nil, err
	}
	conn, err := connect(ctx, h.Path)
	if err != nil {
		return nil, err
	}
	// A context has no descriptor to wait on: its end moves the deadline into
	// the past, which wakes the read or write under way.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = handshake(conn, port)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if cause := ctx.Err(); cause != nil {
			return nil, fmt.Errorf("the machine did not answer in time: %w", cause)
		}
		return nil, err
	}
	return conn, nil
}

// connect opens the Unix socket, waiting while its backlog is full.
func connect(ctx context.Context, path string) (*net.UnixConn, error) {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the machine takes no more connections: %w", ctx.Err())
		case <-time.After(backlogRetry):
		}
	}
}

// handshake writes the CONNECT line and reads the answer, byte by byte:
// whatever follows the newline belongs to the stream.
func handshake(conn net.Conn, port uint32) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return refusal(err)
	}
	line := make([]byte, 0, maxReply)
	for {
		var b [1]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return refusal(err)
		}
		if b[0] == '\n' {
			break
		}
		if line = append(line, b[0]); len(line) == maxReply {
			return fmt.Errorf("the answer to CONNECT is longer than %d bytes: %q; the socket belongs to something else", maxReply, line)
		}
	}
	word, n, _ := strings.Cut(string(line), " ")
	if _, err := strconv.ParseUint(n, 10, 32); word != "OK" || err != nil {
		return fmt.Errorf("the answer to CONNECT is %q, not \"OK <port>\"; the socket belongs to something else", line)
	}
	return nil
}

// refusal turns the ways in which a back end hangs up into ErrRefused.
func refusal(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return ErrRefused
	}
	return err
}

// Listen takes what the guest dials to this port of the host, on the Unix
// socket PATH_<port>. It must be called before the guest dials: a guest finds
// nobody there otherwise. Accept returns a [Conn]; Close removes the socket.
func (h Hybrid) Listen(port uint32) (net.Listener, error) {
	path := fmt.Sprintf("%s_%d", h.Path, port)
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen for what the guest dials to port %d: %w", port, err)
	}
	return l, nil
}

func listen(path string) (*net.UnixListener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: another process serves it, or one that was killed left it behind; remove it if so", err)
	}
	if err != nil {
		return nil, err
	}
	if err := deepen(l); err != nil {
		l.Close()
		return nil, fmt.Errorf("set the backlog of %s: %w", path, err)
	}
	return l, nil
}

// backlog is how many connections may wait for Accept. A guest that opens a
// thousand at once must find room for all: a full backlog is a refusal to it
// after some tries. The kernel caps it at net.core.somaxconn (listen(2)).
const backlog = 4096

// deepen calls listen(2) again, which on a listening socket sets the backlog.
func deepen(l *net.UnixListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	if err := raw.Control(func(fd uintptr) { lerr = syscall.Listen(int(fd), backlog) }); err != nil {
		return err
	}
	return os.NewSyscallError("listen", lerr)
}

func checkPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("the path %s has %d bytes and the address of a Unix socket holds %d; use a shorter directory", path, len(path), maxPath)
	}
	return nil
}
