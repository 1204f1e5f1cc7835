package dns

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

// Every type and class comes back as the nameserver has it.
func TestTypesAndClasses(t *testing.T) {
	zone := []string{
		"x.example. 60 IN A 192.0.2.1", "x.example. 60 IN AAAA 2001:db8::1", `x.example. 60 IN TXT "a b" "c"`,
		"x.example. 60 IN MX 10 mail.example.", "x.example. 60 IN CAA 0 issue \"ca.example\"", "_s._tcp.example. 60 IN SRV 1 2 3 t.example.",
		"x.example. 60 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1", "9.2.0.192.in-addr.arpa. 60 IN PTR p.example.",
		"x.example. 60 IN NS ns.example.", "x.example. 60 IN SOA ns.example. h.example. 1 2 3 4 5", "x.example. 60 IN TYPE65400 \\# 3 abcdef",
		"version.bind. 0 CH TXT \"v\"", "x.example. 60 IN DS 1 8 2 abcd", "x.example. 60 IN NAPTR 1 1 \"u\" \"s\" \"!a!b!\" .",
	}
	s := newServer(t, Options{Nameservers: []netip.AddrPort{nameserver(t, records(t, zone...))}})
	for _, rr := range parseRecords(t, zone...) {
		h := rr.Header()
		m := ask(t, s, h.Name, h.Rrtype, edns(4096, false), func(m *dns.Msg) { m.Question[0].Qclass = h.Class })
		if len(m.Answer) != 1 || !dns.IsDuplicate(m.Answer[0], rr) || m.Answer[0].Header().Ttl != h.Ttl {
			t.Errorf("%v came as %v", rr, m.Answer)
		}
	}
	if m := ask(t, s, "x.example", dns.TypeANY, edns(4096, false)); len(m.Answer) != 11 {
		t.Errorf("ANY: %v", m.Answer)
	}
	if m := ask(t, s, "no.example", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("a name that does not exist: %v", m)
	}
	if m := ask(t, s, "_s._tcp.example", dns.TypeA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
		t.Errorf("a type that does not exist: %v", m)
	}
	if m := ask(t, s, "X.eXample", dns.TypeA); says(m) != "x.example. A 192.0.2.1" {
		t.Errorf("a name in mixed case: %v", m)
	}
}

