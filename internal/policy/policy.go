package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// MaxRules is the largest number of rules in one list.
const MaxRules = 1024

// Rules are what one place says about the network: the flags of a command
// line, or what was embedded when an app was built.
type Rules struct {
	// Allow, if there are any, are all that is allowed; see ParseRule.
	Allow []string `json:"allow,omitempty"`
	// Deny are denied, whatever is allowed.
	Deny []string `json:"deny,omitempty"`
	// HostLoopback opens the ports of the host's loopback; if Allow names some
	// of them, just those.
	HostLoopback bool `json:"hostLoopback,omitempty"`
	// Disabled cuts everything.
	Disabled bool `json:"disabled,omitempty"`
	// Source follows a flag's name in what is said about it, such as "embedded
	// in the app"; empty for the command line.
	Source string `json:"-"`
}

// Empty says that r says nothing, so that it is no layer.
func (r Rules) Empty() bool {
	return len(r.Allow) == 0 && len(r.Deny) == 0 && !r.HostLoopback && !r.Disabled
}

// A layer is one place's rules, parsed.
type layer struct {
	source string
	// limits says that there is a list of what is allowed.
	limits bool
	// allow and deny are rules with addresses; those with names are nameRules.
	allow, deny ruleSet
	// lifts are those of allow that open a range that is denied without them.
	lifts ruleSet
	// host are what Allow says of the host's loopback.
	host         []Rule
	hostLoopback bool
	hasNames     bool // limits, and names some
}

func (l *layer) flag(name string) string {
	if l.source == "" {
		return name
	}
	return "the " + name + " " + l.source
}

// A nameRule is a rule about the addresses that were answered for a name.
type nameRule struct {
	Rule
	layer int
	deny  bool
}

// A Policy decides. Its methods are safe for concurrent use.
type Policy struct {
	now      func() time.Duration // since some moment
	layers   []layer
	names    []*nameRule
	disabled *layer // by which the network is off

	mu      sync.RWMutex // over answers
	answers answers
}

// New makes the policy of layers, the one that the others may only narrow
// first. A layer that says nothing is to be left out: the first one alone can
// lift what is denied without a rule, and every other that tries to is an
// error, as is one that allows nothing that those before it do. Without layers
// a policy has the built-in denials only. Every error is a sentence about one
// entry.
func New(layers ...Rules) (*Policy, error) {
	start := time.Now()
	return newPolicy(func() time.Duration { return time.Since(start) }, layers)
}

// NewWithClock is New for a clock of the caller's, by which answers expire.
func NewWithClock(now func() time.Time, layers ...Rules) (*Policy, error) {
	start := now()
	return newPolicy(func() time.Duration { return now().Sub(start) }, layers)
}

func newPolicy(now func() time.Duration, layers []Rules) (*Policy, error) {
	p := &Policy{now: now, layers: make([]layer, len(layers))}
	for i, r := range layers {
		if err := p.add(i, r); err != nil {
			return nil, err
		}
		if i > 0 {
			if err := p.narrows(i); err != nil {
				return nil, err
			}
		}
		if r.Disabled && p.disabled == nil {
			p.disabled = &p.layers[i]
		}
	}
	return p, nil
}

// add parses r into layer i.
func (p *Policy) add(i int, r Rules) error {
	l := &p.layers[i]
	*l = layer{source: r.Source, limits: len(r.Allow) > 0, hostLoopback: r.HostLoopback}
	err := each(l.flag("--allow-net"), r.Allow, func(rule Rule) error { return p.allow(i, rule) })
	if err != nil {
		return err
	}
	return each(l.flag("--deny-net"), r.Deny, func(rule Rule) error {
		if rule.name != "" {
			p.names = append(p.names, &nameRule{Rule: rule, layer: i, deny: true})
		} else {
			l.deny.add(rule)
		}
		return nil
	})
}

func each(flag string, entries []string, f func(Rule) error) error {
	if n := len(entries); n > MaxRules {
		return fmt.Errorf("%s is given %d times, and %d are the most: name networks in place of addresses", flag, n, MaxRules)
	}
	for _, s := range entries {
		rule, err := ParseRule(s)
		if err == nil {
			err = f(rule)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	return nil
}

// allow puts one rule of an allow list where it belongs, and refuses what
// could never allow anything.
func (p *Policy) allow(i int, rule Rule) error {
	l := &p.layers[i]
	if rule.name != "" {
		if rule.matchesName(HostName) && !rule.suffix {
			return l.allowHost(rule)
		}
		p.names = append(p.names, &nameRule{Rule: rule, layer: i})
		l.hasNames = true
		return nil
	}
	res := within(rule.prefix)
	switch {
	case res == nil:
	case res.lift:
		l.lifts.add(rule)
	case rule.prefix.Contains(loopback4) || rule.prefix.Contains(loopback6):
		return l.allowHost(rule)
	default:
		return fmt.Errorf("%s can never be reached: %s", rule, res.why)
	}
	l.allow.add(rule)
	return nil
}

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

func (l *layer) allowHost(rule Rule) error {
	if !l.hostLoopback {
		return fmt.Errorf("%s is the host's own loopback, which only --allow-host-loopback opens: give that too", rule)
	}
	l.host = append(l.host, rule)
	return nil
}

// narrows refuses a layer that is not the first one and asks for more than the
// layers before it allow.
func (p *Policy) narrows(i int) error {
	l := &p.layers[i]
	first := &p.layers[0]
	if p.disabled != nil && (l.limits || l.hostLoopback) {
		return fmt.Errorf("%s cuts the network off, and no flag can give it back: leave --allow-net and --allow-host-loopback out", p.disabled.flag("--disable-hostnet"))
	}
	if l.hostLoopback && !first.hostLoopback {
		return fmt.Errorf("--allow-host-loopback would widen the policy %s, which does not allow it: leave the flag out", first.described())
	}
	for _, host := range l.host {
		if len(first.host) > 0 && !overlapsAny(host, first.host) {
			return widens(host, first)
		}
	}
	for _, lift := range l.lifts.rules {
		if !overlapsAny(lift, first.lifts.rules) {
			return widens(lift, first)
		}
	}
	for j := range i {
		earlier := &p.layers[j]
		if !earlier.limits {
			continue
		}
		others := p.allowed(j)
		for _, rule := range p.allowed(i) {
			if !overlapsAny(rule, others) {
				return widens(rule, earlier)
			}
		}
	}
	return nil
}

func overlapsAny(rule Rule, others []Rule) bool {
	return slices.ContainsFunc(others, func(o Rule) bool { return rule.mayOverlap(&o) })
}

func widens(rule Rule, earlier *layer) error {
	return fmt.Errorf("--allow-net %s would widen the policy %s, which allows nothing of it: leave the rule out", rule, earlier.described())
}

func (l *layer) described() string {
	if l.source == "" {
		return "before it"
	}
	return l.source
}

// allowed are all rules of a layer's list but those about the host.
func (p *Policy) allowed(i int) []Rule {
	rules := slices.Clone(p.layers[i].allow.rules)
	for _, r := range p.names {
		if r.layer == i && !r.deny {
			rules = append(rules, r.Rule)
		}
	}
	return rules
}

// Disabled says that the guest is to have no network at all.
func (p *Policy) Disabled() bool { return p.disabled != nil }
