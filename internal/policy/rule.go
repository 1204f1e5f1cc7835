package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// MaxRule is the longest rule, in bytes: the longest name, ports and protocol
// fit, and names that become shorter when they are made ASCII.
const MaxRule = 1024

// A Proto is what a destination is reached with.
type Proto uint8

// The protocols that leave the guest. ICMP is the echo of ICMP and ICMPv6.
const (
	TCP Proto = 1 + iota
	UDP
	ICMP
)

func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP:
		return "icmp"
	}
	return "protocol " + strconv.Itoa(int(p))
}

// A Rule names destinations: an address, a network, a host name or all names
// below one; and of those, if it says so, some ports or one protocol. Rules
// that name the same are equal. The zero Rule names nothing.
type Rule struct {
	prefix netip.Prefix // valid unless the rule has a name; never v4-mapped
	name   string       // canonical
	suffix bool         // the names below name, not name itself
	// first and last are the ports; both 0 are all of them, and what has none.
	first, last uint16
	proto       Proto // 0 is each
}

// ParseRule reads
//
//	ADDRESS | NETWORK/BITS | NAME | *.NAME, then [:PORT[-PORT]], then [/tcp | /udp]
//
// An IPv6 address or network with a port stands in brackets, as URIs have it
// (RFC 3986, section 3.2.2). A v4-mapped address is the IPv4 address. Names may
// be of any case, may end in a dot and may be internationalised (RFC 5891).
// The error quotes s, says what is wrong with it and shows how rules look.
func ParseRule(s string) (Rule, error) {
	r, err := parseRule(s)
	if err != nil {
		return Rule{}, fmt.Errorf("%s is not a rule: %w; write an address, a network, a name or *.NAME, "+
			"then :PORT or :PORT-PORT and /tcp or /udp where you mean only those, "+
			"as in 10.0.0.0/8, [2001:db8::1]:443, example.com:80-90/tcp or *.example.com", printable(s), err)
	}
	return r, nil
}

func parseRule(s string) (r Rule, err error) {
	switch {
	case s == "":
		return r, fmt.Errorf("it is empty")
	case len(s) > MaxRule:
		return r, fmt.Errorf("it is %d bytes long, and %d are the most", len(s), MaxRule)
	case strings.Contains(s, "://"):
		return r, fmt.Errorf("it is a URL, and only the host and the port of one count")
	case strings.ContainsAny(s, " \t\r\n,;"):
		return r, fmt.Errorf("it has a space or a comma in it: give the flag once for each rule")
	}
	host := s
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		switch word := strings.ToLower(s[i+1:]); {
		case word == "tcp":
			r.proto, host = TCP, s[:i]
		case word == "udp":
			r.proto, host = UDP, s[:i]
		case word == "" || word[0] < '0' || word[0] > '9':
			return r, fmt.Errorf("%s after the / is not tcp or udp, and not the bits of a network", printable(word))
		}
	}
	host, ports, hasPorts, err := splitPorts(host)
	if err != nil {
		return r, err
	}
	if hasPorts {
		if r.first, r.last, err = parsePorts(ports); err != nil {
			return r, err
		}
	}
	err = r.parseHost(host)
	return r, err
}

// splitPorts takes HOST, HOST:PORTS, [HOST] or [HOST]:PORTS apart.
func splitPorts(s string) (host, ports string, hasPorts bool, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, after, ok := strings.Cut(inner, "]")
		switch {
		case !ok:
			return "", "", false, fmt.Errorf("its bracket [ is not closed")
		case !strings.Contains(host, ":"):
			return "", "", false, fmt.Errorf("brackets are for IPv6, and %s is none", printable(host))
		case after == "":
			return host, "", false, nil
		case after[0] != ':':
			return "", "", false, fmt.Errorf("%s follows the bracket in place of a port; the bits of a network stand within, as in [2001:db8::/32]:443", printable(after))
		}
		return host, after[1:], true, nil
	}
	if strings.Count(s, ":") != 1 {
		return s, "", false, nil // an IPv6 address has at least two
	}
	host, ports, _ = strings.Cut(s, ":")
	return host, ports, true, nil
}

