// Package forward publishes ports of the guest on the host: it listens, and
// for each connection asks the guest's SOCKS5 server on vsock port 10 to
// connect to the port inside.
//
// It parses --publish and knows nothing of policies for outbound traffic.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/proxy"

	"bake/internal/wire"
)

const (
	// maxConns bounds the connections that one published port carries.
	maxConns = 4096
	// dialEvery is the pause between two tries to reach a guest that is still
	// booting.
	dialEvery = 50 * time.Millisecond
)

// A Port is one --publish.
type Port struct {
	// HostIP and HostPort are where the host listens; HostPort 0 lets the
	// system choose.
	HostIP   string
	HostPort uint16
	// VMPort is the port on the guest's loopback.
	VMPort uint16
}

// Parse reads [IP:]HOST:VM[/tcp], with an IPv6 address in brackets. Without an
// address the port is published on 127.0.0.1 only.
func Parse(s string) (Port, error) {
	bad := func(why string) (Port, error) {
		return Port{}, fmt.Errorf("--publish %q is not [IP:]HOST:VM: %s", s, why)
	}
	spec, proto, _ := strings.Cut(s, "/")
	if proto != "" && proto != "tcp" {
		return bad(fmt.Sprintf("the protocol %q cannot be published, only tcp", proto))
	}
	i := strings.LastIndexByte(spec, ':')
	if i < 0 {
		return bad("there is no colon in it; to publish port 80 on 8080 write 8080:80")
	}
	host, vm := spec[:i], spec[i+1:]
	p := Port{HostIP: "127.0.0.1"}
	if j := strings.LastIndexByte(host, ':'); j >= 0 {
		ip := strings.TrimSuffix(strings.TrimPrefix(host[:j], "["), "]")
		if net.ParseIP(ip) == nil {
			return bad(fmt.Sprintf("%q is not an IP address", host[:j]))
		}
		p.HostIP, host = ip, host[j+1:]
	}
	n, err := strconv.ParseUint(host, 10, 16)
	if err != nil {
		return bad(fmt.Sprintf("the host port %q is not a number from 0 to 65535", host))
	}
	p.HostPort = uint16(n)
	n, err = strconv.ParseUint(vm, 10, 16)
	if err != nil || n == 0 {
		return bad(fmt.Sprintf("the port in the VM %q is not a number from 1 to 65535", vm))
	}
	p.VMPort = uint16(n)
	return p, nil
}

// Listen takes the host's port, so that one in use is an error before the VM
// boots.
func (p Port) Listen() (net.Listener, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.HostPort))))
	if err != nil {
		return nil, fmt.Errorf("publish port %d of the VM on %s port %d: %w; choose another host port, or 0 to take any", p.VMPort, p.HostIP, p.HostPort, unwrapOp(err))
	}
	return ln, nil
}

// unwrapOp drops the "listen tcp 1.2.3.4:80:" that our sentence says already.
func unwrapOp(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Dial connects to a vsock port of the guest.
type Dial func(ctx context.Context, port uint32) (net.Conn, error)

// Serve carries ln's connections to the guest's port until ctx ends.
// Connections that come while the guest boots wait for it. It waits for every
// connection before it returns.
func (p Port) Serve(ctx context.Context, ln net.Listener, dial Dial) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	slots := make(chan struct{}, maxConns)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			cancel()
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("take connections for port %d of the VM: %w", p.VMPort, err)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			p.carry(ctx, conn.(*net.TCPConn), dial)
		})
	}
}

func (p Port) carry(ctx context.Context, client *net.TCPConn, dial Dial) {
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	guest, err := connect(ctx, dial, p.VMPort)
	if err != nil {
		// What a client of a closed port sees: a reset.
		client.SetLinger(0)
		return
	}
	defer guest.Close()
	stopGuest := context.AfterFunc(ctx, func() { guest.Close() })
	defer stopGuest()
	join(client, guest)
}

// connect reaches port on the guest's loopback through its SOCKS5 server.
func connect(ctx context.Context, dial Dial, port uint16) (net.Conn, error) {
	guest, err := dialBooting(ctx, dial)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { guest.Close() })
	defer stop()
	d, err := proxy.SOCKS5("tcp", "vsock", nil, nil)
	if err != nil {
		guest.Close()
		return nil, fmt.Errorf("prepare a SOCKS5 request: %w", err)
	}
	hs, ok := d.(interface {
		DialWithConn(context.Context, net.Conn, string, string) (net.Addr, error)
	})
	if !ok {
		guest.Close()
		return nil, fmt.Errorf("the SOCKS5 client %T cannot use a connection of ours", d)
	}
	if _, err := hs.DialWithConn(ctx, guest, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))); err != nil {
		guest.Close()
		return nil, fmt.Errorf("connect to port %d in the VM: %w", port, err)
	}
	return guest, nil
}

// dialBooting tries until the guest listens or ctx ends.
func dialBooting(ctx context.Context, dial Dial) (net.Conn, error) {
	for {
		guest, err := dial(ctx, wire.PortSOCKS)
		if err == nil {
			return guest, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach the guest: %w", err)
		case <-time.After(dialEvery):
		}
	}
}

// join copies both ways until both have ended; an end of one direction is
// carried as a half-close.
func join(client *net.TCPConn, guest net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(guest, client); err != nil {
			guest.Close()
			return
		}
		if hc, ok := guest.(interface{ CloseWrite() error }); ok {
			hc.CloseWrite()
		}
	})
	if _, err := io.Copy(client, guest); err != nil {
		client.SetLinger(0)
		client.Close()
	} else {
		client.CloseWrite()
	}
	wg.Wait()
}
