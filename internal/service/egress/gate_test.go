package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bake/internal/policy"
	"bake/internal/socks5"
	"bake/internal/wire"
)

func TestTarget(t *testing.T) {
	socks, env := mustProxy(t, "socks5://127.0.0.1:1"), new(Proxy)
	var err error
	if env, err = ParseProxy("env", getenv("ALL_PROXY=http://127.0.0.1:1", "NO_PROXY=10.0.0.0/8")); err != nil {
		t.Fatal(err)
	}
	names := NewFakeNames()
	for _, c := range []struct {
		what    string
		options Options
		proto   policy.Proto
		dst     string
		want    string // targets, resolver, or what the denial says
	}{
		{"outside", Options{}, policy.UDP, "203.0.113.9:53", "203.0.113.9:53"},
		{"IPv6", Options{}, policy.TCP, "[2001:db8::1]:80", "[2001:db8::1]:80"},
		{"mapped", Options{}, policy.UDP, "[::ffff:203.0.113.9]:1", "203.0.113.9:1"},
		{"a mapped address that is denied", Options{Policy: &lax{deny: []string{"203.0.113.9"}}}, policy.UDP, "[::ffff:203.0.113.9]:1", "the test says so"},
		{"a zone", Options{}, policy.UDP, "[fe80::1%eth0]:1", "[fe80::1]:1"},
		{"the resolver", Options{}, policy.UDP, "198.18.0.2:53", "resolver"},
		{"the resolver by TCP", Options{}, policy.TCP, "198.18.0.2:53", "resolver"},
		{"the resolver by IPv6", Options{}, policy.UDP, "[fd62:616b:6500::2]:53", "resolver"},
		{"the resolver, mapped", Options{}, policy.UDP, "[::ffff:198.18.0.2]:53", "resolver"},
		{"the resolver though the host is denied", Options{Policy: &lax{deny: []string{"host"}}}, policy.UDP, "198.18.0.2:53", "resolver"},
		{"the host", Options{}, policy.TCP, "198.18.0.2:80", "127.0.0.1:80 [::1]:80"},
		{"the host by IPv6", Options{}, policy.UDP, "[fd62:616b:6500::2]:80", "127.0.0.1:80 [::1]:80"},
		{"the host, denied", Options{Policy: &lax{deny: []string{"host"}}}, policy.UDP, "198.18.0.2:80", "the test says so"},
		{"no network", Options{Policy: &lax{disabled: true}}, policy.UDP, "203.0.113.9:53", "no network"},
		{"no network, no resolver", Options{Policy: &lax{disabled: true}}, policy.UDP, "198.18.0.2:53", "no network"},
		{"UDP beside a proxy", Options{Proxy: socks}, policy.UDP, "203.0.113.9:443", "only TCP goes through --proxy"},
		{"ping beside a proxy", Options{Proxy: socks}, policy.ICMP, "203.0.113.9:0", "only TCP goes through --proxy"},
		{"the resolver beside a proxy", Options{Proxy: socks}, policy.UDP, "198.18.0.2:53", "resolver"},
		{"the host beside a proxy", Options{Proxy: socks}, policy.UDP, "198.18.0.2:80", "127.0.0.1:80 [::1]:80"},
		{"UDP to what needs no proxy", Options{Proxy: env}, policy.UDP, "10.1.2.3:443", "10.1.2.3:443"},
		{"UDP to what needs one", Options{Proxy: env}, policy.UDP, "203.0.113.9:443", "only TCP goes through --proxy"},
		{"UDP to a name", Options{Proxy: env, Names: names}, policy.UDP, "198.18.128.1:443", "stands for a name"},
		{"a range that stands for nothing", Options{}, policy.UDP, "198.18.128.1:443", "198.18.128.1:443"},
		{"nowhere", Options{Policy: &lax{deny: []string{"invalid IP"}}}, policy.UDP, "", "the test says so"},
	} {
		var dst netip.AddrPort
		if c.dst != "" {
			dst = netip.MustParseAddrPort(c.dst)
		}
		g := gate(c.options)
		targets, isResolver, err := g.Target(c.proto, dst)
		got := ""
		for _, a := range targets {
			got += a.String() + " "
		}
		got = strings.TrimSpace(got)
		if isResolver {
			got += "resolver"
		}
		var d *policy.Denied
		if err != nil {
			got = err.Error()
			if !errors.As(err, &d) || g.Denials() != 1 {
				t.Errorf("%s: %v is no denial, or was counted %d times", c.what, err, g.Denials())
			}
		} else if g.Denials() != 0 {
			t.Errorf("%s: counted as denied", c.what)
		}
		if err == nil && got != c.want || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
		if want := c.want == "resolver"; c.proto == policy.TCP && g.IsResolver(dst) != want {
			t.Errorf("%s: IsResolver is %v", c.what, !want)
		}
	}
	if _, _, err := New(Options{Policy: &lax{}}).Target(policy.UDP, netip.MustParseAddrPort("203.0.113.9:53")); err == nil {
		t.Error("a gate without a network lets out")
	}
}

