package dns

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

// nobody fails the test when a question reaches a nameserver.
func nobody(t *testing.T) netip.AddrPort {
	return nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		t.Errorf("a nameserver was asked for %v", q.Question)
		w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused))
	})
}

func TestNamesThatNobodyIsAskedFor(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	write(t, hosts, "127.0.0.1 localhost loop\n10.0.0.7\tDb.corp db # the database\n10.0.0.8 db\nfd00::7 db\n"+
		"fe80::1%lo0 localhost link\n0.0.0.0 ads.example\n192.0.2.300 bad\n::ffff:10.0.0.9 mapped\n::1 only6\n")
	o := Options{
		Nameservers: []netip.AddrPort{nobody(t)}, HostsFile: hosts,
		Hosts: []wire.HostEntry{
			{Name: "API.test", Addr: netip.MustParseAddr("192.0.2.7")},
			{Name: "api.test.", Addr: netip.MustParseAddr("2001:db8::7")},
			{Name: "gw", Addr: netip.MustParseAddr("198.18.0.2")},
			{Name: "self", Addr: netip.MustParseAddr("127.0.0.1")},
		},
	}
	open := o
	open.HostLoopback = true
	servers := map[string]*Server{"": newServer(t, o), "loopback": newServer(t, open)}
	for _, tt := range []struct {
		server, name string
		qtype        uint16
		rcode        int
		want         string
	}{
		{"", "localhost", dns.TypeA, 0, "localhost. A 127.0.0.1"},
		{"", "LocalHost", dns.TypeAAAA, 0, "LocalHost. AAAA ::1"},
		{"", "a.b.localhost", dns.TypeA, 0, "a.b.localhost. A 127.0.0.1"},
		{"", "localhost", dns.TypeMX, 0, ""},
		{"", "1.0.0.127.in-addr.arpa", dns.TypePTR, 0, "1.0.0.127.in-addr.arpa. PTR localhost."},
		{"", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", dns.TypePTR, 0,
			"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. PTR localhost."},
		{"", "5.0.0.127.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, ""},
		{"", wire.HostName, dns.TypeA, dns.RcodeNameError, ""},
		{"", wire.HostName, dns.TypeTXT, dns.RcodeNameError, ""},
		{"loopback", wire.HostName, dns.TypeA, 0, wire.HostName + ". A 198.18.0.2"},
		{"loopback", wire.HostName, dns.TypeAAAA, 0, wire.HostName + ". AAAA fd62:616b:6500::2"},
		{"loopback", wire.HostName, dns.TypeTXT, 0, ""},
		{"loopback", "2.0.18.198.in-addr.arpa", dns.TypePTR, 0, "2.0.18.198.in-addr.arpa. PTR gw."},
		{"", "1.0.18.198.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, ""},
		{"", "api.TEST", dns.TypeA, 0, "api.TEST. A 192.0.2.7"},
		{"", "api.test", dns.TypeAAAA, 0, "api.test. AAAA 2001:db8::7"},
		{"", "api.test", dns.TypeANY, 0, "api.test. A 192.0.2.7, api.test. AAAA 2001:db8::7"},
		{"", "api.test", dns.TypeHTTPS, 0, ""},
		{"", "7.2.0.192.in-addr.arpa", dns.TypePTR, 0, "7.2.0.192.in-addr.arpa. PTR api.test."},
		{"", "gw", dns.TypeA, 0, "gw. A 198.18.0.2"},
		{"loopback", "self", dns.TypeA, 0, "self. A 127.0.0.1"},
		{"", "db", dns.TypeA, 0, "db. A 10.0.0.7, db. A 10.0.0.8"},
		{"", "db", dns.TypeAAAA, 0, "db. AAAA fd00::7"},
		{"", "DB.corp", dns.TypeAAAA, 0, ""},
		{"", "7.0.0.10.in-addr.arpa", dns.TypePTR, 0, "7.0.0.10.in-addr.arpa. PTR db.corp."},
		{"", "ads.example", dns.TypeA, 0, "ads.example. A 0.0.0.0"},
		{"", "mapped", dns.TypeA, 0, "mapped. A 10.0.0.9"},
		{"", "loop", dns.TypeA, 0, "loop. A 127.0.0.1"},
		{"loopback", "loop", dns.TypeA, 0, "loop. A 198.18.0.2"},
		{"loopback", "only6", dns.TypeA, 0, "only6. A 198.18.0.2"},
		{"", "only6", dns.TypeAAAA, 0, "only6. AAAA ::1"},
	} {
		m := ask(t, servers[tt.server], tt.name, tt.qtype)
		if m.Rcode != tt.rcode || says(m) != tt.want || !m.RecursionAvailable {
			t.Errorf("%s %s: %s %q, want %s %q", tt.name, dns.TypeToString[tt.qtype],
				dns.RcodeToString[m.Rcode], says(m), dns.RcodeToString[tt.rcode], tt.want)
		}
	}
	// The file is read again when it changes.
	write(t, hosts, "10.1.1.1 db\n")
	if m := ask(t, servers[""], "db", dns.TypeA); says(m) != "db. A 10.1.1.1" {
		t.Errorf("after a change of the file: %q", says(m))
	}
}

func TestHostNamesOfAGuestWithoutIPv6(t *testing.T) {
	s := newServer(t, Options{
		Network: wire.DefaultNetwork(false), HostLoopback: true, Nameservers: []netip.AddrPort{nobody(t)},
		Hosts: []wire.HostEntry{{Name: "x", Addr: netip.MustParseAddr("2001:db8::1")}},
	})
	for name, want := range map[string]string{
		"x": "", wire.HostName: "", "localhost": "localhost. AAAA ::1",
	} {
		if m := ask(t, s, name, dns.TypeAAAA); says(m) != want || m.Rcode != 0 {
			t.Errorf("%s: %q, want %q", name, says(m), want)
		}
	}
}

func TestPolicyIsAskedAndTold(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	write(t, hosts, "10.0.0.7 db\n192.0.2.1 bad.example\n")
	blocked := errBlocked{}
	j := &judge{deny: map[string]error{"bad.example": blocked, `x\046example.com`: blocked, "x.example.com": nil}}
	var denied []error
	s := newServer(t, Options{
		Policy: j, HostsFile: hosts, HostLoopback: true,
		Denied: func(err error) { denied = append(denied, err) },
		Hosts:  []wire.HostEntry{{Name: "API.", Addr: netip.MustParseAddr("10.9.9.9")}},
		Nameservers: []netip.AddrPort{nameserver(t, records(t,
			"good.example. 300 IN A 192.0.2.9", `x\.example.com. 1 IN A 192.0.2.66`, "bad.example. 1 IN TXT x"))},
	})
	if want := []string{"api 10.9.9.9"}; !reflect.DeepEqual(j.static, want) {
		t.Errorf("static names: %q, want %q", j.static, want)
	}
	for _, tt := range []struct {
		name  string
		qtype uint16
		rcode int
		told  string
	}{
		{"GOOD.example", dns.TypeA, 0, "good.example 5m0s 192.0.2.9"},
		{"db", dns.TypeA, 0, "db 10s 10.0.0.7"},
		{"bad.example", dns.TypeA, dns.RcodeNameError, ""},
		{"Bad.Example", dns.TypeTXT, dns.RcodeNameError, ""},
		{`x\.example.com`, dns.TypeA, dns.RcodeNameError, ""},
		{"api", dns.TypeA, 0, ""},
		{wire.HostName, dns.TypeA, 0, ""},
		{"localhost", dns.TypeA, 0, ""},
	} {
		m := ask(t, s, tt.name, tt.qtype, edns(1232, false))
		told := j.take()
		if m.Rcode != tt.rcode || told != tt.told {
			t.Errorf("%s: %s, told %q; want %s, told %q", tt.name, dns.RcodeToString[m.Rcode], told, dns.RcodeToString[tt.rcode], tt.told)
		}
		if want := tt.rcode != 0; want != reflect.DeepEqual(codes(m), []uint16{dns.ExtendedErrorCodeBlocked}) {
			t.Errorf("%s: extended errors %v", tt.name, codes(m))
		}
	}
	if len(denied) != 3 || denied[0] != blocked {
		t.Errorf("denials that were reported: %v", denied)
	}
	if m := ask(t, s, "bad.example", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("without EDNS: %v", m)
	}
}

type errBlocked struct{}

func (errBlocked) Error() string { return "blocked" }

type fakeNames struct{}

func (fakeNames) Assign(name string) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, 128, byte(len(name))})
}

