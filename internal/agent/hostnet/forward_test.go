//go:build linux

package hostnet

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"bake/internal/wire"
)

// A container in the guest has a network of its own with a small MTU, which
// the guest forwards: what hostnet left for the kernel to do is done there.
func TestForwardedPackets(t *testing.T) {
	r := kernelRig(t)
	guest := r.guest.(*kernelGuest).ns
	container, err := newNamespace(t)
	if err != nil {
		t.Skipf("no second network namespace can be made here: %v", err)
	}
	if err := join(guest, container); err != nil {
		t.Fatal(err)
	}
	c := &rig{guest: &kernelGuest{ns: container}, h: r.h, host: r.host}

	data := blob(4 << 20)
	r.host.serve(func(s *stream) {
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("the host reads %d bytes, %v", len(got), err)
		}
		if _, err := s.Write(got); err != nil {
			t.Error(err)
		}
		_ = s.CloseWrite()
	})
	for _, to := range servers {
		conn := dial(t, c, to)
		if _, err := conn.Write(data); err != nil {
			t.Error(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Error(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v: the container reads %d bytes, %v", to, len(got), err)
		}
		conn.Close()
	}

	r.host.onDatagram(func(d *wire.Datagram) {
		r.h.Deliver(&wire.Datagram{Kind: wire.DatagramUDP, Source: d.Destination, Destination: d.Source, Payload: d.Payload})
	})
	for _, c2 := range []struct {
		to    netip.AddrPort
		sizes []int
	}{
		{server4, []int{1, 1400, 9000, 60_000, 65_507}},
		// Routers do not cut IPv6 (RFC 8200, 5), and nobody tells the host.
		{server6, []int{1, 1400}},
	} {
		conn := dialUDP(t, c, c2.to)
		for _, n := range c2.sizes {
			if _, err := conn.Write(data[:n]); err != nil {
				t.Fatal(err)
			}
			in := make([]byte, 70_000)
			m, err := conn.Read(in)
			if err != nil || !bytes.Equal(in[:m], data[:n]) {
				t.Fatalf("%v: %d bytes come back as %d, %v", c2.to, n, m, err)
			}
		}
	}
}

// join connects the container to the guest, which forwards for it.
func join(guest, container *namespace) error {
	f, err := os.Open(container.path)
	if err != nil {
		return err
	}
	defer f.Close()
	ends := func(name string, addrs ...string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			addr.Flags = 2 // IFA_F_NODAD
			if err := netlink.AddrAdd(l, addr); err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
		return netlink.LinkSetUp(l)
	}
	guest.do(func() {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "inside", MTU: 1500}, PeerName: "eth0", PeerNamespace: netlink.NsFd(f.Fd())}
		if err = netlink.LinkAdd(veth); err != nil {
			return
		}
		if err = ends("inside", "10.9.0.1/24", "fd09::1/64"); err != nil {
			return
		}
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err = (setting{path, "1"}).write(); err != nil {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	container.do(func() {
		if err = ends("eth0", "10.9.0.2/24", "fd09::2/64"); err != nil {
			return
		}
		for _, gw := range []string{"10.9.0.1", "fd09::1"} {
			if err = netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}); err != nil {
				err = fmt.Errorf("route by %s: %w", gw, err)
				return
			}
		}
	})
	return err
}
