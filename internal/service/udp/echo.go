package udp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"

	"bake/internal/policy"
	"bake/internal/udpio"
	"bake/internal/wire"
)

// ICMP echo messages (RFC 792; RFC 4443 section 4): type u8, code u8, checksum
// u16, identifier u16, sequence number u16, data. The kernel fills in checksum
// and identifier.
const (
	echoHeader   = 8
	echoRequest4 = 8
	echoRequest6 = 128
	echoReply4   = 0
	echoReply6   = 129
)

// sendEcho sends an echo request of the guest. One for the host itself is
// answered here: that much is no contact with what the host runs.
func (s *server) sendEcho(d *wire.Datagram, out *outbound) {
	dst := d.Destination.Addr()
	if s.Network != nil && (dst == s.Network.HostIPv4 || dst == s.Network.HostIPv6) {
		s.queue.Put(&wire.Datagram{Kind: wire.DatagramEcho, Source: d.Destination, Destination: d.Source, Payload: d.Payload})
		return
	}
	key := flowKey{wire.DatagramEcho, d.Source, netip.AddrPortFrom(dst, 0)}
	told := flowKey{wire.DatagramEcho, d.Source, d.Destination}
	f, to := s.nat.use(key)
	if f == nil {
		targets, _, err := s.Gate.Target(policy.ICMP, key.destination)
		if err != nil {
			s.nat.forget(key)
			s.nat.unreachable(told, wire.UnreachableDenied)
			return
		}
		if len(targets) > 0 {
			targets = []netip.AddrPort{netip.AddrPortFrom(targets[0].Addr(), 0)}
		}
		if f, to, err = s.nat.allow(key, targets, nil); err != nil {
			if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EPROTONOSUPPORT) {
				s.nat.noPing.Do(func() {
					s.Log("the guest cannot ping: this host lets ordinary users ping only by net.ipv4.ping_group_range (icmp(7)): %v", err)
				})
			}
			s.nat.notOpened(told, err)
			return
		}
	}
	message := make([]byte, echoHeader, echoHeader+len(d.Payload))
	message[0] = echoRequest6
	if to.peer.Addr().Is4() {
		message[0] = echoRequest4
	}
	binary.BigEndian.PutUint16(message[6:], d.Destination.Port())
	message = append(message, d.Payload...)
	out.Add(to.socket, udpio.Datagram{Peer: to.peer, Payload: message}, f)
}

// echoReply reads an ICMP message; ok says that it is an echo reply.
func echoReply(peer netip.Addr, message []byte) (sequence uint16, data []byte, ok bool) {
	reply := byte(echoReply6)
	if peer.Is4() {
		reply = echoReply4
	}
	if len(message) < echoHeader || len(message)-echoHeader > wire.MaxDatagram || message[0] != reply || message[1] != 0 {
		return 0, nil, false
	}
	return sequenceOf(message), message[echoHeader:], true
}

// sequenceOf is the sequence number of as much of an echo message as there is.
func sequenceOf(message []byte) uint16 {
	if len(message) < echoHeader {
		return 0
	}
	return binary.BigEndian.Uint16(message[6:])
}
