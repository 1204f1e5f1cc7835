//go:build linux && guest

// The tests of this file need a kernel with WireGuard, root, and a network
// namespace of their own for each side: they are compiled with the tag guest
// and run in a guest of bake, by test/scripts/wireguard_kernel.txtar.

package wireguard

import (
	"bufio"
	"crypto/ecdh"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"bake/internal/wire"
)

// roleVariable says which side a process is.
const roleVariable = "BAKE_TEST_ROLE"

// limit bounds every wait; it asserts nothing.
const limit = time.Minute

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "world":
		if err := world(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "guest":
		os.Exit(m.Run())
	default:
		cmd := again("guest")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// again runs this program in another role and a network namespace of its own.
func again(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// What both sides know.
var (
	guestKey, keyA, keyB = testKey(1), testKey(2), testKey(3)
	shared               = wire.WireGuardSecret(testKey(4))
)

func testKey(n byte) (k wgtypes.Key) {
	for i := range k {
		k[i] = n
	}
	k[0], k[31] = k[0]&248, k[31]&127|64 // as the kernel does (RFC 7748, section 5)
	return k
}

func public(k wgtypes.Key) wire.WireGuardKey {
	private, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic(err)
	}
	return wire.WireGuardKey(private.PublicKey().Bytes())
}

// The world's addresses: those of the two peers, which both also have in the
// tunnel, and one that is outside of all.
const (
	hostA   = "203.0.113.1"
	hostB   = "203.0.113.2"
	outside = "203.0.113.9"
)

// world is everything behind the guest's interface: the host's resolver, two
// WireGuard peers, and a server on every address that says who asked.
func world() error {
	up, err := netlink.LinkByName("up")
	for err != nil { // it comes from the guest
		time.Sleep(10 * time.Millisecond)
		up, err = netlink.LinkByName("up")
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	give := func(link netlink.Link, addrs ...string) error {
		for _, a := range addrs {
			if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(a)), Flags: 2 /* IFA_F_NODAD */}); err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
		return netlink.LinkSetUp(link)
	}
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	tunnel := func(name string, key wgtypes.Key, port int, psk *wgtypes.Key, addrs, allowed []string) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, 1420
		link := &netlink.Wireguard{LinkAttrs: attrs}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		peer := wgtypes.PeerConfig{PublicKey: wgtypes.Key(public(guestKey)), PresharedKey: psk}
		for _, a := range allowed {
			peer.AllowedIPs = append(peer.AllowedIPs, *ipNet(netip.MustParsePrefix(a)))
		}
		if err := client.ConfigureDevice(name, wgtypes.Config{PrivateKey: &key, ListenPort: &port, Peers: []wgtypes.PeerConfig{peer}}); err != nil {
			return err
		}
		if err := give(link, addrs...); err != nil {
			return err
		}
		for _, a := range allowed {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Index, Dst: ipNet(netip.MustParsePrefix(a))}); err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
		return nil
	}
	psk := wgtypes.Key(shared)
	if err := errors.Join(
		give(lo, hostA+"/32", hostB+"/32", outside+"/32", "2001:db8::9/128"),
		give(up, "198.18.0.2/32"),
		netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("198.18.0.1/32")), Scope: netlink.SCOPE_LINK}),
		tunnel("wgA", keyA, 51820, nil, []string{"10.0.0.1/32", "fd00::1/128"}, []string{"10.0.0.2/32", "fd00::2/128"}),
		tunnel("wgB", keyB, 51821, &psk, []string{"10.1.0.1/32"}, []string{"10.1.0.2/32"}),
	); err != nil {
		return err
	}
	server := &dns.Server{Addr: "198.18.0.2:53", Net: "udp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		if q.Question[0].Name == "vpn.example." && q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "vpn.example.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(hostA)}}
		}
		_ = w.WriteMsg(m)
	})}
	ln, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	server.NotifyStartedFunc = func() { fmt.Println("ready") }
	failed := make(chan error, 2)
	go func() { failed <- server.ListenAndServe() }()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				failed <- err
				return
			}
			go serve(conn)
		}
	}()
	return <-failed
}