func (fakeNames) Name(addr netip.Addr) (string, bool) {
	return "fake.example", addr == netip.AddrFrom4([4]byte{198, 18, 128, 12})
}

func TestFakeNames(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	write(t, hosts, "10.0.0.7 db\n")
	j := &judge{deny: map[string]error{"bad.example": errBlocked{}}}
	s := newServer(t, Options{
		Policy: j, Fake: fakeNames{}, HostsFile: hosts, Nameservers: []netip.AddrPort{nobody(t)},
		Hosts: []wire.HostEntry{{Name: "api", Addr: netip.MustParseAddr("10.9.9.9")}},
	})
	for _, tt := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string
	}{
		{"fake.example", dns.TypeA, 0, "fake.example. A 198.18.128.12"},
		{"fake.example", dns.TypeAAAA, 0, ""},
		{"fake.example", dns.TypeHTTPS, 0, ""},
		{"fake.example", dns.TypeMX, dns.RcodeRefused, ""},
		{"12.128.18.198.in-addr.arpa", dns.TypePTR, 0, "12.128.18.198.in-addr.arpa. PTR fake.example."},
		{"13.128.18.198.in-addr.arpa", dns.TypePTR, dns.RcodeRefused, ""},
		{"db", dns.TypeA, 0, "db. A 198.18.128.2"},
		{"api", dns.TypeA, 0, "api. A 10.9.9.9"},
		{"localhost", dns.TypeA, 0, "localhost. A 127.0.0.1"},
		{"bad.example", dns.TypeA, dns.RcodeNameError, ""},
	} {
		m := ask(t, s, tt.name, tt.qtype)
		if m.Rcode != tt.rcode || says(m) != tt.want {
			t.Errorf("%s %s: %s %q, want %s %q", tt.name, dns.TypeToString[tt.qtype],
				dns.RcodeToString[m.Rcode], says(m), dns.RcodeToString[tt.rcode], tt.want)
		}
	}
	if told := j.take(); told != "" {
		t.Errorf("the policy was told of %q", told)
	}
}

