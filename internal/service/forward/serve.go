package forward

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"bake/internal/relay"
	"bake/internal/socks5"
	"bake/internal/wire"
)

const (
	// maxConns bounds the connections that are carried at once, of all ports
	// together: as many as the guest serves. Others wait in the backlog.
	maxConns = 4096
	// serverTime is how long connections that came while the guest booted wait
	// for the server in it, from the start of the container on.
	serverTime = 15 * time.Second
	// connectTime bounds one try to reach a server: more than the guest gives
	// itself.
	connectTime = 40 * time.Second
	// A server that is not there yet is tried at intervals that double from
	// firstPause to lastPause.
	firstPause = 5 * time.Millisecond
	lastPause  = 200 * time.Millisecond
)

// Dial connects to a vsock port of the guest.
type Dial func(ctx context.Context, port uint32) (net.Conn, error)

// Options of [Published.Serve].
type Options struct {
	// Dial reaches the guest once it is up.
	Dial Dial
	// Started is closed when the guest has started the container. Connections
	// that come before wait for that, and then a while for the server that they
	// are for. nil means that the container runs.
	Started <-chan struct{}
	// ProxyProtocol is what connections begin with inside.
	ProxyProtocol ProxyProtocol

	patience time.Duration // serverTime; shorter in tests
	accepted func()        // called for each connection, in tests
}

// Serve carries the connections of the TCP ports until ctx ends. It waits for
// all of them and closes the ports before it returns. A connection that the
// guest refuses is reset, as one to a closed port is.
func (p *Published) Serve(ctx context.Context, o Options) error {
	o.patience = cmp.Or(o.patience, serverTime)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		for _, ln := range p.TCP {
			ln.TCPListener.Close()
		}
	})
	defer stop()
	slots := make(chan struct{}, maxConns)
	errs := make([]error, len(p.TCP))
	var wg sync.WaitGroup
	for i, ln := range p.TCP {
		s := &server{Options: o, port: ln, slots: slots, alone: make(chan struct{}, 1), reached: make(chan struct{})}
		wg.Go(func() { errs[i] = s.serve(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A server serves one port.
type server struct {
	Options
	port  Listener
	slots chan struct{}
	// alone is held by the one connection that tries whether a server is there
	// yet: a crowd of waiting ones would keep the guest from starting it.
	alone chan struct{}
	// reached is closed when it has found one.
	reached chan struct{}
	once    sync.Once
}

func (s *server) serve(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		client, err := accept(ctx, s.port.TCPListener)
		if err != nil {
			return s.port.acceptError(ctx, err)
		}
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			relay.Reset(client)
			return nil
		}
		early := s.booting()
		if s.accepted != nil {
			s.accepted()
		}
		wg.Go(func() {
			defer func() { <-s.slots }()
			s.carry(ctx, client, early)
		})
	}
}

// booting reports whether the container has not started yet.
func (s *server) booting() bool {
	if s.Started == nil {
		return false
	}
	select {
	case <-s.Started:
		return false
	default:
		return true
	}
}

// carry serves one connection to its end.
func (s *server) carry(ctx context.Context, client *net.TCPConn, early bool) {
	guest, err := s.connect(ctx, early)
	if err != nil {
		// What a client of a closed port sees.
		relay.Reset(client)
		return
	}
	if s.ProxyProtocol != ProxyNone {
		header := s.ProxyProtocol.appendHeader(nil, addrPort(client.RemoteAddr()), addrPort(client.LocalAddr()))
		// Reading will tell of an error.
		_, _ = guest.Write(header)
	}
	_ = relay.Join(ctx, guest, client)
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

// connect reaches the port in the guest.
func (s *server) connect(ctx context.Context, early bool) (relay.Conn, error) {
	if early {
		return s.await(ctx)
	}
	return s.connectOnce(ctx)
}

// await waits for the container, and then for its server: one connection
// tries, and when it gets through the others follow.
func (s *server) await(ctx context.Context) (relay.Conn, error) {
	select {
	case <-s.Started:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	limit, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	select {
	case s.alone <- struct{}{}:
		defer func() { <-s.alone }()
	case <-s.reached:
		return s.connectOnce(ctx)
	case <-limit.Done():
		return s.connectOnce(ctx)
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		guest, err := s.connectOnce(ctx)
		if err == nil {
			s.once.Do(func() { close(s.reached) })
		}
		if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
			return guest, err
		}
		select {
		case <-limit.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// connectOnce reaches the port in the guest through its SOCKS5 server.
func (s *server) connectOnce(ctx context.Context) (relay.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := s.Dial(ctx, wire.PortSOCKS)
	if err != nil {
		return nil, err
	}
	// A server that listens on ::1 alone is found by that name, too.
	to := socks5.Address{Name: "localhost", AddrPort: netip.AddrPortFrom(netip.Addr{}, s.port.VMPort)}
	return socks5.ConnectStream(ctx, conn, to)
}
