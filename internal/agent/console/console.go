//go:build linux

// Package console carries a container's standard streams between the guest's
// files and the host's connections, as wire.ConsoleHello has it: three
// one-way streams through pipes, or one pseudoterminal.
//
// It opens connections by a [Dial] that it is given and knows nothing of
// vsock, and nothing of the container but the files.
package console

import (
	"context"
	"fmt"
	"io"
	"os"

	"bake/internal/wire"
)

// bufferSize is what one read takes, in bytes: half the window of a vsock
// connection.
const bufferSize = 128 << 10

// A Conn is a connection to the host, of which each direction can end alone.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Dial connects to the host's console service.
type Dial func(ctx context.Context) (Conn, error)

func open(ctx context.Context, dial Dial, s wire.Stream) (Conn, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect the container's %s to the host: %w", s, err)
	}
	if err := wire.WriteConsoleHello(conn, s); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect the container's %s to the host: %w", s, err)
	}
	return conn, nil
}

// An output carries what the container writes to the host.
type output struct {
	from *os.File
	to   Conn

	// toHost is closed when everything that there will be was written to the
	// connection, and closed when the host closed it.
	toHost, closed chan struct{}
}

func newOutput(from *os.File, to Conn) *output {
	return &output{from: from, to: to, toHost: make(chan struct{}), closed: make(chan struct{})}
}

// copy passes the output on until its end, or until the host no longer takes
// it; then the container's next write fails as it does on any broken pipe.
func (o *output) copy() {
	defer close(o.toHost)
	copyData(o.to, o.from)
	o.from.Close()
	// A connection that is already gone needs no end.
	_ = o.to.CloseWrite()
}

// watch learns that the host closed the connection: it sends nothing on it,
// so that the end of reading can mean nothing else.
func (o *output) watch() {
	defer close(o.closed)
	_, _ = io.Copy(io.Discard, o.to)
	o.from.Close()
}

// finish waits until the host has all the output.
func (o *output) finish(ctx context.Context) {
	select {
	case <-o.closed:
	case <-ctx.Done():
	}
}

// copyData copies until the end of either side. It does not say which.
func copyData(to io.Writer, from io.Reader) {
	buf := make([]byte, bufferSize)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
