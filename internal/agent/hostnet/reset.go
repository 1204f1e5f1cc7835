package hostnet

import "encoding/binary"

const (
	tcpHeaderLen = 20
	tcpRSTACK    = 0x14
)

// appendRST appends the answer of a host that has no such port to the SYN syn
// (RFC 9293, 3.10.7.1), which is a whole packet.
func appendRST(b []byte, syn quote, id uint16) []byte {
	segment := syn.bytes[ipv6HeaderLen:]
	if syn.src.Is4() {
		segment = syn.bytes[int(syn.bytes[0]&15)*4:]
	}
	b = appendIP(b, syn.dst, syn.src, protoTCP, tcpHeaderLen, id)
	at := len(b)
	b = append(b, segment[2], segment[3], segment[0], segment[1], 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, binary.BigEndian.Uint32(segment[4:])+1)
	b = append(b, tcpHeaderLen/4<<4, tcpRSTACK, 0, 0, 0, 0, 0, 0)
	s, d := syn.dst.AsSlice(), syn.src.AsSlice()
	binary.BigEndian.PutUint16(b[at+16:], ^fold(sum(b[at:], pseudoSum(s, d, protoTCP, tcpHeaderLen))))
	return b
}
