package policy

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A clock is set by hand.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// TestCases runs testdata/cases.txt, which says what each line means.
func TestCases(t *testing.T) {
	f, err := os.Open("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	section, count := "", 0
	scan := bufio.NewScanner(f)
	for line := 1; scan.Scan(); line++ {
		text := scan.Text()
		if title, ok := strings.CutPrefix(text, "== "); ok {
			section = title
			continue
		}
		if text == "" || text[0] == '#' {
			continue
		}
		count++
		t.Run(fmt.Sprintf("%s/%d", section, line), func(t *testing.T) {
			fields := strings.Split(text, "|")
			if len(fields) != 5 {
				t.Fatalf("line %d has %d fields: %s", line, len(fields), text)
			}
			for i := range fields {
				fields[i] = strings.TrimSpace(fields[i])
			}
			if got := runCase(t, fields); got != "" {
				t.Errorf("cases.txt:%d: %s\ngot %s", line, text, got)
			}
		})
	}
	if err := scan.Err(); err != nil || count < 70 {
		t.Errorf("only %d cases were found, %v", count, err)
	}
}

// runCase returns the verdict where it is not the one that the case wants.
func runCase(t *testing.T, fields []string) string {
	c := &clock{time.Unix(1e9, 0)}
	asked, want := fields[3], fields[4]
	p, err := NewWithClock(c.now, parseLayers(t, fields[0])...)
	if asked == "start" || err != nil {
		part, isError := strings.CutPrefix(want, "error: ")
		switch {
		case err == nil && want != "ok":
			return "no error"
		case err != nil && (!isError || !strings.Contains(err.Error(), part)):
			return err.Error()
		}
		return ""
	}
	for s := range strings.SplitSeq(fields[1], ";") {
		answer(t, p, strings.Fields(s))
	}
	if fields[2] != "" {
		d, err := time.ParseDuration(fields[2])
		if err != nil {
			t.Fatal(err)
		}
		c.t = c.t.Add(d)
	}
	err = ask(t, p, asked)
	if err == nil {
		if want == "ok" {
			return ""
		}
		return "ok"
	}
	var denied *Denied
	if !errors.As(err, &denied) {
		t.Fatalf("%v is not a *Denied", err)
	}
	if got := "denied: " + denied.Why; got != want {
		return got
	}
	return ""
}

func parseLayers(t *testing.T, s string) []Rules {
	var layers []Rules
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ">") {
		var r Rules
		words := strings.Fields(part)
		for len(words) > 0 {
			used := 2
			switch words[0] {
			case "allow":
				r.Allow = append(r.Allow, words[1])
			case "deny":
				r.Deny = append(r.Deny, words[1])
			case "host":
				r.HostLoopback, used = true, 1
			case "off":
				r.Disabled, used = true, 1
			default:
				t.Fatalf("what is the rule %q?", words[0])
			}
			words = words[used:]
		}
		layers = append(layers, r)
	}
	if len(layers) > 1 {
		layers[0].Source = "embedded in the app"
	}
	return layers
}

func answer(t *testing.T, p *Policy, words []string) {
	if len(words) == 0 {
		return
	}
	if words[0] == "static" {
		p.Static(words[1], netip.MustParseAddr(words[2]))
		return
	}
	tell := p.Answered
	if words[0] == "alias" {
		tell, words = p.AnsweredAlias, words[1:]
	}
	ttl, err := time.ParseDuration(words[1])
	if err != nil {
		t.Fatal(err)
	}
	var addrs []netip.Addr
	for s := range strings.SplitSeq(words[2], ",") {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	tell(words[0], addrs, ttl)
}

var protos = map[string]Proto{"tcp": TCP, "udp": UDP, "icmp": ICMP}

func ask(t *testing.T, p *Policy, s string) error {
	how, what, _ := strings.Cut(s, " ")
	port := func(s string) uint16 {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		return uint16(n)
	}
	switch how {
	case "name":
		return p.CheckName(what)
	case "alias":
		return p.CheckAlias(what)
	case "host":
		proto, number, _ := strings.Cut(what, " ")
		return p.CheckHost(protos[proto], port(number))
	case "via":
		proto, to, _ := strings.Cut(what, " ")
		colon := strings.LastIndexByte(to, ':')
		return p.CheckNamePort(protos[proto], to[:colon], port(to[colon+1:]))
	case "icmp":
		return p.Check(ICMP, netip.AddrPortFrom(netip.MustParseAddr(what), 7))
	case "tcp", "udp":
		return p.Check(protos[how], netip.MustParseAddrPort(what))
	}
	t.Fatalf("what is %q?", s)
	return nil
}

func TestDeniedIsALineForTheUser(t *testing.T) {
	p, err := New(Rules{Allow: []string{"example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for want, err := range map[string]error{
		"denied tcp 203.0.113.9:25 (no rule of --allow-net allows it)":               p.Check(TCP, netip.MustParseAddrPort("203.0.113.9:25")),
		"denied udp [2001:db8::1]:25 (no rule of --allow-net allows it)":             p.Check(UDP, netip.MustParseAddrPort("[2001:db8::1]:25")),
		"denied icmp 203.0.113.9 (no rule of --allow-net allows it)":                 p.Check(ICMP, netip.MustParseAddrPort("203.0.113.9:25")),
		"denied tcp invalid AddrPort (it is no destination)":                         p.Check(TCP, netip.AddrPort{}),
		"denied protocol 9 203.0.113.9:25 (it is no destination)":                    p.Check(9, netip.MustParseAddrPort("203.0.113.9:25")),
		"denied the name example.org (no rule of --allow-net allows it)":             p.CheckName("example.org"),
		`denied the name "a\x1b[2J\n" (no rule of --allow-net allows it)`:            p.CheckName("a\x1b[2J\n"),
		`denied tcp "a b":80 (it is not a host name)`:                                p.CheckNamePort(TCP, "a b", 80),
		`denied tcp "` + strings.Repeat("ü", 40) + `"...:80 (it is not a host name)`: p.CheckNamePort(TCP, strings.Repeat("ü", 600), 80),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestRulesSayNothing(t *testing.T) {
	if !(Rules{Source: "x"}).Empty() {
		t.Error("rules without a rule say something")
	}
	for _, r := range []Rules{{Allow: []string{"a"}}, {Deny: []string{"a"}}, {HostLoopback: true}, {Disabled: true}} {
		if r.Empty() {
			t.Errorf("%+v says nothing", r)
		}
	}
	if _, err := New(Rules{Deny: make([]string, MaxRules+1)}); err == nil || !strings.Contains(err.Error(), "1025 times") {
		t.Errorf("too many rules: %v", err)
	}
	if p, err := New(Rules{Disabled: true}); err != nil || !p.Disabled() {
		t.Errorf("a disabled network is not: %v", err)
	}
}
