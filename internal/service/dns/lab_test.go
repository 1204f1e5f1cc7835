package dns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

// wait is how long an event may take on a busy machine.
const wait = time.Minute

// nameserver starts a nameserver on loopback, over UDP and TCP on one port.
func nameserver(t testing.TB, h dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	var pc net.PacketConn
	var ln net.Listener
	for ln == nil {
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err != nil {
			pc.Close() // the port is free for UDP only
		}
	}
	var done sync.WaitGroup
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h, UDPSize: dns.MaxMsgSize}, {Listener: ln, Handler: h}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		done.Go(func() { s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	t.Cleanup(func() { pc.Close(); ln.Close(); done.Wait() })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// silent is a nameserver that takes questions and never answers. It returns
// how to learn of each.
func silent(t testing.TB) (netip.AddrPort, <-chan struct{}) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	var done sync.WaitGroup
	done.Go(func() {
		b := make([]byte, 1500)
		for {
			if _, _, err := pc.ReadFrom(b); err != nil {
				return
			}
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() { pc.Close(); done.Wait() })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort(), asked
}

// closedPort is an address where nothing listens.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// records answers with those records whose owner and type are asked for, and
// all of them if the question is for the chain of an alias.
func records(t testing.TB, zone ...string) dns.HandlerFunc {
	t.Helper()
	rrs := parseRecords(t, zone...)
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		size := dns.MinMsgSize
		name, exists := dns.CanonicalName(q.Question[0].Name), false
		for again := true; again; {
			again = false
			for _, rr := range rrs {
				h := rr.Header()
				if dns.CanonicalName(h.Name) != name || h.Class != q.Question[0].Qclass {
					continue
				}
				exists = true
				if t := q.Question[0].Qtype; h.Rrtype == t || t == dns.TypeANY {
					m.Answer = append(m.Answer, rr)
				} else if c, ok := rr.(*dns.CNAME); ok {
					m.Answer = append(m.Answer, rr)
					name, again = dns.CanonicalName(c.Target), true
					break
				}
			}
		}
		if !exists {
			m.Rcode = dns.RcodeNameError
		}
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(4096, opt.Do())
			size = int(opt.UDPSize())
		}
		if w.LocalAddr().Network() == "udp" {
			m.Truncate(size)
		}
		w.WriteMsg(m)
	}
}

func parseRecords(t testing.TB, zone ...string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	for _, line := range zone {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// raw answers every question with what f makes of it.
func raw(f func(q *dns.Msg, stream bool) []byte) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if b := f(q, w.LocalAddr().Network() == "tcp"); b != nil {
			w.Write(b)
		}
	}
}

func mustPack(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// newServer is a server for a guest with IPv6, whose host's files are empty
// unless o names others.
func newServer(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Network == nil {
		o.Network = wire.DefaultNetwork(true)
	}
	none := filepath.Join(t.TempDir(), "none")
	if o.HostsFile == "" {
		o.HostsFile = none
	}
	if o.ResolvConf == "" {
		o.ResolvConf = none
	}
	return New(o)
}

// ask sends one query as a datagram and returns the answer's message.
func ask(t testing.TB, s *Server, name string, qtype uint16, change ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	for _, f := range change {
		f(q)
	}
	b := s.Exchange(t.Context(), mustPack(q))
	if b == nil {
		t.Fatalf("no answer to %s %s", name, dns.TypeToString[qtype])
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("the answer to %s %s is malformed: %v", name, dns.TypeToString[qtype], err)
	}
	if m.Id != q.Id || !m.Response || len(m.Question) != 1 || m.Question[0] != q.Question[0] {
		t.Fatalf("the answer is to something else:\n%v\nthe question:\n%v", m, q)
	}
	if o := q.IsEdns0(); (o == nil) != (m.IsEdns0() == nil) {
		t.Errorf("EDNS in the question: %v, in the answer: %v", o, m.IsEdns0())
	}
	size := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = max(size, int(o.UDPSize()))
	}
	if len(b) > size {
		t.Errorf("the answer to %s has %d bytes, its client takes %d", name, len(b), size)
	}
	return m
}

func edns(size uint16, do bool, options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(size, do)
		m.IsEdns0().Option = options
	}
}

// says is the answer section in the presentation format, less TTL and class.
func says(m *dns.Msg) string {
	var out []string
	for _, rr := range m.Answer {
		f := strings.Fields(rr.String())
		out = append(out, strings.Join(slices.Delete(f, 1, 3), " "))
	}
	return strings.Join(out, ", ")
}

// codes are an answer's extended errors.
func codes(m *dns.Msg) []uint16 {
	var list []uint16
	if o := m.IsEdns0(); o != nil {
		for _, opt := range o.Option {
			if e, ok := opt.(*dns.EDNS0_EDE); ok {
				list = append(list, e.InfoCode)
			}
		}
	}
	return list
}

// A judge is a policy that writes down what it is told.
type judge struct {
	deny map[string]error

	mu     sync.Mutex
	told   []string
	static []string
}

func (j *judge) CheckName(name string) error { return j.deny[name] }

func (j *judge) CheckAlias(name string) error { return j.deny[name] }

func (j *judge) AnsweredAlias(name string, addrs []netip.Addr, ttl time.Duration) {
	j.Answered("alias "+name, addrs, ttl)
}

func (j *judge) Answered(name string, addrs []netip.Addr, ttl time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	line := name + " " + ttl.String()
	for _, a := range addrs {
		line += " " + a.String()
	}
	j.told = append(j.told, line)
}

func (j *judge) Static(name string, addr netip.Addr) {
	j.static = append(j.static, name+" "+addr.String())
}

// take returns what was told and forgets it.
func (j *judge) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := strings.Join(j.told, "; ")
	j.told = nil
	return s
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	return ctx
}