// The guest gets the chain that answers its question and nothing else, and the
// policy hears of every address in it.
func TestChains(t *testing.T) {
	const soa = "example. 9 IN SOA ns.example. h.example. 1 2 3 4 5"
	for name, tt := range map[string]struct {
		qtype          uint16
		answer         []string
		authority      []string
		want, told     string
		without        bool // IPv6
		wantAuthority  int
		wantNoIPv6Hint bool
	}{
		"plain": {qtype: dns.TypeA, answer: []string{"q. 5 IN A 192.0.2.1", "q. 3 IN A 192.0.2.2"},
			want: "q. A 192.0.2.1, q. A 192.0.2.2", told: "q 3s 192.0.2.1 192.0.2.2"},
		"chain": {qtype: dns.TypeA, answer: []string{"q. 2 IN CNAME a.", "a. 7 IN CNAME b.", "b. 9 IN A 192.0.2.1"},
			want: "q. CNAME a., a. CNAME b., b. A 192.0.2.1", told: "q 2s 192.0.2.1; alias a 2s 192.0.2.1; alias b 2s 192.0.2.1"},
		"chain in disorder and capitals": {qtype: dns.TypeA, answer: []string{"B. 9 IN A 192.0.2.1", "A. 7 IN CNAME b.", "Q. 8 IN CNAME a."},
			want: "B. A 192.0.2.1, A. CNAME b., Q. CNAME a.", told: "q 7s 192.0.2.1; alias a 7s 192.0.2.1; alias b 7s 192.0.2.1"},
		"chain without an end": {qtype: dns.TypeA, answer: []string{"q. 2 IN CNAME a."}, want: "q. CNAME a."},
		"unrelated": {qtype: dns.TypeA, answer: []string{"q. 5 IN A 192.0.2.1", "evil. 5 IN A 192.0.2.66", "q. 5 IN AAAA 2001:db8::1", "q. 5 IN TXT x", "q. 5 CH A \\# 4 01020304"},
			want: "q. A 192.0.2.1", told: "q 5s 192.0.2.1"},
		"unrelated only": {qtype: dns.TypeA, answer: []string{"evil. 5 IN A 192.0.2.66"}},
		"an alias with an address": {qtype: dns.TypeA, answer: []string{"q. 5 IN CNAME a.", "q. 5 IN A 192.0.2.66", "a. 5 IN A 192.0.2.1"},
			want: "q. CNAME a., a. A 192.0.2.1", told: "q 5s 192.0.2.1; alias a 5s 192.0.2.1"},
		"loop": {qtype: dns.TypeA, answer: []string{"q. 5 IN CNAME a.", "a. 5 IN CNAME q.", "a. 5 IN A 192.0.2.1"},
			want: "q. CNAME a., a. CNAME q., a. A 192.0.2.1", told: "q 5s 192.0.2.1; alias a 5s 192.0.2.1"},
		"alias asked for": {qtype: dns.TypeCNAME, answer: []string{"q. 5 IN CNAME a.", "a. 5 IN CNAME b."}, want: "q. CNAME a."},
		"DNAME": {qtype: dns.TypeA, answer: []string{". 4 IN DNAME new.", "q. 5 IN CNAME q.new.", "q.new. 5 IN A 192.0.2.1", "other. 5 IN DNAME x."},
			want: ". DNAME new., q. CNAME q.new., q.new. A 192.0.2.1", told: "q 4s 192.0.2.1; alias q.new 4s 192.0.2.1"},
		"negative TTL": {qtype: dns.TypeA, answer: []string{"q. 4294967295 IN A 192.0.2.1"}, want: "q. A 192.0.2.1", told: "q 0s 192.0.2.1"},
		"mapped":       {qtype: dns.TypeAAAA, answer: []string{"q. 5 IN AAAA ::ffff:127.0.0.1"}, want: "q. AAAA ::ffff:127.0.0.1", told: "q 5s 127.0.0.1"},
		"hints": {qtype: dns.TypeHTTPS, answer: []string{"q. 5 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1"},
			want: `q. HTTPS 1 . alpn="h2" ipv4hint="192.0.2.1,192.0.2.2" ipv6hint="2001:db8::1"`, told: "q 5s 192.0.2.1 192.0.2.2 2001:db8::1"},
		"hints of SVCB": {qtype: dns.TypeSVCB, answer: []string{"q. 5 IN SVCB 1 s. ipv4hint=192.0.2.1"},
			want: `q. SVCB 1 s. ipv4hint="192.0.2.1"`, told: "q 5s 192.0.2.1; alias s 5s 192.0.2.1"},
		"glue": {qtype: dns.TypeMX, answer: []string{"q. 5 IN MX 1 m."}, authority: []string{"q. 5 IN NS n.", "n. 5 IN A 192.0.2.66", soa},
			want: "q. MX 1 m.", wantAuthority: 2},
		"AAAA without IPv6":    {qtype: dns.TypeAAAA, without: true, answer: []string{"q. 5 IN CNAME a.", "a. 5 IN AAAA 2001:db8::1"}, want: "q. CNAME a."},
		"no AAAA without IPv6": {qtype: dns.TypeAAAA, without: true, authority: []string{soa}, wantAuthority: 1},
		"A without IPv6":       {qtype: dns.TypeA, without: true, answer: []string{"q. 5 IN A 192.0.2.1"}, want: "q. A 192.0.2.1", told: "q 5s 192.0.2.1"},
		"ANY without IPv6": {qtype: dns.TypeANY, without: true, answer: []string{"q. 5 IN A 192.0.2.1", "q. 5 IN AAAA 2001:db8::1"},
			want: "q. A 192.0.2.1", told: "q 5s 192.0.2.1"},
		"hints without IPv6": {qtype: dns.TypeHTTPS, without: true, answer: []string{"q. 5 IN HTTPS 1 . mandatory=ipv6hint ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"},
			want: `q. HTTPS 1 . ipv4hint="192.0.2.1"`, told: "q 5s 192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			up := nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg).SetReply(q)
				m.RecursionAvailable, m.AuthenticatedData = true, true
				m.Answer, m.Ns = parseRecords(t, tt.answer...), parseRecords(t, tt.authority...)
				m.Extra = parseRecords(t, "q. 5 IN A 192.0.2.66", "m. 5 IN AAAA 2001:db8::66")
				w.WriteMsg(m)
			})
			j := &judge{}
			s := newServer(t, Options{Network: wire.DefaultNetwork(!tt.without), Policy: j, Nameservers: []netip.AddrPort{up}})
			m := ask(t, s, "q.", tt.qtype)
			if told := j.take(); says(m) != tt.want || told != tt.told || len(m.Extra) != 0 || len(m.Ns) != tt.wantAuthority {
				t.Errorf("got %q and told %q, want %q and %q:\n%v", says(m), told, tt.want, tt.told, m)
			}
		})
	}
}

