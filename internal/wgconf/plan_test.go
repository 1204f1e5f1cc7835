package wgconf

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"bake/internal/wire"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestResolver(t *testing.T) {
	before := wire.Resolver{Nameservers: addrs("198.18.0.2"), Search: []string{"lan", "b.example"}, Options: []string{"ndots:2"}}
	for _, tt := range []struct {
		name   string
		config Config
		want   wire.Resolver
	}{
		{"nothing", Config{}, before},
		{"servers", Config{DNS: addrs("10.0.0.1", "fd00::1")}, wire.Resolver{Nameservers: addrs("10.0.0.1", "fd00::1"), Options: before.Options}},
		{"servers and domains", Config{DNS: addrs("10.0.0.1"), Search: []string{"b.example"}},
			wire.Resolver{Nameservers: addrs("10.0.0.1"), Search: []string{"b.example"}, Options: before.Options}},
		{"domains", Config{Search: []string{"a.example", "b.example"}},
			wire.Resolver{Nameservers: before.Nameservers, Search: []string{"a.example", "b.example", "lan"}, Options: before.Options}},
	} {
		if got := tt.config.Resolver(before); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
	if !reflect.DeepEqual(before.Search, []string{"lan", "b.example"}) {
		t.Errorf("the domains before became %q", before.Search)
	}
}

func config(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("wg.conf", []byte("[Interface]\nPrivateKey="+privateText+"\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckNetwork(t *testing.T) {
	six, four := wire.DefaultNetwork(true), wire.DefaultNetwork(false)
	for _, tt := range []struct {
		name, text string
		network    *wire.Network
		want       string // of the error; empty for none
	}{
		{"fine", "Address=10.0.0.2/8,fd00::2/64\n", six, ""},
		{"IPv6 in the tunnel alone", "Address=fd00::2/64\n", four, ""},
		{"no network", "", nil, "--disable-hostnet"},
		{"the guest's address", "Address=198.18.0.1/24\n", four, "Address 198.18.0.1 belongs"},
		{"the host's address", "Address=fd62:616b:6500::2\n", six, "belongs to the guest's network"},
		{"endpoint by IPv6", "[Peer]\nPublicKey=" + peer1Text + "\nEndpoint=[2001:db8::1]:5\n", six, ""},
		{"endpoint by IPv6 without it", "[Peer]\nPublicKey=" + peer1Text + "\nEndpoint=[2001:db8::1]:5\n", four, "wg.conf, line 5: the Endpoint [2001:db8::1]:5"},
	} {
		err := config(t, tt.text).CheckNetwork(tt.network)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestCheckEndpoints(t *testing.T) {
	var asked []string
	deny := ""
	note := func(what any) error {
		asked = append(asked, fmt.Sprint(what))
		if fmt.Sprint(what) == deny {
			return errors.New("denied udp")
		}
		return nil
	}
	policy := Policy{
		Addr: func(a netip.AddrPort) error { return note(a) },
		Host: func(port uint16) error { return note(port) },
		Name: func(name string, port uint16) error { return note(fmt.Sprint(name, ":", port)) },
	}
	var text strings.Builder
	for i, e := range []string{"192.0.2.1:1", "[2001:db8::1]:2", "198.18.0.2:3", "[fd62:616b:6500::2]:4", "host.bake.internal:5", "vpn.example.com:6", ""} {
		key := publicKey(t, peer1Text)
		key[0] = byte(i)
		fmt.Fprintf(&text, "[Peer]\nPublicKey=%v\n", key)
		if e != "" {
			fmt.Fprintf(&text, "Endpoint=%s\n", e)
		}
	}
	c := config(t, text.String())
	n := wire.DefaultNetwork(true)
	if err := c.CheckEndpoints(n, policy); err != nil {
		t.Error(err)
	}
	want := []string{"192.0.2.1:1", "[2001:db8::1]:2", "3", "4", "5", "vpn.example.com:6"}
	if !reflect.DeepEqual(asked, want) {
		t.Errorf("the policy was asked for %q, want %q", asked, want)
	}
	if err := c.CheckEndpoints(n, Policy{}); err != nil {
		t.Errorf("without a policy: %v", err)
	}
	var i int
	for i, deny = range []string{0: "192.0.2.1:1", 4: "5", 5: "vpn.example.com:6"} {
		if deny == "" {
			continue
		}
		err := c.CheckEndpoints(n, policy)
		if want := fmt.Sprintf("wg.conf, line %d: ", 5+3*i); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "denied udp") {
			t.Errorf("%s denied: %v, want %q", deny, err, want)
		}
	}
}
