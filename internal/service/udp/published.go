package udp

import (
	"container/list"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"bake/internal/udpio"
	"bake/internal/wire"
)

// maxClients bounds the clients of all published ports of a VM. The longest
// idle makes room.
const maxClients = 4096

// A published has the clients of the published ports.
type published struct {
	queue *wire.DatagramQueue
	now   func() time.Time

	mu      sync.Mutex
	clients map[clientKey]*client
	flows   map[uint32]*client
	next    uint32
	used    lru[*client]
}

// A publishedPort is one socket's handler.
type publishedPort struct {
	published *published
	socket    udpio.Socket // set before the poller runs
	vmPort    uint16
}

// A clientKey is a client of one port, with the address that it speaks to.
type clientKey struct {
	port  *publishedPort
	peer  netip.AddrPort
	local netip.Addr
}

type client struct {
	clientKey
	flow    uint32
	element *list.Element
}

func newPublished(sockets udpio.Poller, queue *wire.DatagramQueue, now func() time.Time, ports []Published) (*published, error) {
	p := &published{queue: queue, now: now, clients: make(map[clientKey]*client), flows: make(map[uint32]*client)}
	for _, port := range ports {
		h := &publishedPort{published: p, vmPort: port.VMPort}
		var err error
		if h.socket, err = sockets.Adopt(port.Conn, h); err != nil {
			return nil, fmt.Errorf("publish UDP port %d of the VM: %w", port.VMPort, err)
		}
	}
	return p, nil
}

// Received brings the guest what clients send. While the guest boots it waits
// in the queue, as much as that holds.
func (h *publishedPort) Received(batch []udpio.Datagram) {
	p := h.published
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, d := range batch {
		if len(d.Payload) > wire.MaxDatagram {
			continue
		}
		c := p.client(clientKey{h, d.Peer, d.Local}, now)
		loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if d.Peer.Addr().Is6() {
			loopback = netip.IPv6Loopback()
		}
		p.queue.Put(&wire.Datagram{
			Kind: wire.DatagramPublished, Flow: c.flow,
			Source:      netip.AddrPortFrom(d.Peer.Addr().WithZone(""), d.Peer.Port()),
			Destination: netip.AddrPortFrom(loopback, h.vmPort), Payload: d.Payload,
		})
	}
}

// Failed is an ICMP error that a client caused, by leaving. It expires.
func (h *publishedPort) Failed(netip.AddrPort, syscall.Errno, []byte) {}

func (p *published) client(key clientKey, now time.Time) *client {
	if c := p.clients[key]; c != nil {
		p.used.touch(c.element, now)
		return c
	}
	if p.used.len() >= maxClients {
		c, _, _ := p.used.oldest()
		p.remove(c)
	}
	// Numbers are not used again soon, so that what the guest still has of an
	// old flow cannot go to a new client.
	for p.next++; p.flows[p.next] != nil; p.next++ {
	}
	c := &client{clientKey: key, flow: p.next}
	p.clients[key] = c
	p.flows[c.flow] = c
	c.element = p.used.add(c, now)
	return c
}

func (p *published) remove(c *client) {
	delete(p.clients, c.clientKey)
	delete(p.flows, c.flow)
	p.used.remove(c.element)
}

// answer sends what the guest answers to the client whose flow it names.
// Nothing else in the frame counts: the guest chooses among its clients only.
func (p *published) answer(d *wire.Datagram, out *outbound) {
	p.mu.Lock()
	c := p.flows[d.Flow]
	if c != nil {
		p.used.touch(c.element, p.now())
	}
	p.mu.Unlock()
	if c != nil {
		out.Add(c.port.socket, udpio.Datagram{Peer: c.peer, Local: c.local, Payload: d.Payload}, nil)
	}
}

func (p *published) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for {
		c, last, ok := p.used.oldest()
		if !ok || now.Sub(last) < idleTime {
			return
		}
		p.remove(c)
	}
}
