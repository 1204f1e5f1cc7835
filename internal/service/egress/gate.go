package egress

import (
	"context"
	"net/netip"

	"bake/internal/policy"
	"bake/internal/wire"
)

// A Policy decides what the guest may reach; *[policy.Policy] is one. A
// refusal is a *[policy.Denied].
type Policy interface {
	// Check is for a destination that is dialled by its address.
	Check(proto policy.Proto, dst netip.AddrPort) error
	// CheckHost is for a port of the host's loopback.
	CheckHost(proto policy.Proto, port uint16) error
	// CheckName is for a name that is to be resolved.
	CheckName(name string) error
	// CheckNamePort is for a connection to a name that a proxy resolves.
	CheckNamePort(proto policy.Proto, name string, port uint16) error
	// Disabled says that there is no network at all.
	Disabled() bool
}

// Options are what a [Gate] is made of. Policy must be set.
type Options struct {
	// Network says which addresses stand for the host; without one nothing is
	// reached.
	Network *wire.Network
	Policy  Policy
	// Proxy carries all TCP to the outside, if it is set.
	Proxy *Proxy
	// Names are those that the guest was given addresses for in place of
	// answers. They are needed where the proxy resolves names.
	Names *FakeNames
	// Lookup resolves a name that a guest dials without having asked for its
	// addresses, and the names that no proxy is to be used for, and tells the
	// policy what it found. Without it they are refused.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Log, if it is set, takes a line for what is denied and for a proxy that
	// fails. Lines that repeat are counted, see [Gate.Report].
	Log func(line string)
}

// A Gate decides and dials. Its methods are safe for concurrent use.
type Gate struct {
	network *wire.Network
	policy  Policy
	proxy   *Proxy
	names   *FakeNames
	lookup  func(context.Context, string) ([]netip.Addr, error)
	report  *report
}

// New makes a gate.
func New(o Options) *Gate {
	return &Gate{
		network: o.Network, policy: o.Policy, proxy: o.Proxy, names: o.Names, lookup: o.Lookup,
		report: newReport(o.Log),
	}
}

const resolverPort = 53

var loopback = [2]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// A place is where a destination of the guest lies.
type place uint8

const (
	placeOutside  place = iota
	placeResolver       // port 53 of the host
	placeHost           // the host's loopback
	placeName           // a name has this address
)

// locate says where dst is, for what is not denied.
func (g *Gate) locate(proto policy.Proto, dst netip.AddrPort) (place, error) {
	addr := dst.Addr()
	switch {
	case g.network == nil || g.policy.Disabled():
		// The policy says why, if it is its doing.
		if err := g.policy.Check(proto, dst); err != nil {
			return 0, err
		}
		return 0, denied(proto, dst, "the guest has no network")
	case g.isHost(addr):
		if dst.Port() == resolverPort && proto != policy.ICMP {
			return placeResolver, nil
		}
		return placeHost, g.policy.CheckHost(proto, dst.Port())
	case g.names != nil && fakeRange.Contains(addr):
		return placeName, nil
	}
	return placeOutside, g.policy.Check(proto, dst)
}

// Target says where a datagram, or a connection that no proxy is to carry,
// goes: to the first of the targets or, if that refuses it, to the next. The
// addresses that stand for the host become 127.0.0.1 and ::1. With resolver it
// is a question for the guest's DNS server instead. A refusal is a
// *[policy.Denied] and has been counted.
//
// With a proxy, nothing but TCP leaves that does not lead to the host or is
// excepted from the proxy: only TCP fits through one.
func (g *Gate) Target(proto policy.Proto, dst netip.AddrPort) (target []netip.AddrPort, isResolver bool, err error) {
	dst = unmap(dst)
	where, err := g.locate(proto, dst)
	if err != nil {
		return nil, false, g.deny(err)
	}
	switch where {
	case placeResolver:
		return nil, true, nil
	case placeHost:
		return []netip.AddrPort{
			netip.AddrPortFrom(loopback[0], dst.Port()),
			netip.AddrPortFrom(loopback[1], dst.Port()),
		}, false, nil
	case placeName:
		return nil, false, g.deny(denied(proto, dst, "it stands for a name, which only TCP reaches through --proxy"))
	}
	if g.proxy != nil && proto != policy.TCP {
		if s, err := g.proxy.server(dst.Addr().String(), dst.Port()); s != nil || err != nil {
			return nil, false, g.deny(denied(proto, dst, "only TCP goes through --proxy, and nothing goes around it"))
		}
	}
	return []netip.AddrPort{dst}, false, nil
}

// IsResolver says that a connection to dst is one to the guest's DNS server.
func (g *Gate) IsResolver(dst netip.AddrPort) bool {
	dst = unmap(dst)
	return !g.policy.Disabled() && dst.Port() == resolverPort && g.isHost(dst.Addr())
}

// isHost says that addr stands for the host.
func (g *Gate) isHost(addr netip.Addr) bool {
	n := g.network
	return n != nil && addr.IsValid() && (addr == n.HostIPv4 || addr == n.HostIPv6)
}

// unmap gives an address its one form.
func unmap(dst netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(dst.Addr().Unmap().WithZone(""), dst.Port())
}

func denied(proto policy.Proto, dst netip.AddrPort, why string) *policy.Denied {
	return &policy.Denied{What: proto.String() + " " + dst.String(), Why: why}
}
