package udp

import "net/netip"

// A Proto is a protocol that a Gate judges.
type Proto uint8

const (
	protoUDP  Proto = 2
	protoICMP Proto = 3
)

// A Gate decides where a datagram for dst goes: to the first of the targets
// or, if that refuses it, the next; to the resolver; or nowhere.
type Gate interface {
	Target(proto Proto, dst netip.AddrPort) (target []netip.AddrPort, resolver bool, err error)
}
