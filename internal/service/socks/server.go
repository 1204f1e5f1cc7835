package socks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"bake/internal/relay"
	"bake/internal/socks5"
)

// MaxConns is how many connections are served at once. Others wait in the
// listener's queue.
const MaxConns = 4096

// requestTime bounds how long a client may take for its request. The
// connection that it asks for may take as long as it takes.
const requestTime = 30 * time.Second

// A Gate connects to the outside; *egress.Gate is one.
type Gate interface {
	// IsResolver says that an address is the guest's DNS server.
	IsResolver(dst netip.AddrPort) bool
	// DialTCP connects. Its error has an errno in it, or none.
	DialTCP(ctx context.Context, to socks5.Address) (relay.Conn, error)
}

// A StreamResolver serves DNS over TCP (RFC 1035, section 4.2.2).
type StreamResolver interface {
	ServeStream(ctx context.Context, conn net.Conn)
}

// Serve serves the guest's connections until ctx ends or l fails, and returns
// when all of them have ended. It closes l.
func Serve(ctx context.Context, l net.Listener, gate Gate, dns StreamResolver) error {
	s := server{gate, dns, requestTime}
	if err := relay.Serve(ctx, l, MaxConns, s.serve); err != nil {
		return fmt.Errorf("accept a connection of the guest: %w", err)
	}
	return nil
}

type server struct {
	gate        Gate
	dns         StreamResolver
	requestTime time.Duration
}

// serve is one connection.
func (s *server) serve(ctx context.Context, client net.Conn) {
	_ = client.SetDeadline(time.Now().Add(s.requestTime))
	method, err := socks5.ReadGreeting(client, socks5.MethodStream, socks5.MethodNone)
	if err != nil {
		return
	}
	to, err := socks5.ReadRequest(client)
	if err != nil {
		var refused *socks5.ReplyError
		if errors.As(err, &refused) {
			_ = socks5.WriteReply(client, refused.Reply, netip.AddrPort{})
		}
		return
	}
	_ = client.SetDeadline(time.Time{})

	if to.Name == "" && s.gate.IsResolver(to.AddrPort) {
		if socks5.WriteReply(client, socks5.ReplySucceeded, netip.AddrPort{}) == nil {
			conn := carrier(client, method)
			s.dns.ServeStream(ctx, resolverConn{conn})
			_ = conn.CloseWrite()
		}
		return
	}
	out, err := s.dial(ctx, client, to)
	if err != nil {
		_ = socks5.WriteReply(client, socks5.ReplyFor(err), netip.AddrPort{})
		return
	}
	local, _ := out.LocalAddr().(*net.TCPAddr)
	if err := socks5.WriteReply(client, socks5.ReplySucceeded, local.AddrPort()); err != nil {
		relay.Reset(out)
		return
	}
	_ = relay.Join(ctx, carrier(client, method), out)
}

// dial connects, and gives up when the client does.
func (s *server) dial(ctx context.Context, client net.Conn, to socks5.Address) (relay.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := whenGone(client, cancel)
	defer stop()
	return s.gate.DialTCP(ctx, to)
}

// carrier is what the client's data comes and goes by.
func carrier(client net.Conn, method socks5.Method) relay.Conn {
	if conn, ok := client.(relay.Conn); ok && method != socks5.MethodStream {
		return conn
	}
	return relay.NewStream(client)
}

// A resolverConn ends in good order when it is closed: a resolver that has
// answered, or tires of a silent client, resets nobody.
type resolverConn struct{ relay.Conn }

func (c resolverConn) Close() error {
	return errors.Join(c.CloseWrite(), c.Conn.Close())
}
