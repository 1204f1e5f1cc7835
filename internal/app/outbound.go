package app

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"

	"bake/internal/service/dns"
	"bake/internal/service/egress"
	"bake/internal/service/forward"
	"bake/internal/service/socks"
	"bake/internal/service/udp"
	"bake/internal/wire"
)

// An outbound is the host's end of the guest's network: what leaves the guest
// goes through its gate, and what it asks for names through its resolver.
type outbound struct {
	network *wire.Network
	gate    *egress.Gate
	dns     *dns.Server // nil if the guest has no network
	log     func(format string, args ...any)
}

// newOutbound makes it and completes the plan's manifest. Lines for --verbose
// go to log.
func newOutbound(pl *plan, o Options, log func(format string, args ...any)) *outbound {
	out := &outbound{network: pl.manifest.Network, log: log}
	gate := egress.Options{
		Network: pl.manifest.Network, Policy: pl.policy, Proxy: o.Proxy,
		Lookup: func(ctx context.Context, name string) ([]netip.Addr, error) { return out.dns.Addresses(ctx, name) },
		Log:    func(line string) { log("%s", line) },
	}
	resolver := dns.Options{Log: log, Denied: func(err error) { out.gate.Refused(err) }}
	if o.Proxy.ResolvesNames() {
		gate.Names = egress.NewFakeNames()
		resolver.Fake = gate.Names
	}
	out.gate = egress.New(gate)
	out.dns = pl.addResolver(o, resolver, pl.resolver)
	pl.manifest.Datagrams = pl.manifest.Network != nil || slices.ContainsFunc(pl.ports, func(p forward.Port) bool { return p.Proto == forward.UDP })
	return out
}

// serve listens on the guest's way out until ctx ends. The published UDP ports
// share its way for datagrams.
func (out *outbound) serve(ctx context.Context, wg *sync.WaitGroup, s *supervisor, pl *plan, ports *forward.Published) error {
	var published []udp.Published
	for _, c := range ports.UDP {
		published = append(published, udp.Published{Conn: c.UDPConn, VMPort: c.VMPort})
	}
	// A nil *dns.Server must not look like a resolver.
	options := udp.Options{Network: out.network, Gate: out.gate, Published: published, Log: out.log}
	if out.dns != nil {
		options.DNS = out.dns
	}
	if !pl.manifest.Datagrams {
		return nil
	}
	err := s.listen(ctx, wg, wire.PortUDP, func(ln net.Listener) error { return udp.Serve(ctx, ln, options) })
	if out.network == nil {
		return err
	}
	wg.Go(func() {
		out.gate.Report(ctx, func(denials uint64) {
			// A guest that does not take it is starting or ending.
			_ = s.control.Send(wire.HostMessage{Type: wire.HostNetwork, Denied: denials})
		})
	})
	wg.Go(func() {
		watchResolver(ctx, out.dns, pl.resolver, s.control.Send)
	})
	return errors.Join(err, s.listen(ctx, wg, wire.PortSOCKS, func(ln net.Listener) error {
		return socks.Serve(ctx, ln, out.gate, out.dns)
	}))
}