// serve says who asked whom, and then the hash of what came.
func serve(conn net.Conn) {
	defer conn.Close()
	name := func(a net.Addr) string { return a.(*net.TCPAddr).AddrPort().Addr().Unmap().String() }
	fmt.Fprintf(conn, "%s to %s\n", name(conn.RemoteAddr()), name(conn.LocalAddr()))
	h := sha256.New()
	if _, err := io.Copy(h, conn); err == nil {
		fmt.Fprintf(conn, "%x\n", h.Sum(nil))
	}
}

// connectWorld gives this namespace an interface hostnet with the world behind
// it, once for all tests.
var connectWorld = sync.OnceValue(func() error {
	cmd := again("world")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = wire.HostInterface
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "up"}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	up, err := netlink.LinkByName("up")
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := errors.Join(
		netlink.LinkSetUp(lo),
		netlink.LinkSetNsPid(up, cmd.Process.Pid),
		netlink.AddrAdd(veth, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("198.18.0.1/32"))}),
		netlink.LinkSetUp(veth),
		netlink.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Scope: netlink.SCOPE_LINK}),
	); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		return fmt.Errorf("the other side says %q, %v", line, err)
	}
	return nil
})

// start makes a tunnel for a test.
func start(t *testing.T, w *wire.WireGuard) *Tunnel {
	t.Helper()
	if err := connectWorld(); err != nil {
		t.Fatal(err)
	}
	w.Name, w.MTU, w.PrivateKey = "office", 1420, wire.WireGuardSecret(guestKey)
	tunnel, err := Start(t.Context(), w, Options{Network: wire.DefaultNetwork(false), Warn: t.Errorf, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tunnel.Close(); err != nil {
			t.Error(err)
		}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			rules, err := netlink.RuleList(family)
			if err != nil {
				t.Error(err)
			}
			for _, r := range rules {
				if r.Table == ownTable || r.Priority == mainPriority {
					t.Errorf("the rule %v was left behind", r)
				}
			}
		}
	})
	return tunnel
}

