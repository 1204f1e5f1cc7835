package hostnet

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers of the IANA registry "Protocol Numbers".
const (
	protoHopByHop    = 0
	protoICMP        = 1
	protoTCP         = 6
	protoUDP         = 17
	protoRouting     = 43
	protoFragment    = 44
	protoICMPv6      = 58
	protoNoNext      = 59
	protoDestOptions = 60
)

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	udpHeaderLen  = 8
	icmpHeaderLen = 8
)

// A packet is an IP packet (RFC 791, RFC 8200) as the guest sent it.
type packet struct {
	src, dst netip.Addr
	proto    byte // of the payload
	ttl      byte // or the hop limit
	bytes    []byte
	header   int // length, IPv6's extension headers included
	// fragment says that the payload is a part of a larger one.
	fragment fragment
}

// A fragment is a packet's place in what it is a part of.
type fragment struct {
	is     bool
	more   bool
	offset int // bytes
	id     uint32
}

func (p *packet) payload() []byte { return p.bytes[p.header:] }

// parsePacket reads the headers of b. It reports false for what is no whole
// packet. The packet shares b's memory.
func parsePacket(b []byte) (packet, bool) {
	if len(b) == 0 {
		return packet{}, false
	}
	switch b[0] >> 4 {
	case 4:
		return parseIPv4(b)
	case 6:
		return parseIPv6(b)
	}
	return packet{}, false
}

func parseIPv4(b []byte) (packet, bool) {
	if len(b) < ipv4HeaderLen {
		return packet{}, false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4HeaderLen || total < header || total > len(b) {
		return packet{}, false
	}
	flags := binary.BigEndian.Uint16(b[6:])
	p := packet{
		src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])),
		proto: b[9], ttl: b[8], bytes: b[:total], header: header,
		fragment: fragment{more: flags&0x2000 != 0, offset: int(flags&0x1fff) * 8, id: uint32(binary.BigEndian.Uint16(b[4:]))},
	}
	p.fragment.is = p.fragment.more || p.fragment.offset != 0
	return p, true
}

func parseIPv6(b []byte) (packet, bool) {
	if len(b) < ipv6HeaderLen {
		return packet{}, false
	}
	total := ipv6HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return packet{}, false
	}
	p := packet{
		src: netip.AddrFrom16([16]byte(b[8:24])), dst: netip.AddrFrom16([16]byte(b[24:40])),
		ttl: b[7], bytes: b[:total],
	}
	next, at := b[6], ipv6HeaderLen
	for {
		size := 0
		switch next {
		case protoHopByHop, protoRouting, protoDestOptions:
			if total-at < 8 {
				return packet{}, false
			}
			size = 8 + int(b[at+1])*8
		case protoFragment:
			if total-at < 8 || p.fragment.is {
				return packet{}, false
			}
			size = 8
			place := binary.BigEndian.Uint16(b[at+2:])
			p.fragment = fragment{more: place&1 != 0, offset: int(place &^ 7), id: binary.BigEndian.Uint32(b[at+4:])}
			// One that is first and last is whole (RFC 6946).
			p.fragment.is = p.fragment.more || p.fragment.offset != 0
		default:
			p.proto, p.header = next, at
			return p, true
		}
		if size > total-at {
			return packet{}, false
		}
		next, at = b[at], at+size
		// What follows a fragment's header is the payload's, in pieces.
		if p.fragment.is {
			p.proto, p.header = next, at
			return p, true
		}
	}
}

// parseUDP reads a UDP header (RFC 768) and returns the payload that it
// bounds.
func parseUDP(b []byte) (src, dst uint16, payload []byte, ok bool) {
	if len(b) < udpHeaderLen {
		return 0, 0, nil, false
	}
	// A segmented packet's length can be of the whole or of the first.
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < udpHeaderLen || n > len(b) {
		return 0, 0, nil, false
	}
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[udpHeaderLen:n], true
}

// appendIP appends an IP header for a payload of n bytes.
func appendIP(b []byte, src, dst netip.Addr, proto byte, n int, id uint16) []byte {
	const ttl = 64
	if src.Is4() {
		at := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(ipv4HeaderLen+n))
		b = binary.BigEndian.AppendUint16(b, id)
		b = append(b, 0, 0, ttl, proto, 0, 0)
		s, d := src.As4(), dst.As4()
		b = append(append(b, s[:]...), d[:]...)
		binary.BigEndian.PutUint16(b[at+10:], ^fold(sum(b[at:at+ipv4HeaderLen], 0)))
		return b
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, proto, ttl)
	s, d := src.As16(), dst.As16()
	return append(append(b, s[:]...), d[:]...)
}

// sum adds b to an Internet checksum (RFC 1071).
func sum(b []byte, s uint64) uint64 {
	for ; len(b) >= 4; b = b[4:] {
		s += uint64(binary.BigEndian.Uint32(b))
	}
	if len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

func fold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// pseudoSum is the sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293,
// 3.1; RFC 8200, 8.1) over a payload of n bytes.
func pseudoSum(src, dst []byte, proto byte, n int) uint64 {
	return sum(dst, sum(src, uint64(proto)+uint64(n)>>16+uint64(n)&0xffff))
}
