package egress

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"bake/internal/policy"
	"bake/internal/socks5"
	"bake/internal/wire"
)

var _ Policy = (*policy.Policy)(nil)

// lax is a policy that allows everything, the loopback of the test's servers
// too, but what deny names: addresses, names, or "host".
type lax struct {
	mu       sync.Mutex
	deny     []string
	disabled bool
}

func (l *lax) refuse(what string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.deny {
		if d == what {
			return &policy.Denied{What: what, Why: "the test says so"}
		}
	}
	return nil
}

func (l *lax) Check(_ policy.Proto, dst netip.AddrPort) error         { return l.refuse(dst.Addr().String()) }
func (l *lax) CheckHost(policy.Proto, uint16) error                   { return l.refuse("host") }
func (l *lax) CheckName(name string) error                            { return l.refuse(name) }
func (l *lax) CheckNamePort(_ policy.Proto, n string, _ uint16) error { return l.refuse(n) }
func (l *lax) Disabled() bool                                         { return l.disabled }

func gate(o Options) *Gate {
	if o.Policy == nil {
		o.Policy = &lax{}
	}
	o.Network = wire.DefaultNetwork(true)
	return New(o)
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
}

func (l *lines) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.all...)
}

// serveTCP answers each connection with f, until the test ends.
func serveTCP(t testing.TB, addr string, f func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { c.Close() })
			wg.Go(func() {
				defer stop()
				defer c.Close()
				f(c)
			})
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// unusedPort is one that nobody listens on.
func unusedPort(t testing.TB, ip string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func at(a netip.AddrPort) socks5.Address { return socks5.Address{AddrPort: a} }

func named(name string, port uint16) socks5.Address {
	return socks5.Address{Name: name, AddrPort: netip.AddrPortFrom(netip.Addr{}, port)}
}

func mustProxy(t testing.TB, s string) *Proxy {
	t.Helper()
	p, err := ParseProxy(s, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func getenv(env ...string) func(string) string {
	return func(key string) string {
		for _, kv := range env {
			if k, v, _ := strings.Cut(kv, "="); k == key {
				return v
			}
		}
		return ""
	}
}
