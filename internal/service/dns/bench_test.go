package dns

import (
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// What an answer through the server costs over one of the nameserver itself,
// asked as a program on the host would.
func BenchmarkNameserver(b *testing.B) {
	up := answers(b, "192.0.2.1")
	query := mustPack(new(dns.Msg).SetQuestion("q.", dns.TypeA))
	buf := make([]byte, 512)
	for b.Loop() {
		conn, err := net.Dial("udp", up.String())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Write(query); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}

func BenchmarkExchange(b *testing.B) {
	s := newServer(b, Options{Policy: &judge{}, Nameservers: []netip.AddrPort{answers(b, "192.0.2.1")}, HostsFile: "/etc/hosts", ResolvConf: "/etc/resolv.conf"})
	query := mustPack(new(dns.Msg).SetQuestion("q.", dns.TypeA))
	for b.Loop() {
		if s.Exchange(b.Context(), query) == nil {
			b.Fatal("no answer")
		}
	}
}

func BenchmarkExchangeHosts(b *testing.B) {
	s := newServer(b, Options{HostsFile: "/etc/hosts"})
	query := mustPack(new(dns.Msg).SetQuestion("localhost.", dns.TypeA))
	for b.Loop() {
		if s.Exchange(b.Context(), query) == nil {
			b.Fatal("no answer")
		}
	}
}
