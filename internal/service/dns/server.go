package dns

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

const (
	// maxAsking bounds the questions that wait for nameservers, each with a
	// socket or a few.
	maxAsking = 256
	// maxQuestions bounds all that are being answered. What is more is told to
	// try again (SERVFAIL) at once.
	maxQuestions = 4096
	// maxStreams bounds the connections.
	maxStreams = 256
)

// A Policy decides which names exist for the guest, and learns what they mean.
// Names are in lower case and without the dot at their end.
type Policy interface {
	// CheckName returns an error that says why name must not be answered.
	CheckName(name string) error
	// Answered says that the guest is about to learn that addrs are name's,
	// for ttl.
	Answered(name string, addrs []netip.Addr, ttl time.Duration)
	// CheckAlias and AnsweredAlias are the same for the other names that an
	// answer leads through, of which the guest asked for none.
	CheckAlias(name string) error
	AnsweredAlias(name string, addrs []netip.Addr, ttl time.Duration)
	// Static says that the user gave name this address.
	Static(name string, addr netip.Addr)
}

// FakeNames stand for names that only a proxy can resolve.
type FakeNames interface {
	// Assign returns the IPv4 address that stands for name.
	Assign(name string) netip.Addr
	// Name returns the name for which addr stands.
	Name(addr netip.Addr) (string, bool)
}

// Options are what a [Server] needs to know. Only Network must be set.
type Options struct {
	Network *wire.Network
	// Policy is nil where every name may be asked for.
	Policy Policy
	// Denied is called with the policy's error for each question that is denied.
	Denied func(error)
	// Fake, if it is set, replaces nameservers and the host's hosts file.
	Fake FakeNames
	// HostLoopback says that the guest may reach the host's loopback interface,
	// so it is told its name.
	HostLoopback bool
	// Nameservers replace the host's.
	Nameservers []netip.AddrPort
	// Search, if it is not nil, replaces the host's search domains.
	Search []string
	// Resolver options of resolv.conf(5) that replace the host's.
	ResolverOptions []string
	// Hosts are the names of --add-host.
	Hosts []wire.HostEntry
	// ResolvConf and HostsFile are the host's files; /etc/resolv.conf and
	// /etc/hosts if they are empty.
	ResolvConf, HostsFile string
	// Log is called with what --verbose shows. It may be nil.
	Log func(format string, args ...any)
}

// A Server is one VM's nameserver. Its methods are safe for concurrent use.
type Server struct {
	network      *wire.Network
	policy       Policy
	denied       func(error)
	fake         FakeNames
	hostLoopback bool
	nameservers  []netip.AddrPort
	search       []string
	options      []string
	hosts        *table // of --add-host and the host itself
	resolvConf   *follower[*resolvConf]
	hostsFile    *follower[*table]
	system       systemResolver
	log          func(string, ...any)

	field     field
	silent    atomic.Bool // no nameserver answered the last question
	asking    chan struct{}
	questions chan struct{}
	streams   chan struct{}

	mu      sync.Mutex
	told    wire.Resolver
	changed chan struct{} // closed when resolvConf has news
}

// New returns a server that has read the host's files. A file that does not
// exist is no error: it may come.
func New(o Options) *Server {
	s := &Server{
		network: o.Network, policy: o.Policy, denied: o.Denied, fake: o.Fake, hostLoopback: o.HostLoopback,
		nameservers: o.Nameservers, options: o.ResolverOptions, log: o.Log,
		hosts:      newTable(),
		resolvConf: newFollower(first(o.ResolvConf, "/etc/resolv.conf"), resolvConfLimit, parseResolvConf),
		hostsFile:  newFollower(first(o.HostsFile, "/etc/hosts"), hostsLimit, parseHosts),
		system:     system(),
		asking:     make(chan struct{}, maxAsking),
		questions:  make(chan struct{}, maxQuestions),
		streams:    make(chan struct{}, maxStreams),
		changed:    make(chan struct{}),
	}
	if o.Search != nil {
		// As with docker-run(1), a dot removes them all.
		s.search = slices.DeleteFunc(slices.Clone(o.Search), func(d string) bool { return d == "." })
	}
	if len(o.Nameservers) > 0 {
		s.system = nil
	}
	for _, h := range o.Hosts {
		addr := h.Addr.Unmap()
		s.hosts.add(h.Name, addr)
		if s.policy != nil {
			s.policy.Static(canonical(h.Name), addr)
		}
	}
	for _, h := range HostEntries(o.Network, o.HostLoopback) {
		s.hosts.add(h.Name, h.Addr)
	}
	return s
}