func TestEDNS(t *testing.T) {
	asked := make(chan *dns.Msg, 10)
	up := nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked <- q
		m := new(dns.Msg).SetReply(q)
		if o := q.IsEdns0(); o != nil {
			m.SetEdns0(4000, o.Do())
			m.IsEdns0().Option = []dns.EDNS0{
				&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "24a5ac1223344556aabbccddeeff0011"},
				&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeStaleAnswer},
				&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("up")},
			}
		}
		w.WriteMsg(m)
	})
	s := newServer(t, Options{Nameservers: []netip.AddrPort{up}})

	ask(t, s, "q", dns.TypeA)
	got := <-asked
	if got.IsEdns0() != nil {
		t.Errorf("a question without EDNS was asked with it: %v", got)
	}
	m := ask(t, s, "q", dns.TypeA, edns(4096, true,
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "24a5ac1223344556"},
		&dns.EDNS0_PADDING{Padding: make([]byte, 20)}, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE},
		&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 0, Address: []byte{0, 0, 0, 0}},
		&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("down")}),
		func(m *dns.Msg) { m.CheckingDisabled, m.AuthenticatedData, m.RecursionDesired = true, true, false })
	got = <-asked
	o := got.IsEdns0()
	if o == nil || o.UDPSize() != ownSize || !o.Do() || !got.CheckingDisabled || !got.AuthenticatedData || got.RecursionDesired {
		t.Fatalf("the nameserver got %v", got)
	}
	var options []uint16
	for _, opt := range o.Option {
		options = append(options, opt.Option())
	}
	if want := []uint16{dns.EDNS0SUBNET, 65001}; !reflect.DeepEqual(options, want) {
		t.Errorf("the nameserver got the options %v, want %v", options, want)
	}
	o, options = m.IsEdns0(), nil
	for _, opt := range o.Option {
		options = append(options, opt.Option())
	}
	if want := []uint16{dns.EDNS0EDE, 65001}; o.UDPSize() != ownSize || !o.Do() || !reflect.DeepEqual(options, want) {
		t.Errorf("the guest got %v with the options %v, want %v", o, options, want)
	}
	m = ask(t, s, "q", dns.TypeA, edns(1232, false), func(m *dns.Msg) { m.IsEdns0().SetVersion(1) })
	if m.Rcode != dns.RcodeBadVers {
		t.Errorf("EDNS version 1: %v", m)
	}
	if m = ask(t, s, "q", dns.TypeA, edns(1232, false), func(m *dns.Msg) { m.Extra = append(m.Extra, m.Extra[0]) }); m.Rcode != dns.RcodeFormatError {
		t.Errorf("EDNS twice: %v", m)
	}
}

// A nameserver from before EDNS is asked again without it.
func TestNameserverWithoutEDNS(t *testing.T) {
	for name, refuse := range map[string]func(q *dns.Msg) []byte{
		"whole": func(q *dns.Msg) []byte { return mustPack(new(dns.Msg).SetRcode(q, dns.RcodeFormatError)) },
		"header only": func(q *dns.Msg) []byte {
			return mustPack(new(dns.Msg).SetRcode(q, dns.RcodeNotImplemented))[:headerSize]
		},
	} {
		t.Run(name, func(t *testing.T) {
			up := nameserver(t, raw(func(q *dns.Msg, _ bool) []byte {
				if q.IsEdns0() != nil {
					b := refuse(q)
					if len(b) == headerSize {
						b[5] = 0 // no question
					}
					return b
				}
				m := new(dns.Msg).SetReply(q)
				m.Answer = parseRecords(t, "q. 5 IN A 192.0.2.1")
				return mustPack(m)
			}))
			s := newServer(t, Options{Nameservers: []netip.AddrPort{up}})
			if m := ask(t, s, "q", dns.TypeA, edns(1232, true)); says(m) != "q. A 192.0.2.1" {
				t.Errorf("got %v", m)
			}
		})
	}
}