// ask connects to a server of the world and returns what it says about that,
// after it has sent it n bytes.
func ask(t *testing.T, to string, n int) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(to, "80"), limit)
	if err != nil {
		t.Errorf("%s: %v", to, err)
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	r := bufio.NewReader(conn)
	who, err := r.ReadString('\n')
	if err != nil {
		t.Errorf("%s: %v", to, err)
		return ""
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	if _, err := conn.Write(data); err != nil {
		t.Errorf("%s: send %d bytes: %v", to, n, err)
		return ""
	}
	conn.(*net.TCPConn).CloseWrite()
	sum, err := r.ReadString('\n')
	if want := fmt.Sprintf("%x\n", sha256.Sum256(data)); err != nil || sum != want {
		t.Errorf("%s: of %d bytes came %q, %v; want %q", to, n, sum, err, want)
	}
	return strings.TrimSuffix(who, "\n")
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func peerA(allowed ...string) wire.WireGuardPeer {
	return wire.WireGuardPeer{
		PublicKey: public(keyA), Endpoint: wire.WireGuardEndpoint{Addr: netip.MustParseAddr(hostA), Port: 51820},
		AllowedIPs: prefixes(allowed...),
	}
}

// What goes into the tunnel and what does not, for what AllowedIPs have.
func TestWays(t *testing.T) {
	const tunnel4, tunnel6, plain = "10.0.0.2", "fd00::2", "198.18.0.1"
	named := peerA("0.0.0.0/0", "::/0")
	named.Endpoint = wire.WireGuardEndpoint{Name: "vpn.example", Port: 51820}
	peerB := wire.WireGuardPeer{
		PublicKey: public(keyB), PresharedKey: shared, Endpoint: wire.WireGuardEndpoint{Addr: netip.MustParseAddr(hostB), Port: 51821},
		AllowedIPs: prefixes("10.1.0.0/16"),
	}
	for _, tt := range []struct {
		name string
		w    wire.WireGuard
		from map[string]string // whom the servers at these addresses see
	}{
		{"a network", wire.WireGuard{Peers: []wire.WireGuardPeer{peerA("10.0.0.0/24", "fd00::/64")}},
			map[string]string{"10.0.0.1": tunnel4, "fd00::1": tunnel6, outside: plain, "198.18.0.2": plain}},
		{"everything, by name", wire.WireGuard{Peers: []wire.WireGuardPeer{named}},
			map[string]string{"10.0.0.1": tunnel4, "fd00::1": tunnel6, outside: tunnel4, hostA: tunnel4, "2001:db8::9": tunnel6, "198.18.0.2": plain}},
		{"everything in halves", wire.WireGuard{FwMark: 7, Peers: []wire.WireGuardPeer{peerA("0.0.0.0/1", "128.0.0.0/1")}},
			map[string]string{"10.0.0.1": tunnel4, outside: tunnel4, hostA: tunnel4, "198.18.0.2": plain}},
		{"IPv6 alone", wire.WireGuard{Peers: []wire.WireGuardPeer{peerA("::/0")}},
			map[string]string{outside: plain, "2001:db8::9": tunnel6}},
		{"two peers", wire.WireGuard{Peers: []wire.WireGuardPeer{peerA("0.0.0.0/0"), peerB}},
			map[string]string{"10.0.0.1": tunnel4, "10.1.0.1": "10.1.0.2", outside: tunnel4}},
		{"no routes", wire.WireGuard{NoRoutes: true, Peers: []wire.WireGuardPeer{peerA("0.0.0.0/0")}},
			map[string]string{outside: plain, "10.1.0.1": plain}},
		{"another table", wire.WireGuard{Table: 1234, Peers: []wire.WireGuardPeer{peerA("0.0.0.0/0")}},
			map[string]string{outside: plain}},
		{"the table main", wire.WireGuard{Table: 254, Peers: []wire.WireGuardPeer{peerA("10.0.0.1/32", outside+"/32")}},
			map[string]string{"10.0.0.1": tunnel4, outside: tunnel4, hostA: plain}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.w.Addresses = prefixes("10.0.0.2/32", "fd00::2/128")
			if len(tt.w.Peers) > 1 {
				tt.w.Addresses = append(tt.w.Addresses, netip.MustParsePrefix("10.1.0.2/24"))
			}
			start(t, &tt.w)
			for to, from := range tt.from {
				n := 1000
				if to == outside {
					n = 8 << 20
				}
				if got, want := ask(t, to, n), from+" to "+to; got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
			if tt.w.Table == 0 {
				return
			}
			routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: int(tt.w.Table)}, netlink.RT_FILTER_TABLE)
			if err != nil || len(routes) == 0 {
				t.Errorf("the table %d has the routes %v, %v", tt.w.Table, routes, err)
			}
		})
	}
}

