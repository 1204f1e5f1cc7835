//go:build linux

package hostnet

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// gsoMaxSize bounds what the kernel hands over as one packet, so that all fit
// the buffer that they are read into.
const gsoMaxSize = 65535 - 64

// configure gives the device its addresses and makes it the default route. All
// of it is one request to the kernel.
func configure(name string, n *wire.Network) error {
	// A distribution's kernel may lack any of these; what it then does is slower
	// or later, not wrong.
	for _, s := range settings(name, n) {
		_ = s.write()
	}
	index, err := interfaceIndex(name)
	if err != nil {
		return fmt.Errorf("find the network interface %s: %w", name, err)
	}
	var b batch
	b.link(index, n.MTU)
	b.address(index, n.IPv4)
	b.defaultRoute(index, n.IPv4)
	if n.IPv6.IsValid() {
		b.address(index, n.IPv6)
		// Linux makes this route itself, when its work queue comes to it; until
		// then it takes nothing in.
		b.localRoute(index, n.IPv6)
		b.defaultRoute(index, n.IPv6)
	}
	if err := b.send(); err != nil {
		return fmt.Errorf("configure the network interface %s: %w", name, err)
	}
	return nil
}

func interfaceIndex(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr)
	return int(ifr.Uint32()), err
}

// link sets the MTU and starts the interface.
func (b *batch) link(index, mtu int) {
	b.begin(fmt.Sprintf("set the MTU %d and start it", mtu), unix.RTM_NEWLINK, 0)
	b.ifinfo(index, unix.IFF_UP)
	b.uint32(unix.IFLA_MTU, uint32(mtu))
	b.uint32(unix.IFLA_GSO_MAX_SIZE, gsoMaxSize)
	b.end()
}

func (b *batch) address(index int, a netip.Addr) {
	b.begin(fmt.Sprintf("give it the address %v", a), unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	// Nobody else is on this link to have the same address (RFC 4862, 5.4).
	b.ifaddr(a, index, unix.IFA_F_PERMANENT|unix.IFA_F_NODAD)
	b.bytes(unix.IFA_LOCAL, a.AsSlice())
	b.bytes(unix.IFA_ADDRESS, a.AsSlice())
	b.end()
}

func (b *batch) localRoute(index int, a netip.Addr) {
	b.begin(fmt.Sprintf("take in what is for %v", a), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	b.route(a, a.BitLen(), unix.RT_TABLE_LOCAL, unix.RT_SCOPE_HOST, unix.RTN_LOCAL)
	b.bytes(unix.RTA_DST, a.AsSlice())
	b.uint32(unix.RTA_OIF, uint32(index))
	b.end()
}

func (b *batch) defaultRoute(index int, from netip.Addr) {
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if from.Is4() {
		scope = unix.RT_SCOPE_LINK
	}
	b.begin(fmt.Sprintf("make it the default route of %v", from), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	b.route(from, 0, unix.RT_TABLE_MAIN, scope, unix.RTN_UNICAST)
	b.uint32(unix.RTA_OIF, uint32(index))
	b.bytes(unix.RTA_PREFSRC, from.AsSlice())
	b.end()
}

type setting struct{ path, value string }

// settings are of Documentation/networking/ip-sysctl.rst.
func settings(name string, n *wire.Network) []setting {
	v6 := setting{"ipv6/conf/" + name + "/disable_ipv6", "1"}
	if n.IPv6.IsValid() {
		v6 = setting{"ipv6/conf/" + name + "/addr_gen_mode", "1"} // no link-local address
	}
	return []setting{
		v6,
		// The first window must hold several of our packets.
		{"ipv4/tcp_rmem", "4096 2097152 8388608"},
		{"ipv4/tcp_slow_start_after_idle", "0"},
		// Programs without privileges may ping.
		{"ipv4/ping_group_range", "0 2147483647"},
	}
}

func (s setting) write() error {
	fd, err := unix.Open("/proc/sys/net/"+s.path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(s.value))
	return err
}
