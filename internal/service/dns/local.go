package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

// localTTL is how long the guest may keep what a file of the host says, and
// fakeTTL what stands for a name for one connection, in seconds.
const (
	localTTL = 10
	fakeTTL  = 1
)

const localhost = "localhost"

// known is what the guest is told of names that no policy is about: its own
// loopback, the host, and those that the user named. It returns nil for all
// others.
func (s *Server) known(r *request) *dns.Msg {
	if r.question.Qclass != dns.ClassINET {
		return nil
	}
	if r.name == localhost || strings.HasSuffix(r.name, "."+localhost) {
		// RFC 6761, section 6.3. Every guest has ::1.
		return s.addresses(r, []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, localTTL)
	}
	if addrs, ok := s.hosts.addrs[r.name]; ok {
		return s.addresses(r, s.reachable(addrs), localTTL)
	}
	if r.name == wire.HostName {
		// It has no meaning outside of here, so nobody else is asked for it.
		if s.policy != nil {
			if err := s.policy.CheckName(r.name); err != nil {
				return s.deny(r, err)
			}
		}
		return r.answer(dns.RcodeNameError)
	}
	addr, ok := reverseAddr(r.name)
	if !ok {
		return nil
	}
	if addr == netip.IPv6Loopback() || addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return s.pointer(r, localhost, localTTL)
	}
	if name, ok := s.hosts.names[addr]; ok {
		return s.pointer(r, name, localTTL)
	}
	if s.fake != nil {
		if name, ok := s.fake.Name(addr); ok {
			return s.pointer(r, name, fakeTTL)
		}
	}
	n := s.network
	if addr == n.IPv4 || addr == n.HostIPv4 || addr == n.IPv6 || addr == n.HostIPv6 {
		return r.answer(dns.RcodeNameError)
	}
	return nil
}

// faked answers for a name that only the proxy resolves. Nothing is asked of a
// nameserver.
func (s *Server) faked(r *request) *dns.Msg {
	if r.question.Qclass == dns.ClassINET {
		switch r.question.Qtype {
		case dns.TypeA:
			m := r.answer(dns.RcodeSuccess)
			m.Answer = addressRecords(r, []netip.Addr{s.fake.Assign(r.name)}, fakeTTL)
			return m
		case dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB:
			return r.answer(dns.RcodeSuccess)
		}
	}
	return r.failure(dns.RcodeRefused, dns.ExtendedErrorCodeProhibited)
}

// filed answers from the host's hosts(5), or returns nil.
func (s *Server) filed(r *request) *dns.Msg {
	if r.question.Qclass != dns.ClassINET {
		return nil
	}
	t, _ := s.hostsFile.get()
	if addrs, ok := t.addrs[r.name]; ok {
		m := s.addresses(r, s.reachable(s.fromHost(addrs)), localTTL)
		if m != nil {
			s.tell(r, nil, m.Answer)
		}
		return m
	}
	if r.question.Qtype != dns.TypePTR {
		return nil
	}
	if addr, ok := reverseAddr(r.name); ok {
		if name, ok := t.names[addr]; ok {
			return s.pointer(r, name, localTTL)
		}
		if addr.IsLoopback() {
			return r.answer(dns.RcodeNameError)
		}
	}
	return nil
}

// reachable are addrs less those of a family that the guest has not.
func (s *Server) reachable(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if a.Is4() || s.network.IPv6.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// fromHost is addrs as the guest must say them: the host's loopback, if it may
// be reached, has an address of its own there.
func (s *Server) fromHost(addrs []netip.Addr) []netip.Addr {
	if !s.hostLoopback {
		return addrs
	}
	out := slices.Clone(addrs)
	for i, a := range out {
		if a.IsLoopback() {
			out[i] = s.network.HostIPv4
		}
	}
	return out
}

// addresses answers for a name whose addresses are known. It returns nil for
// types that somebody else may know more of: not those that would lead to other
// addresses.
func (s *Server) addresses(r *request, addrs []netip.Addr, ttl uint32) *dns.Msg {
	switch r.question.Qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeCNAME, dns.TypeHTTPS, dns.TypeSVCB:
	default:
		if r.name == wire.HostName || r.name == localhost || strings.HasSuffix(r.name, "."+localhost) {
			break
		}
		return nil
	}
	m := r.answer(dns.RcodeSuccess)
	m.Authoritative = true
	m.Answer = addressRecords(r, addrs, ttl)
	return m
}

// addressRecords are those of addrs that r asks for.
func addressRecords(r *request, addrs []netip.Addr, ttl uint32) []dns.RR {
	var rrs []dns.RR
	seen := map[netip.Addr]bool{}
	for _, a := range addrs {
		h := dns.RR_Header{Name: r.question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
		if a.Is6() {
			h.Rrtype = dns.TypeAAAA
		}
		if q := r.question.Qtype; seen[a] || q != h.Rrtype && q != dns.TypeANY {
			continue
		}
		seen[a] = true
		if a.Is6() {
			rrs = append(rrs, &dns.AAAA{Hdr: h, AAAA: a.AsSlice()})
		} else {
			rrs = append(rrs, &dns.A{Hdr: h, A: a.AsSlice()})
		}
	}
	return rrs
}

// pointer answers that an address has a name.
func (s *Server) pointer(r *request, name string, ttl uint32) *dns.Msg {
	m := r.answer(dns.RcodeSuccess)
	m.Authoritative = true
	if q := r.question.Qtype; q == dns.TypePTR || q == dns.TypeANY {
		h := dns.RR_Header{Name: r.question.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}
		m.Answer = []dns.RR{&dns.PTR{Hdr: h, Ptr: dns.Fqdn(name)}}
	}
	return m
}
