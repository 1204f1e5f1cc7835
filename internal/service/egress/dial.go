package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"bake/internal/policy"
	"bake/internal/relay"
	"bake/internal/socks5"
	"bake/internal/wire"
)

// dialer makes the host's connections. It has no time limit but the kernel's.
// Keep-alive probes are those of Linux's defaults (tcp(7)) after five minutes
// and not after two hours: they are to find the connections whose peer is gone
// without a word, and not to end, for an app that never asked for probes, one
// whose network is down for a moment.
var dialer = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
	Enable: true, Idle: 5 * time.Minute, Interval: 75 * time.Second, Count: 9,
}}

// maxAddresses bounds how many of a name's addresses are tried.
const maxAddresses = 8

// DialTCP connects to an address, or to a name in place of a guest that
// resolves none, directly or through the proxy. It takes as long as the kernel
// takes, or the proxy, or until ctx ends.
//
// The error of a connection that failed is the errno of connect(2), where
// [socks5.ReplyFor] finds it; a denial has been counted, and is a
// *[policy.Denied] and syscall.EPERM.
func (g *Gate) DialTCP(ctx context.Context, to socks5.Address) (relay.Conn, error) {
	if to.Name != "" {
		addr, err := netip.ParseAddr(to.Name)
		if err != nil {
			return g.dialName(ctx, to.Name, to.Port())
		}
		to = socks5.Address{AddrPort: netip.AddrPortFrom(addr, to.Port())}
	}
	dst := unmap(to.AddrPort)
	where, err := g.locate(policy.TCP, dst)
	if err != nil {
		return nil, notAllowed{g.deny(err)}
	}
	switch where {
	case placeResolver:
		return nil, notAllowed{g.deny(denied(policy.TCP, dst, "it is the guest's resolver, which is not dialled"))}
	case placeHost:
		return dialHost(ctx, dst.Port())
	case placeName:
		name, ok := g.names.Name(dst.Addr())
		if !ok {
			return nil, notAllowed{g.deny(denied(policy.TCP, dst, "it stands for names, and none was asked for lately"))}
		}
		return g.dialName(ctx, name, dst.Port())
	}
	return g.dialOut(ctx, dst)
}

// dialOut connects to an address that the policy allows.
func (g *Gate) dialOut(ctx context.Context, dst netip.AddrPort) (relay.Conn, error) {
	if g.proxy != nil {
		s, err := g.proxy.server(dst.Addr().String(), dst.Port())
		if err != nil {
			return nil, g.proxyFailed(ctx, err)
		}
		if s != nil {
			return g.dialProxy(ctx, s, socks5.Address{AddrPort: dst})
		}
	}
	return dialDirect(ctx, dst)
}

func (g *Gate) dialProxy(ctx context.Context, s *proxyServer, to socks5.Address) (relay.Conn, error) {
	conn, err := s.dial(ctx, to)
	if err != nil {
		return nil, g.proxyFailed(ctx, err)
	}
	return conn, nil
}

// proxyFailed says that the proxy itself fails, once: to a user all else looks
// like a network that is down.
func (g *Gate) proxyFailed(ctx context.Context, err error) error {
	var p *proxyError
	if errors.As(err, &p) && ctx.Err() == nil {
		g.report.note(p.Error())
	}
	return err
}

// dialDirect connects without a proxy.
func dialDirect(ctx context.Context, dst netip.AddrPort) (relay.Conn, error) {
	conn, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, dst)
	if err != nil {
		return nil, err // and no nil *TCPConn in an interface
	}
	return conn, nil
}

// dialHost connects to a port of the host's loopback. What counts is what
// 127.0.0.1 said, unless ::1 answers.
func dialHost(ctx context.Context, port uint16) (relay.Conn, error) {
	conn, err := dialDirect(ctx, netip.AddrPortFrom(loopback[0], port))
	if err != nil {
		if conn, err := dialDirect(ctx, netip.AddrPortFrom(loopback[1], port)); err == nil {
			return conn, nil
		}
	}
	return conn, err
}

// dialName connects to a name: through the proxy, if it takes names, and to
// its addresses otherwise.
func (g *Gate) dialName(ctx context.Context, name string, port uint16) (relay.Conn, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == wire.HostName && g.network != nil {
		return g.DialTCP(ctx, socks5.Address{AddrPort: netip.AddrPortFrom(g.network.HostIPv4, port)})
	}
	refuse := func(why string) error {
		what := socks5.Address{Name: name, AddrPort: netip.AddrPortFrom(netip.Addr{}, port)}
		return notAllowed{g.deny(&policy.Denied{What: policy.TCP.String() + " " + what.String(), Why: why})}
	}
	if g.network == nil {
		return nil, refuse("the guest has no network")
	}
	if !plainName(name) {
		return nil, refuse("it is no name of a host")
	}
	if g.proxy != nil {
		s, err := g.proxy.server(name, port)
		if err != nil {
			return nil, g.proxyFailed(ctx, err)
		}
		if s != nil && s.resolves {
			if err := g.policy.CheckNamePort(policy.TCP, name, port); err != nil {
				return nil, notAllowed{g.deny(err)}
			}
			return g.dialProxy(ctx, s, socks5.Address{Name: name, AddrPort: netip.AddrPortFrom(netip.Addr{}, port)})
		}
	}
	if g.lookup == nil {
		return nil, refuse("a guest asks its resolver for a name and connects to an address")
	}
	if err := g.policy.CheckName(name); err != nil {
		return nil, notAllowed{g.deny(err)}
	}
	addrs, err := g.lookup(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w (%w)", name, err, syscall.EHOSTUNREACH)
	}
	addrs = addrs[:min(len(addrs), maxAddresses)]
	return g.dialAddrs(ctx, name, addrs, port)
}

// dialAddrs connects to the first of a name's addresses that is allowed and
// answers. If none does, what counts is the first allowed one's error.
func (g *Gate) dialAddrs(ctx context.Context, name string, addrs []netip.Addr, port uint16) (relay.Conn, error) {
	var denial, failure error
	for _, addr := range addrs {
		dst := unmap(netip.AddrPortFrom(addr, port))
		where, err := g.locate(policy.TCP, dst)
		if err == nil && where != placeOutside {
			err = denied(policy.TCP, dst, "it was answered for "+name+", and is an address of the guest's own network")
		}
		if err != nil {
			if denial == nil {
				denial = err
			}
			continue
		}
		conn, err := g.dialOut(ctx, dst)
		if err == nil {
			return conn, nil
		}
		if failure == nil {
			failure = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case failure != nil:
		return nil, failure
	case denial != nil:
		return nil, notAllowed{g.deny(denial)}
	}
	return nil, fmt.Errorf("the name %s has no address: %w", name, syscall.EHOSTUNREACH)
}

// plainName says that a name has nothing in it but what a host's name has, so
// that it can be written into a request to a proxy.
func plainName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// notAllowed makes a denial the error that a connect(2) gives for one.
type notAllowed struct{ err error }

func (e notAllowed) Error() string   { return e.err.Error() }
func (e notAllowed) Unwrap() []error { return []error{e.err, syscall.EPERM} }
