package wgconf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"bake/internal/wire"
)

// Resolver is what the guest's resolv.conf(5) says with this tunnel in place of
// r. Name servers of the file replace r's, as wg-quick(8) has it: a second one
// that is asked too would learn the names, or answer them otherwise. Domains
// come before r's, unless there are name servers, to which r's mean nothing.
func (c *Config) Resolver(r wire.Resolver) wire.Resolver {
	if len(c.DNS) > 0 {
		r.Nameservers, r.Search = slices.Clone(c.DNS), slices.Clone(c.Search)
		return r
	}
	search := slices.Clone(c.Search)
	for _, domain := range r.Search {
		if !slices.Contains(search, domain) {
			search = append(search, domain)
		}
	}
	r.Search = search
	return r
}

// CheckNetwork says whether the tunnel can leave over the guest's network,
// which is nil where there is none.
func (c *Config) CheckNetwork(n *wire.Network) error {
	if n == nil {
		return errors.New("--wireguard-conf-file needs the guest's network, over which the tunnel leaves, and --disable-hostnet takes it away: give one of them")
	}
	for _, a := range c.Tunnel.Addresses {
		if slices.Contains([]netip.Addr{n.IPv4, n.IPv6, n.HostIPv4, n.HostIPv6}, a.Addr()) {
			return fmt.Errorf("%s: the Address %s belongs to the guest's network already, on which the tunnel stands", c.Path, a.Addr())
		}
	}
	for i, p := range c.Tunnel.Peers {
		if e := p.Endpoint; e.Addr.Is6() && !n.IPv6.IsValid() {
			return c.atEndpoint(i, fmt.Errorf("the Endpoint %s cannot be reached: this machine has no IPv6", netip.AddrPortFrom(e.Addr, e.Port)))
		}
	}
	return nil
}

// A Policy says what UDP may reach from the guest. A function that is nil
// allows all; another returns why something is denied.
type Policy struct {
	// Addr is asked for endpoints by address, Host for ports of the host's
	// loopback interface, and Name for names that are to be looked up.
	Addr func(netip.AddrPort) error
	Host func(port uint16) error
	Name func(name string, port uint16) error
}

// CheckEndpoints finds what cannot work before anything boots. To the policy
// the tunnel is a program like any other, that sends UDP to its endpoints.
func (c *Config) CheckEndpoints(n *wire.Network, p Policy) error {
	for i, peer := range c.Tunnel.Peers {
		var err error
		switch e := peer.Endpoint; {
		case e.IsZero():
		case isHost(e, n):
			if p.Host != nil {
				err = p.Host(e.Port)
			}
		case e.Name != "":
			if p.Name != nil {
				err = p.Name(e.Name, e.Port)
			}
		case p.Addr != nil:
			err = p.Addr(netip.AddrPortFrom(e.Addr, e.Port))
		}
		if err != nil {
			return c.atEndpoint(i, fmt.Errorf("the tunnel cannot reach its Endpoint: %w", err))
		}
	}
	return nil
}

func isHost(e wire.WireGuardEndpoint, n *wire.Network) bool {
	return e.Name == wire.HostName || e.Addr.IsValid() && (e.Addr == n.HostIPv4 || e.Addr == n.HostIPv6)
}

func (c *Config) atEndpoint(peer int, err error) error {
	return fmt.Errorf("%s, line %d: %w", c.Path, c.endpointLines[peer], err)
}
