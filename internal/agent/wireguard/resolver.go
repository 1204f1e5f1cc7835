//go:build linux

package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"bake/internal/wire"
)

// A resolver looks up the names of endpoints. It asks the host and not the
// name servers of resolv.conf(5), which may be behind the tunnel.
type resolver struct {
	hosts []wire.HostEntry
	dns   net.Resolver
	// ipv6 says that the tunnel's packets can leave by IPv6.
	ipv6 bool
}

func newResolver(o Options) *resolver {
	server := netip.AddrPortFrom(o.Network.HostIPv4, 53).String()
	return &resolver{
		hosts: o.Hosts,
		ipv6:  o.Network.IPv6.IsValid(),
		dns: net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, server)
			},
		},
	}
}

// errNoName says that a name does not exist, which trying again soon does not
// change.
var errNoName = errors.New("the host's resolver knows no address of that name")

// lookup returns the addresses that the tunnel can reach; there is one at least
// without an error.
func (r *resolver) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, h := range r.hosts {
		if strings.EqualFold(strings.TrimSuffix(h.Name, "."), name) {
			addrs = append(addrs, h.Addr.Unmap())
		}
	}
	if len(addrs) == 0 {
		network := "ip"
		if !r.ipv6 {
			network = "ip4"
		}
		var err error
		// With the dot it is not looked for in other domains.
		if addrs, err = r.dns.LookupNetIP(ctx, network, name+"."); err != nil {
			return nil, explain(err)
		}
	}
	usable := addrs[:0]
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() || r.ipv6 {
			usable = append(usable, a)
		}
	}
	if len(usable) == 0 {
		return nil, errNoName
	}
	return usable, nil
}

// explain leaves out of net's errors the server, which is not the one that was
// asked, and says what happened.
func explain(err error) error {
	var d *net.DNSError
	switch {
	case !errors.As(err, &d):
		return err
	case d.IsNotFound:
		return errNoName
	case d.IsTimeout:
		return fmt.Errorf("the host's resolver does not answer: %w", context.DeadlineExceeded)
	}
	return fmt.Errorf("the host's resolver has no answer: %s", d.Err)
}
