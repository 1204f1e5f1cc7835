//go:build linux

package datagram

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"bake/internal/udpio"
	"bake/internal/wire"
)

const (
	// maxFlows bounds the clients of published ports that have a socket; the
	// longest idle makes room.
	maxFlows = 2048
	// idleTime is longer than the host's, so that a client that the host
	// knows keeps its socket, which is what the server knows it by.
	idleTime   = 90 * time.Second
	expireTime = 10 * time.Second
	// firstLen bounds the datagram that is kept for a second try.
	firstLen = 4096
)

// ports carries the flows of published ports.
type ports struct {
	sockets udpio.Poller
	queue   *wire.DatagramQueue
	now     func() time.Time

	mu    sync.Mutex
	flows map[uint32]*flow
	used  list.List // of *flow, the longest idle first
}

// A flow is one client of one published port.
type flow struct {
	ports          *ports
	number         uint32
	client, server netip.AddrPort // as the host names them
	element        *list.Element
	last           time.Time
	// The server is looked for on 127.0.0.1 and ::1 with the same datagram,
	// until it answers on one.
	ends     [2]end
	at       int
	refusals int
	first    []byte
	answered bool
}

// An end is a flow's socket to one of the two addresses, once it is needed,
// and its handler.
type end struct {
	flow   *flow
	index  int
	socket udpio.Socket
}

type row = udpio.Row[*end]

func newPorts(sockets udpio.Poller, queue *wire.DatagramQueue, now func() time.Time) *ports {
	return &ports{sockets: sockets, queue: queue, now: now, flows: make(map[uint32]*flow)}
}

func (p *ports) newRow() *row {
	return &row{Failed: func(e *end, _ udpio.Datagram, err error) {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			e.Failed(netip.AddrPort{}, errno, nil)
		}
	}}
}

// deliver sends a client's datagram to the server in the guest.
func (p *ports) deliver(d *wire.Datagram, r *row) {
	if e := p.end(d); e != nil {
		r.Add(e.socket, udpio.Datagram{Payload: d.Payload}, e)
	}
}

// end is where d is to be sent, or nil if there is no socket to be had.
func (p *ports) end(d *wire.Datagram) *end {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flow(d)
	if f == nil {
		return nil
	}
	if !f.answered {
		f.refusals, f.first = 0, nil
		if len(d.Payload) <= firstLen {
			f.first = append([]byte(nil), d.Payload...)
		}
	}
	return &f.ends[f.at]
}

// flow finds d's flow or makes it.
func (p *ports) flow(d *wire.Datagram) *flow {
	f := p.flows[d.Flow]
	if f != nil && f.server.Port() == d.Destination.Port() {
		f.last = p.now()
		p.used.MoveToBack(f.element)
		return f
	}
	if f != nil {
		p.remove(f) // the host gave its number to another
	}
	if len(p.flows) >= maxFlows {
		p.evict()
	}
	f = &flow{ports: p, number: d.Flow, client: d.Source, server: d.Destination, last: p.now()}
	for i := range f.ends {
		f.ends[i] = end{flow: f, index: i}
	}
	err := f.open()
	if errors.Is(err, syscall.EMFILE) && p.evict() {
		err = f.open()
	}
	if err != nil {
		return nil
	}
	p.flows[f.number] = f
	f.element = p.used.PushBack(f)
	return f
}

// open makes the socket to where the server is looked for, unless it is there.
func (f *flow) open() (err error) {
	e := &f.ends[f.at]
	if e.socket != nil {
		return nil
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if f.at == 1 {
		loopback = netip.IPv6Loopback()
	}
	e.socket, err = f.ports.sockets.Connect(netip.AddrPortFrom(loopback, f.server.Port()), e)
	return err
}

func (p *ports) evict() bool {
	e := p.used.Front()
	if e == nil {
		return false
	}
	p.remove(e.Value.(*flow))
	return true
}

func (p *ports) remove(f *flow) {
	delete(p.flows, f.number)
	p.used.Remove(f.element)
	for i := range f.ends {
		if s := f.ends[i].socket; s != nil {
			s.Close()
		}
	}
}

// Received brings the client what the server answers.
func (e *end) Received(batch []udpio.Datagram) {
	f := e.flow
	p := f.ports
	p.mu.Lock()
	if p.flows[f.number] == f {
		f.last = p.now()
		p.used.MoveToBack(f.element)
		f.at, f.answered, f.first = e.index, true, nil
	}
	p.mu.Unlock()
	for _, d := range batch {
		p.queue.Put(&wire.Datagram{
			Kind: wire.DatagramPublished, Flow: f.number,
			Source: f.server, Destination: f.client, Payload: d.Payload,
		})
	}
}

// Failed looks for the server at the other address if it is not at this one.
func (e *end) Failed(_ netip.AddrPort, errno syscall.Errno, _ []byte) {
	if errno != syscall.ECONNREFUSED {
		return
	}
	if other, first := e.flow.turn(e.index); first != nil {
		other.Send([]udpio.Datagram{{Payload: first}}, func(int, error) {})
	}
}

// turn makes the flow use its other end, after one refused. It returns what
// is to be sent there, if that was not tried yet.
func (f *flow) turn(refused int) (udpio.Socket, []byte) {
	p := f.ports
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flows[f.number] != f || f.at != refused {
		return nil, nil
	}
	f.answered = false // a server that went may come back elsewhere
	f.at = 1 - refused
	if err := f.open(); err != nil { // there is no such address
		f.at = refused
		return nil, nil
	}
	if f.refusals++; f.refusals > 1 {
		return nil, nil
	}
	return f.ends[f.at].socket, f.first
}

// expireUntil looks for idle flows until ctx ends.
func (p *ports) expireUntil(ctx context.Context) {
	tick := time.NewTicker(expireTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.expire()
		}
	}
}

func (p *ports) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for {
		e := p.used.Front()
		if e == nil || now.Sub(e.Value.(*flow).last) < idleTime {
			return
		}
		p.remove(e.Value.(*flow))
	}
}
