package app

import (
	"context"

	"bake/internal/service/dns"
	"bake/internal/wire"
)

// addResolver makes the guest's nameserver and tells the planned guest of it
// and of the names that it gets. It returns nil for a guest without a network,
// which gets the names all the same. with adds what the services have: fake
// names, and who is told of denials and lines of --verbose.
//
// adjust has the last word on what the guest's resolv.conf says; it may be nil.
func (p *plan) addResolver(o Options, with dns.Options, adjust func(wire.Resolver) wire.Resolver) *dns.Server {
	n := p.manifest.Network
	if n == nil {
		p.manifest.Hosts = o.AddHosts
		return nil
	}
	// The policy knows what is embedded too.
	hostLoopback := p.policy.CheckName(wire.HostName) == nil
	p.manifest.Hosts = append(dns.HostEntries(n, hostLoopback), o.AddHosts...)
	with.Network, with.Policy, with.HostLoopback = n, p.policy, hostLoopback
	with.Nameservers, with.Search, with.ResolverOptions, with.Hosts = o.DNS, o.DNSSearch, o.DNSOptions, o.AddHosts
	s := dns.New(with)
	r := s.Resolver()
	if adjust != nil {
		r = adjust(r)
	}
	p.manifest.Resolver = &r
	return s
}

// A resolverWatcher tells of changes of what the guest's resolv.conf says.
type resolverWatcher interface {
	Watch(ctx context.Context, f func(wire.Resolver))
}

// watchResolver tells the guest when the host's search domains or options have
// become others, until ctx ends. adjust is that of addResolver.
func watchResolver(ctx context.Context, w resolverWatcher, adjust func(wire.Resolver) wire.Resolver, send func(wire.HostMessage) error) {
	w.Watch(ctx, func(r wire.Resolver) {
		if adjust != nil {
			r = adjust(r)
		}
		// A guest that does not take it is ending, or keeps what it has.
		_ = send(wire.HostMessage{Type: wire.HostResolver, Resolver: &r})
	})
}
