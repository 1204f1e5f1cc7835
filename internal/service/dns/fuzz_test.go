package dns

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

// seeds are queries and answers of many kinds.
func seeds(t testing.TB) (queries, answers [][]byte) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeANY, dns.TypePTR, dns.TypeTXT} {
		for _, name := range []string{"q.", "localhost.", "db.", "1.0.0.127.in-addr.arpa.", `a\.b.`, "."} {
			m := new(dns.Msg).SetQuestion(name, qtype)
			queries = append(queries, mustPack(m))
			m.SetEdns0(1232, true)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, Address: []byte{0, 0, 0, 0}}}
			queries = append(queries, mustPack(m))
		}
	}
	for _, zone := range [][]string{
		{"q. 5 IN A 192.0.2.1"}, {"q. 5 IN CNAME a.", "a. 5 IN AAAA ::1"}, {"q. 5 IN HTTPS 1 . mandatory=ipv6hint ipv6hint=::1 ipv4hint=192.0.2.1"},
		{"q. 5 IN TXT a b c", "q. 5 IN RRSIG A 8 1 5 20300101000000 20200101000000 1 q. AAAA"}, {". 5 IN DNAME b."},
	} {
		m := new(dns.Msg).SetQuestion("q.", dns.TypeA)
		m.Response, m.RecursionAvailable = true, true
		m.Answer = parseRecords(t, zone...)
		m.Ns = parseRecords(t, "q. 5 IN SOA a. b. 1 2 3 4 5")
		m.SetEdns0(512, false)
		m.Compress = true
		answers = append(answers, mustPack(m))
	}
	return queries, answers
}

// FuzzExchange gives the guest's bytes to the server, and the nameserver's
// bytes back to it, with the question and ID that make them an answer.
func FuzzExchange(f *testing.F) {
	queries, answers := seeds(f)
	for i, q := range queries {
		f.Add(q, answers[i%len(answers)], i%2 == 0)
	}
	f.Add([]byte{}, []byte{}, true)
	var reply atomic.Pointer[[]byte]
	up := nameserver(f, raw(func(q *dns.Msg, _ bool) []byte {
		m := new(dns.Msg).SetReply(q)
		b := mustPack(m)
		if reply := *reply.Load(); len(reply) > headerSize {
			// The counts and records are the fuzzer's.
			copy(b[2:4], reply[2:4])
			b[2] |= 0x80
			copy(b[6:12], reply[6:12])
			b = append(b, reply[headerSize:]...)
		}
		return b
	}))
	j := &judge{}
	servers := map[bool]*Server{}
	for _, ipv6 := range []bool{false, true} {
		s := newServer(f, Options{
			Network: wire.DefaultNetwork(ipv6), Policy: j, HostLoopback: ipv6, Nameservers: []netip.AddrPort{up},
			Hosts: []wire.HostEntry{{Name: "db", Addr: netip.MustParseAddr("192.0.2.9")}},
		})
		s.resolvConf = newFollower("", 0, func([]byte) *resolvConf {
			return &resolvConf{timeout: 100 * time.Millisecond, attempts: 1}
		})
		servers[ipv6] = s
	}
	f.Fuzz(func(t *testing.T, query, answer []byte, ipv6 bool) {
		reply.Store(&answer)
		b := servers[ipv6].Exchange(t.Context(), query)
		told := j.take()
		if b == nil {
			if len(query) >= headerSize && query[2]&0x80 == 0 {
				t.Fatal("a query has no answer")
			}
			return
		}
		if len(b) > wire.MaxDatagram || string(b[:2]) != string(query[:2]) || b[2]&0x80 == 0 {
			t.Fatalf("the answer %x to %x", b, query)
		}
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatalf("the answer %x cannot be read: %v", b, err)
		}
		own := false // the names that no nameserver is asked for
		if len(m.Question) == 1 {
			name := canonical(m.Question[0].Name)
			own = name == "localhost" || strings.HasSuffix(name, ".localhost") || name == "db" || name == wire.HostName
		}
		for _, rr := range append(m.Answer, m.Ns...) {
			switch rr := rr.(type) {
			case *dns.AAAA:
				if !ipv6 && !own {
					t.Fatalf("a guest without IPv6 is told of %v", rr)
				}
			case *dns.A:
				if a, _ := netip.AddrFromSlice(rr.A); !own && !strings.Contains(told, a.Unmap().String()) {
					t.Fatalf("the policy was told %q, and the guest %v", told, rr)
				}
			}
		}
		if binary.BigEndian.Uint16(b[10:]) > 1 {
			t.Fatalf("the answer has additional records: %v", m)
		}
	})
}

func FuzzFiles(f *testing.F) {
	f.Add("nameserver fe80::1%eth0\nsearch a b\noptions ndots:1 timeout:99999999999\n")
	f.Add("127.0.0.1 localhost a.b # x\n::1 y\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := parseResolvConf([]byte(text))
		if n := len(c.nameservers); n < 1 || n > MaxNameservers || c.timeout < time.Second || c.timeout > maxTimeout || c.attempts < 1 || c.attempts > maxAttempts {
			t.Errorf("limits are not kept: %+v", c)
		}
		for _, word := range append(c.search, c.options...) {
			if strings.ContainsAny(word, " \t\r\n#;\x00") {
				t.Errorf("%q would break the guest's file", word)
			}
		}
		for name := range parseHosts([]byte(text)).addrs {
			if _, err := dns.NewRR(name + ". 1 IN A 192.0.2.1"); err != nil {
				t.Errorf("%q is no name: %v", name, err)
			}
		}
	})
}

func FuzzFlags(f *testing.F) {
	for _, s := range []string{"192.0.2.1:53", "[::1]:53", "a:host-gateway", "a=::1", "ndots:2", "."} {
		f.Add(s)
	}
	n := wire.DefaultNetwork(true)
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseNameserver(s); err == nil && (!a.IsValid() || a.Port() == 0) {
			t.Errorf("--dns %q is %v", s, a)
		}
		if h, err := ParseHost(s, n); err == nil && (!h.Addr.IsValid() || strings.ContainsAny(h.Name, " \t\r\n#")) {
			t.Errorf("--add-host %q is %v", s, h)
		}
		if d, err := ParseSearch(s); err == nil && strings.ContainsAny(d, " \t\r\n#;") {
			t.Errorf("--dns-search %q is %q", s, d)
		}
		if o, err := ParseOption(s); err == nil && strings.ContainsAny(o, " \t\r\n#;") {
			t.Errorf("--dns-option %q is %q", s, o)
		}
	})
}
