package app

import (
	"errors"
	"net/netip"

	"bake/internal/policy"
	"bake/internal/service/egress"
	"bake/internal/wgconf"
	"bake/internal/wire"
)

// addWireGuard gives the planned guest a tunnel over its network, and refuses
// one that could not work there. c is nil for a guest without one. What it
// says about name servers takes effect in [plan.resolver].
func (p *plan) addWireGuard(c *wgconf.Config, proxy *egress.Proxy) error {
	if c == nil {
		return nil
	}
	if err := c.CheckNetwork(p.manifest.Network); err != nil {
		return err
	}
	if err := c.CheckEndpoints(p.manifest.Network, endpointPolicy(p.policy, proxy)); err != nil {
		return err
	}
	p.manifest.WireGuard = &c.Tunnel
	p.wireGuard = c
	p.warnings = append(p.warnings, c.Warnings...)
	return nil
}

// endpointPolicy is what p and the proxy, which may be nil, say about the
// tunnel's own packets.
func endpointPolicy(p *policy.Policy, proxy *egress.Proxy) wgconf.Policy {
	return wgconf.Policy{
		Addr: func(to netip.AddrPort) error {
			if proxy.Carries(to.Addr().String(), to.Port()) {
				return errProxied
			}
			return p.Check(policy.UDP, to)
		},
		Host: func(port uint16) error { return p.CheckHost(policy.UDP, port) },
		Name: func(name string, port uint16) error {
			if proxy.ResolvesNames() || proxy.Carries(name, port) {
				return errProxied
			}
			return p.CheckName(name)
		},
	}
}

var errProxied = errors.New("only TCP goes through --proxy and nothing goes around it, but a tunnel is UDP")

// resolver is what the guest's resolv.conf says: r, unless the tunnel brings
// its own.
func (p *plan) resolver(r wire.Resolver) wire.Resolver {
	if p.wireGuard == nil {
		return r
	}
	return p.wireGuard.Resolver(r)
}
