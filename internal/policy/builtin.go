package policy

import (
	"encoding/binary"
	"net/netip"
)

// A reserved range is denied without a rule.
type reserved struct {
	prefix netip.Prefix
	why    string
	// lift says that a rule whose addresses all lie in prefix opens them.
	lift bool
}

const (
	whyNowhere   = "it is the address of no host"
	whyLoopback  = "the host's loopback is reached by the name " + HostName + ", and with --allow-host-loopback"
	whyGroup     = "multicast does not leave the guest"
	whyClassE    = "broadcast and reserved addresses are always denied"
	whyOwn       = "it is an address of the guest's own network"
	whyLinkLocal = "link-local addresses are denied unless an address in --allow-net names them"
	whyMetadata  = "cloud metadata addresses are denied unless an address in --allow-net names them"
)

// reserved4 and reserved6 follow the special-purpose registries of RFC 6890; the
// first range that holds an address counts. The metadata services are those of EC2 and EKS
// (fd00:ec2::254, ::23), Google (fd20:ce::254), Azure (168.63.129.16), Alibaba
// (100.100.100.200), Oracle (192.0.0.192) and Scaleway (fd00:42::42); that of
// nearly every cloud, 169.254.169.254, is link-local.
var (
	reserved4 = [...]reserved{
		{netip.MustParsePrefix("0.0.0.0/8"), whyNowhere, false},
		{netip.MustParsePrefix("127.0.0.0/8"), whyLoopback, false},
		{netip.MustParsePrefix("169.254.0.0/16"), whyLinkLocal, true},
		{netip.MustParsePrefix("100.100.100.200/32"), whyMetadata, true},
		{netip.MustParsePrefix("168.63.129.16/32"), whyMetadata, true},
		{netip.MustParsePrefix("192.0.0.192/32"), whyMetadata, true},
		{netip.MustParsePrefix("198.18.0.0/30"), whyOwn, false},
		{netip.MustParsePrefix("224.0.0.0/4"), whyGroup, false},
		{netip.MustParsePrefix("240.0.0.0/4"), whyClassE, false},
	}
	reserved6 = [...]reserved{
		{netip.MustParsePrefix("::1/128"), whyLoopback, false},
		// The unspecified address, and the "IPv4-compatible" ones that RFC
		// 4291 deprecates in section 2.5.5.1.
		{netip.MustParsePrefix("::/96"), whyNowhere, false},
		{netip.MustParsePrefix("fe80::/10"), whyLinkLocal, true},
		{netip.MustParsePrefix("fd00:ec2::/64"), whyMetadata, true},
		{netip.MustParsePrefix("fd20:ce::254/128"), whyMetadata, true},
		{netip.MustParsePrefix("fd00:42::42/128"), whyMetadata, true},
		{netip.MustParsePrefix("fd62:616b:6500::/126"), whyOwn, false},
		{netip.MustParsePrefix("ff00::/8"), whyGroup, false},
	}
	// private are the ranges that a name does not open: RFC 1918, RFC 6598,
	// RFC 4193, the site-local ones of RFC 3879 and the translators' of RFC 8215.
	private = [...]netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fec0::/10"),
		netip.MustParsePrefix("64:ff9b:1::/48"),
	}
)

// reservedFor returns the range that denies addr, or nil.
func reservedFor(addr netip.Addr) *reserved {
	if addr.Is4() {
		for i := range reserved4 {
			if r := &reserved4[i]; r.prefix.Contains(addr) {
				return r
			}
		}
		return nil
	}
	for i := range reserved6 {
		if r := &reserved6[i]; r.prefix.Contains(addr) {
			return r
		}
	}
	return nil
}

// isPrivate says whether a name may not open addr.
func isPrivate(addr netip.Addr) bool {
	if via, ok := embedded(addr); ok && isPrivate(via) {
		return true
	}
	for i := range private {
		if private[i].Contains(addr) {
			return true
		}
	}
	return reservedFor(addr) != nil
}

// within returns the range that holds every address of prefix, or nil.
func within(prefix netip.Prefix) *reserved {
	if r := reservedFor(prefix.Addr()); r != nil && r.prefix.Bits() <= prefix.Bits() {
		return r
	}
	return nil
}

// embedded returns the IPv4 address that a translator or tunnel on the way
// makes of an IPv6 one: 64:ff9b::/96 (NAT64, RFC 6052), 2002::/16 (6to4, RFC
// 3056) and ::ffff:0:0:0/96 (RFC 2765). What is denied in IPv4 is not reached
// through them.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if addr.Is4() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	switch high, middle := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint32(b[8:12]); {
	case high == 0x0064_ff9b_0000_0000 && middle == 0, high == 0 && middle == 0xffff_0000:
		return netip.AddrFrom4([4]byte(b[12:])), true
	case high>>48 == 0x2002:
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
