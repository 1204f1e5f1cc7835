package dns

import (
	"fmt"
	"net/netip"
	"strings"

	"bake/internal/wire"
)

// ParseNameserver reads what --dns takes: an address, with a port other than
// 53 if need be.
func ParseNameserver(v string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(v)
	if addr, ok := parseAddr(v); ok {
		ap, err = netip.AddrPortFrom(addr, port53), nil
	}
	if addr := ap.Addr().Unmap(); err == nil && ap.Port() != 0 && !addr.IsUnspecified() && !addr.IsMulticast() {
		return netip.AddrPortFrom(addr, ap.Port()), nil
	}
	return netip.AddrPort{}, fmt.Errorf("--dns %q is no nameserver: give its IP address, such as 192.0.2.53 or 2001:db8::53, with a port as in 192.0.2.53:5353 or [2001:db8::53]:5353", v)
}

// ParseSearch reads what --dns-search takes: a domain, or a dot for none.
func ParseSearch(v string) (string, error) {
	if v != "." && !validName(v) {
		return "", fmt.Errorf("--dns-search %q is no domain: give one such as example.com, or . to search none", v)
	}
	return v, nil
}

// ParseOption reads what --dns-option takes: an option of resolv.conf(5).
func ParseOption(v string) (string, error) {
	if !validOption(v) {
		return "", fmt.Errorf("--dns-option %q is no option of resolv.conf: give one such as ndots:2 or use-vc, without spaces", v)
	}
	return v, nil
}

// HostGateway is the address of --add-host that stands for the host, as in
// docker-run(1).
const HostGateway = "host-gateway"

// ParseHost reads what --add-host takes, NAME:IP. n tells the host's address.
func ParseHost(v string, n *wire.Network) (wire.HostEntry, error) {
	i := strings.IndexAny(v, ":=") // docker-run(1) takes both
	bad := func(why string) (wire.HostEntry, error) {
		return wire.HostEntry{}, fmt.Errorf("--add-host %q is not NAME:IP: %s", v, why)
	}
	if i < 0 {
		return bad("there is no colon in it; write it as db.example.com:192.0.2.7")
	}
	name, ip := v[:i], v[i+1:]
	if !validName(name) {
		return bad(fmt.Sprintf("%q is no host name", name))
	}
	if ip == HostGateway {
		return wire.HostEntry{Name: name, Addr: n.HostIPv4}, nil
	}
	addr, ok := parseAddr(ip)
	if !ok || addr.Zone() != "" {
		return bad(fmt.Sprintf("%q is no IP address and not %s", ip, HostGateway))
	}
	return wire.HostEntry{Name: name, Addr: addr}, nil
}

// parseAddr reads an address, one of IPv6 in brackets or without.
func parseAddr(v string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(v)
	if n := len(v); err != nil && n > 2 && v[0] == '[' && v[n-1] == ']' {
		if addr, err = netip.ParseAddr(v[1 : n-1]); err == nil && addr.Is4() {
			return addr, false
		}
	}
	return addr.Unmap(), err == nil
}
