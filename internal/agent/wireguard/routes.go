//go:build linux

package wireguard

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// The number of the tunnel's own routing table, and of the mark of its own
// packets, as wg-quick(8) chooses them.
const (
	ownTable = 51820
	ownMark  = 51820
)

// The priorities of the two rules: those that the kernel gives to the first two
// rules that somebody adds, before that of the table main, which is 32766.
const (
	mainPriority   = 32764
	tunnelPriority = 32765
)

// routes are what sends packets into a tunnel.
type routes struct {
	table uint32
	// mark is on the tunnel's own packets; 0 is none.
	mark uint32
	// rules say that the table needs the two rules that lead to it.
	rules bool
	dst   []netip.Prefix
}

// planRoutes does what wg-quick(8) does for a default route, for all routes.
//
// The routes are in a table of their own. Packets go there that do not have the
// mark of the tunnel's own, and those only to which the table main says nothing
// better than its default route: so the tunnel does not carry itself, whatever
// the AllowedIPs have, and the networks of the guest's other interfaces stay
// where they are. wg-quick puts routes that are not the default one into main;
// there, AllowedIPs that have the endpoint in them, such as 0.0.0.0/1 and
// 128.0.0.0/1, send the tunnel into itself.
//
// What else wg-quick does for a default route is for a host with
// net.ipv4.conf.*.rp_filter: the guest's kernel has that off, as is its
// default, so answers to marked packets need no mark of theirs.
func planRoutes(w *wire.WireGuard) routes {
	r := routes{table: w.Table, mark: w.FwMark}
	if w.NoRoutes {
		return r
	}
	for _, p := range w.Peers {
		r.dst = append(r.dst, p.AllowedIPs...)
	}
	if r.table == 0 {
		r.table, r.rules = ownTable, true
		if r.mark == 0 {
			r.mark = ownMark
		}
	}
	return r
}

// apply adds the routes, and then the rules that lead to them.
func (r routes) apply(link netlink.Link) error {
	family := map[int]bool{}
	for _, dst := range r.dst {
		err := netlink.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: ipNet(dst), Table: int(r.table), Scope: scope(dst.Addr()), Protocol: unix.RTPROT_BOOT,
		})
		switch {
		case errors.Is(err, unix.EEXIST):
			return fmt.Errorf("add a route to %s for its AllowedIPs: the routing table %d, which Table names, has one already", dst, r.table)
		case err != nil:
			return fmt.Errorf("add a route to %s for its AllowedIPs: %w", dst, err)
		}
		family[familyOf(dst.Addr())] = true
	}
	if !r.rules {
		return nil
	}
	for f := range family {
		for _, rule := range rules(f, r.mark) {
			if err := netlink.RuleAdd(rule); err != nil {
				return fmt.Errorf("add the routing rule %q: %w", rule, err)
			}
		}
	}
	return nil
}

// rules are the two that lead to the tunnel's table (ip-rule(8)):
//
//	ip rule add priority 32764 table main suppress_prefixlength 0
//	ip rule add priority 32765 not fwmark MARK table 51820
func rules(family int, mark uint32) []*netlink.Rule {
	main, tunnel := netlink.NewRule(), netlink.NewRule()
	main.Family, main.Priority, main.Table, main.SuppressPrefixlen = family, mainPriority, unix.RT_TABLE_MAIN, 0
	tunnel.Family, tunnel.Priority, tunnel.Table, tunnel.Mark, tunnel.Invert = family, tunnelPriority, ownTable, mark, true
	return []*netlink.Rule{main, tunnel}
}

// removeRules removes what apply added: the kernel removes routes with their
// interface, but no rules.
func removeRules() error {
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RuleList(family)
		if err != nil {
			errs = append(errs, fmt.Errorf("list the routing rules: %w", err))
			continue
		}
		for _, rule := range list {
			if rule.Priority != mainPriority && rule.Priority != tunnelPriority {
				continue
			}
			rule.Family = family
			if err := netlink.RuleDel(&rule); err != nil {
				errs = append(errs, fmt.Errorf("remove the routing rule %q: %w", rule, err))
			}
		}
	}
	return errors.Join(errs...)
}

// keepHost keeps the addresses that stand for the host on the interface to it:
// they have routes that are better than the default one, whatever goes into
// the tunnel.
func keepHost(n *wire.Network) error {
	link, err := netlink.LinkByName(wire.HostInterface)
	if err != nil {
		return fmt.Errorf("find the interface %s that it leaves over: %w", wire.HostInterface, err)
	}
	for _, a := range []struct{ host, own netip.Addr }{{n.HostIPv4, n.IPv4}, {n.HostIPv6, n.IPv6}} {
		if !a.host.IsValid() {
			continue
		}
		err := netlink.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(a.host, a.host.BitLen())), Src: a.own.AsSlice(),
			Scope: scope(a.host), Protocol: unix.RTPROT_BOOT,
		})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("keep the host's address %s outside of it: %w", a.host, err)
		}
	}
	return nil
}

// scope is that of a route without a gateway; IPv6 knows none.
func scope(a netip.Addr) netlink.Scope {
	if a.Is4() {
		return netlink.SCOPE_LINK
	}
	return netlink.SCOPE_UNIVERSE
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
