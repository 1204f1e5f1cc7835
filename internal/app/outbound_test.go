package app

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

// A name that the guest connects to means what its resolver says: --add-host
// first, then --dns.
func TestLookup(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 203.0.113.7")
			m.Answer = append(m.Answer, rr)
		}
		w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	defer func() {
		server.Shutdown()
		<-done
	}()

	find := lookup(Options{
		DNS:      []netip.AddrPort{netip.MustParseAddrPort(conn.LocalAddr().String())},
		AddHosts: []wire.HostEntry{{Name: "DB.example", Addr: netip.MustParseAddr("10.1.2.3")}},
	})
	for name, want := range map[string]string{"db.example": "10.1.2.3", "www.example": "203.0.113.7"} {
		got, err := find(t.Context(), name)
		if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr(want)}) {
			t.Errorf("%s: %v, %v, want %s", name, got, err, want)
		}
	}
}
