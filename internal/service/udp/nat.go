package udp

import (
	"container/list"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bake/internal/udpio"
	"bake/internal/wire"
)

const (
	// maxSockets bounds the sockets of one VM and maxFlows what a source that
	// speaks to very many peers costs. The longest idle make room.
	maxSockets = 4096
	maxFlows   = 16384
	// idleTime is how long a flow lives without a datagram either way, and
	// queryTime the same for one with a DNS server, which is over with the
	// answer and often has a source of its own.
	idleTime  = 60 * time.Second
	queryTime = 5 * time.Second
	// verdictTime is how long the gate's verdict holds for a flow that no
	// peer has answered.
	verdictTime = 5 * time.Second
	// firstLen bounds the datagram that is kept for a second try.
	firstLen = 4096
)

// A flowKey is a flow as the guest sees it. The destination of echo requests
// has port 0.
type flowKey struct {
	kind                wire.DatagramKind
	source, destination netip.AddrPort
}

func (k flowKey) mapping() mappingKey { return mappingKey{k.kind, k.source} }

// A flow is what a source and one peer exchange.
type flow struct {
	key     flowKey
	mapping *mapping
	// target is where the destination really is. If it refuses the first
	// datagram, others are tried with that in turn.
	target   netip.AddrPort
	others   []netip.AddrPort
	first    []byte
	judged   time.Time
	answered bool
	idle     *idleList
	element  *list.Element
}

// A mappingKey is a source of the guest.
type mappingKey struct {
	kind   wire.DatagramKind
	source netip.AddrPort
}

// A mapping is what a source has on the host: for IPv4 and IPv6 a socket each,
// once it is needed. It is the handler of both.
type mapping struct {
	nat     *nat
	key     mappingKey
	sockets [2]udpio.Socket
	peers   map[netip.AddrPort]*flow // by target
	element *list.Element
}

// An idleList has flows that expire after the same time.
type idleList struct {
	lru[*flow]
	after time.Duration
}

// A destination is where a datagram of a flow is to be sent at present.
type destination struct {
	socket udpio.Socket
	peer   netip.AddrPort
}

// A nat has the guest's flows.
type nat struct {
	sockets udpio.Poller
	queue   *wire.DatagramQueue
	now     func() time.Time
	log     func(string, ...any)
	dropped atomic.Uint64
	noPing  sync.Once

	mu       sync.Mutex
	flows    map[flowKey]*flow
	mappings map[mappingKey]*mapping
	open     int // sockets
	last     *flow
	usual    idleList
	queries  idleList
	sources  lru[*mapping]
}

func newNAT(sockets udpio.Poller, queue *wire.DatagramQueue, now func() time.Time, log func(string, ...any)) *nat {
	return &nat{
		sockets: sockets, queue: queue, now: now, log: log,
		flows: make(map[flowKey]*flow), mappings: make(map[mappingKey]*mapping),
		usual: idleList{after: idleTime}, queries: idleList{after: queryTime},
	}
}

// use finds a flow that may be used without a new verdict.
func (n *nat) use(key flowKey) (*flow, destination) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.last
	if f == nil || f.key != key {
		if f = n.flows[key]; f == nil {
			return nil, destination{}
		}
		n.last = f
	}
	now := n.now()
	if !f.answered && now.Sub(f.judged) >= verdictTime {
		return nil, destination{}
	}
	n.touch(f, now)
	return f, f.to()
}

