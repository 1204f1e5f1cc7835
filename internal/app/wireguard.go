package app

import (
	"bake/internal/wgconf"
	"bake/internal/wire"
)

// addWireGuard gives the planned guest a tunnel over its network, and refuses
// one that could not work there. c is nil for a guest without one. What it
// says about name servers takes effect in [plan.resolver].
func (p *plan) addWireGuard(c *wgconf.Config, policy wgconf.Policy) error {
	if c == nil {
		return nil
	}
	if err := c.CheckNetwork(p.manifest.Network); err != nil {
		return err
	}
	if err := c.CheckEndpoints(p.manifest.Network, policy); err != nil {
		return err
	}
	p.manifest.WireGuard = &c.Tunnel
	p.wireGuard = c
	p.warnings = append(p.warnings, c.Warnings...)
	return nil
}

// resolver is what the guest's resolv.conf says: r, unless the tunnel brings
// its own.
func (p *plan) resolver(r wire.Resolver) wire.Resolver {
	if p.wireGuard == nil {
		return r
	}
	return p.wireGuard.Resolver(r)
}
