package dns

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// answers is a nameserver that says who it is.
func answers(t testing.TB, addr string) netip.AddrPort {
	return nameserver(t, records(t, "q. 5 IN A "+addr))
}

// refuse is a nameserver whose answers have an rcode and nothing more.
func refuse(t testing.TB, rcode int) netip.AddrPort {
	return nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(q, rcode)) })
}

// options is a resolv.conf with them.
func options(t testing.TB, line string) string {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "options "+line+"\n")
	return path
}

// impatient has s ask again after moments, but go on for long: a test gets on
// where nobody answers, and does not fail where the machine is slow.
func impatient(s *Server) *Server {
	s.resolvConf = newFollower(s.resolvConf.path, resolvConfLimit, func(text []byte) *resolvConf {
		c := parseResolvConf(text)
		c.timeout, c.attempts = 100*time.Millisecond, int(wait/(100*time.Millisecond))
		return c
	})
	return s
}

func TestNextNameserver(t *testing.T) {
	good := answers(t, "192.0.2.2")
	dead, _ := silent(t)
	wrong := func(change func(q, m *dns.Msg)) netip.AddrPort {
		return nameserver(t, raw(func(q *dns.Msg, _ bool) []byte {
			m := new(dns.Msg).SetReply(q)
			m.Answer = parseRecords(t, "q. 5 IN A 192.0.2.66")
			change(q, m)
			return mustPack(m)
		}))
	}
	for name, first := range map[string]netip.AddrPort{
		"closed":   closedPort(t),
		"silent":   dead,
		"SERVFAIL": refuse(t, dns.RcodeServerFailure),
		"REFUSED":  refuse(t, dns.RcodeRefused),
		"NOTIMP":   refuse(t, dns.RcodeNotImplemented),
		"a referral": nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Ns = parseRecords(t, ". 5 IN NS a.root.")
			w.WriteMsg(m)
		}),
		"another ID":       wrong(func(_, m *dns.Msg) { m.Id++ }),
		"another question": wrong(func(_, m *dns.Msg) { m.Question[0].Name = "evil." }),
		"another type":     wrong(func(_, m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }),
		"another class":    wrong(func(_, m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		"no question":      wrong(func(_, m *dns.Msg) { m.Question = nil }),
		"two questions":    wrong(func(_, m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
		"a question":       wrong(func(_, m *dns.Msg) { m.Response = false }),
		"malformed": nameserver(t, raw(func(q *dns.Msg, _ bool) []byte {
			m := new(dns.Msg).SetReply(q)
			m.Answer = parseRecords(t, "q. 5 IN A 192.0.2.66")
			b := mustPack(m)
			return b[:len(b)-1]
		})),
		"too short":     nameserver(t, raw(func(q *dns.Msg, _ bool) []byte { return mustPack(q)[:5] })),
		"no nameserver": netip.MustParseAddrPort("[fe80::1%no-such-interface]:53"),
	} {
		t.Run(name, func(t *testing.T) {
			s := impatient(newServer(t, Options{Nameservers: []netip.AddrPort{first, good}}))
			if m := ask(t, s, "q", dns.TypeA); says(m) != "q. A 192.0.2.2" {
				t.Errorf("got %v", m)
			}
		})
	}
}

// A datagram that answers something else does not end the wait for the answer.
func TestForgedAnswersAreIgnored(t *testing.T) {
	up := nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = parseRecords(t, "q. 5 IN A 192.0.2.66")
		m.Id++
		w.WriteMsg(m)
		m.Id--
		m.Question[0].Name = "evil."
		w.WriteMsg(m)
		w.Write([]byte("x"))
		m = new(dns.Msg).SetReply(q)
		m.Answer = parseRecords(t, "q. 5 IN A 192.0.2.1")
		w.WriteMsg(m)
	})
	s := newServer(t, Options{Nameservers: []netip.AddrPort{up}})
	if m := ask(t, s, "q", dns.TypeA); says(m) != "q. A 192.0.2.1" {
		t.Errorf("got %v", m)
	}
}

func TestAllFail(t *testing.T) {
	dead, asked := silent(t)
	var log []string
	s := newServer(t, Options{
		Nameservers: []netip.AddrPort{closedPort(t), dead}, ResolvConf: options(t, "timeout:1 attempts:2"),
		Log: func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) },
	})
	m := ask(t, s, "q", dns.TypeA, edns(1232, false))
	if m.Rcode != dns.RcodeServerFailure || !reflect.DeepEqual(codes(m), []uint16{dns.ExtendedErrorCodeNoReachableAuthority}) {
		t.Errorf("got %v", m)
	}
	<-asked
	<-asked
	if n := len(asked); n != 0 {
		t.Errorf("the silent nameserver was asked %d times more than told", n)
	}
	if len(log) != 1 || !strings.Contains(log[0], "answer") {
		t.Errorf("the log has %q", log)
	}
	// What one of them said is better than nothing.
	s = newServer(t, Options{Nameservers: []netip.AddrPort{closedPort(t), refuse(t, dns.RcodeRefused), refuse(t, dns.RcodeServerFailure)}})
	if m := ask(t, s, "q", dns.TypeA); m.Rcode != dns.RcodeRefused {
		t.Errorf("got %v", m)
	}
}

