package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// MaxDatagram is the longest payload of a UDP datagram over IPv4, in bytes
// (65,535 less the headers of IP and UDP).
const MaxDatagram = 65507

// DatagramLimit bounds the body of a frame on [PortUDP], in bytes.
const DatagramLimit = datagramHeader + MaxDatagram

// A DatagramKind says what a [Datagram] is.
type DatagramKind uint8

const (
	// DatagramUDP is a UDP datagram from Source to Destination.
	DatagramUDP DatagramKind = 1 + iota
	// DatagramUnreachable goes to the guest: the datagram that Source (the
	// guest's) sent to Destination did not arrive. Code says why, one of the
	// Unreachable numbers, and Flow of what kind it was: DatagramUDP or
	// DatagramEcho.
	DatagramUnreachable
	// DatagramEcho is an ICMP echo request to the host and its reply back. The
	// guest's port is the identifier and the other's port the sequence number.
	DatagramEcho
	// DatagramPublished belongs to a published port. To the guest, Source
	// names the client and Destination's port is the guest's; back they are
	// swapped. Flow tells clients apart.
	DatagramPublished
)

// Codes of [DatagramUnreachable]: the errno that Linux makes of the ICMP error
// (icmp(7); icmp_err_convert in net/ipv4/icmp.c), in Linux's numbers whatever
// the host is. A code that is none of these stands for UnreachableHost.
const (
	// UnreachableDenied (EPERM): policy, or the host's firewall, does not let
	// it out.
	UnreachableDenied = 1
	// UnreachableSize (EMSGSIZE): the host cannot send so much at once.
	UnreachableSize = 90
	// UnreachableNetwork (ENETUNREACH): the host has no route.
	UnreachableNetwork = 101
	// UnreachablePort (ECONNREFUSED): nobody listens there.
	UnreachablePort = 111
	// UnreachableHost (EHOSTUNREACH): the host at that address does not answer.
	UnreachableHost = 113
)

// A Datagram is one frame's body on [PortUDP]:
//
//	kind u8, family u8 (4 or 6, of both addresses), code u16, flow u32,
//	source address 16 bytes, source port u16,
//	destination address 16 bytes, destination port u16, payload
//
// Numbers are big-endian; an IPv4 address fills the first 4 of its 16 bytes
// and the others are zero.
type Datagram struct {
	Kind                DatagramKind
	Code                uint16
	Flow                uint32
	Source, Destination netip.AddrPort
	// Payload is at most MaxDatagram bytes and shares the frame's memory.
	Payload []byte
}

const datagramHeader = 8 + 2*(16+2)

var errDatagram = errors.New("a datagram frame is malformed")

// FrameLen is the number of bytes of d's frame with its length.
func (d *Datagram) FrameLen() int { return frameHeader + datagramHeader + len(d.Payload) }

// AppendDatagram appends d as one frame, with its length, to b. It fails if d
// is too long, its kind is none, or its addresses are not of one family, each
// in its own form: an IPv4 address never as an IPv6 one, and none with a zone.
func AppendDatagram(b []byte, d *Datagram) ([]byte, error) {
	src, dst := d.Source.Addr(), d.Destination.Addr()
	if len(d.Payload) > MaxDatagram || d.Kind < DatagramUDP || d.Kind > DatagramPublished ||
		src.Is4() != dst.Is4() || !encodable(src) || !encodable(dst) {
		return b, fmt.Errorf("send a datagram of kind %d and %d bytes from %v to %v: %w", d.Kind, len(d.Payload), d.Source, d.Destination, errDatagram)
	}
	b = slices.Grow(b, d.FrameLen())
	n := len(b)
	b = b[:n+frameHeader+datagramHeader]
	h := b[n:]
	binary.BigEndian.PutUint32(h, uint32(datagramHeader+len(d.Payload)))
	h[4] = byte(d.Kind)
	h[5] = 6
	if src.Is4() {
		h[5] = 4
	}
	binary.BigEndian.PutUint16(h[6:], d.Code)
	binary.BigEndian.PutUint32(h[8:], d.Flow)
	putAddrPort(h[12:], d.Source)
	putAddrPort(h[12+18:], d.Destination)
	return append(b, d.Payload...), nil
}

func encodable(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() && a.Zone() == "" }

// putAddrPort fills the first 18 bytes of h.
func putAddrPort(h []byte, a netip.AddrPort) {
	if a.Addr().Is4() {
		ip := a.Addr().As4()
		copy(h, ip[:])
		clear(h[4:16])
	} else {
		ip := a.Addr().As16()
		copy(h, ip[:])
	}
	binary.BigEndian.PutUint16(h[16:], a.Port())
}

// ParseDatagram reads a frame's body. The payload shares its memory.
func ParseDatagram(body []byte) (Datagram, error) {
	if len(body) < datagramHeader || len(body) > DatagramLimit {
		return Datagram{}, fmt.Errorf("read a frame of %d bytes: %w", len(body), errDatagram)
	}
	d := Datagram{
		Kind: DatagramKind(body[0]), Code: binary.BigEndian.Uint16(body[2:]), Flow: binary.BigEndian.Uint32(body[4:]),
		Payload: body[datagramHeader:],
	}
	if d.Kind < DatagramUDP || d.Kind > DatagramPublished {
		return Datagram{}, fmt.Errorf("there is no datagram kind %d: %w", body[0], errDatagram)
	}
	var okSource, okDestination bool
	d.Source, okSource = getAddrPort(body[1], body[8:])
	d.Destination, okDestination = getAddrPort(body[1], body[8+18:])
	if !okSource || !okDestination {
		return Datagram{}, fmt.Errorf("its addresses are of no family or not in their own form: %w", errDatagram)
	}
	return d, nil
}

// getAddrPort reads what putAddrPort wrote. An address has one form only, so
// that policy sees one: IPv4 is followed by zeros, IPv6 is never a mapped IPv4.
func getAddrPort(family byte, b []byte) (netip.AddrPort, bool) {
	ip := [16]byte(b)
	port := binary.BigEndian.Uint16(b[16:])
	switch family {
	case 4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), port), [12]byte(ip[4:]) == [12]byte{}
	case 6:
		a := netip.AddrFrom16(ip)
		return netip.AddrPortFrom(a, port), !a.Is4In6()
	}
	return netip.AddrPort{}, false
}
