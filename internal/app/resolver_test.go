package app

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"bake/internal/hypervisor"
	"bake/internal/payload"
	"bake/internal/policy"
	"bake/internal/service/dns"
	"bake/internal/wire"
)

func TestPlanHasTheResolver(t *testing.T) {
	db := wire.HostEntry{Name: "db", Addr: netip.MustParseAddr("192.0.2.7")}
	me := []wire.HostEntry{{Name: wire.HostName, Addr: netip.MustParseAddr("198.18.0.2")}, {Name: wire.HostName, Addr: netip.MustParseAddr("fd62:616b:6500::2")}}
	for name, tt := range map[string]struct {
		o     Options
		hosts []wire.HostEntry
		none  bool
	}{
		"plain":         {Options{AddHosts: []wire.HostEntry{db}}, []wire.HostEntry{db}, false},
		"host loopback": {Options{AddHosts: []wire.HostEntry{db}, Network: policy.Rules{HostLoopback: true}}, append(slices.Clone(me), db), false},
		"no network":    {Options{AddHosts: []wire.HostEntry{db}, Network: policy.Rules{Disabled: true}}, []wire.HostEntry{db}, true},
	} {
		m := payload.Manifest{Process: payload.Process{Cmd: []string{"sh"}}}
		tt.o.DNSSearch, tt.o.DNSOptions = []string{"a.example"}, []string{"ndots:3"}
		pl, err := newPlan(testImage(t, m), tt.o, nil, hypervisor.Capabilities{}, true)
		if err != nil {
			t.Fatal(err)
		}
		s := pl.addResolver(tt.o, dns.Options{}, func(r wire.Resolver) wire.Resolver {
			r.Options = append(r.Options, "adjusted")
			return r
		})
		if !reflect.DeepEqual(pl.manifest.Hosts, tt.hosts) {
			t.Errorf("%s: the guest's names are %v, want %v", name, pl.manifest.Hosts, tt.hosts)
		}
		want := &wire.Resolver{Nameservers: []netip.Addr{netip.MustParseAddr("198.18.0.2")}, Search: []string{"a.example"}, Options: []string{"ndots:3", "adjusted"}}
		if tt.none {
			want = nil
		}
		if (s == nil) != tt.none || !reflect.DeepEqual(pl.manifest.Resolver, want) {
			t.Errorf("%s: server %v and resolver %+v, want %+v", name, s, pl.manifest.Resolver, want)
		}
		if !tt.none && pl.policy.Check(policy.TCP, netip.AddrPortFrom(db.Addr, 1)) != nil {
			t.Errorf("%s: the policy does not let the guest reach what it was given", name)
		}
	}
}

// news tells of two changes.
type news struct{}

func (news) Watch(_ context.Context, f func(wire.Resolver)) {
	f(wire.Resolver{Search: []string{"a"}})
	f(wire.Resolver{Search: []string{"b"}})
}

func TestWatchResolver(t *testing.T) {
	var got []string
	watchResolver(t.Context(), news{}, func(r wire.Resolver) wire.Resolver {
		r.Search = append(r.Search, "x")
		return r
	}, func(m wire.HostMessage) error {
		if m.Type != wire.HostResolver {
			t.Errorf("the guest is told %+v", m)
		}
		got = append(got, m.Resolver.Search...)
		return errors.New("it does not listen")
	})
	if want := []string{"a", "x", "b", "x"}; !slices.Equal(got, want) {
		t.Errorf("the guest was told of %v, want %v", got, want)
	}
	got = nil
	watchResolver(t.Context(), news{}, nil, func(m wire.HostMessage) error { got = append(got, m.Resolver.Search...); return nil })
	if want := []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("the guest was told of %v, want %v", got, want)
	}
}
