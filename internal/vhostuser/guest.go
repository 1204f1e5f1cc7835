//go:build linux

package vhostuser

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// receive handles one packet of the guest. An error means that the guest's
// memory cannot be read.
func (m *muxer) receive(ch *chain) error {
	var b [headerSize]byte
	if !ch.copyOut(b[:]) {
		m.counters.dropped.Add(1)
		return nil
	}
	h := parseHeader(&b)
	if h.srcCID != m.cid || int64(h.length) > int64(ch.size-headerSize) {
		m.counters.dropped.Add(1)
		return nil
	}
	key := connKey{host: h.dstPort, guest: h.srcPort}
	c := m.byKey[key]
	switch {
	case h.dstCID != hostCID || h.socketType != typeStream:
		c = nil // nothing of ours
	case h.op == opRequest:
		m.request(&h, key, c)
		return nil
	}
	if c == nil {
		// Told at once, the guest need not wait for its timeout. No RST is
		// answered, lest two sides do that for ever.
		if h.op != opReset {
			m.reset(key, h.dstCID, h.socketType)
		}
		return nil
	}
	c.learn(&h)
	if c.window() > 0 && c.state == stateOpen && c.toldShut != shutdownBoth {
		m.timers.clear(c)
		c.patience = 0
	}
	err := m.advance(c, &h, ch)
	if c.state != stateClosed {
		if c.due() {
			c.owes |= oweCredit
		}
		m.enqueue(c)
	}
	return err
}

// advance applies a packet to the connection that it is for.
func (m *muxer) advance(c *conn, h *header, ch *chain) error {
	switch h.op {
	case opReset:
		if c.state == stateRequesting {
			m.counters.refused.Add(1)
		}
		m.guestGone(c)
		return nil
	case opResponse:
		if c.state == stateRequesting && c.owes&oweRequest == 0 {
			m.established(c)
			return nil
		}
	case opShutdown:
		if c.state == stateOpen {
			m.guestShutdown(c, h.flags)
			return nil
		}
	case opData:
		if c.state == stateOpen && c.guestShut&shutdownSend == 0 && c.credit.receive(h.length) {
			return m.data(c, h, ch)
		}
	case opCreditUpdate:
		return nil // learnt
	case opCreditRequest:
		if c.state == stateOpen {
			c.owes |= oweCredit
		}
		return nil
	}
	// An unknown operation, or one that is out of place.
	m.abort(c)
	return nil
}

// request handles a guest that wants to connect to a port of the host.
func (m *muxer) request(h *header, key connKey, old *conn) {
	if old != nil {
		if old.toldShut != shutdownBoth {
			m.abort(old)
			return
		}
		// Linux forgets a connection when it is told of both shutdowns, and
		// may use the port again.
		m.guestGone(old)
	}
	if !m.room() {
		m.refuse(key)
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		m.refuse(key)
		return
	}
	c, err := m.add(fd, stateConnecting)
	if err != nil {
		m.refuse(key)
		return
	}
	c.key = key
	m.byKey[key] = c
	c.learn(h)
	m.connect(c)
}

// refuse answers a REQUEST that nobody serves.
func (m *muxer) refuse(key connKey) {
	m.counters.refused.Add(1)
	m.reset(key, hostCID, typeStream)
}

// guestShutdown handles a SHUTDOWN of the guest: directions that it has closed.
func (m *muxer) guestShutdown(c *conn, flags uint32) {
	c.guestShut |= flags & shutdownBoth
	if c.guestShut == shutdownBoth {
		// The answer that it waits for, up to 8 seconds, before it frees
		// the socket.
		m.end(c)
		return
	}
	if c.guestShut&shutdownReceive != 0 {
		discardInput(c)
		c.eof = true
	}
	if c.guestShut&shutdownSend != 0 && c.pending.len() == 0 {
		unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

// data passes payload on to the host.
func (m *muxer) data(c *conn, h *header, ch *chain) error {
	m.counters.toHost.Add(uint64(h.length))
	if c.deaf {
		c.forward(int(h.length))
		return nil
	}
	m.segments = ch.slice(m.segments[:0], headerSize, int(h.length))
	rest := m.segments
	if c.pending.len() == 0 && h.length > 0 {
		n, err := send(c.fd, rest)
		switch err {
		case nil:
			c.forward(n)
			if n == int(h.length) {
				return nil
			}
			rest = ch.slice(m.segments[:0], headerSize+n, int(h.length)-n)
		case unix.EAGAIN:
		case unix.EFAULT:
			return fmt.Errorf("send from the guest's memory: %w", err)
		default:
			m.deafened(c)
			c.forward(int(h.length))
			return nil
		}
	}
	for _, s := range rest {
		c.pending.write(s)
	}
	m.block(c, c.pending.len() > 0)
	return nil
}
