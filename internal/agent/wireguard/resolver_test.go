//go:build linux

package wireguard

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

// dnsServer answers on a UDP port of the loopback.
func dnsServer(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(answer)}
	go server.ActivateAndServe()
	<-started
	t.Cleanup(func() { server.Shutdown() })
	return pc.LocalAddr().String()
}

func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	question := q.Question[0]
	records := map[string]string{
		"both.example. A":    "both.example. 5 IN A 192.0.2.1",
		"both.example. AAAA": "both.example. 5 IN AAAA 2001:db8::1",
		"six.example. AAAA":  "six.example. 5 IN AAAA 2001:db8::6",
	}
	switch {
	case question.Name == "broken.example.":
		m.Rcode = dns.RcodeServerFailure
	case records[question.Name+" "+dns.TypeToString[question.Qtype]] != "":
		rr, err := dns.NewRR(records[question.Name+" "+dns.TypeToString[question.Qtype]])
		if err == nil {
			m.Answer = append(m.Answer, rr)
		}
	case question.Name != "six.example." && question.Name != "both.example.":
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m)
}

func TestResolver(t *testing.T) {
	addr := dnsServer(t)
	hosts := []wire.HostEntry{
		{Name: "Added.example", Addr: netip.MustParseAddr("10.0.0.1")},
		{Name: "added.example", Addr: netip.MustParseAddr("fd00::1")},
	}
	for _, tt := range []struct {
		name string
		ipv6 bool
		want string // addresses, or words of the error
	}{
		{"both.example", true, "192.0.2.1 2001:db8::1"},
		{"both.example", false, "192.0.2.1"},
		{"six.example", true, "2001:db8::6"},
		{"six.example", false, "knows no address"},
		{"none.example", true, "knows no address"},
		{"broken.example", true, "has no answer"},
		{"added.example", true, "10.0.0.1 fd00::1"},
		{"added.example", false, "10.0.0.1"},
	} {
		r := newResolver(Options{Network: wire.DefaultNetwork(tt.ipv6), Hosts: hosts})
		r.dns.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}
		addrs, err := r.lookup(t.Context(), tt.name)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
			}
			continue
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s with IPv6 %v: got %q, want %q", tt.name, tt.ipv6, got, tt.want)
		}
	}
}
