package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
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
	// guest's) sent to Destination came back as an ICMP error, whose type and
	// code (RFC 792, RFC 4443) Code holds as the errno that Linux makes of it.
	DatagramUnreachable
	// DatagramEcho is an ICMP echo request to the host and its reply back. The
	// guest's port is the identifier and the other's port the sequence number.
	DatagramEcho
	// DatagramPublished belongs to a published port. To the guest, Source
	// names the client and Destination's port is the guest's; back they are
	// swapped. Flow tells clients apart.
	DatagramPublished
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

// AppendDatagram appends d as one frame, with its length, to b. It fails if d
// is too long or its addresses are not of one family.
func AppendDatagram(b []byte, d *Datagram) ([]byte, error) {
	src, dst := d.Source.Addr(), d.Destination.Addr()
	if len(d.Payload) > MaxDatagram || src.Is4() != dst.Is4() || !src.IsValid() || !dst.IsValid() {
		return b, fmt.Errorf("send a datagram of %d bytes from %v to %v: %w", len(d.Payload), d.Source, d.Destination, errDatagram)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(datagramHeader+len(d.Payload)))
	family := byte(6)
	if src.Is4() {
		family = 4
	}
	b = append(b, byte(d.Kind), family)
	b = binary.BigEndian.AppendUint16(b, d.Code)
	b = binary.BigEndian.AppendUint32(b, d.Flow)
	for _, a := range []netip.AddrPort{d.Source, d.Destination} {
		var ip [16]byte
		copy(ip[:], a.Addr().AsSlice())
		b = append(b, ip[:]...)
		b = binary.BigEndian.AppendUint16(b, a.Port())
	}
	return append(b, d.Payload...), nil
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
	addr := func(b []byte) (netip.AddrPort, bool) {
		ip := [16]byte(b)
		port := binary.BigEndian.Uint16(b[16:])
		switch body[1] {
		case 4:
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), port), [12]byte(ip[4:]) == [12]byte{}
		case 6:
			// Never mapped: an address has one form, so that policy sees one.
			a := netip.AddrFrom16(ip)
			return netip.AddrPortFrom(a, port), !a.Is4In6()
		}
		return netip.AddrPort{}, false
	}
	var ok, ok2 bool
	d.Source, ok = addr(body[8:])
	d.Destination, ok2 = addr(body[8+18:])
	if !ok || !ok2 {
		return Datagram{}, fmt.Errorf("its addresses are of no family or not in their own form: %w", errDatagram)
	}
	return d, nil
}
