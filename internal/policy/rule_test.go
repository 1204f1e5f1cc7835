package policy

import (
	"strings"
	"testing"
)

func TestRuleString(t *testing.T) {
	for s, want := range map[string]string{
		"203.0.113.9/32":               "203.0.113.9",
		"203.0.113.9/32:443/TCP":       "203.0.113.9:443/tcp",
		"10.0.0.0/8:80-80":             "10.0.0.0/8:80",
		"[2001:DB8:0::1]":              "2001:db8::1",
		"[2001:db8::/32]:1-2/udp":      "[2001:db8::/32]:1-2/udp",
		"2001:db8::/32/udp":            "2001:db8::/32/udp",
		"::ffff:10.0.0.0/104":          "10.0.0.0/8",
		"*.Bücher.Example.:443":        "*.xn--bcher-kva.example:443",
		"::ffff:0:0/96":                "0.0.0.0/0",
		strings.Repeat("a", 63) + ".b": strings.Repeat("a", 63) + ".b",
	} {
		r, err := ParseRule(s)
		if err != nil || r.String() != want {
			t.Errorf("%s is %v, %v; want %s", s, r, err, want)
		}
	}
	for _, s := range []string{strings.Repeat("a", 64) + ".b", strings.Repeat("a.", 127) + "a", strings.Repeat("a", MaxRule+1), "", ".", "*.", "..", "/", "[]", "[", "*.10.0.0.1"} {
		r, err := ParseRule(s)
		if err == nil {
			t.Errorf("%.80s is %v", s, r)
		} else if len(err.Error()) > 600 {
			t.Errorf("the error is %d bytes long", len(err.Error()))
		}
	}
}

// What a rule prints is read as the same rule, and no rule names a destination
// of no form.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{
		"203.0.113.9", "10.0.0.0/8:443/tcp", "[2001:db8::1]:1-65535/udp", "2001:db8::/32", "*.example.com:80",
		"bücher.example", "::ffff:10.0.0.1", "a:b", "[::]", "*", "０x7f.１", "e\u0301.example", "xn--a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			if r != (Rule{}) {
				t.Errorf("%q is refused and yet %v", s, r)
			}
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %v, and that is %v, %v", s, r, again, err)
		}
		if r.prefix.IsValid() == (r.name != "") || r.prefix.Addr().Is4In6() && r.prefix.Bits() >= 96 || r.last < r.first || r.proto > UDP {
			t.Errorf("%q is %+v", s, r)
		}
		if !r.mayOverlap(&r) {
			t.Errorf("%v does not overlap itself", r)
		}
	})
}

// No name and no destination of the guest's is too odd.
func FuzzCheck(f *testing.F) {
	f.Add("example.com", uint8(1), uint16(443))
	f.Add("127.1", uint8(2), uint16(0))
	f.Add("\xff..", uint8(9), uint16(65535))
	p, err := New(Rules{Allow: []string{"*.example.com", "10.0.0.0/8"}, Deny: []string{"*.b.example.com:25"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string, proto uint8, port uint16) {
		checks := []error{p.CheckName(name), p.CheckAlias(name), p.CheckNamePort(Proto(proto), name, port), p.CheckHost(Proto(proto), port)}
		for _, err := range checks {
			if err == nil {
				continue
			}
			for _, c := range err.Error() {
				if c < ' ' || c == 0x7f {
					t.Errorf("control characters reach the line %q", err)
				}
			}
		}
	})
}
