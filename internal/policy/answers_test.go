package policy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func nth(i int) netip.Addr {
	var b [16]byte
	b[0] = 0x20
	binary.BigEndian.PutUint64(b[8:], uint64(i))
	return netip.AddrFrom16(b)
}

func (p *Policy) open(i int) bool { return p.Check(TCP, netip.AddrPortFrom(nth(i), 443)) == nil }

// A full table loses what has expired first, and then what was answered the
// longest ago.
func TestAnswersAreBounded(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	p, err := NewWithClock(c.now, Rules{Allow: []string{"*.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	add := func(i int, ttl time.Duration) { p.Answered("a.example.com", []netip.Addr{nth(i)}, ttl) }
	p.Static("fixed.example.com", nth(-1))
	for i := range maxAnswers {
		ttl := 10 * time.Minute
		if i == 500 {
			ttl = 5 * time.Second
		}
		add(i, ttl)
	}
	add(0, time.Minute) // younger now, with the longer life that it had
	c.t = c.t.Add(time.Minute)
	add(maxAnswers, time.Minute) // in place of 500, which has expired
	if p.open(500) || !p.open(0) || !p.open(1) || !p.open(maxAnswers) {
		t.Error("not the expired answer was evicted")
	}
	add(maxAnswers+1, time.Minute) // in place of 1, the oldest
	if !p.open(0) || p.open(1) || !p.open(2) || !p.open(maxAnswers+1) || !p.open(-1) {
		t.Error("not the oldest answer was evicted")
	}
	if n, m := len(p.answers.ends), len(p.answers.byAddr); n != maxAnswers || m != maxAnswers+1 || p.answers.ages.Len() != n {
		t.Errorf("%d answers of %d addresses are kept, and %d ages", n, m, p.answers.ages.Len())
	}
	c.t = c.t.Add(time.Hour)
	for i := range maxAnswers {
		add(-2-i, time.Minute)
	}
	if n, m := len(p.answers.ends), len(p.answers.byAddr); n != maxAnswers || m != maxAnswers+1 || !p.open(-1) {
		t.Errorf("%d answers of %d addresses are kept", n, m)
	}
}

// Names that no rule is about take no room.
func TestOtherNamesAreNotKept(t *testing.T) {
	p, err := New(Rules{Allow: []string{"*.example.com"}, Deny: []string{"203.0.113.9"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Answered("example.org", []netip.Addr{nth(1)}, time.Minute)
	p.Answered("", []netip.Addr{nth(1)}, time.Minute)
	p.Answered("a.example.com", []netip.Addr{{}}, time.Minute)
	p.Static("example.org", nth(1))
	if n := len(p.answers.byAddr); n != 0 {
		t.Errorf("%d are kept", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	p, err := New(Rules{Allow: []string{"*.example.com"}, Deny: []string{"x.example.com:25"}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				p.Answered("a.example.com", []netip.Addr{nth(i)}, time.Minute)
				p.Answered("x.example.com", []netip.Addr{nth(i)}, time.Minute)
				if !p.open(i) {
					t.Errorf("worker %d cannot reach what it was answered", w)
					return
				}
				_ = p.CheckName(fmt.Sprint(i))
			}
		})
	}
	wg.Wait()
}

func BenchmarkCheck(b *testing.B) {
	handful := Rules{
		Allow: []string{"203.0.113.1", "10.0.0.0/8:5432", "*.example.com:443", "api.example.org", "2001:db8::/32"},
		Deny:  []string{"10.1.0.0/16", "203.0.113.200:25", "ads.example.com"},
	}
	long := Rules{}
	for i := range MaxRules {
		long.Allow = append(long.Allow, fmt.Sprintf("10.%d.%d.0/24", i/256, i%256))
	}
	for _, bench := range []struct {
		name  string
		rules []Rules
		dst   string
		ok    bool
	}{
		{"no rules", nil, "203.0.113.9:443", true},
		{"no rules IPv6", nil, "[2001:db8::9]:443", true},
		{"address", []Rules{handful}, "10.2.3.4:5432", true},
		{"name", []Rules{handful}, "203.0.113.9:443", true},
		{"name in two layers", []Rules{handful, {Allow: []string{"*.example.com"}}}, "203.0.113.9:443", true},
		{"1024 rules", []Rules{long}, "10.3.255.1:443", true},
		{"denied", []Rules{handful}, "198.51.100.1:443", false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p, err := New(bench.rules...)
			if err != nil {
				b.Fatal(err)
			}
			p.Answered("www.example.com", []netip.Addr{netip.MustParseAddr("203.0.113.9")}, time.Hour)
			dst := netip.MustParseAddrPort(bench.dst)
			b.ReportAllocs()
			for b.Loop() {
				if (p.Check(UDP, dst) == nil) != bench.ok {
					b.Fatal("the verdict is wrong")
				}
			}
		})
	}
}

// What is allowed costs no memory: it is decided for every datagram.
func TestAllowingDoesNotAllocate(t *testing.T) {
	p, err := New(Rules{Allow: []string{"example.com:443", "10.0.0.0/8"}, Deny: []string{"a.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Answered("example.com", []netip.Addr{nth(1)}, time.Hour)
	for _, dst := range []netip.AddrPort{netip.AddrPortFrom(nth(1), 443), netip.MustParseAddrPort("10.0.0.1:1")} {
		if n := testing.AllocsPerRun(100, func() {
			if err := p.Check(UDP, dst); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", dst, n)
		}
	}
}
