package hostnet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
)

// Types and codes of ICMP (RFC 792, RFC 1812) and ICMPv6 (RFC 4443).
const (
	icmpEchoReply   = 0
	icmpUnreachable = 3
	icmpEcho        = 8
	icmpExceeded    = 11

	icmpv6Unreachable = 1
	icmpv6Exceeded    = 3
	icmpv6Echo        = 128
	icmpv6EchoReply   = 129
)

// A reason is why a packet got nowhere, in the words of both ICMPs.
type reason struct{ type4, code4, type6, code6 byte }

// Linux makes of these what it makes of a network's own
// (net/ipv4/icmp.c, icmp_err_convert; net/ipv6/icmp.c, tab_unreach).
var (
	noNetwork  = reason{icmpUnreachable, 0, icmpv6Unreachable, 0} // ENETUNREACH
	noHost     = reason{icmpUnreachable, 1, icmpv6Unreachable, 3} // EHOSTUNREACH
	noProtocol = reason{icmpUnreachable, 2, icmpv6Unreachable, 3} // ENOPROTOOPT; EHOSTUNREACH
	noPort     = reason{icmpUnreachable, 3, icmpv6Unreachable, 4} // ECONNREFUSED
	// prohibited is EHOSTUNREACH. ICMPv6's own code for it would be EACCES.
	prohibited = reason{icmpUnreachable, 13, icmpv6Unreachable, 3}
	expired    = reason{icmpExceeded, 0, icmpv6Exceeded, 0}
)

// reasonFor is what the network says of an error of the host. It is false
// where a network would say nothing.
func reasonFor(err error) (reason, bool) {
	for _, r := range []struct {
		errno  syscall.Errno
		reason reason
	}{
		{syscall.ECONNREFUSED, noPort}, {syscall.ENETUNREACH, noNetwork}, {syscall.ENETDOWN, noNetwork},
		{syscall.EHOSTUNREACH, noHost}, {syscall.EHOSTDOWN, noHost}, {syscall.EADDRNOTAVAIL, noHost},
		{syscall.EPERM, prohibited}, {syscall.EACCES, prohibited},
		{syscall.ENOPROTOOPT, noProtocol}, {syscall.EPROTO, noProtocol},
	} {
		if errors.Is(err, r.errno) {
			return r.reason, true
		}
	}
	return reason{}, false
}

// A quote is how an ICMP error names the packet it is about: by its beginning.
type quote struct {
	src, dst netip.Addr
	bytes    []byte
}

const (
	// maxQuote keeps an error within the least MTU of IPv4 (RFC 1812, 4.3.2.3)
	// with any header.
	maxQuote = 512
	errorLen = ipv6HeaderLen + icmpHeaderLen + maxQuote
)

// appendError appends the ICMP error to q's sender.
func appendError(b []byte, from netip.Addr, q quote, r reason, id uint16) []byte {
	quoted := q.bytes[:min(len(q.bytes), maxQuote)]
	message := make([]byte, icmpHeaderLen, errorLen)
	message[0], message[1] = r.type4, r.code4
	if from.Is6() {
		message[0], message[1] = r.type6, r.code6
	}
	return appendICMP(b, from, q.src, append(message, quoted...), id)
}

// appendICMP appends a packet with the message, whose checksum it sets.
func appendICMP(b []byte, src, dst netip.Addr, message []byte, id uint16) []byte {
	proto, initial := byte(protoICMP), uint64(0)
	if src.Is6() {
		s, d := src.As16(), dst.As16()
		proto, initial = protoICMPv6, pseudoSum(s[:], d[:], protoICMPv6, len(message))
	}
	message[2], message[3] = 0, 0
	binary.BigEndian.PutUint16(message[2:], ^fold(sum(message, initial)))
	return append(appendIP(b, src, dst, proto, len(message), id), message...)
}

// An echo is an ICMP echo request or reply.
type echo struct {
	id, sequence uint16
	data         []byte
}

// parseEcho reads a request.
func parseEcho(v6 bool, b []byte) (echo, bool) {
	want := byte(icmpEcho)
	if v6 {
		want = icmpv6Echo
	}
	if len(b) < icmpHeaderLen || b[0] != want || b[1] != 0 {
		return echo{}, false
	}
	return echo{binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), b[icmpHeaderLen:]}, true
}

// appendEchoReply appends the answer to the request e of dst to src.
func appendEchoReply(b []byte, src, dst netip.Addr, e echo, id uint16) []byte {
	message := make([]byte, icmpHeaderLen, icmpHeaderLen+len(e.data))
	message[0] = icmpEchoReply
	if src.Is6() {
		message[0] = icmpv6EchoReply
	}
	binary.BigEndian.PutUint16(message[4:], e.id)
	binary.BigEndian.PutUint16(message[6:], e.sequence)
	return appendICMP(b, src, dst, append(message, e.data...), id)
}

// appendEchoRequest appends the head of an echo request as an ICMP error quotes
// it: by its identifier the kernel finds the socket.
func appendEchoRequest(b []byte, src, dst netip.Addr, id, sequence uint16, packet uint16) []byte {
	proto, kind := byte(protoICMP), byte(icmpEcho)
	if src.Is6() {
		proto, kind = protoICMPv6, icmpv6Echo
	}
	b = appendIP(b, src, dst, proto, icmpHeaderLen, packet)
	b = append(b, kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	return binary.BigEndian.AppendUint16(b, sequence)
}
