package policy

import (
	"net/netip"
	"time"
)

// Check decides on a destination that is dialled by its address: nil, or a
// *Denied. dst is the real destination and not one of the host's addresses in
// the guest, for which there is [Policy.CheckHost]. A v4-mapped address is the
// IPv4 address, and a zone means nothing. The port of ICMP is not looked at.
//
// It allocates nothing when it allows, because it is asked for every datagram.
func (p *Policy) Check(proto Proto, dst netip.AddrPort) error {
	t := target{addr: dst.Addr().Unmap(), proto: proto, port: dst.Port()}
	if t.addr.Zone() != "" {
		t.addr = t.addr.WithZone("")
	}
	if why := p.refuse(&t); why != "" {
		return &Denied{What: whatAddr(proto, t.addr, t.port), Why: why}
	}
	return nil
}

// A target is a destination that is decided on.
type target struct {
	addr  netip.Addr
	proto Proto
	port  uint16
	// via is the IPv4 address that a translator makes of addr, if one does.
	via netip.Addr

	now   time.Duration
	timed bool
}

// time is now, read once for one decision.
func (t *target) time(p *Policy) time.Duration {
	if !t.timed {
		t.now, t.timed = p.now(), true
	}
	return t.now
}

// refuse returns why t is denied, or nothing.
func (p *Policy) refuse(t *target) (why string) {
	if why := p.cut(); why != "" {
		return why
	}
	if !t.addr.IsValid() || t.proto < TCP || t.proto > ICMP {
		return "it is no destination"
	}
	res := reservedFor(t.addr)
	if via, ok := embedded(t.addr); ok {
		t.via = via
		if res == nil {
			res = reservedFor(via)
		}
	}
	if res != nil && !res.lift {
		return res.why
	}
	for i := range p.layers {
		l := &p.layers[i]
		r := l.deny.find(t.addr, t.proto, t.port)
		if r == nil && t.via.IsValid() {
			// An allowed network must not be a way around a denied one.
			r = l.deny.find(t.via, t.proto, t.port)
		}
		if r != nil {
			return l.denial(r)
		}
	}
	if res != nil {
		return p.refuseUnlifted(t, res)
	}
	if len(p.names) == 0 {
		return p.refuseUnlisted(t, nil)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.refuseAnswered(t)
}

// refuseAnswered decides where names have a say. The answers are locked.
func (p *Policy) refuseAnswered(t *target) (why string) {
	grants := p.answers.byAddr[t.addr]
	if why := p.refuseByName(t, grants); why != "" {
		return why
	}
	if t.via.IsValid() {
		if why := p.refuseByName(t, p.answers.byAddr[t.via]); why != "" {
			return why
		}
	}
	return p.refuseUnlisted(t, grants)
}

// refuseByName applies the denied names to the addresses answered for them.
func (p *Policy) refuseByName(t *target, grants []*grant) (why string) {
	for _, g := range grants {
		if g.rule.deny && g.rule.admits(t.proto, t.port) && g.valid(t.time(p)) {
			return p.layers[g.rule.layer].denial(&g.rule.Rule) + ", and it was answered for " + g.name
		}
	}
	return ""
}

// refuseUnlifted decides on an address of a range that is denied unless the
// first layer, and every other with a list, names a part of it.
func (p *Policy) refuseUnlifted(t *target, res *reserved) (why string) {
	lifted := false
	for i := range p.layers {
		l := &p.layers[i]
		if i > 0 && !l.limits {
			continue
		}
		if lifted = l.lifts.find(t.addr, t.proto, t.port) != nil; !lifted {
			break
		}
	}
	if !lifted {
		return res.why
	}
	return p.refuseUnnamed(t)
}

// refuseUnnamed applies the denied names to an address that rules with
// addresses allow.
func (p *Policy) refuseUnnamed(t *target) (why string) {
	if len(p.names) == 0 {
		return ""
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.refuseByName(t, p.answers.byAddr[t.addr])
}

// refuseUnlisted returns why a list does not allow t. The grants are those of
// t's address.
func (p *Policy) refuseUnlisted(t *target, grants []*grant) (why string) {
	for i := range p.layers {
		l := &p.layers[i]
		if !l.limits || l.allow.find(t.addr, t.proto, t.port) != nil || l.hasNames && p.granted(i, t, grants) {
			continue
		}
		return p.explain(i, t, grants)
	}
	return ""
}

// granted says whether an answer opens t for layer i.
func (p *Policy) granted(i int, t *target, grants []*grant) bool {
	for _, g := range grants {
		if g.opens(i, t) && g.valid(t.time(p)) && (g.fixed || !g.private) {
			return true
		}
	}
	return false
}

// opens says whether g is about t in layer i, was it valid.
func (g *grant) opens(i int, t *target) bool {
	return !g.rule.deny && g.rule.layer == i && g.rule.admits(t.proto, t.port)
}

// explain says why layer i does not allow t.
func (p *Policy) explain(i int, t *target, grants []*grant) string {
	for _, g := range grants {
		switch {
		case !g.opens(i, t):
		case g.valid(t.time(p)):
			return g.name + " was answered with this private address, and only a rule with the address opens it"
		default:
			return "the answer that said it is " + g.name + " has expired"
		}
	}
	return p.layers[i].unlisted()
}

func (l *layer) unlisted() string { return "no rule of " + l.flag("--allow-net") + " allows it" }

func (l *layer) denial(r *Rule) string { return l.flag("--deny-net") + " names " + r.String() }

// cut says that there is no network.
func (p *Policy) cut() string {
	if p.disabled == nil {
		return ""
	}
	return p.disabled.flag("--disable-hostnet") + " cuts the network off"
}
