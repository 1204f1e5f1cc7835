package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// loopback is where a port is published unless an address is given.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Parse reads the value of a --publish: [IP:][HOST:]VM[/tcp|/udp], with an IPv6
// address in brackets. HOST and VM may be ranges FIRST-LAST, of the same length
// or VM a single port, for which a free one of HOST's is then taken. Without
// HOST, or with 0, any free port of the host is taken. At most [MaxPorts] come
// back, in rising order.
func Parse(s string) ([]Port, error) {
	ports, err := parse(s)
	if err != nil {
		return nil, fmt.Errorf("--publish %q is not [IP:][HOST:]VM[/tcp|/udp]: %w", s, err)
	}
	return ports, nil
}

func parse(s string) ([]Port, error) {
	spec, protocol, given := strings.Cut(s, "/")
	proto := TCP
	if given {
		switch proto = Proto(strings.ToLower(protocol)); proto {
		case TCP, UDP:
		default:
			return nil, fmt.Errorf("the protocol %q cannot be published, only tcp and udp", protocol)
		}
	}
	addr, host, vm, err := split(spec)
	if err != nil {
		return nil, err
	}
	inside, err := parseRange(vm)
	if err != nil || inside.first == 0 {
		return nil, fmt.Errorf("the port in the VM %q is neither a number from 1 to 65535 nor a range of them", vm)
	}
	var outside portRange // any
	if host != "" {
		if outside, err = parseRange(host); err != nil || outside.first == 0 && outside.last != 0 {
			return nil, fmt.Errorf("the host port %q is neither a number from 0 to 65535 nor a range of such from 1", host)
		}
	}
	return expand(proto, addr, outside, inside)
}

// expand pairs the ports of the host and of the VM.
func expand(proto Proto, addr netip.Addr, outside, inside portRange) ([]Port, error) {
	switch {
	case inside.count() > MaxPorts:
		return nil, fmt.Errorf("these are %d ports and at most %d can be published", inside.count(), MaxPorts)
	case inside.count() == 1:
		return []Port{{proto, addr, outside.first, outside.last, inside.first}}, nil
	case outside.first != 0 && outside.count() != inside.count():
		return nil, fmt.Errorf("the host's range has %d ports and the VM's %d: give ranges of the same length", outside.count(), inside.count())
	}
	ports := make([]Port, inside.count())
	for i := range ports {
		ports[i] = Port{Proto: proto, Host: addr, VMPort: inside.first + uint16(i)}
		if outside.first != 0 {
			ports[i].First = outside.first + uint16(i)
			ports[i].Last = ports[i].First
		}
	}
	return ports, nil
}

// split takes [IP:][HOST:]VM apart.
func split(spec string) (addr netip.Addr, host, vm string, err error) {
	addr = loopback
	var ip string
	rest, bracketed := strings.CutPrefix(spec, "[")
	if bracketed {
		var closed bool
		if ip, rest, closed = strings.Cut(rest, "]"); !closed {
			return addr, "", "", errors.New("the bracket of the IPv6 address is not closed")
		}
		rest = strings.TrimPrefix(rest, ":")
		if strings.Count(rest, ":") != 1 {
			return addr, "", "", fmt.Errorf("after the address come HOST:VM, as in [%s]:8080:80; to take any port of the host write [%s]::80", ip, ip)
		}
	} else if rest = spec; strings.Count(spec, ":") == 2 {
		ip, rest, _ = strings.Cut(spec, ":")
	}
	if ip != "" || bracketed {
		if addr, err = netip.ParseAddr(ip); err != nil || addr.Is4() && bracketed {
			return addr, "", "", fmt.Errorf("%q is not an IP address of the host", ip)
		}
		addr = addr.Unmap()
	}
	switch strings.Count(rest, ":") {
	case 0:
		return addr, "", rest, nil
	case 1:
		host, vm, _ = strings.Cut(rest, ":")
		if _, err := netip.ParseAddr(host); err == nil {
			return addr, "", "", fmt.Errorf("%q is an address where the host port belongs; to take any port there write %s::%s", host, host, vm)
		}
		return addr, host, vm, nil
	}
	return addr, "", "", errors.New("there are too many colons in it; an IPv6 address stands in brackets, as in [::1]:8080:80")
}

// A portRange is the ports from first to last, both included.
type portRange struct{ first, last uint16 }

func (r portRange) count() int { return int(r.last) - int(r.first) + 1 }

// parseRange reads N or FIRST-LAST.
func parseRange(s string) (portRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return portRange{}, err
	}
	b, err := strconv.ParseUint(last, 10, 16)
	if err != nil {
		return portRange{}, err
	}
	if a > b {
		return portRange{}, fmt.Errorf("%d comes after %d", a, b)
	}
	return portRange{uint16(a), uint16(b)}, nil
}

// Exposed are the ports that an image says it serves (OCI image specification,
// config.md, ExposedPorts: "6379/tcp", "80", "8000-8010/udp"), on any port of
// the host's loopback, without those that published has already. Ports of other
// protocols are returned as they are written.
func Exposed(exposed []string, published []Port) (ports []Port, others []string, err error) {
	type key struct {
		proto Proto
		port  uint16
	}
	have := map[key]bool{}
	for _, p := range published {
		have[key{p.Proto, p.VMPort}] = true
	}
	for _, s := range exposed {
		spec, protocol, given := strings.Cut(s, "/")
		proto := TCP
		if given {
			proto = Proto(strings.ToLower(protocol))
		}
		if proto != TCP && proto != UDP {
			others = append(others, s)
			continue
		}
		r, err := parseRange(spec)
		if err != nil || r.first == 0 {
			return nil, nil, fmt.Errorf("the image exposes %q, which is neither a port nor a range of ports: publish what it serves with --publish", s)
		}
		for n := int(r.first); n <= int(r.last); n++ {
			k := key{proto, uint16(n)}
			if have[k] {
				continue
			}
			have[k] = true
			ports = append(ports, Port{Proto: proto, Host: loopback, VMPort: k.port})
		}
	}
	return ports, others, nil
}
