//go:build linux

package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// gsoMaxSize bounds what the kernel hands over as one packet, so that all fit
// the buffer that they are read into.
const gsoMaxSize = 65535 - 64

// configure gives the device its addresses and makes it the default route.
func configure(name string, n *wire.Network) error {
	device, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the network interface %s: %w", name, err)
	}
	// A distribution's kernel may lack any of these; what it then does is slower
	// or later, not wrong.
	for _, s := range settings(name, n) {
		_ = os.WriteFile("/proc/sys/net/"+s.path, []byte(s.value), 0)
	}
	_ = netlink.LinkSetGSOMaxSize(device, gsoMaxSize)
	if err := netlink.LinkSetMTU(device, n.MTU); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", name, n.MTU, err)
	}
	if err := netlink.LinkSetUp(device); err != nil {
		return fmt.Errorf("start the network interface %s: %w", name, err)
	}
	index := device.Attrs().Index
	if err := addDefault(device, index, n.IPv4); err != nil {
		return err
	}
	if !n.IPv6.IsValid() {
		return nil
	}
	return addDefault(device, index, n.IPv6)
}

// addDefault gives the device the address and a default route from it.
func addDefault(device netlink.Link, index int, addr netip.Addr) error {
	bits := addr.BitLen()
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, bits)}}
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if addr.Is6() {
		// Nobody else is on this link to have the same address (RFC 4862, 5.4).
		a.Flags = unix.IFA_F_NODAD
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	if err := netlink.AddrAdd(device, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give %s the address %s: %w", device.Attrs().Name, addr, err)
	}
	if addr.Is6() {
		// Linux makes this route itself, when its work queue comes to it; until
		// then it takes nothing in.
		local := &netlink.Route{LinkIndex: index, Dst: a.IPNet, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL}
		if err := netlink.RouteAdd(local); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("route %s to the guest itself: %w", addr, err)
		}
	}
	r := &netlink.Route{LinkIndex: index, Dst: all, Src: addr.AsSlice(), Scope: netlink.SCOPE_LINK}
	if addr.Is6() {
		r.Scope = netlink.SCOPE_UNIVERSE
	}
	if err := netlink.RouteAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make %s the default route of %s: %w", device.Attrs().Name, addr, err)
	}
	return nil
}

type setting struct{ path, value string }

// settings are of Documentation/networking/ip-sysctl.rst.
func settings(name string, n *wire.Network) []setting {
	s := []setting{
		// The first window must hold several of our packets, and the buffers
		// must hold them without waiting for the kernel to learn their size.
		{"ipv4/tcp_rmem", "4096 2097152 8388608"},
		{"ipv4/tcp_wmem", "4096 1048576 8388608"},
		{"ipv4/tcp_slow_start_after_idle", "0"},
		// Programs without privileges may ping.
		{"ipv4/ping_group_range", "0 2147483647"},
		{"ipv4/conf/" + name + "/rp_filter", "0"},
	}
	conf := "ipv6/conf/" + name + "/"
	if !n.IPv6.IsValid() {
		return append(s, setting{conf + "disable_ipv6", "1"})
	}
	return append(s,
		setting{conf + "addr_gen_mode", "1"}, // no link-local address
		setting{conf + "accept_ra", "0"},
		setting{conf + "accept_dad", "0"},
		setting{conf + "disable_ipv6", "0"},
	)
}
