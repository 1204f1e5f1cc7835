package wgconf

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"bake/internal/wire"
)

// secretLike is what may be a key, wherever it stands.
var secretLike = regexp.MustCompile(`[A-Za-z0-9+/=_-]{40,}`)

// quote is a value as an error may show it: short, and nothing that was meant
// to be a key on another line.
func quote(value string) string {
	if secretLike.MatchString(value) {
		return "what is there"
	}
	return fmt.Sprintf("%.80q", value)
}

func privateKey(value string) (s wire.WireGuardSecret, err error) {
	if err := s.UnmarshalText([]byte(value)); err != nil {
		return s, err
	}
	if s == (wire.WireGuardSecret{}) {
		return s, errors.New("it is all zeros, which is no key")
	}
	return s, nil
}

func number16(value, what string) (uint16, error) {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%s is not %s: give 0 to 65535", quote(value), what)
	}
	return uint16(n), nil
}

// number32 is decimal, or hexadecimal after 0x.
func number32(value string) (uint32, error) {
	base := 10
	if hex, ok := strings.CutPrefix(strings.ToLower(value), "0x"); ok {
		value, base = hex, 16
	}
	n, err := strconv.ParseUint(value, base, 32)
	return uint32(n), err
}

func fwMark(value string) (uint32, error) {
	if value == "off" {
		return 0, nil
	}
	n, err := number32(value)
	if err != nil {
		return 0, fmt.Errorf("%s is not a mark: give off, or a number up to 0xffffffff", quote(value))
	}
	return n, nil
}

// The least that IPv4 (RFC 791) and IPv6 (RFC 8200, section 5) work with, and
// the most that a packet of the tunnel may have to fit into one of the guest's.
const (
	minMTU  = 68
	minMTU6 = 1280
	maxMTU  = wire.MaxMTU - overhead
)

func mtu(value string) (int, error) {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n < minMTU || n > maxMTU {
		return 0, fmt.Errorf("%s is not a packet size in bytes: give %d to %d; without the line it is %d", quote(value), minMTU6, maxMTU, DefaultMTU)
	}
	return int(n), nil
}

// prefix reads an address with or without the length of its prefix; without,
// it is the whole address. It is not masked.
func prefix(value string) (netip.Prefix, error) {
	var p netip.Prefix
	var err error
	if strings.Contains(value, "/") {
		p, err = netip.ParsePrefix(value)
	} else {
		var a netip.Addr
		if a, err = netip.ParseAddr(value); err == nil && a.Zone() == "" {
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	switch {
	case err != nil || !p.IsValid(): // ParsePrefix takes no zone
		return netip.Prefix{}, fmt.Errorf("%s is not an address such as 10.0.0.2, 10.0.0.0/8 or fd00::/64", quote(value))
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%s is an IPv4 address in the form of IPv6: write it as IPv4", p)
	}
	return p, nil
}

// endpoint reads ADDRESS:PORT, [ADDRESS]:PORT or NAME:PORT.
func endpoint(value string) (e wire.WireGuardEndpoint, err error) {
	const form = "write 203.0.113.1:51820, [2001:db8::1]:51820 or vpn.example.com:51820"
	i := strings.LastIndexByte(value, ':')
	if i < 0 {
		return e, fmt.Errorf("%s has no port: %s", quote(value), form)
	}
	host, port := value[:i], value[i+1:]
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if host, bracketed = strings.CutSuffix(bare, "]"); !bracketed {
			return e, fmt.Errorf("%s has a bracket that does not end before the port: %s", quote(value), form)
		}
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && addr.Is6() && !bracketed, err != nil && strings.Contains(host, ":") && !bracketed:
		return e, fmt.Errorf("%s has an IPv6 address without brackets: %s", quote(value), form)
	case bracketed && (err != nil || !addr.Is6()):
		return e, fmt.Errorf("%s has no IPv6 address in its brackets: %s", quote(value), form)
	}
	if e.Port, _ = number16(port, "a UDP port"); e.Port == 0 {
		return e, fmt.Errorf("%s has no port from 1 to 65535: %s", quote(value), form)
	}
	if err != nil {
		if e.Name, err = domain(host); err != nil {
			return e, fmt.Errorf("%s does not begin with an address or a name: %w", quote(value), err)
		}
		return e, nil
	}
	e.Addr = addr.Unmap()
	switch {
	case addr.Zone() != "":
		return e, fmt.Errorf("%s has a zone, which is an interface of this machine and not of the guest", quote(value))
	case e.Addr.IsLoopback():
		return e, fmt.Errorf("%s is the guest itself there: the host is %s:%s", e.Addr, wire.HostName, port)
	case e.Addr.IsUnspecified(), e.Addr.IsMulticast(), e.Addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return e, fmt.Errorf("%s is not the address of one machine", e.Addr)
	}
	return e, nil
}

// label is one part of a name in DNS (RFC 1123, section 2.1), with the
// underscores that are in use.
var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// domain checks a name and writes it in lower case, without a dot at its end.
func domain(value string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(value, "."))
	if name == "" || len(name) > 253 {
		return "", errors.New("a name has 1 to 253 characters")
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if !label.MatchString(l) {
			return "", fmt.Errorf("%s is no name: between its dots are up to 63 letters, digits and hyphens, and what is beyond ASCII is written as xn--", quote(value))
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "", fmt.Errorf("%s ends in a number as an address does, but is none", quote(value))
	}
	return name, nil
}