func TestFlags(t *testing.T) {
	n := wire.DefaultNetwork(false)
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:53", "192.0.2.1:5353": "192.0.2.1:5353", "::ffff:192.0.2.1": "192.0.2.1:53",
		"2001:db8::1": "[2001:db8::1]:53", "[2001:db8::1]": "[2001:db8::1]:53", "[2001:db8::1]:54": "[2001:db8::1]:54",
		"fe80::1%eth0": "[fe80::1%eth0]:53", "127.0.0.53": "127.0.0.53:53",
		"": "", "dns.example": "", "192.0.2.1:0": "", "192.0.2.1:x": "", "[192.0.2.1]": "", "0.0.0.0": "", "::": "", "224.0.0.1": "", "192.0.2.1:65536": "", "[": "", "[]": "",
	} {
		got, err := ParseNameserver(in)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("--dns %q: %v, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]wire.HostEntry{
		"db:192.0.2.1":       {Name: "db", Addr: netip.MustParseAddr("192.0.2.1")},
		"db.x:2001:db8::1":   {Name: "db.x", Addr: netip.MustParseAddr("2001:db8::1")},
		"db:[2001:db8::1]":   {Name: "db", Addr: netip.MustParseAddr("2001:db8::1")},
		"db=::1":             {Name: "db", Addr: netip.MustParseAddr("::1")},
		"me:host-gateway":    {Name: "me", Addr: n.HostIPv4},
		"m:::ffff:192.0.2.1": {Name: "m", Addr: netip.MustParseAddr("192.0.2.1")},
		"db":                 {}, ":192.0.2.1": {}, "a b:192.0.2.1": {}, "db:": {}, "db:x": {}, "db:fe80::1%1": {}, "a#b:192.0.2.1": {},
		"a\n:192.0.2.1": {}, ".:192.0.2.1": {}, "db:[192.0.2.1]": {},
	} {
		got, err := ParseHost(in, n)
		if (err != nil) != (want.Name == "") || err == nil && got != want {
			t.Errorf("--add-host %q: %v, %v; want %v", in, got, err, want)
		}
	}
	for in, ok := range map[string]bool{".": true, "example.com": true, "example.com.": true, "": false, "a b": false, "a..b": false} {
		if _, err := ParseSearch(in); (err == nil) != ok {
			t.Errorf("--dns-search %q: %v", in, err)
		}
	}
	for in, ok := range map[string]bool{"ndots:2": true, "use-vc": true, "": false, "a b": false, "a\nb": false} {
		if _, err := ParseOption(in); (err == nil) != ok {
			t.Errorf("--dns-option %q: %v", in, err)
		}
	}
}
