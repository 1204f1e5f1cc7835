package app

import (
	"net/netip"
	"strings"
	"testing"

	"bake/internal/hypervisor"
	"bake/internal/payload"
	"bake/internal/policy"
	"bake/internal/wire"
)

func TestPlanHasTheNetwork(t *testing.T) {
	for _, tt := range []struct {
		name     string
		embedded payload.Network
		o        Options
		ipv6     bool
		want     *wire.Network
	}{
		{"nothing said", payload.Network{}, Options{}, false, wire.DefaultNetwork(false)},
		{"with IPv6", payload.Network{}, Options{}, true, wire.DefaultNetwork(true)},
		{"asked for", payload.Network{}, Options{Hostnet: true}, false, wire.DefaultNetwork(false)},
		{"disabled", payload.Network{}, Options{Network: policy.Rules{Disabled: true}}, true, nil},
		{"built without", payload.Network{Disabled: true}, Options{}, true, nil},
		{"built without, and narrowed", payload.Network{Disabled: true}, Options{Network: policy.Rules{Deny: []string{"example.com"}}}, true, nil},
	} {
		m := payload.Manifest{Network: tt.embedded, Process: payload.Process{Cmd: []string{"sh"}}}
		pl, err := newPlan(testImage(t, m), tt.o, nil, hypervisor.Capabilities{}, tt.ipv6)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := pl.manifest.Network
		if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%s: the guest's network is %+v, want %+v", tt.name, got, tt.want)
		}
		if pl.policy.Disabled() != (tt.want == nil) {
			t.Errorf("%s: the policy says otherwise", tt.name)
		}
	}
}

// A flag narrows what is embedded.
func TestFlagsNarrowThePolicy(t *testing.T) {
	p, err := networkPolicy(
		payload.Network{Allow: []string{"203.0.113.0/24"}, HostLoopback: true},
		Options{Network: policy.Rules{Deny: []string{"203.0.113.9"}}})
	if err != nil {
		t.Fatal(err)
	}
	for dst, want := range map[string]string{
		"203.0.113.8:443": "",
		"203.0.113.9:443": "--deny-net names 203.0.113.9",
		"192.0.2.1:443":   "no rule of the --allow-net embedded in the app allows it",
	} {
		err := p.Check(policy.TCP, netip.MustParseAddrPort(dst))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dst, err, want)
		}
	}
	if err := p.CheckHost(policy.TCP, 80); err != nil {
		t.Errorf("the flag closed the host's loopback, which it does not speak of: %v", err)
	}
}

func TestPlanRefusesThePolicy(t *testing.T) {
	for _, tt := range []struct {
		name     string
		embedded payload.Network
		o        Options
		want     string
	}{
		{"no rule", payload.Network{}, Options{Network: policy.Rules{Allow: []string{"a b"}}}, `--allow-net: "a b" is not a rule`},
		{"no rule embedded", payload.Network{Deny: []string{"a b"}}, Options{}, `the --deny-net embedded in the app: "a b" is not a rule`},
		{"widening", payload.Network{Allow: []string{"example.com"}}, Options{Network: policy.Rules{Allow: []string{"example.org"}}}, "would widen the policy embedded in the app"},
		{"host loopback", payload.Network{Deny: []string{"example.com"}}, Options{Network: policy.Rules{HostLoopback: true}}, "--allow-host-loopback would widen"},
		{"network", payload.Network{Disabled: true}, Options{Network: policy.Rules{Allow: []string{"example.org"}}}, "cuts the network off"},
		{"network asked for", payload.Network{Disabled: true}, Options{Hostnet: true}, "--disable-hostnet=false cannot"},
	} {
		m := payload.Manifest{Network: tt.embedded, Process: payload.Process{Cmd: []string{"sh"}}}
		_, err := newPlan(testImage(t, m), tt.o, nil, hypervisor.Capabilities{}, false)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
