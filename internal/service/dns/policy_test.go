package dns

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"bake/internal/policy"
	"bake/internal/wire"
)

var _ Policy = (*policy.Policy)(nil)

// What the guest was answered opens what a rule for the name is about, and
// nothing else.
func TestPolicyOpensWhatWasAnswered(t *testing.T) {
	zone := []string{
		"www.example.com. 60 IN CNAME cdn.example.net.", "cdn.example.net. 60 IN A 192.0.2.10",
		"example.org. 60 IN A 192.0.2.20", "inside.example.com. 60 IN A 10.0.0.1",
		"svc.example.com. 60 IN HTTPS 1 . ipv4hint=192.0.2.30", "ads.example.com. 60 IN CNAME tracker.example.net.",
		"tracker.example.net. 60 IN A 192.0.2.66", `a\\.example.com. 60 IN A 192.0.2.67`, "shared.example.com. 60 IN A 192.0.2.66",
	}
	up := nameserver(t, records(t, zone...))
	p, err := policy.New(policy.Rules{Allow: []string{"*.example.com:443/tcp"}, Deny: []string{"tracker.example.net"}})
	if err != nil {
		t.Fatal(err)
	}
	denials := 0
	s := newServer(t, Options{
		Policy: p, Nameservers: []netip.AddrPort{up}, Denied: func(error) { denials++ },
		Hosts: []wire.HostEntry{{Name: "db.example.com", Addr: netip.MustParseAddr("10.0.0.9")}},
	})
	open := func(addr string) bool { return p.Check(policy.TCP, netip.MustParseAddrPort(addr+":443")) == nil }
	if open("192.0.2.10") || !open("10.0.0.9") {
		t.Error("before any question, only what --add-host names is open")
	}
	for _, tt := range []struct {
		name  string
		qtype uint16
		rcode int
		addr  string
		open  bool
	}{
		{"www.example.com", dns.TypeA, dns.RcodeSuccess, "192.0.2.10", true},
		{"WWW.Example.COM", dns.TypeA, dns.RcodeSuccess, "192.0.2.10", true},
		{"svc.example.com", dns.TypeHTTPS, dns.RcodeSuccess, "192.0.2.30", true},
		{"cdn.example.net", dns.TypeA, dns.RcodeNameError, "192.0.2.11", false},
		{"example.org", dns.TypeA, dns.RcodeNameError, "192.0.2.20", false},
		{"example.com", dns.TypeTXT, dns.RcodeNameError, "192.0.2.20", false},
		{"inside.example.com", dns.TypeA, dns.RcodeSuccess, "10.0.0.1", false},
		{"ads.example.com", dns.TypeA, dns.RcodeNameError, "192.0.2.66", false},
		{`a\.example.com`, dns.TypeA, dns.RcodeNameError, "192.0.2.67", false},
		{wire.HostName, dns.TypeA, dns.RcodeNameError, "198.51.100.1", false},
		{"shared.example.com", dns.TypeA, dns.RcodeSuccess, "192.0.2.66", true},
	} {
		before := denials
		m := ask(t, s, tt.name, tt.qtype)
		if m.Rcode != tt.rcode || open(tt.addr) != tt.open {
			t.Errorf("%s: %s and %s is open: %v; want %s, %v", tt.name, dns.RcodeToString[m.Rcode], tt.addr, open(tt.addr), dns.RcodeToString[tt.rcode], tt.open)
		}
		if got := denials - before; (got == 1) != (tt.rcode == dns.RcodeNameError) {
			t.Errorf("%s: %d denials", tt.name, got)
		}
	}
}
