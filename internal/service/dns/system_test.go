package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// aSystem is a system's resolver that knows one name of each type.
type aSystem struct{ t *testing.T }

var errNoSuchName = &net.DNSError{Err: "no such host", IsNotFound: true}

func (s aSystem) find(name string) error {
	switch {
	case !strings.HasSuffix(name, "."):
		s.t.Errorf("the system is asked for %q, to which it would add its search domains", name)
	case name == "x.corp.":
		return nil
	case name == "broken.corp.":
		return errors.New("broken")
	}
	return errNoSuchName
}

func (s aSystem) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	if err := s.find(host); err != nil || network != "ip" {
		return nil, err
	}
	return []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fe80::1%en0")}, nil
}

func (s aSystem) LookupCNAME(_ context.Context, host string) (string, error) {
	return "real.corp.", s.find(host)
}

func (s aSystem) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return []*net.MX{{Host: "m.corp.", Pref: 10}}, s.find(name)
}

func (s aSystem) LookupNS(_ context.Context, name string) ([]*net.NS, error) {
	return []*net.NS{{Host: "n.corp."}}, s.find(name)
}

func (s aSystem) LookupTXT(_ context.Context, name string) ([]string, error) {
	return []string{`a"\` + "\x00\xff", strings.Repeat("y", 300)}, s.find(name)
}

func (s aSystem) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if service != "" || proto != "" {
		s.t.Errorf("asked for the service %q, %q", service, proto)
	}
	return name, []*net.SRV{{Target: "t.corp.", Port: 3, Priority: 1, Weight: 2}}, s.find(name)
}

func (s aSystem) LookupAddr(_ context.Context, addr string) ([]string, error) {
	if addr != "10.0.0.1" {
		return nil, errNoSuchName
	}
	return []string{"x.corp.", "y.corp."}, nil
}

func TestSystemResolver(t *testing.T) {
	j := &judge{}
	s := newServer(t, Options{Policy: j})
	s.system = aSystem{t}
	// For what the system's resolver cannot tell.
	up := nameserver(t, records(t, "x.corp. 5 IN A 192.0.2.1", "x.corp. 5 IN CAA 0 issue \"x\"", "x.in-addr.arpa. 5 IN PTR p."))
	onPorts(s, s.resolvConf.path, map[string]netip.AddrPort{"127.0.0.1": up})
	dnssec := edns(1232, true)
	for _, tt := range []struct {
		name   string
		qtype  uint16
		rcode  int
		want   string
		change []func(*dns.Msg)
	}{
		{"x.corp", dns.TypeA, 0, "x.corp. A 10.0.0.1, x.corp. A 10.0.0.2", nil},
		{"x.corp", dns.TypeAAAA, 0, "x.corp. AAAA fe80::1", nil},
		{"x.corp", dns.TypeCNAME, 0, "x.corp. CNAME real.corp.", nil},
		{"x.corp", dns.TypeMX, 0, "x.corp. MX 10 m.corp.", nil},
		{"x.corp", dns.TypeNS, 0, "x.corp. NS n.corp.", nil},
		{"x.corp", dns.TypeSRV, 0, "x.corp. SRV 1 2 3 t.corp.", nil},
		{"x.corp", dns.TypeTXT, 0, `x.corp. TXT "a\"\\\000\255", x.corp. TXT "` + strings.Repeat("y", 255) + `" "` + strings.Repeat("y", 45) + `"`, nil},
		{"1.0.0.10.in-addr.arpa", dns.TypePTR, 0, "1.0.0.10.in-addr.arpa. PTR x.corp., 1.0.0.10.in-addr.arpa. PTR y.corp.", nil},
		{"2.0.0.10.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, "", nil},
		{"x.in-addr.arpa", dns.TypePTR, 0, "x.in-addr.arpa. PTR p.", nil},
		{"no.corp", dns.TypeA, dns.RcodeNameError, "", nil},
		{"no.corp", dns.TypeMX, dns.RcodeNameError, "", nil},
		{"broken.corp", dns.TypeA, dns.RcodeServerFailure, "", nil},
		{"x.corp", dns.TypeCAA, 0, `x.corp. CAA 0 issue "x"`, nil},
		{"x.corp", dns.TypeA, 0, "x.corp. A 192.0.2.1", []func(*dns.Msg){dnssec}},
		{"x.corp", dns.TypeA, 0, "x.corp. A 192.0.2.1", []func(*dns.Msg){func(m *dns.Msg) { m.CheckingDisabled = true }}},
	} {
		m := ask(t, s, tt.name, tt.qtype, tt.change...)
		if m.Rcode != tt.rcode || says(m) != tt.want {
			t.Errorf("%s %s: %s %q, want %s %q", tt.name, dns.TypeToString[tt.qtype],
				dns.RcodeToString[m.Rcode], says(m), dns.RcodeToString[tt.rcode], tt.want)
		}
	}
	if told, want := j.take(), "x.corp 30s 10.0.0.1 10.0.0.2; x.corp 30s fe80::1; x.corp 5s 192.0.2.1; x.corp 5s 192.0.2.1"; told != want {
		t.Errorf("the policy was told %q, want %q", told, want)
	}
	// --dns means those, on every system.
	s = newServer(t, Options{Nameservers: []netip.AddrPort{up}})
	if s.system != nil {
		t.Error("the system's resolver is asked in place of --dns")
	}
}
