package dns

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxChain bounds a chain of aliases.
const maxChain = 64

// relay makes the guest's answer from a nameserver's. It keeps what answers the
// question: the records of the names from the one asked to the end of its chain
// of aliases. Nothing is kept of the additional section, where addresses are
// that no question was asked for.
func (s *Server) relay(r *request, up *dns.Msg) *dns.Msg {
	m := r.answer(up.Rcode)
	m.Authoritative, m.RecursionAvailable = up.Authoritative, up.RecursionAvailable
	m.AuthenticatedData, m.CheckingDisabled = up.AuthenticatedData, up.CheckingDisabled
	m.Truncated = up.Truncated
	if opt := m.IsEdns0(); opt != nil {
		if from := up.IsEdns0(); from != nil {
			opt.Option = endToEnd(from.Option)
		}
	} else if up.Rcode > 0xf {
		m.Rcode = dns.RcodeServerFailure
	}
	chain := follow(r.question, up.Answer)
	for _, rr := range up.Answer {
		if chain.has(rr) && s.fits(m, rr) {
			m.Answer = append(m.Answer, rr)
		}
	}
	for _, rr := range up.Ns {
		if !bearsAddress(rr) {
			m.Ns = append(m.Ns, rr)
		}
	}
	if s.policy != nil {
		aliases := chain.aliases(m.Answer)
		for _, name := range aliases {
			if err := s.policy.CheckAlias(name); err != nil {
				return s.deny(r, err)
			}
		}
		s.tell(r, aliases, m.Answer)
	}
	return m
}

// A chain is the names from the one asked for to the last alias's.
type chain struct {
	question dns.Question
	names    map[string]bool // in lower case
	end      string
}

// follow finds the chain of q in an answer, whose records may have any order.
func follow(q dns.Question, answer []dns.RR) *chain {
	name := dns.CanonicalName(q.Name)
	c := &chain{question: q, names: map[string]bool{name: true}, end: name}
	if q.Qtype == dns.TypeCNAME || q.Qtype == dns.TypeANY {
		return c
	}
	aliases := map[string]string{}
	for _, rr := range answer {
		if cname, ok := rr.(*dns.CNAME); ok && cname.Hdr.Class == q.Qclass {
			if owner := dns.CanonicalName(cname.Hdr.Name); aliases[owner] == "" {
				aliases[owner] = dns.CanonicalName(cname.Target)
			}
		}
	}
	for range maxChain {
		next, ok := aliases[name]
		if !ok || c.names[next] {
			break
		}
		c.names[next] = true
		c.end, name = next, next
	}
	return c
}

// aliases are the names beside the one asked for that an answer leads to:
// those of the chain, and the targets of service bindings, whose hints are
// theirs.
func (c *chain) aliases(answer []dns.RR) []string {
	asked := dns.CanonicalName(c.question.Name)
	var list []string
	add := func(name string) {
		if name != asked && name != "." && !slices.Contains(list, canonical(name)) {
			list = append(list, canonical(name))
		}
	}
	for name := range c.names {
		add(name)
	}
	for _, rr := range answer {
		switch svcb := serviceBinding(rr); {
		case svcb != nil:
			add(dns.CanonicalName(svcb.Target))
		case c.question.Qtype == dns.TypeCNAME || c.question.Qtype == dns.TypeANY:
			if cname, ok := rr.(*dns.CNAME); ok {
				add(dns.CanonicalName(cname.Target))
			}
		}
	}
	slices.Sort(list)
	return list
}

// has says whether rr belongs to the answer.
func (c *chain) has(rr dns.RR) bool {
	h := rr.Header()
	if h.Class != c.question.Qclass && c.question.Qclass != dns.ClassANY {
		return false
	}
	owner := dns.CanonicalName(h.Name)
	if h.Rrtype == dns.TypeDNAME {
		// Redirects names below its own (RFC 6672).
		for name := range c.names {
			if strings.HasSuffix(name, "."+owner) || name == owner || owner == "." {
				return true
			}
		}
		return false
	}
	if !c.names[owner] {
		return c.signs(rr)
	}
	t := h.Rrtype
	if sig, ok := rr.(*dns.RRSIG); ok && c.question.Qtype != dns.TypeRRSIG {
		t = sig.TypeCovered
	}
	switch c.question.Qtype {
	case dns.TypeANY:
		return t != dns.TypeOPT && t != dns.TypeTSIG
	case t:
		return owner == c.end
	}
	return t == dns.TypeCNAME
}

