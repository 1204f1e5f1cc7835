package udp

import (
	"net/netip"

	"bake/internal/policy"
)

// A Gate decides where a datagram for dst goes: to the first of the targets
// or, if that refuses it, the next; to the resolver; or nowhere.
// *egress.Gate is one.
type Gate interface {
	Target(proto policy.Proto, dst netip.AddrPort) (target []netip.AddrPort, resolver bool, err error)
}
