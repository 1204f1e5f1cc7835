package wire

import "net/netip"

// HostName is the name by which programs in the guest reach the host itself,
// where policy allows that.
const HostName = "host.bake.internal"

// HostInterface is the guest's interface to the world.
const HostInterface = "hostnet"

// MaxMTU is the largest MTU of the guest's interface, in bytes: with packets
// this large few of them carry much.
const MaxMTU = 65520

// A Network is how the guest reaches the world: a TUN interface, hostnet, and
// behind it a netstack that carries TCP to [PortSOCKS] and datagrams to
// [PortUDP]. The host decides every address in it.
type Network struct {
	// MTU is that of hostnet, in bytes.
	MTU int `json:"mtu"`
	// IPv4 and IPv6 are the guest's own addresses. Without IPv6 the guest has
	// no IPv6 route, because the host has none.
	IPv4 netip.Addr `json:"ipv4"`
	IPv6 netip.Addr `json:"ipv6,omitzero"`
	// HostIPv4 and HostIPv6 stand for the host: its resolver answers on port
	// 53 of them, they answer to ping, and where policy allows it, their other
	// ports are those of the host's loopback interface.
	HostIPv4 netip.Addr `json:"hostIPv4"`
	HostIPv6 netip.Addr `json:"hostIPv6,omitzero"`
}

// The guest's addresses: one of the benchmarking range (RFC 2544), which
// neither a private network nor a VPN uses, and a ULA (RFC 4193).
func DefaultNetwork(ipv6 bool) *Network {
	n := &Network{
		MTU:      MaxMTU,
		IPv4:     netip.AddrFrom4([4]byte{198, 18, 0, 1}),
		HostIPv4: netip.AddrFrom4([4]byte{198, 18, 0, 2}),
	}
	if ipv6 {
		n.IPv6 = netip.MustParseAddr("fd62:616b:6500::1")
		n.HostIPv6 = netip.MustParseAddr("fd62:616b:6500::2")
	}
	return n
}

// A Resolver is what the guest's resolv.conf(5) says.
type Resolver struct {
	// Nameservers are asked in this order: the host's address, unless WireGuard
	// brings its own.
	Nameservers []netip.Addr `json:"nameservers"`
	Search      []string     `json:"search,omitempty"`
	Options     []string     `json:"options,omitempty"`
}

// A HostEntry is a line of the guest's hosts(5).
type HostEntry struct {
	Name string     `json:"name"`
	Addr netip.Addr `json:"addr"`
}
