package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"bake/internal/relay"
	"bake/internal/socks5"
)

// MaxConns is how many connections are served at once. Others wait in the
// listener's queue.
const MaxConns = 4096

// handshakeTime bounds what happens before the reply.
const handshakeTime = 30 * time.Second

// A Server serves connections of one listener.
type Server struct{ loop *relay.Loop }

// New prepares to carry connections. [Server.Serve] must follow.
func New() (*Server, error) {
	loop, err := relay.NewLoop(true)
	if err != nil {
		return nil, fmt.Errorf("prepare to carry connections: %w", err)
	}
	return &Server{loop}, nil
}

// Carried is how many bytes were carried so far to servers in the guest, and
// from them.
func (s *Server) Carried() (to, from uint64) { return s.loop.Carried() }

// Serve serves connections of l until ctx ends or l fails, and returns when
// all of them have ended. It closes l. Call it once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer s.loop.Close()
	err := relay.Serve(ctx, l, MaxConns, func(ctx context.Context, client net.Conn) { serve(ctx, s.loop, client) })
	if err != nil {
		return fmt.Errorf("accept a connection to the guest: %w", err)
	}
	return nil
}

// serve is one connection.
func serve(ctx context.Context, loop *relay.Loop, client net.Conn) {
	_ = client.SetDeadline(time.Now().Add(handshakeTime))
	method, err := socks5.ReadGreeting(client, socks5.MethodStream, socks5.MethodNone)
	if err != nil {
		return
	}
	server, err := handshake(ctx, client)
	if err != nil {
		return // the client has the reply
	}
	_ = client.SetDeadline(time.Time{})
	if conn, ok := client.(relay.Conn); ok && method != socks5.MethodStream {
		_ = relay.Join(ctx, conn, server)
		return
	}
	_ = loop.Join(ctx, relay.NewStream(client), server)
}

// handshake serves the protocol from the request up to the reply that says
// that the connection stands.
func handshake(ctx context.Context, client net.Conn) (*net.TCPConn, error) {
	addrs, err := readRequest(client)
	var refused *socks5.ReplyError
	if err != nil && !errors.As(err, &refused) {
		return nil, err // it cannot be answered
	}
	var server *net.TCPConn
	if err == nil {
		server, err = connect(ctx, addrs)
	}
	if err != nil {
		_ = socks5.WriteReply(client, socks5.ReplyFor(err), netip.AddrPort{})
		return nil, err
	}
	bound, _ := server.LocalAddr().(*net.TCPAddr)
	if err := socks5.WriteReply(client, socks5.ReplySucceeded, bound.AddrPort()); err != nil {
		server.Close()
		return nil, err
	}
	return server, nil
}

// readRequest returns where to connect, in the order in which to try, or why
// that is not allowed.
func readRequest(r io.Reader) ([]netip.AddrPort, error) {
	to, err := socks5.ReadRequest(r)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.EqualFold(to.Name, "localhost"):
		return []netip.AddrPort{
			netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port()),
			netip.AddrPortFrom(netip.IPv6Loopback(), to.Port()),
		}, nil
	case to.Name == "" && to.AddrPort.Addr().IsLoopback():
		return []netip.AddrPort{to.AddrPort}, nil
	}
	return nil, &socks5.ReplyError{Reply: socks5.ReplyNotAllowed, What: to.String() + " is not on the guest's loopback interface"}
}

// connect tries the addresses in turn and returns the first one's error if
// all fail.
func connect(ctx context.Context, addrs []netip.AddrPort) (*net.TCPConn, error) {
	// Nobody dies on the loopback without a word, so nothing is kept alive.
	d := net.Dialer{Timeout: handshakeTime, KeepAlive: -1}
	var first error
	for _, a := range addrs {
		conn, err := d.DialContext(ctx, "tcp", a.String())
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}
