package udp

import (
	"errors"
	"net/netip"
	"syscall"

	"bake/internal/udpio"
	"bake/internal/wire"
)

// Received brings what peers send to the source. What comes from others is
// not for the guest.
func (m *mapping) Received(batch []udpio.Datagram) {
	n := m.nat
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	for _, d := range batch {
		f := m.peers[d.Peer]
		if f == nil {
			continue
		}
		answer := wire.Datagram{Kind: f.key.kind, Source: f.key.destination, Destination: f.key.source, Payload: d.Payload}
		if f.key.kind == wire.DatagramEcho {
			sequence, data, ok := echoReply(d.Peer.Addr(), d.Payload)
			if !ok {
				continue
			}
			answer.Source = netip.AddrPortFrom(answer.Source.Addr(), sequence)
			answer.Payload = data
		}
		n.touch(f, now)
		f.answered = true
		f.others, f.first = nil, nil
		n.queue.Put(&answer)
	}
}

// Failed brings an ICMP error to the source.
func (m *mapping) Failed(peer netip.AddrPort, errno syscall.Errno, quoted []byte) {
	n := m.nat
	n.mu.Lock()
	f := m.peers[peer]
	n.mu.Unlock()
	// A path that is narrower than it was costs one datagram: the kernel has
	// learnt it and sends the next ones in fragments, so the guest, whose
	// own MTU is another, need not know.
	if f != nil && errno != syscall.EMSGSIZE {
		n.failed(f, errno, quoted)
	}
}

// notSent is told of a datagram that the host could not send; f is nil if it
// was for a client of a published port.
func (n *nat) notSent(f *flow, d udpio.Datagram, err error) {
	var errno syscall.Errno
	switch {
	case !errors.As(err, &errno), errno == syscall.EINVAL:
		// The flow has just expired, or the address is none that can be
		// sent to.
	case errno == syscall.EAGAIN, errno == syscall.ENOBUFS:
		n.dropped.Add(1)
	case f != nil:
		n.failed(f, errno, d.Payload)
	}
}

// notOpened is told of a flow for which there is no socket.
func (n *nat) notOpened(key flowKey, err error) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return
	}
	n.unreachable(key, unreachableCode(errno))
}

// failed tells the guest of an error, unless there is another target to try.
func (n *nat) failed(f *flow, errno syscall.Errno, quoted []byte) {
	if errno == syscall.ECONNREFUSED && n.tryNext(f) {
		return
	}
	key := f.key
	if key.kind == wire.DatagramEcho {
		key.destination = netip.AddrPortFrom(key.destination.Addr(), sequenceOf(quoted))
	}
	n.unreachable(key, unreachableCode(errno))
}

// tryNext sends a flow's first datagram to its next target, if it has one.
func (n *nat) tryNext(f *flow) bool {
	n.mu.Lock()
	if len(f.others) == 0 || n.flows[f.key] != f {
		n.mu.Unlock()
		return false
	}
	next, first := f.others[0], f.first
	f.others = f.others[1:]
	n.touch(f, n.now()) // not to be evicted for the socket
	if err := n.socket(f.mapping, next.Addr()); err != nil {
		n.mu.Unlock()
		return false
	}
	if other := f.mapping.peers[next]; other != nil {
		n.remove(other)
	}
	delete(f.mapping.peers, f.target)
	f.target = next
	f.mapping.peers[next] = f
	to := f.to()
	n.mu.Unlock()
	again := udpio.Datagram{Peer: to.peer, Payload: first}
	to.socket.Send([]udpio.Datagram{again}, func(_ int, err error) { n.notSent(f, again, err) })
	return true
}

// unreachable tells the guest that a datagram did not arrive.
func (n *nat) unreachable(key flowKey, code uint16) {
	n.queue.Put(&wire.Datagram{
		Kind: wire.DatagramUnreachable, Code: code, Flow: uint32(key.kind),
		Source: key.source, Destination: key.destination,
	})
}

// unreachableCode is errno, this system's, as the guest is told it.
func unreachableCode(errno syscall.Errno) uint16 {
	switch errno {
	case syscall.ECONNREFUSED:
		return wire.UnreachablePort
	case syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT:
		return wire.UnreachableNetwork
	case syscall.EPERM, syscall.EACCES:
		return wire.UnreachableDenied
	case syscall.EMSGSIZE:
		return wire.UnreachableSize
	}
	return wire.UnreachableHost
}