// HostEntries are the names of the host itself, if it may be reached. They go
// into the guest's hosts file too.
func HostEntries(n *wire.Network, hostLoopback bool) []wire.HostEntry {
	if !hostLoopback {
		return nil
	}
	entries := []wire.HostEntry{{Name: wire.HostName, Addr: n.HostIPv4}}
	if n.HostIPv6.IsValid() {
		entries = append(entries, wire.HostEntry{Name: wire.HostName, Addr: n.HostIPv6})
	}
	return entries
}

func first(path, otherwise string) string {
	if path == "" {
		return otherwise
	}
	return path
}

// Exchange answers one datagram in at most the size that it says its sender
// takes. Nil is no answer: the query is none, or ctx has ended.
func (s *Server) Exchange(ctx context.Context, query []byte) []byte {
	return s.exchange(ctx, query, false)
}

func (s *Server) exchange(ctx context.Context, query []byte, stream bool) []byte {
	r, m := parseRequest(query, stream)
	if r == nil {
		if m == nil {
			return nil
		}
		b, err := m.Pack()
		if err != nil {
			return nil
		}
		return b
	}
	select {
	case s.questions <- struct{}{}:
		defer func() { <-s.questions }()
	default:
		return r.pack(r.failure(dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady))
	}
	m = s.answer(ctx, r)
	if ctx.Err() != nil {
		return nil
	}
	return r.pack(m)
}

// answer asks those who may know, in their order.
func (s *Server) answer(ctx context.Context, r *request) *dns.Msg {
	if m := s.known(r); m != nil {
		return m
	}
	if s.policy != nil {
		if err := s.policy.CheckName(r.name); err != nil {
			return s.deny(r, err)
		}
	}
	if s.fake != nil && !r.real {
		return s.faked(r)
	}
	if m := s.filed(r); m != nil {
		return m
	}
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return nil
	}
	if s.system != nil {
		if m := lookup(ctx, s.system, r); m != nil {
			return s.relay(r, m)
		}
	}
	q, err := newQuery(r.forward())
	if err != nil {
		return r.failure(dns.RcodeFormatError)
	}
	up, err := s.field.race(ctx, q, s.config())
	if err != nil {
		if s.log != nil && ctx.Err() == nil && !s.silent.Swap(true) {
			s.log("no nameserver of the host answers: %v", err)
		}
		return r.failure(dns.RcodeServerFailure, dns.ExtendedErrorCodeNoReachableAuthority)
	}
	s.silent.Store(false)
	return s.relay(r, up)
}

// deny answers that the policy does not let the name exist.
func (s *Server) deny(r *request, err error) *dns.Msg {
	if s.denied != nil {
		s.denied(err)
	}
	return r.failure(dns.RcodeNameError, dns.ExtendedErrorCodeBlocked)
}

// config is what the host's resolv.conf says now, with the user's nameservers.
func (s *Server) config() *resolvConf {
	c, changed := s.resolvConf.get()
	if changed {
		s.mu.Lock()
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if s.log != nil && len(s.nameservers) == 0 {
			s.log("the host's nameservers are now %s", join(c.nameservers))
		}
	}
	if len(s.nameservers) > 0 {
		other := *c
		other.nameservers = s.nameservers
		return &other
	}
	return c
}

func join(addrs []netip.AddrPort) string {
	names := make([]string, len(addrs))
	for i, a := range addrs {
		names[i] = a.String()
	}
	return strings.Join(names, ", ")
}

// Resolver is what the guest's resolv.conf says: to ask the host, with the
// host's search domains and options.
func (s *Server) Resolver() wire.Resolver {
	c := s.config()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = s.resolver(c)
	return s.told
}

func (s *Server) resolver(c *resolvConf) wire.Resolver {
	r := wire.Resolver{Nameservers: []netip.Addr{s.network.HostIPv4}, Search: c.search, Options: c.options}
	if s.search != nil {
		r.Search = s.search
	}
	if len(s.options) > 0 {
		r.Options = s.options
	}
	return r
}

// watchEvery is how often Watch looks at the host's file when nobody asks.
const watchEvery = 2 * time.Second

// Watch calls f when what [Server.Resolver] returned last is no longer so,
// until ctx ends.
func (s *Server) Watch(ctx context.Context, f func(wire.Resolver)) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		c := s.config()
		s.mu.Lock()
		r := s.resolver(c)
		news := !slices.Equal(r.Search, s.told.Search) || !slices.Equal(r.Options, s.told.Options)
		s.told = r
		s.mu.Unlock()
		if news {
			f(r)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-changed:
		}
	}
}