// allow makes a flow, or lets one that exists go on. The payload is the
// datagram that is about to go.
func (n *nat) allow(key flowKey, targets []netip.AddrPort, payload []byte) (*flow, destination, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	if f := n.flows[key]; f != nil {
		f.judged = now
		n.touch(f, now)
		return f, f.to(), nil
	}
	if len(targets) == 0 {
		return nil, destination{}, fmt.Errorf("send to %v: %w", key.destination, syscall.EHOSTUNREACH)
	}
	for len(n.flows) >= maxFlows {
		n.remove(n.oldest())
	}
	m := n.mappings[key.mapping()]
	if m != nil && m.peers[targets[0]] != nil {
		// Answers of one target cannot be told apart, so it has one flow.
		n.remove(m.peers[targets[0]])
		m = n.mappings[key.mapping()]
	}
	if m != nil {
		n.sources.touch(m.element, now) // not to be evicted for the socket
	} else {
		m = &mapping{nat: n, key: key.mapping(), peers: make(map[netip.AddrPort]*flow)}
	}
	if err := n.socket(m, targets[0].Addr()); err != nil {
		return nil, destination{}, err
	}
	// Only now, so that a source without a socket leaves nothing behind.
	if m.element == nil {
		n.mappings[m.key] = m
		m.element = n.sources.add(m, now)
	}
	f := &flow{key: key, mapping: m, target: targets[0], judged: now, idle: &n.usual}
	if key.kind == wire.DatagramUDP && key.destination.Port() == 53 {
		f.idle = &n.queries
	}
	if len(targets) > 1 && len(payload) <= firstLen {
		f.others, f.first = targets[1:], append([]byte(nil), payload...)
	}
	n.flows[key] = f
	m.peers[f.target] = f
	f.element = f.idle.add(f, now)
	return f, f.to(), nil
}

func (f *flow) to() destination {
	return destination{f.mapping.sockets[family(f.target.Addr())], f.target}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// socket makes sure that m has one of a's family.
func (n *nat) socket(m *mapping, a netip.Addr) error {
	s := &m.sockets[family(a)]
	if *s != nil {
		return nil
	}
	for n.open >= maxSockets && n.evict(m) {
	}
	kind := udpio.UDP(a)
	if m.key.kind == wire.DatagramEcho {
		kind = udpio.Ping(a)
	}
	opened, err := n.sockets.Open(kind, m)
	if (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && n.evict(m) {
		opened, err = n.sockets.Open(kind, m)
	}
	if err != nil {
		return err
	}
	*s = opened
	n.open++
	return nil
}

// evict ends the source that is idle the longest, but not keep.
func (n *nat) evict(keep *mapping) bool {
	m, _, ok := n.sources.oldest()
	if !ok || m == keep {
		return false
	}
	n.end(m)
	return true
}

// end removes a source with its flows.
func (n *nat) end(m *mapping) {
	for _, f := range m.peers {
		n.remove(f)
	}
}

func (n *nat) touch(f *flow, now time.Time) {
	f.idle.touch(f.element, now)
	n.sources.touch(f.mapping.element, now)
}

// oldest is the flow that is idle the longest. There must be one.
func (n *nat) oldest() *flow {
	f, last, ok := n.usual.oldest()
	if q, lastQuery, okQuery := n.queries.oldest(); okQuery && (!ok || lastQuery.Before(last)) {
		return q
	}
	return f
}

// remove ends a flow and, with the last of a source, its sockets.
func (n *nat) remove(f *flow) {
	if n.last == f {
		n.last = nil
	}
	delete(n.flows, f.key)
	f.idle.remove(f.element)
	m := f.mapping
	delete(m.peers, f.target)
	if len(m.peers) > 0 {
		return
	}
	delete(n.mappings, m.key)
	n.sources.remove(m.element)
	for i, s := range m.sockets {
		if s != nil {
			s.Close()
			m.sockets[i] = nil
			n.open--
		}
	}
}

// forget ends the flow of key if there is one.
func (n *nat) forget(key flowKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.flows[key]; f != nil {
		n.remove(f)
	}
}

// expire ends what has been idle for its time.
func (n *nat) expire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	for _, l := range []*idleList{&n.usual, &n.queries} {
		for {
			f, last, ok := l.oldest()
			if !ok || now.Sub(last) < l.after {
				break
			}
			n.remove(f)
		}
	}
}
