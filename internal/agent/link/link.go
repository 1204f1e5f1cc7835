//go:build linux

// Package link is the guest's end of vsock: it dials the host's services and
// listens for the host. It knows no service.
package link

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/mdlayher/vsock"

	"bake/internal/wire"
)

// dialTime bounds all tries to reach a service of the host, and dialPause is
// the time between two. The host listens before it starts the guest; what may
// take a moment is the guest's own device.
const (
	dialTime  = 15 * time.Second
	dialPause = 5 * time.Millisecond
)

// A Conn is a connection of which each direction can end alone.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Dial connects to a port of the host and tries again for a while if it cannot.
func Dial(ctx context.Context, port uint32) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var last error
	for {
		conn, err := vsock.DialContext(ctx, wire.HostCID, port, nil)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach the host's vsock port %d: %w", port, last)
		case <-time.After(dialPause):
		}
	}
}

// Listen takes connections of the host, and of nobody else, to a port of the
// guest: a process of the container could dial the guest itself.
func Listen(port uint32) (net.Listener, error) {
	l, err := vsock.Listen(port, nil)
	if err != nil {
		return nil, fmt.Errorf("listen on the guest's vsock port %d: %w", port, err)
	}
	return fromHost{l}, nil
}

type fromHost struct{ net.Listener }

func (l fromHost) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if isHost(conn.RemoteAddr()) {
			return conn, nil
		}
		conn.Close()
	}
}

func isHost(a net.Addr) bool {
	peer, ok := a.(*vsock.Addr)
	return ok && peer.ContextID == wire.HostCID
}
