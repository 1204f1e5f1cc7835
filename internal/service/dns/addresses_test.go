package dns

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/wire"
)

// A name that the guest connects to means what its resolver says, and never
// what stands for it where a proxy resolves names.
func TestAddresses(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	write(t, hosts, "192.0.2.9 filed\n")
	s := newServer(t, Options{
		Fake: fakeNames{}, HostsFile: hosts,
		Hosts: []wire.HostEntry{{Name: "DB.example", Addr: netip.MustParseAddr("10.1.2.3")}},
		Nameservers: []netip.AddrPort{nameserver(t, records(t,
			"www.example. 60 IN CNAME web.example.", "web.example. 60 IN A 203.0.113.7", "web.example. 60 IN AAAA 2001:db8::7",
			"mail.example. 60 IN MX 1 web.example."))},
	})
	for _, tt := range []struct{ name, want string }{
		{"db.example", "10.1.2.3"},
		{"Filed.", "192.0.2.9"},
		{"www.example", "203.0.113.7 2001:db8::7"},
	} {
		var want []netip.Addr
		for f := range strings.FieldsSeq(tt.want) {
			want = append(want, netip.MustParseAddr(f))
		}
		if got, err := s.Addresses(t.Context(), tt.name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", tt.name, got, err, want)
		}
	}
	for name, want := range map[string]string{"mail.example": "it has no address", "nothing.example": "it has no address"} {
		if got, err := s.Addresses(t.Context(), name); err == nil || err.Error() != want {
			t.Errorf("%s: %v, %v, want %q", name, got, err, want)
		}
	}
	lame := newServer(t, Options{HostsFile: hosts, Nameservers: []netip.AddrPort{closedPort(t)}})
	if got, err := lame.Addresses(t.Context(), "www.example"); err == nil || !strings.Contains(err.Error(), "no nameserver") {
		t.Errorf("without a nameserver: %v, %v", got, err)
	}
}
