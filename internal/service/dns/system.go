package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/miekg/dns"
)

// systemTTL is the TTL of what the system's resolver says, which keeps that of
// the records to itself, in seconds.
const systemTTL = 30

// A systemResolver is a host's own resolver, where resolv.conf tells only a
// part of what it knows. [net.Resolver] is one.
type systemResolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupCNAME(ctx context.Context, host string) (string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// lookup asks the system's resolver. It returns nil where that cannot tell:
// other types, DNSSEC, or an address with a name that is none.
func lookup(ctx context.Context, sys systemResolver, r *request) *dns.Msg {
	if r.question.Qclass != dns.ClassINET || r.CheckingDisabled || r.opt != nil && r.opt.Do() {
		return nil
	}
	name := r.question.Name
	h := dns.RR_Header{Name: name, Rrtype: r.question.Qtype, Class: dns.ClassINET, Ttl: systemTTL}
	m := r.answer(dns.RcodeSuccess)
	var err error
	switch r.question.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		// Both families, because a name that has only the other one exists.
		var addrs []netip.Addr
		if addrs, err = sys.LookupNetIP(ctx, "ip", name); err == nil {
			for i, a := range addrs {
				addrs[i] = a.Unmap().WithZone("")
			}
			m.Answer = addressRecords(r, addrs, systemTTL)
		}
	case dns.TypeCNAME:
		var target string
		if target, err = sys.LookupCNAME(ctx, name); err == nil && dns.CanonicalName(target) != dns.CanonicalName(name) {
			m.Answer = append(m.Answer, &dns.CNAME{Hdr: h, Target: dns.Fqdn(target)})
		}
	case dns.TypeMX:
		var mxs []*net.MX
		mxs, err = sys.LookupMX(ctx, name)
		for _, mx := range mxs {
			m.Answer = append(m.Answer, &dns.MX{Hdr: h, Preference: mx.Pref, Mx: dns.Fqdn(mx.Host)})
		}
	case dns.TypeNS:
		var nss []*net.NS
		nss, err = sys.LookupNS(ctx, name)
		for _, ns := range nss {
			m.Answer = append(m.Answer, &dns.NS{Hdr: h, Ns: dns.Fqdn(ns.Host)})
		}
	case dns.TypeTXT:
		var txts []string
		txts, err = sys.LookupTXT(ctx, name)
		for _, txt := range txts {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: h, Txt: characterStrings(txt)})
		}
	case dns.TypeSRV:
		var srvs []*net.SRV
		_, srvs, err = sys.LookupSRV(ctx, "", "", name)
		for _, srv := range srvs {
			m.Answer = append(m.Answer, &dns.SRV{Hdr: h, Priority: srv.Priority, Weight: srv.Weight, Port: srv.Port, Target: dns.Fqdn(srv.Target)})
		}
	case dns.TypePTR:
		addr, ok := reverseAddr(r.name)
		if !ok {
			return nil
		}
		var names []string
		names, err = sys.LookupAddr(ctx, addr.String())
		for _, n := range names {
			m.Answer = append(m.Answer, &dns.PTR{Hdr: h, Ptr: dns.Fqdn(n)})
		}
	default:
		return nil
	}
	var e *net.DNSError
	switch {
	case err == nil:
	case errors.As(err, &e) && e.IsNotFound:
		m.Answer, m.Rcode = nil, dns.RcodeNameError
	case len(m.Answer) == 0:
		m = r.failure(dns.RcodeServerFailure, dns.ExtendedErrorCodeNetworkError)
	}
	return m
}

// characterStrings is s in the parts of 255 bytes that a TXT record has, as the
// library writes them: escaped.
func characterStrings(s string) []string {
	var parts []string
	for {
		n := min(len(s), 255)
		var b []byte
		for i := range n {
			switch c := s[i]; {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < ' ' || c > '~':
				b = append(b, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			default:
				b = append(b, c)
			}
		}
		parts = append(parts, string(b))
		if s = s[n:]; s == "" {
			return parts
		}
	}
}