// The device is as the manifest has it.
func TestDevice(t *testing.T) {
	p := peerA("10.0.0.0/24")
	p.Keepalive = 25
	silentPeer := wire.WireGuardPeer{PublicKey: public(keyB), PresharedKey: shared, AllowedIPs: prefixes("10.1.0.0/16", "fd01::/16")}
	tunnel := start(t, &wire.WireGuard{
		ListenPort: 1111, FwMark: 0x99, NoRoutes: true, Addresses: prefixes("10.0.0.2/24"),
		Peers: []wire.WireGuardPeer{p, silentPeer},
	})
	// The keepalive makes a handshake without any traffic.
	var d *wgtypes.Device
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		var err error
		if d, err = tunnel.client.Device("office"); err != nil {
			t.Fatal(err)
		}
		if !d.Peers[0].LastHandshakeTime.IsZero() {
			break
		}
		if time.Now().After(end) {
			t.Fatal("there was no handshake")
		}
	}
	if d.PrivateKey != guestKey || d.ListenPort != 1111 || d.FirewallMark != 0x99 || len(d.Peers) != 2 {
		t.Errorf("the interface is %+v", d)
	}
	if p := d.Peers[0]; p.PublicKey != wgtypes.Key(public(keyA)) || p.PersistentKeepaliveInterval != 25*time.Second || p.Endpoint.String() != hostA+":51820" {
		t.Errorf("the first peer is %+v", p)
	}
	if p := d.Peers[1]; p.PresharedKey != wgtypes.Key(shared) || len(p.AllowedIPs) != 2 || p.Endpoint != nil || p.PersistentKeepaliveInterval != 0 {
		t.Errorf("the second peer is %+v", p)
	}
	link, err := netlink.LinkByName("office")
	if err != nil || link.Attrs().MTU != 1420 {
		t.Errorf("the link is %+v, %v", link, err)
	}

	states, err := (&kernelDevice{tunnel.client, "office"}).peers()
	if s := states[public(keyA)]; err != nil || s.sent == 0 || s.handshake.IsZero() || s.endpoint.String() != hostA+":51820" {
		t.Errorf("the state is %+v, %v", s, err)
	}
}

// As much as a file of configuration can hold arrives whole.
func TestMuch(t *testing.T) {
	w := &wire.WireGuard{}
	for i := range 999 {
		w.Peers = append(w.Peers, wire.WireGuardPeer{PublicKey: wire.WireGuardKey{1, byte(i >> 8), byte(i)}})
	}
	w.Peers = append(w.Peers, wire.WireGuardPeer{PublicKey: wire.WireGuardKey{2}})
	for i := range 3000 {
		addr := netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)})
		w.Peers[999].AllowedIPs = append(w.Peers[999].AllowedIPs, netip.PrefixFrom(addr, 32))
	}
	tunnel := start(t, w)
	d, err := tunnel.client.Device("office")
	if err != nil {
		t.Fatal(err)
	}
	allowed := 0
	for _, p := range d.Peers {
		allowed += len(p.AllowedIPs)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: ownTable}, netlink.RT_FILTER_TABLE)
	if len(d.Peers) != 1000 || allowed != 3000 || err != nil || len(routes) != 3000 {
		t.Errorf("there are %d peers, %d allowed addresses and %d routes, %v", len(d.Peers), allowed, len(routes), err)
	}
}

// A failed start leaves nothing behind and says what is wrong.
func TestStartErrors(t *testing.T) {
	if err := connectWorld(); err != nil {
		t.Fatal(err)
	}
	route := func(w *wire.WireGuard) { w.Table, w.Peers = 254, []wire.WireGuardPeer{peerA("0.0.0.0/0")} }
	for _, tt := range []struct {
		name   string
		change func(*wire.WireGuard)
		want   string
	}{
		{"the name of another", func(w *wire.WireGuard) { w.Name = "lo" }, "has an interface called lo already"},
		{"a route that is there", route, "the routing table 254, which Table names, has one already"},
		{"IPv6 in small packets", func(w *wire.WireGuard) { w.MTU = 1000 }, "give it the address fd00::2/64"},
	} {
		w := &wire.WireGuard{Name: "office", MTU: 1420, PrivateKey: wire.WireGuardSecret(guestKey), Addresses: prefixes("fd00::2/64")}
		tt.change(w)
		tunnel, err := Start(t.Context(), w, Options{Network: wire.DefaultNetwork(false), Warn: t.Errorf, Log: t.Logf})
		if err == nil {
			tunnel.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if _, err := netlink.LinkByName("office"); err == nil {
			t.Errorf("%s: the interface is still there", tt.name)
		}
	}
}
