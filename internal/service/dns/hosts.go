package dns

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// hostsLimit bounds how much of a hosts file is read, in bytes: lists that
// block advertisers have a few million.
const hostsLimit = 16 << 20

// A table is names with their addresses and back, as hosts(5) has them. Names
// are canonical.
type table struct {
	addrs map[string][]netip.Addr
	// names has the first name of an address.
	names map[netip.Addr]string
}

func newTable() *table {
	return &table{addrs: map[string][]netip.Addr{}, names: map[netip.Addr]string{}}
}

// add gives name one more address.
func (t *table) add(name string, addr netip.Addr) {
	name = canonical(name)
	t.addrs[name] = append(t.addrs[name], addr)
	if _, ok := t.names[addr]; !ok {
		t.names[addr] = name
	}
}

// parseHosts reads a hosts(5) file. What means something on one interface of
// the host only, an address with a zone, it leaves out.
func parseHosts(text []byte) *table {
	t := newTable()
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || addr.Zone() != "" {
			continue
		}
		for _, name := range fields[1:] {
			if validName(name) {
				t.add(name, addr.Unmap())
			}
		}
	}
	return t
}

// validName says whether name can be a name in a question: at most 255 bytes of
// labels with at most 63 (RFC 1035, section 2.3.4), in ASCII and without what
// the presentation of names escapes.
func validName(name string) bool {
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\\\"();@#", c) >= 0 {
			return false
		}
	}
	_, ok := dns.IsDomainName(name)
	return ok && name != "" && name != "."
}

// canonical is a name as tables and the policy have it: in lower case and
// without the dot at its end. The root is ".".
//
// A dot inside a label becomes \046, so that the name x\.example.com, which is
// no part of example.com, does not end like one that is.
func canonical(name string) string {
	name = dns.CanonicalName(name)
	if name == "." {
		return name
	}
	name = name[:len(name)-1]
	if strings.IndexByte(name, '\\') < 0 {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+1 < len(name) {
			i++
			if name[i] == '.' {
				b.WriteString(`\046`)
				continue
			}
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// reverseAddr is the address of a name below in-addr.arpa (RFC 1035, section
// 3.5) or ip6.arpa (RFC 3596, section 2.5); the name is canonical.
func reverseAddr(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return addr, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var a [16]byte
	for i := range 32 {
		c := rest[2*i]
		if i < 31 && rest[2*i+1] != '.' {
			return netip.Addr{}, false
		}
		n := strings.IndexByte("0123456789abcdef", c)
		if n < 0 {
			return netip.Addr{}, false
		}
		a[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(a), true
}