func parsePorts(s string) (first, last uint16, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if first, err = parsePort(a); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return first, first, nil
	}
	if last, err = parsePort(b); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("the ports %d-%d run backwards", first, last)
	}
	return first, last, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '+' {
		return 0, fmt.Errorf("%s is not a port, which is a number from 1 to 65535", printable(s))
	}
	return uint16(n), nil
}

func (r *Rule) parseHost(s string) (err error) {
	switch {
	case s == "":
		return fmt.Errorf("it names no host")
	case strings.Contains(s, "%"):
		return fmt.Errorf("the guest has no interface of the host, so a zone (%%) names nothing")
	case strings.Contains(s, "/"):
		r.prefix, err = parseNetwork(s)
		return err
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap()
		r.prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	if strings.Contains(s, ":") {
		return fmt.Errorf("%s is not an IPv6 address; one with a port stands in brackets", printable(s))
	}
	name, suffix := strings.CutPrefix(s, "*.")
	if strings.Contains(name, "*") {
		return fmt.Errorf("a * can only stand for all names below another, at the beginning: *.example.com; without any rule everything is allowed")
	}
	canonical, ok := canonicalName(name)
	switch {
	case !ok:
		return fmt.Errorf("%s is not an address and not a host name", printable(name))
	case numeric(canonical):
		return fmt.Errorf("%s is not a whole IPv4 address in decimal numbers", printable(name))
	case loopbackName(canonical):
		return fmt.Errorf("%s is the guest itself; the host's own services are %s", name, HostName)
	}
	r.name, r.suffix = canonical, suffix
	return nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%s is not a network in CIDR notation", printable(s))
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%s has bits set behind its first %d: the network is %s and the address %s", s, p.Bits(), p.Masked(), p.Addr())
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// String is the rule in its one canonical form, which ParseRule reads.
func (r Rule) String() string {
	var host string
	switch {
	case r.suffix:
		host = "*." + r.name
	case r.name != "":
		host = r.name
	case r.prefix.IsSingleIP():
		host = r.prefix.Addr().String()
	default:
		host = r.prefix.String()
	}
	if r.first != 0 {
		if r.prefix.IsValid() && r.prefix.Addr().Is6() {
			host = "[" + host + "]"
		}
		host += ":" + strconv.Itoa(int(r.first))
		if r.last != r.first {
			host += "-" + strconv.Itoa(int(r.last))
		}
	}
	if r.proto != 0 {
		host += "/" + r.proto.String()
	}
	return host
}

// matchesName says whether the canonical name is one that r names.
func (r *Rule) matchesName(name string) bool {
	switch {
	case r.name == "":
		return false
	case !r.suffix:
		return name == r.name
	}
	n := len(name) - len(r.name)
	return n > 1 && name[n-1] == '.' && name[n:] == r.name
}

// admits says whether r is about this protocol and port. What has no port is
// matched only by rules without one.
func (r *Rule) admits(proto Proto, port uint16) bool {
	return (r.proto == 0 || r.proto == proto) &&
		(r.first == 0 || proto != ICMP && r.first <= port && port <= r.last)
}

// unlimited says that r is about every protocol and port.
func (r *Rule) unlimited() bool { return r.proto == 0 && r.first == 0 }

// mayOverlap is false if there is surely no destination that both rules name.
// What a name's addresses are is not known here.
func (r *Rule) mayOverlap(o *Rule) bool {
	if r.proto != 0 && o.proto != 0 && r.proto != o.proto {
		return false
	}
	if r.first != 0 && o.first != 0 && (r.last < o.first || o.last < r.first) {
		return false
	}
	switch {
	case r.name == "" && o.name == "":
		return r.prefix.Overlaps(o.prefix)
	case r.name == "" || o.name == "":
		return true
	case r.suffix && o.suffix:
		return r.name == o.name || r.matchesName(o.name) || o.matchesName(r.name)
	case r.suffix:
		return r.matchesName(o.name)
	}
	return o.matchesName(r.name)
}
