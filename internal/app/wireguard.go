package app

import (
	"net/netip"

	"bake/internal/policy"
	"bake/internal/wgconf"
	"bake/internal/wire"
)

// addWireGuard gives the planned guest a tunnel over its network, and refuses
// one that could not work there. c is nil for a guest without one. What it
// says about name servers takes effect in [plan.resolver].
func (p *plan) addWireGuard(c *wgconf.Config) error {
	if c == nil {
		return nil
	}
	if err := c.CheckNetwork(p.manifest.Network); err != nil {
		return err
	}
	if err := c.CheckEndpoints(p.manifest.Network, endpointPolicy(p.policy)); err != nil {
		return err
	}
	p.manifest.WireGuard = &c.Tunnel
	p.wireGuard = c
	p.warnings = append(p.warnings, c.Warnings...)
	return nil
}

// endpointPolicy is what p says about the tunnel's own packets.
func endpointPolicy(p *policy.Policy) wgconf.Policy {
	return wgconf.Policy{
		Addr: func(to netip.AddrPort) error { return p.Check(policy.UDP, to) },
		Host: func(port uint16) error { return p.CheckHost(policy.UDP, port) },
		Name: p.CheckName,
	}
}

// resolver is what the guest's resolv.conf says: r, unless the tunnel brings
// its own.
func (p *plan) resolver(r wire.Resolver) wire.Resolver {
	if p.wireGuard == nil {
		return r
	}
	return p.wireGuard.Resolver(r)
}