func TestTruncation(t *testing.T) {
	var zone []string
	for i := range 100 {
		zone = append(zone, fmt.Sprintf("big.example. 60 IN A 192.0.2.%d", i), fmt.Sprintf("text.example. 60 IN TXT \"%d %s\"", i, strings.Repeat("x", 200)))
	}
	j := &judge{}
	s := newServer(t, Options{Policy: j, Nameservers: []netip.AddrPort{nameserver(t, records(t, zone...))}})
	for _, tt := range []struct {
		size      uint16
		all, some bool
	}{{0, false, true}, {100, false, true}, {1232, false, true}, {4096, true, true}, {65535, true, true}} {
		var change []func(*dns.Msg)
		if tt.size > 0 {
			change = append(change, edns(tt.size, false))
		}
		m := ask(t, s, "big.example", dns.TypeA, change...)
		if m.Truncated == tt.all || (len(m.Answer) == 100) != tt.all || (len(m.Answer) > 0) != tt.some {
			t.Errorf("size %d: TC %v and %d records", tt.size, m.Truncated, len(m.Answer))
		}
		if n := strings.Count(j.take(), " 192.0.2."); n != 100 {
			t.Errorf("size %d: the policy was told of %d addresses", tt.size, n)
		}
	}
	if m := ask(t, s, "text.example", dns.TypeTXT, edns(65535, false)); m.Truncated || len(m.Answer) != 100 {
		t.Errorf("20 KB in a datagram: TC %v and %d records", m.Truncated, len(m.Answer))
	}
}

// The guest is told that there is more, and may try by itself.
func TestTruncatedWhereTCPFails(t *testing.T) {
	up := nameserver(t, raw(func(q *dns.Msg, stream bool) []byte {
		if stream {
			return []byte{0}
		}
		m := new(dns.Msg).SetReply(q)
		m.Truncated = true
		m.Answer = parseRecords(t, "q. 5 IN A 192.0.2.1", "q. 5 IN A 192.0.2.2")
		b := mustPack(m)
		return b[:len(b)-2] // some cut inside a record
	}))
	s := newServer(t, Options{Nameservers: []netip.AddrPort{up}})
	if m := ask(t, s, "q", dns.TypeA); !m.Truncated || m.Rcode != dns.RcodeSuccess {
		t.Errorf("got %v", m)
	}
}

func TestQueriesThatAreNone(t *testing.T) {
	s := newServer(t, Options{Nameservers: []netip.AddrPort{nobody(t)}})
	base := func(change func(*dns.Msg)) []byte {
		m := new(dns.Msg).SetQuestion("q.", dns.TypeA)
		change(m)
		return mustPack(m)
	}
	good := base(func(*dns.Msg) {})
	for name, tt := range map[string]struct {
		query []byte
		rcode int // -1: no answer
	}{
		"empty":        {nil, -1},
		"short":        {good[:11], -1},
		"an answer":    {base(func(m *dns.Msg) { m.Response = true }), -1},
		"no question":  {base(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		"two":          {base(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		"cut":          {good[:len(good)-1], dns.RcodeFormatError},
		"header":       {good[:12], dns.RcodeFormatError},
		"with answers": {base(func(m *dns.Msg) { m.Answer = parseRecords(t, "q. 1 IN A 192.0.2.1") }), dns.RcodeFormatError},
		"update":       {base(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		"notify":       {base(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		"transfer":     {base(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }), dns.RcodeNotImplemented},
		"type OPT":     {base(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeOPT }), dns.RcodeFormatError},
		"a loop":       {append(append([]byte{}, good[:12]...), 0xc0, 12, 0, 1, 0, 1), dns.RcodeFormatError},
	} {
		b := s.Exchange(t.Context(), tt.query)
		if (b == nil) != (tt.rcode == -1) {
			t.Errorf("%s: answer %x", name, b)
			continue
		}
		m := new(dns.Msg)
		if b != nil && (m.Unpack(b) != nil || m.Rcode != tt.rcode || !m.Response || string(b[:2]) != string(tt.query[:2])) {
			t.Errorf("%s: got %v, want %s", name, m, dns.RcodeToString[tt.rcode])
		}
	}
}