// signs says whether rr is the signature of a DNAME.
func (c *chain) signs(rr dns.RR) bool {
	sig, ok := rr.(*dns.RRSIG)
	return ok && sig.TypeCovered == dns.TypeDNAME
}

// bearsAddress says whether a client may take an address out of rr.
func bearsAddress(rr dns.RR) bool {
	switch rr.Header().Rrtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeOPT:
		return true
	}
	return false
}

// fits takes IPv6 addresses out of what a guest without IPv6 is told, so that
// no program tries them first. It returns false if nothing is left of rr.
func (s *Server) fits(m *dns.Msg, rr dns.RR) bool {
	// The library reads addresses without a byte, too.
	switch rr := rr.(type) {
	case *dns.A:
		return rr.A.To4() != nil
	case *dns.AAAA:
		if rr.AAAA.To16() == nil {
			return false
		}
	}
	if s.network.IPv6.IsValid() {
		return true
	}
	if rr.Header().Rrtype == dns.TypeAAAA {
		m.AuthenticatedData = false
		return false
	}
	svcb := serviceBinding(rr)
	if svcb == nil {
		return true
	}
	kept := svcb.Value[:0]
	for _, kv := range svcb.Value {
		if kv.Key() == dns.SVCB_IPV6HINT {
			m.AuthenticatedData = false
			continue
		}
		if list, ok := kv.(*dns.SVCBMandatory); ok {
			list.Code = slices.DeleteFunc(list.Code, func(k dns.SVCBKey) bool { return k == dns.SVCB_IPV6HINT })
			if len(list.Code) == 0 {
				continue
			}
		}
		kept = append(kept, kv)
	}
	svcb.Value = kept
	return true
}

// serviceBinding is rr if it is one (RFC 9460).
func serviceBinding(rr dns.RR) *dns.SVCB {
	switch rr := rr.(type) {
	case *dns.HTTPS:
		return &rr.SVCB
	case *dns.SVCB:
		return rr
	}
	return nil
}

// tell tells the policy of every address in an answer, hints of service
// bindings included, before the guest has it. They belong to the name asked
// for, for as long as the whole chain holds, and so to its aliases.
func (s *Server) tell(r *request, aliases []string, answer []dns.RR) {
	if s.policy == nil || len(answer) == 0 {
		return
	}
	var addrs []netip.Addr
	ttl := answer[0].Header().Ttl
	for _, rr := range answer {
		// The highest bit would make it negative: RFC 2181, section 8.
		if t := rr.Header().Ttl; t>>31 != 0 {
			ttl = 0
		} else {
			ttl = min(ttl, t)
		}
		addrs = appendAddresses(addrs, rr)
	}
	if len(addrs) == 0 {
		return
	}
	d := time.Duration(ttl) * time.Second
	s.policy.Answered(r.name, addrs, d)
	for _, name := range aliases {
		s.policy.AnsweredAlias(name, addrs, d)
	}
}

// appendAddresses appends what a client may connect to because of rr.
func appendAddresses(addrs []netip.Addr, rr dns.RR) []netip.Addr {
	add := func(ip []byte) {
		if a, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	switch rr := rr.(type) {
	case *dns.A:
		add(rr.A)
	case *dns.AAAA:
		add(rr.AAAA)
	}
	svcb := serviceBinding(rr)
	if svcb == nil {
		return addrs
	}
	for _, kv := range svcb.Value {
		switch kv := kv.(type) {
		case *dns.SVCBIPv4Hint:
			for _, ip := range kv.Hint {
				add(ip.To4())
			}
		case *dns.SVCBIPv6Hint:
			for _, ip := range kv.Hint {
				add(ip.To16())
			}
		}
	}
	return addrs
}
