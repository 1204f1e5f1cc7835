package forward

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A ProxyProtocol is the header that published connections begin with, so that
// the server inside learns who the client is: HAProxy's PROXY protocol
// (proxy-protocol.txt, 2020/03/05).
type ProxyProtocol uint8

// The versions: none, the line of text (section 2.1), the binary header
// (section 2.2).
const (
	ProxyNone ProxyProtocol = iota
	ProxyV1
	ProxyV2
)

// ParseProxyProtocol reads v1 or v2.
func ParseProxyProtocol(s string) (ProxyProtocol, error) {
	switch s {
	case "v1":
		return ProxyV1, nil
	case "v2":
		return ProxyV2, nil
	}
	return ProxyNone, fmt.Errorf("%q is no version of the PROXY protocol: write v1 or v2", s)
}

// The header of version 2 up to the addresses.
const (
	proxyV2Signature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV2Proxy     = 0x2<<4 | 0x1 // version 2, command PROXY
	proxyTCPOverIPv4 = 0x1<<4 | 0x1 // AF_INET, STREAM
	proxyTCPOverIPv6 = 0x2<<4 | 0x1 // AF_INET6, STREAM
)

// appendHeader appends the header of a TCP connection that src made to dst.
// Both are of one family, as the ends of a connection are; if they are not,
// both are written as IPv6.
func (v ProxyProtocol) appendHeader(b []byte, src, dst netip.AddrPort) []byte {
	from, to := src.Addr().Unmap().WithZone(""), dst.Addr().Unmap().WithZone("")
	v4 := from.Is4() && to.Is4()
	if !v4 {
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
	}
	switch v {
	case ProxyV1:
		family := "TCP6"
		if v4 {
			family = "TCP4"
		}
		return fmt.Appendf(b, "PROXY %s %s %s %d %d\r\n", family, from, to, src.Port(), dst.Port())
	case ProxyV2:
		family := byte(proxyTCPOverIPv6)
		if v4 {
			family = proxyTCPOverIPv4
		}
		b = append(append(b, proxyV2Signature...), proxyV2Proxy, family)
		b = binary.BigEndian.AppendUint16(b, uint16(2*len(from.AsSlice())+2*2))
		b = append(append(b, from.AsSlice()...), to.AsSlice()...)
		b = binary.BigEndian.AppendUint16(b, src.Port())
		return binary.BigEndian.AppendUint16(b, dst.Port())
	}
	return b
}
