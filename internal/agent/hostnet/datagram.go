//go:build linux

package hostnet

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// datagram is a packet that is not TCP. A segment that is not 0 says that its
// payload is several datagrams of that size.
func (h *Hostnet) datagram(p *packet, segment int) {
	switch {
	case p.proto == protoUDP:
		h.sendUDP(p, segment)
	case p.proto == protoICMP && p.src.Is4(), p.proto == protoICMPv6 && p.src.Is6():
		h.sendEcho(p)
	case p.proto != protoTCP && p.proto != protoNoNext:
		h.unreachable(h.hostOf(p.dst), quote{p.src, p.dst, p.bytes}, noProtocol)
	}
}

func (h *Hostnet) sendUDP(p *packet, segment int) {
	b := p.payload()
	if segment > 0 && len(b) >= udpHeaderLen {
		// The length is for each of the segments to say.
		binary.BigEndian.PutUint16(b[4:], uint16(min(len(b), 65535)))
	}
	from, to, payload, ok := parseUDP(b)
	if !ok {
		return
	}
	d := wire.Datagram{
		Kind:   wire.DatagramUDP,
		Source: netip.AddrPortFrom(p.src, from), Destination: netip.AddrPortFrom(p.dst, to),
	}
	for {
		d.Payload = payload
		if segment > 0 && len(payload) > segment {
			d.Payload = payload[:segment]
		}
		payload = payload[len(d.Payload):]
		if len(d.Payload) <= wire.MaxDatagram {
			h.datagrams.Send(&d)
		}
		if len(payload) == 0 {
			return
		}
	}
}

// sendEcho answers a ping of the host's address and passes on every other.
// Errors that the guest's kernel sends are about answers that nobody waits for
// any more.
func (h *Hostnet) sendEcho(p *packet) {
	e, ok := parseEcho(p.src.Is6(), p.payload())
	if !ok {
		return
	}
	if h.isHost(p.dst) {
		h.write(appendEchoReply(nil, p.dst, p.src, e, h.device.nextID()))
		return
	}
	if len(e.data) <= wire.MaxDatagram {
		h.datagrams.Send(&wire.Datagram{
			Kind:   wire.DatagramEcho,
			Source: netip.AddrPortFrom(p.src, e.id), Destination: netip.AddrPortFrom(p.dst, e.sequence), Payload: e.data,
		})
	}
}

// Deliver gives the guest a datagram from the host. It does not keep d, and
// may be called from several goroutines. What makes no packet is dropped, like
// what the guest's kernel has no room for.
func (h *Hostnet) Deliver(d *wire.Datagram) {
	if !h.deliverable(d) {
		return
	}
	src, dst := d.Source.Addr(), d.Destination.Addr()
	switch d.Kind {
	case wire.DatagramUDP:
		_ = h.writeUDP(d.Source, d.Destination, [][]byte{d.Payload})
	case wire.DatagramEcho:
		e := echo{d.Destination.Port(), d.Source.Port(), d.Payload}
		if src.Is4() && len(e.data) > maxPayload-ipv4HeaderLen-icmpHeaderLen {
			return
		}
		h.write(appendEchoReply(nil, src, dst, e, h.device.nextID()))
	case wire.DatagramUnreachable:
		h.deliverUnreachable(d)
	}
}

// deliverable says that d can be in a packet.
func (h *Hostnet) deliverable(d *wire.Datagram) bool {
	src, dst := d.Source.Addr(), d.Destination.Addr()
	return src.IsValid() && src.Is4() == dst.Is4() && !src.Is4In6() && !dst.Is4In6() && len(d.Payload) <= wire.MaxDatagram
}

// writeUDP sends the guest datagrams as one packet. All payloads but the last
// have the length of the first.
func (h *Hostnet) writeUDP(source, destination netip.AddrPort, payloads [][]byte) error {
	var room [ipv6HeaderLen + udpHeaderLen]byte
	src, dst := source.Addr(), destination.Addr()
	n := udpHeaderLen
	for _, p := range payloads {
		n += len(p)
	}
	b := appendIP(room[:0], src, dst, protoUDP, n, h.device.nextID())
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, source.Port())
	b = binary.BigEndian.AppendUint16(b, destination.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	addresses := b[12:start]
	if src.Is6() {
		addresses = b[8:start]
	}
	half := len(addresses) / 2
	b = binary.BigEndian.AppendUint16(b, fold(pseudoSum(addresses[:half], addresses[half:], protoUDP, n)))
	v := vnetHeader{
		flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, headerLen: uint16(len(b)),
		csumStart: uint16(start), csumOffs: 6,
	}
	if len(payloads) > 1 {
		v.gsoType, v.gsoSize = unix.VIRTIO_NET_HDR_GSO_UDP_L4, uint16(len(payloads[0]))
	}
	var head [vnetSize]byte
	v.put(&head)
	var pieces [maxPieces]unix.Iovec
	pieces[0] = unix.Iovec{Base: &head[0], Len: vnetSize}
	pieces[1] = unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	used := 2
	for _, p := range payloads {
		if len(p) > 0 {
			pieces[used] = unix.Iovec{Base: &p[0], Len: uint64(len(p))}
			used++
		}
	}
	return h.device.writeVector(pieces[:used])
}

// deliverUnreachable tells a socket what became of a datagram that it sent.
func (h *Hostnet) deliverUnreachable(d *wire.Datagram) {
	r, ok := reasonFor(syscall.Errno(d.Code))
	if !ok {
		return
	}
	src, dst := d.Source.Addr(), d.Destination.Addr()
	var b []byte
	if wire.DatagramKind(d.Flow) == wire.DatagramEcho {
		b = appendEchoRequest(nil, src, dst, d.Source.Port(), d.Destination.Port(), h.device.nextID())
	} else {
		b = appendIP(nil, src, dst, protoUDP, udpHeaderLen, h.device.nextID())
		b = binary.BigEndian.AppendUint16(b, d.Source.Port())
		b = binary.BigEndian.AppendUint16(b, d.Destination.Port())
		b = append(b, 0, udpHeaderLen, 0, 0)
	}
	from := h.hostOf(dst)
	if r == noPort {
		from = dst // who has no such port is who says so
	}
	h.unreachable(from, quote{src, dst, b}, r)
}

// unreachable sends the guest an ICMP error.
func (h *Hostnet) unreachable(from netip.Addr, q quote, r reason) {
	if from.IsValid() {
		h.write(appendError(make([]byte, 0, ipv6HeaderLen+errorLen), from, q, r, h.device.nextID()))
	}
}

// write sends the guest a packet with all its sums.
func (h *Hostnet) write(b []byte) { _ = h.device.write(vnetHeader{}, b, nil) }

// isHost says whether addr stands for the host.
func (h *Hostnet) isHost(addr netip.Addr) bool {
	return addr == h.network.HostIPv4 || addr == h.network.HostIPv6 && addr.IsValid()
}

// hostOf is the host's address of addr's family.
func (h *Hostnet) hostOf(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return h.network.HostIPv4
	}
	return h.network.HostIPv6
}
