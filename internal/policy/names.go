package policy

import (
	"net/netip"
	"time"
)

// CheckName decides whether our resolver may answer for name, the one that the
// guest asked for: nil, or a *Denied. With a list of names alone it may not for
// others, so that no data leave in queries; with an address in the list it may.
func (p *Policy) CheckName(name string) error {
	if err := p.CheckAlias(name); err != nil {
		return err
	}
	canonical, ok := canonicalName(name)
	denied := func(why string) error { return &Denied{What: "the name " + shown(name), Why: why} }
	if ok && canonical == HostName {
		if why := p.hostClosed(); why != "" {
			return denied(why)
		}
		return nil
	}
	for i := range p.layers {
		l := &p.layers[i]
		if !l.limits || len(l.allow.rules) > 0 || ok && p.allowsName(i, canonical) {
			continue
		}
		return denied(l.unlisted())
	}
	return nil
}

// CheckAlias decides on a name that the answer for another one leads through,
// a CNAME's target: only --deny-net has a say.
func (p *Policy) CheckAlias(name string) error {
	why := p.cut()
	if canonical, ok := canonicalName(name); ok && why == "" {
		for _, r := range p.names {
			if r.deny && r.unlimited() && r.matchesName(canonical) {
				why = p.layers[r.layer].denial(&r.Rule)
				break
			}
		}
	}
	if why != "" {
		return &Denied{What: "the name " + shown(name), Why: why}
	}
	return nil
}

func (p *Policy) allowsName(i int, canonical string) bool {
	for _, r := range p.names {
		if !r.deny && r.layer == i && r.matchesName(canonical) {
			return true
		}
	}
	return false
}

// CheckNamePort decides on a destination whose name somebody else resolves, a
// proxy: nil, or a *Denied. Its address is never seen here, so that rules with
// addresses allow nothing and deny nothing, and a private address behind a name
// is that somebody's to refuse. A name that is an address is one.
func (p *Policy) CheckNamePort(proto Proto, name string, port uint16) error {
	if addr, err := netip.ParseAddr(name); err == nil {
		return p.Check(proto, netip.AddrPortFrom(addr, port))
	}
	canonical, ok := canonicalName(name)
	if ok && canonical == HostName {
		return p.CheckHost(proto, port)
	}
	why := p.cut()
	switch {
	case why != "":
	case !ok || proto < TCP || proto > ICMP:
		why = "it is not a host name"
	case numeric(canonical):
		why = "it is an address in a form that not everybody reads alike"
	case loopbackName(canonical):
		why = "it is the loopback of whoever resolves it"
	case metadataName(canonical):
		why = whyMetadata
	default:
		why = p.refuseNamePort(proto, canonical, port)
	}
	if why != "" {
		return &Denied{What: whatName(proto, shown(name), port), Why: why}
	}
	return nil
}

func (p *Policy) refuseNamePort(proto Proto, canonical string, port uint16) (why string) {
	for _, r := range p.names {
		if r.deny && r.matchesName(canonical) && r.admits(proto, port) {
			return p.layers[r.layer].denial(&r.Rule)
		}
	}
next:
	for i := range p.layers {
		if !p.layers[i].limits {
			continue
		}
		for _, r := range p.names {
			if !r.deny && r.layer == i && r.matchesName(canonical) && r.admits(proto, port) {
				continue next
			}
		}
		return p.layers[i].unlisted()
	}
	return ""
}

// The bounds of an answer's life: long enough for a program to connect after
// it asked, short enough that an address that moved on is forgotten.
const (
	minTTL = 5 * time.Second
	maxTTL = time.Hour
)

// Answered says that our resolver answered for name, which the guest asked
// for, with addrs, the end of a CNAME chain included. Rules with the name then
// are about those addresses until ttl, at least five seconds and at most an
// hour, has passed.
func (p *Policy) Answered(name string, addrs []netip.Addr, ttl time.Duration) {
	p.answered(name, addrs, ttl, false)
}

// AnsweredAlias says the same of a name that the answer led through. Only
// --deny-net has a say: whoever answers for the first name chooses the others
// and what their addresses are said to be.
func (p *Policy) AnsweredAlias(name string, addrs []netip.Addr, ttl time.Duration) {
	p.answered(name, addrs, ttl, true)
}

func (p *Policy) answered(name string, addrs []netip.Addr, ttl time.Duration, denyOnly bool) {
	canonical, ok := canonicalName(name)
	if !ok {
		return
	}
	now := p.now()
	until := now + min(max(ttl, minTTL), maxTTL)
	p.record(canonical, denyOnly, addrs, func(g grant) { g.until = until; p.answers.add(g, now) })
}

// Static says that name is addr for good, by the user's own word (--add-host),
// which may be about a private address.
func (p *Policy) Static(name string, addr netip.Addr) {
	canonical, ok := canonicalName(name)
	if !ok {
		return
	}
	p.record(canonical, false, []netip.Addr{addr}, func(g grant) { p.answers.fix(g) })
}

// record stores what the rules about a name need to know.
func (p *Policy) record(canonical string, denyOnly bool, addrs []netip.Addr, store func(grant)) {
	for _, r := range p.names {
		if denyOnly && !r.deny || !r.matchesName(canonical) {
			continue
		}
		p.mu.Lock()
		for _, addr := range addrs {
			if addr = addr.Unmap().WithZone(""); addr.IsValid() {
				store(grant{rule: r, addr: addr, name: canonical, private: isPrivate(addr)})
			}
		}
		p.mu.Unlock()
	}
}
