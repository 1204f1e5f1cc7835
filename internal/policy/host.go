package policy

import "net/netip"

// CheckHost decides on a port of the host's loopback that is reached through
// the host's name or its address in the guest: nil, or a *Denied.
func (p *Policy) CheckHost(proto Proto, port uint16) error {
	why := p.cut()
	if why == "" {
		why = p.refuseHost(proto, port)
	}
	if why != "" {
		return &Denied{What: whatName(proto, HostName, port), Why: why}
	}
	return nil
}

func (p *Policy) refuseHost(proto Proto, port uint16) (why string) {
	for i := range p.layers {
		l := &p.layers[i]
		for _, addr := range []netip.Addr{loopback4, loopback6} {
			if r := l.deny.find(addr, proto, port); r != nil {
				return l.denial(r)
			}
		}
	}
	for _, r := range p.names {
		if r.deny && r.matchesName(HostName) && r.admits(proto, port) {
			return p.layers[r.layer].denial(&r.Rule)
		}
	}
	if why := p.hostClosed(); why != "" {
		return why
	}
	for i := range p.layers {
		l := &p.layers[i]
		open := len(l.host) == 0
		for j := range l.host {
			open = open || l.host[j].admits(proto, port)
		}
		if !open {
			return l.unlisted()
		}
	}
	return ""
}

// hostClosed returns why no port of the host's loopback is open. The first
// layer decides, and any other that has a list without it.
func (p *Policy) hostClosed() (why string) {
	if len(p.layers) == 0 || !p.layers[0].hostLoopback {
		return "the host's loopback is closed without --allow-host-loopback"
	}
	for i := range p.layers {
		if l := &p.layers[i]; l.limits && !l.hostLoopback {
			return l.flag("--allow-net") + " is given without --allow-host-loopback"
		}
	}
	return ""
}
