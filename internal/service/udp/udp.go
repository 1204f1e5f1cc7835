// Package udp is the host's end of the guest's datagrams, vsock port 11: a
// NAT between the guest's UDP sockets and sockets of this host, echo requests
// through the host's unprivileged ping, and published UDP ports.
//
// It asks a [Gate] what may leave and where it goes, and knows no rules; it
// hands DNS queries to a resolver and knows no DNS.
//
// # The NAT
//
// A source of the guest, an address with a port, has one socket here per
// address family, whatever it speaks to (RFC 4787: endpoint-independent
// mapping), so that its peers see one address. In comes only what a peer
// sends that the source has sent to (address- and port-dependent filtering,
// as in Docker's NAT): a guest cannot open a port to the world by sending
// one datagram somewhere. What the source and one peer exchange is a flow. It
// expires when idle, and the socket with its last flow. Nothing is allocated
// and no goroutine starts for a datagram of a flow that exists.
package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"bake/internal/udpio"
	"bake/internal/wire"
)

// A Resolver answers one DNS query; nil is no answer. The answer's bounds are
// its own affair.
type Resolver interface {
	Exchange(ctx context.Context, query []byte) []byte
}

// A Published is one UDP port of the guest on the host.
type Published struct {
	// Conn is the socket that listens on the host, a *net.UDPConn. Serve
	// closes it.
	Conn net.PacketConn
	// VMPort is the port on the guest's loopback.
	VMPort uint16
}

// Options of [Serve].
type Options struct {
	// Network has the addresses that stand for the host, which answer to
	// ping. It may be nil.
	Network *wire.Network
	Gate    Gate
	// DNS may be nil: queries are dropped.
	DNS       Resolver
	Published []Published
	// Log takes a line for --verbose. It may be nil.
	Log func(format string, args ...any)

	// now is the time; nil is time.Now. Tests set it, and the poller.
	now    func() time.Time
	poller func() (udpio.Poller, error)
}

// queueLimit bounds the frames that wait for the guest, in bytes. It is
// about what a 10 Gb/s link brings in a millisecond.
const queueLimit = 1 << 20

// Serve carries the guest's datagrams until ctx ends or something fails that
// the guest cannot have caused. The guest has one connection; if it makes
// another, the first ends, and the flows live on. Serve closes ln and the
// published sockets and returns when all its goroutines have ended.
func Serve(ctx context.Context, ln net.Listener, o Options) error {
	defer ln.Close()
	defer func() {
		for _, p := range o.Published {
			p.Conn.Close()
		}
	}()
	s, err := newServer(o)
	if err != nil {
		return err
	}
	return s.run(ctx, ln)
}

// A server is one run of Serve.
type server struct {
	Options
	nat       *nat
	published *published
	dns       *dnsHook
	queue     *wire.DatagramQueue
}

func newServer(o Options) (*server, error) {
	if o.now == nil {
		o.now = time.Now
	}
	if o.poller == nil {
		o.poller = udpio.New
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	sockets, err := o.poller()
	if err != nil {
		return nil, err
	}
	s := &server{Options: o, queue: wire.NewDatagramQueue(queueLimit)}
	s.nat = newNAT(sockets, s.queue, o.now, o.Log)
	s.dns = newDNSHook(o.DNS, s.queue)
	s.published, err = newPublished(sockets, s.queue, o.now, o.Published)
	if err != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		return nil, errors.Join(err, sockets.Run(ended))
	}
	return s, nil
}

// run serves until ctx ends.
func (s *server) run(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var all sync.WaitGroup
	all.Go(func() {
		if err := s.nat.sockets.Run(ctx); err != nil {
			cancel(err)
		}
	})
	all.Go(func() { s.expire(ctx) })
	if err := s.accept(ctx, ln); err != nil {
		cancel(err)
	}
	all.Wait()
	s.dns.wait()
	s.logDrops()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("carry the guest's datagrams: %w", err)
	}
	return nil
}

func (s *server) logDrops() {
	if n := s.queue.Dropped(); n > 0 {
		s.Log("dropped %d datagrams that the guest did not take in time", n)
	}
	if n := s.nat.dropped.Load(); n > 0 {
		s.Log("dropped %d datagrams of the guest that the host's network did not take in time", n)
	}
}

// expire looks for idle flows until ctx ends.
func (s *server) expire(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.nat.expire()
			s.published.expire()
		}
	}
}

// accept serves the guest's connections, the latest alone, until ctx ends.
func (s *server) accept(ctx context.Context, ln net.Listener) error {
	end := func() {}
	defer func() { end() }()
	for {
		conn, err := acceptOne(ctx, ln)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("take the guest's connection: %w", err)
		}
		end()
		connCtx, cancel := context.WithCancel(ctx)
		var done sync.WaitGroup
		done.Go(func() { s.serve(connCtx, conn) })
		end = func() { cancel(); done.Wait() }
	}
}

// acceptOne passes over errors of single connections and of a lack of
// descriptors, which others give back.
func acceptOne(ctx context.Context, ln net.Listener) (net.Conn, error) {
	pause := 5 * time.Millisecond
	for {
		conn, err := ln.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) || ctx.Err() != nil || pause > time.Second {
			return conn, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// serve carries one connection both ways.
func (s *server) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() {
		defer cancel()
		if err := s.queue.Write(ctx, conn); err != nil {
			s.Log("the guest's connection for datagrams: %v", err)
		}
	})
	if err := s.read(ctx, conn); err != nil && ctx.Err() == nil {
		s.Log("the guest's connection for datagrams: %v", err)
	}
}