// The answer of a slow nameserver counts, even when the next is asked already.
func TestSlowAnswerCounts(t *testing.T) {
	next, asked := silent(t)
	slow := nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		<-asked
		m := new(dns.Msg).SetReply(q)
		m.Answer = parseRecords(t, "q. 5 IN A 192.0.2.1")
		w.WriteMsg(m)
	})
	s := impatient(newServer(t, Options{Nameservers: []netip.AddrPort{slow, next}}))
	if m := ask(t, s, "q", dns.TypeA); says(m) != "q. A 192.0.2.1" {
		t.Errorf("got %v", m)
	}
	if s.field.suspect(slow) {
		t.Error("the nameserver that answered is a suspect")
	}
}

// A lost datagram is sent again, and the answer to either counts.
func TestLostDatagram(t *testing.T) {
	var n atomic.Int32
	up := nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if n.Add(1) > 1 {
			records(t, "q. 5 IN A 192.0.2.1")(w, q)
		}
	})
	s := impatient(newServer(t, Options{Nameservers: []netip.AddrPort{up}}))
	if m := ask(t, s, "q", dns.TypeA); says(m) != "q. A 192.0.2.1" {
		t.Errorf("got %v", m)
	}
}

// Who did not answer is no longer waited for alone.
func TestSuspects(t *testing.T) {
	dead, asked := silent(t)
	good := answers(t, "192.0.2.2")
	s := impatient(newServer(t, Options{Nameservers: []netip.AddrPort{dead, good}}))
	ask(t, s, "q", dns.TypeA)
	<-asked
	if !s.field.suspect(dead) || s.field.suspect(good) {
		t.Errorf("the suspects are %v, want %v", s.field.suspects, dead)
	}
	ask(t, s, "q", dns.TypeA)
	<-asked // asked all the same: it may be back
}

func TestRotateAndUseVC(t *testing.T) {
	servers := []netip.AddrPort{answers(t, "192.0.2.1"), answers(t, "192.0.2.2"), answers(t, "192.0.2.3")}
	s := newServer(t, Options{Nameservers: servers, ResolvConf: options(t, "rotate")})
	seen := map[string]int{}
	for range 6 {
		seen[says(ask(t, s, "q", dns.TypeA))]++
	}
	if want := map[string]int{"q. A 192.0.2.1": 2, "q. A 192.0.2.2": 2, "q. A 192.0.2.3": 2}; !reflect.DeepEqual(seen, want) {
		t.Errorf("rotate: %v", seen)
	}
	up := nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if w.LocalAddr().Network() != "tcp" {
			t.Error("use-vc: asked by a datagram")
		}
		records(t, "q. 5 IN A 192.0.2.1")(w, q)
	})
	s = newServer(t, Options{Nameservers: []netip.AddrPort{closedPort(t), up}, ResolvConf: options(t, "use-vc")})
	if m := ask(t, s, "q", dns.TypeA); says(m) != "q. A 192.0.2.1" {
		t.Errorf("use-vc: %v", m)
	}
}

// Every question has an ID and a port of its own.
func TestUpstreamIDsAndPorts(t *testing.T) {
	var mu sync.Mutex
	ids, ports := map[uint16]bool{}, map[string]bool{}
	up := nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		ids[q.Id], ports[w.RemoteAddr().String()] = true, true
		mu.Unlock()
		records(t, "q. 5 IN A 192.0.2.1")(w, q)
	})
	s := newServer(t, Options{Nameservers: []netip.AddrPort{up}})
	const n = 200
	for range n {
		ask(t, s, "q", dns.TypeA, func(m *dns.Msg) { m.Id = 7 })
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) < n/2 || len(ports) < n/2 {
		t.Errorf("%d questions had %d IDs and %d ports", n, len(ids), len(ports))
	}
}

func TestManyAtOnce(t *testing.T) {
	const n = 1000
	up := nameserver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = parseRecords(t, q.Question[0].Name+" 5 IN TXT "+q.Question[0].Name)
		w.WriteMsg(m)
	})
	// Loopback drops what the nameserver is too slow for; then it is asked again.
	s := newServer(t, Options{Nameservers: []netip.AddrPort{up}, ResolvConf: options(t, "timeout:5 attempts:5")})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			name := fmt.Sprintf("q%d.", i)
			if m := ask(t, s, name, dns.TypeTXT); says(m) != fmt.Sprintf("%s TXT %q", name, name) {
				t.Errorf("%s: %v", name, m)
			}
		})
	}
	wg.Wait()
	if len(s.asking) != 0 || len(s.questions) != 0 {
		t.Errorf("%d and %d slots are still taken", len(s.asking), len(s.questions))
	}
}

// What is too much is refused at once, and nothing waits for nameservers when
// its client is gone.
func TestBounds(t *testing.T) {
	dead, asked := silent(t)
	s := newServer(t, Options{Nameservers: []netip.AddrPort{dead}, ResolvConf: options(t, "timeout:30")})
	s.questions = make(chan struct{}, 2)
	s.asking = make(chan struct{}, 1)
	gone, leave := context.WithCancel(bounded(t))
	done := make(chan []byte, 2)
	for range 2 {
		go func() { done <- s.Exchange(gone, mustPack(new(dns.Msg).SetQuestion("q.", dns.TypeA))) }()
	}
	<-asked
	for len(s.questions) < 2 {
		runtime.Gosched()
	}
	if m := ask(t, s, "q", dns.TypeA, edns(1232, false)); m.Rcode != dns.RcodeServerFailure || !reflect.DeepEqual(codes(m), []uint16{dns.ExtendedErrorCodeNotReady}) {
		t.Errorf("the question past the bound: %v", m)
	}
	leave()
	for range 2 {
		if b := <-done; b != nil {
			t.Errorf("a client that is gone got %x", b)
		}
	}
}
