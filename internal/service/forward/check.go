package forward

import (
	"fmt"
	"net/netip"
)

// Check reports what is wrong with the ports together: too many, or two that
// want the same port of the host. It opens nothing.
func Check(ports []Port) error {
	if len(ports) > MaxPorts {
		return fmt.Errorf("%d ports are to be published and at most %d can be: publish fewer, or a proxy in the VM that serves several", len(ports), MaxPorts)
	}
	type key struct {
		proto Proto
		port  uint16
	}
	taken := map[key][]Port{}
	for _, p := range ports {
		if p.Chosen() {
			continue // Listen takes one that is left
		}
		k := key{p.Proto, p.First}
		for _, q := range taken[k] {
			if overlap(p.Host, q.Host) {
				return fmt.Errorf("--publish %v and --publish %v want the same port %d of the host: give one of them another", q, p, p.First)
			}
		}
		taken[k] = append(taken[k], p)
	}
	return nil
}

// overlap reports whether one port cannot be listened on at both addresses.
func overlap(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}
