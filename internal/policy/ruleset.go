package policy

import (
	"net/netip"
	"slices"
)

// scanLimit is the number of rules up to which looking at all of them is
// faster than looking them up.
const scanLimit = 24

// A ruleSet is rules with addresses, among which the ones about an address are
// found. A long list, such as one of blocked networks, costs a lookup for each
// length of prefix in it.
type ruleSet struct {
	rules    []Rule
	byPrefix map[netip.Prefix][]int // indices of rules; nil up to scanLimit
	lengths4 []int                  // of the prefixes in byPrefix
	lengths6 []int
}

func (s *ruleSet) add(r Rule) {
	s.rules = append(s.rules, r)
	switch n := len(s.rules); {
	case s.byPrefix != nil:
		s.index(n - 1)
	case n > scanLimit:
		s.byPrefix = make(map[netip.Prefix][]int)
		for i := range s.rules {
			s.index(i)
		}
	}
}

func (s *ruleSet) index(i int) {
	p := s.rules[i].prefix
	s.byPrefix[p] = append(s.byPrefix[p], i)
	lengths := &s.lengths6
	if p.Addr().Is4() {
		lengths = &s.lengths4
	}
	if !slices.Contains(*lengths, p.Bits()) {
		*lengths = append(*lengths, p.Bits())
	}
}

// find returns a rule about a destination, or nil.
func (s *ruleSet) find(addr netip.Addr, proto Proto, port uint16) *Rule {
	if s.byPrefix == nil {
		for i := range s.rules {
			if r := &s.rules[i]; r.prefix.Contains(addr) && r.admits(proto, port) {
				return r
			}
		}
		return nil
	}
	lengths := s.lengths6
	if addr.Is4() {
		lengths = s.lengths4
	}
	for _, bits := range lengths {
		p, err := addr.Prefix(bits)
		if err != nil {
			continue
		}
		for _, i := range s.byPrefix[p] {
			if r := &s.rules[i]; r.admits(proto, port) {
				return r
			}
		}
	}
	return nil
}