// The real policy fits, and closes what it closes.
func TestRealPolicy(t *testing.T) {
	p, err := policy.New(policy.Rules{HostLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	g := New(Options{Network: wire.DefaultNetwork(false), Policy: p})
	server := serveTCP(t, "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(c, c) })
	conn, err := g.DialTCP(t.Context(), at(netip.AddrPortFrom(netip.MustParseAddr("198.18.0.2"), server.Port())))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if conn, err = g.DialTCP(t.Context(), named("host.bake.internal", server.Port())); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, to := range []socks5.Address{
		at(server), named("127.0.0.1", server.Port()), named("localhost", server.Port()),
		named("::ffff:127.0.0.1", server.Port()), at(netip.MustParseAddrPort("169.254.169.254:80")),
	} {
		if _, err := g.DialTCP(t.Context(), to); !errors.Is(err, syscall.EPERM) || socks5.ReplyFor(err) != socks5.ReplyNotAllowed {
			t.Errorf("%v: %v, want a denial", to, err)
		}
	}
	if p, err = policy.New(); err != nil {
		t.Fatal(err)
	}
	g = New(Options{Network: wire.DefaultNetwork(false), Policy: p})
	if _, err := g.DialTCP(t.Context(), at(netip.AddrPortFrom(netip.MustParseAddr("198.18.0.2"), server.Port()))); !errors.Is(err, syscall.EPERM) {
		t.Errorf("the host without the flag: %v", err)
	}
}

func TestDialHost(t *testing.T) {
	g := gate(Options{})
	host := netip.MustParseAddr("198.18.0.2")
	v6 := serveTCP(t, "[::1]:0", func(net.Conn) {})
	conn, err := g.DialTCP(t.Context(), at(netip.AddrPortFrom(host, v6.Port())))
	if err != nil {
		t.Fatalf("a server on ::1 only: %v", err)
	}
	conn.Close()
	_, err = g.DialTCP(t.Context(), at(netip.AddrPortFrom(host, unusedPort(t, "127.0.0.1").Port())))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	_, err = g.DialTCP(t.Context(), at(netip.AddrPortFrom(host, 53)))
	if !errors.Is(err, syscall.EPERM) {
		t.Errorf("the resolver is dialled: %v", err)
	}
}

func TestDialRefused(t *testing.T) {
	_, err := gate(Options{}).DialTCP(t.Context(), at(unusedPort(t, "127.0.0.1")))
	if !errors.Is(err, syscall.ECONNREFUSED) || socks5.ReplyFor(err) != socks5.ReplyRefused {
		t.Errorf("%v", err)
	}
}

// A guest that dials names gets no further than one that asks for them.
func TestDialName(t *testing.T) {
	server := serveTCP(t, "127.0.0.1:0", func(net.Conn) {})
	addrs := func(s ...string) func(context.Context, string) ([]netip.Addr, error) {
		return func(context.Context, string) (a []netip.Addr, err error) {
			for _, s := range s {
				a = append(a, netip.MustParseAddr(s))
			}
			return a, nil
		}
	}
	for _, c := range []struct {
		what, name string
		options    Options
		want       error
	}{
		{"no lookup", "example.com", Options{}, syscall.EPERM},
		{"a lookup", "example.com", Options{Lookup: addrs("127.0.0.1")}, nil},
		{"case and a dot", "Example.COM.", Options{Lookup: addrs("127.0.0.1")}, nil},
		{"the second address", "example.com", Options{Lookup: addrs("192.0.2.1", "127.0.0.1"), Policy: &lax{deny: []string{"192.0.2.1"}}}, nil},
		{"no address", "example.com", Options{Lookup: addrs()}, syscall.EHOSTUNREACH},
		{"all denied", "example.com", Options{Lookup: addrs("192.0.2.1"), Policy: &lax{deny: []string{"192.0.2.1"}}}, syscall.EPERM},
		{"the name is denied", "example.com", Options{Lookup: addrs("127.0.0.1"), Policy: &lax{deny: []string{"example.com"}}}, syscall.EPERM},
		{"it leads to the host", "example.com", Options{Lookup: addrs("198.18.0.2")}, syscall.EPERM},
		{"it leads to a mapped host", "example.com", Options{Lookup: addrs("::ffff:198.18.0.2")}, syscall.EPERM},
		{"it does not resolve", "example.com", Options{Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return nil, errors.New("no such host")
		}}, syscall.EHOSTUNREACH},
		{"an address in words", "127.0.0.1", Options{}, nil},
		{"not a name", "exa mple\r\nX: y", Options{Lookup: addrs("127.0.0.1")}, syscall.EPERM},
		{"the host's name", "HOST.bake.internal.", Options{}, nil},
	} {
		g := gate(c.options)
		conn, err := g.DialTCP(t.Context(), named(c.name, server.Port()))
		if err == nil {
			conn.Close()
		}
		if c.want == nil && err != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
		if want := uint64(0); c.want == syscall.EPERM && g.Denials() != 1 || c.want != syscall.EPERM && g.Denials() != want {
			t.Errorf("%s: counted as %d denials", c.what, g.Denials())
		}
	}
}

// A line is said at once, then counted; and no guest can make many.
func TestReport(t *testing.T) {
	var log lines
	g := gate(Options{Log: log.add, Policy: &lax{deny: []string{"192.0.2.1", "192.0.2.2"}}})
	deny := func(addr string, port uint16) {
		_, _, _ = g.Target(policy.UDP, netip.AddrPortFrom(netip.MustParseAddr(addr), port))
	}
	for range 3 {
		deny("192.0.2.1", 1)
	}
	deny("192.0.2.2", 1)
	want := []string{"denied 192.0.2.1 (the test says so)", "denied 192.0.2.2 (the test says so)"}
	if got := log.get(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if !g.report.sum() {
		t.Error("nothing is left of a line that came again")
	}
	want = append(want, want[0]+": 2 more")
	if got := log.get(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if g.report.sum() || len(g.report.lines) != 0 {
		t.Errorf("left: %v", g.report.lines)
	}
	if got := log.get(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if g.Denials() != 4 {
		t.Errorf("%d denials, want 4", g.Denials())
	}
	log.all = nil
	for i := range 1000 {
		g.report.note(fmt.Sprint(i))
	}
	g.report.sum()
	if got := log.get(); len(got) != maxLines+1 || got[maxLines] != "936 more of other kinds were denied or failed" {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
}

func TestReportTells(t *testing.T) {
	g := gate(Options{Policy: &lax{deny: []string{"192.0.2.1"}}})
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan uint64)
	var wg sync.WaitGroup
	wg.Go(func() {
		g.Report(ctx, func(n uint64) {
			select {
			case told <- n:
			case <-ctx.Done():
			}
		})
	})
	for want := range uint64(2) {
		_, _, _ = g.Target(policy.UDP, netip.MustParseAddrPort("192.0.2.1:1"))
		if got := <-told; got != want+1 {
			t.Errorf("told %d, want %d", got, want+1)
		}
	}
	cancel()
	wg.Wait()
}

func TestFakeNames(t *testing.T) {
	f := newFakeNames(3)
	a, b, c := f.Assign("A.example."), f.Assign("b.example"), f.Assign("c.example")
	if a == b || b == c || a != f.Assign("a.EXAMPLE") || !fakeRange.Contains(a) || !fakeRange.Contains(c) {
		t.Errorf("addresses %v, %v, %v", a, b, c)
	}
	if name, ok := f.Name(a); name != "a.example" || !ok {
		t.Errorf("%v is %q, %v", a, name, ok)
	}
	// b was not used for the longest time.
	if _, ok := f.Name(c); !ok {
		t.Error("c is lost")
	}
	if d := f.Assign("d.example"); d != b {
		t.Errorf("d has %v, not b's %v", d, b)
	}
	if name, _ := f.Name(b); name != "d.example" {
		t.Errorf("b's address is %q", name)
	}
	if f.Assign("b.example") != a {
		t.Error("b does not get a's")
	}
	if _, ok := f.Name(netip.MustParseAddr("198.18.200.1")); ok {
		t.Error("an address that was not given out has a name")
	}

	f = NewFakeNames()
	seen := map[netip.Addr]bool{}
	for i := range maxFakes + 10 {
		seen[f.Assign(fmt.Sprint(i))] = true
	}
	first, last := fakeRange.Addr(), netip.MustParseAddr("198.18.255.255")
	if len(seen) != maxFakes || seen[first] || seen[last] || len(f.byName) != maxFakes || len(f.byAddr) != maxFakes {
		t.Errorf("%d addresses, %d names", len(seen), len(f.byName))
	}
}

func BenchmarkDialTCP(b *testing.B) {
	server := serveTCP(b, "127.0.0.1:0", func(net.Conn) {})
	g := gate(Options{})
	b.ReportAllocs()
	for b.Loop() {
		c, err := g.DialTCP(b.Context(), at(server))
		if err != nil {
			b.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
