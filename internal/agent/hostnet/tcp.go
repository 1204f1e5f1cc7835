//go:build linux

package hostnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// dialTime bounds what the host may take to connect. Linux itself takes 127 s
// for a destination that is silent (tcp_syn_retries of ip-sysctl.rst).
const dialTime = 3 * time.Minute

// patience is how long the guest may take, beyond what it took before, to send
// a SYN again. When it has not, it has given up: Linux tells nobody that a
// program closed a socket that was not connected yet.
const patience = 10 * time.Second

// A tcpService has the host connect for each connection that the guest opens.
type tcpService struct {
	h      *Hostnet
	dial   func(context.Context, netip.AddrPort) (net.Conn, error)
	failed func(error)
	// What follows is there from the guest's first TCP packet on: a netstack
	// costs a guest that has no use for it time before its first output.
	started   bool
	link      *link
	stack     *stack.Stack
	forwarder *tcp.Forwarder

	// What tests make smaller.
	maxConns int
	patience time.Duration

	mu       sync.Mutex
	attempts map[stack.TransportEndpointID]*attempt
	conns    int // and attempts
	serving  sync.WaitGroup
}

// An attempt is a connection that the host has not answered for.
type attempt struct {
	ctx    context.Context
	cancel context.CancelFunc
	syn    quote
	seq    uint32
	last   time.Time
	silent *time.Timer // ends the attempt when the guest has given it up
}

func newTCPService(h *Hostnet, o Options) *tcpService {
	return &tcpService{
		h: h, dial: o.DialTCP, failed: o.Failed, maxConns: MaxConns, patience: patience,
		attempts: map[stack.TransportEndpointID]*attempt{},
	}
}

// dispatcher is what takes the guest's packets, or nil if there is no TCP. It
// is for the receiver alone.
func (t *tcpService) dispatcher() stack.NetworkDispatcher {
	if !t.started {
		t.started = true
		if err := t.start(); err != nil && t.failed != nil {
			t.failed(err)
		}
	}
	if t.stack == nil {
		return nil
	}
	if d := t.link.dispatcher.Load(); d != nil {
		return *d
	}
	return nil
}

func (t *tcpService) start() error {
	t.link = &link{device: t.h.device}
	s, err := newStack(t.link, t.h.network.IPv6.IsValid())
	if err != nil {
		return err
	}
	t.stack = s
	t.forwarder = tcp.NewForwarder(s, receiveBuffer, MaxConns, t.accept)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, t.handle)
	return nil
}

// abort ends all connections, and destroy what is left. The receiver has ended
// before.
func (t *tcpService) abort() {
	if t.stack != nil {
		t.stack.Close()
	}
}

func (t *tcpService) destroy() {
	if t.stack != nil {
		t.stack.Destroy()
		t.stack = nil
	}
}

// handle sees each packet that belongs to no connection.
func (t *tcpService) handle(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
	segment := header.TCP(p.TransportHeader().Slice())
	flags := segment.Flags()
	if flags&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) == header.TCPFlagSyn {
		return t.handleSYN(id, p, segment)
	}
	if flags.Contains(header.TCPFlagRst) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if a := t.attempts[id]; a != nil {
			a.cancel()
			return true
		}
	}
	return false // netstack answers with RST where it must
}

func (t *tcpService) handleSYN(id stack.TransportEndpointID, p *stack.PacketBuffer, segment header.TCP) bool {
	now, seq := time.Now(), segment.SequenceNumber()
	t.mu.Lock()
	if a := t.attempts[id]; a != nil {
		if a.seq == seq {
			// Linux doubles the time between two tries, or leaves it as it is.
			a.silent.Reset(t.patience + 4*now.Sub(a.last))
			a.last = now
		} else {
			a.cancel() // the port is used anew; its next SYN is another attempt
		}
		t.mu.Unlock()
		return true
	}
	if t.conns >= t.maxConns || t.h.ctx.Err() != nil {
		t.mu.Unlock()
		return true
	}
	network := p.NetworkHeader().Slice()
	a := &attempt{seq: seq, last: now, syn: quote{
		src: address(id.RemoteAddress), dst: address(id.LocalAddress),
		bytes: append(append(make([]byte, 0, len(network)+len(segment)), network...), segment...),
	}}
	a.ctx, a.cancel = context.WithTimeout(t.h.ctx, dialTime)
	a.silent = time.AfterFunc(t.patience, a.cancel)
	t.attempts[id] = a
	t.conns++
	t.serving.Add(1)
	t.mu.Unlock()
	// The forwarder knows no attempt that we do not know, so it takes this one
	// unless the segment is malformed.
	if !t.forwarder.HandlePacket(id, p) {
		t.forget(id, a)
		t.release()
		return false
	}
	return true
}

func (t *tcpService) forget(id stack.TransportEndpointID, a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.silent.Stop()
	a.cancel()
	delete(t.attempts, id)
}

func (t *tcpService) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns--
	t.serving.Done()
}

// wait waits for all connections to end. The context has ended before.
func (t *tcpService) wait() { t.serving.Wait() }

// accept is the life of a connection.
func (t *tcpService) accept(r *tcp.ForwarderRequest) {
	defer t.release()
	id := r.ID()
	t.mu.Lock()
	a := t.attempts[id]
	t.mu.Unlock()

	conn, err := t.dial(a.ctx, netip.AddrPortFrom(a.syn.dst, id.LocalPort))
	gone := a.ctx.Err() != nil
	if err != nil || gone {
		if err == nil {
			conn.Close()
		}
		// In this order: the next SYN may come as soon as the guest has its answer.
		r.Complete(false)
		t.forget(id, a)
		if !gone {
			t.refuse(a, err)
		}
		return
	}
	var queue waiter.Queue
	ep, terr := r.CreateEndpoint(&queue)
	r.Complete(false)
	t.forget(id, a)
	if terr != nil {
		conn.Close() // the guest has given up in the meantime
		return
	}
	f, err := newFlow(ep, &queue, conn)
	if err != nil {
		ep.Abort()
		conn.Close()
		return
	}
	f.run(t.h.ctx)
}

// refuse says no in the words of err, which are none for a destination that is
// silent: the guest's own timer says that.
func (t *tcpService) refuse(a *attempt, err error) {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return
	}
	reason, ok := reasonFor(err)
	switch {
	case reason == noPort:
		t.h.write(appendRST(nil, a.syn, t.h.device.nextID()))
	case ok:
		t.h.unreachable(t.h.hostOf(a.syn.dst), a.syn, reason)
	default:
		t.h.unreachable(t.h.hostOf(a.syn.dst), a.syn, noHost)
	}
}

func address(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr
}
