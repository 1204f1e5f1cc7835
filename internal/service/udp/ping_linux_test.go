package udp

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"bake/internal/wire"
)

// inNamespace runs the test that calls it once more, in a process with a
// network of its own, and reports whether this is that process.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "BAKE_TEST_NAMESPACE"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("this system lets nobody make a network namespace: %v", err)
	}
	if err != nil {
		t.Errorf("in a network namespace: %v\n%s", err, out)
	}
	return false
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeNetwork gives the namespace a loopback and a link 192.0.2.0/24 with
// nobody else on it, and says who may ping.
func makeNetwork(t *testing.T, pingAllowed bool) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there"}))
	for _, name := range []string{"here", "there"} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		if name == "here" {
			addr, err := netlink.ParseAddr("192.0.2.1/24")
			must(t, err)
			must(t, netlink.AddrAdd(link, addr))
		}
		must(t, netlink.LinkSetUp(link))
	}
	must(t, os.WriteFile("/proc/sys/net/ipv4/neigh/here/retrans_time_ms", []byte("10"), 0))
	if pingAllowed { // in a new namespace it is not
		must(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0))
	}
}

func (r *rig) echo(src netip.Addr, id uint16, dst netip.Addr, sequence uint16, payload string) {
	r.t.Helper()
	r.send(wire.Datagram{
		Kind: wire.DatagramEcho, Source: netip.AddrPortFrom(src, id),
		Destination: netip.AddrPortFrom(dst, sequence), Payload: []byte(payload),
	})
}

func (r *rig) expectEcho(src netip.Addr, id uint16, dst netip.Addr, sequence uint16, payload string) {
	r.t.Helper()
	d := r.next()
	if d.Kind != wire.DatagramEcho || d.Source != netip.AddrPortFrom(dst, sequence) || d.Destination != netip.AddrPortFrom(src, id) || string(d.Payload) != payload {
		r.t.Errorf("got kind %d code %d from %v to %v with %q, want an echo of %q from %v, sequence %d, to %v, identifier %d",
			d.Kind, d.Code, d.Source, d.Destination, d.Payload, payload, dst, sequence, src, id)
	}
}

func (r *rig) expectNoEcho(code uint16, src netip.Addr, id uint16, dst netip.Addr, sequence uint16) {
	r.t.Helper()
	d := r.next()
	if d.Kind != wire.DatagramUnreachable || d.Flow != uint32(wire.DatagramEcho) || d.Code != code ||
		d.Destination != netip.AddrPortFrom(dst, sequence) || d.Source != netip.AddrPortFrom(src, id) {
		r.t.Errorf("got kind %d code %d flow %d from %v to %v, want %v, sequence %d, unreachable from %v, identifier %d, with code %d",
			d.Kind, d.Code, d.Flow, d.Source, d.Destination, dst, sequence, src, id, code)
	}
}

func TestPing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	makeNetwork(t, true)
	r := start(t, Options{Network: wire.DefaultNetwork(true)}).connect()
	local4, local6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	for sequence := range uint16(3) {
		r.echo(guest4, 77, local4, 0xfff0+sequence, "data")
		r.expectEcho(guest4, 77, local4, 0xfff0+sequence, "data")
	}
	r.echo(guest4, 78, local4, 1, strings.Repeat("x", 60000))
	r.expectEcho(guest4, 78, local4, 1, strings.Repeat("x", 60000))
	r.echo(guest6, 77, local6, 9, "")
	r.expectEcho(guest6, 77, local6, 9, "")
	if flows, sources, sockets := r.counts(); flows != 3 || sources != 3 || sockets != 3 {
		t.Errorf("%d flows of %d sources with %d sockets, want one of each for each identifier", flows, sources, sockets)
	}
	// The host itself answers without a socket.
	r.echo(guest4, 1, host4, 5, "gateway")
	r.expectEcho(guest4, 1, host4, 5, "gateway")
	r.echo(guest6, 1, r.server.Network.HostIPv6, 5, "gateway")
	r.expectEcho(guest6, 1, r.server.Network.HostIPv6, 5, "gateway")

	elsewhere, absent := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("192.0.2.2")
	r.echo(guest4, 2, elsewhere, 5, "x")
	r.expectNoEcho(wire.UnreachableNetwork, guest4, 2, elsewhere, 5)
	r.echo(guest4, 2, absent, 6, "x")
	r.expectNoEcho(wire.UnreachableHost, guest4, 2, absent, 6)
	r.gate.deny(elsewhere)
	r.echo(guest4, 3, elsewhere, 7, "x")
	r.expectNoEcho(wire.UnreachableDenied, guest4, 3, elsewhere, 7)
	r.clock.pass(idleTime)
	r.server.nat.expire()
	if flows, sources, sockets := r.counts(); flows+sources+sockets != 0 {
		t.Errorf("%d flows of %d sources with %d sockets have not expired", flows, sources, sockets)
	}
}

func TestPingNotAllowed(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	makeNetwork(t, false)
	r := start(t, Options{}).connect()
	local := netip.MustParseAddr("127.0.0.1")
	for sequence := range uint16(3) {
		r.echo(guest4, 1, local, sequence, "x")
		r.expectNoEcho(wire.UnreachableDenied, guest4, 1, local, sequence)
	}
	if log := r.logged(); len(log) != 1 || !strings.Contains(log[0], "ping_group_range") {
		t.Errorf("want one line about ping, got %q", log)
	}
}

// Errors of the network come back as on the host, at once or later.
func TestUnreachable(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	makeNetwork(t, true)
	r := start(t, Options{}).connect()
	absent, elsewhere := netip.MustParseAddrPort("192.0.2.2:9"), netip.MustParseAddrPort("203.0.113.1:9")
	elsewhere6 := netip.MustParseAddrPort("[2001:db8::1]:9")
	for range 2 {
		r.udp(from4(1), absent, "x")
		r.expectUnreachable(wire.UnreachableHost, from4(1), absent)
		r.udp(from4(1), elsewhere, "x")
		r.expectUnreachable(wire.UnreachableNetwork, from4(1), elsewhere)
		r.udp(netip.AddrPortFrom(guest6, 1), elsewhere6, "x")
		r.expectUnreachable(wire.UnreachableNetwork, netip.AddrPortFrom(guest6, 1), elsewhere6)
	}
}
