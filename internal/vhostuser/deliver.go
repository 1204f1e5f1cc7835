//go:build linux

package vhostuser

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maxData bounds the payload of one packet to the guest; Linux's receive
// buffers are smaller anyway.
const maxData = 64 << 10

// fill sends up to budget packets to the guest. It reports starved when the
// guest has no buffer for what there is. An error means that the guest broke
// its ring.
func (m *muxer) fill(q *virtqueue, budget int) (starved bool, err error) {
	for range budget {
		if !m.pending() {
			return false, nil
		}
		ch, err := q.peek()
		if err != nil || ch == nil {
			return err == nil, err
		}
		if ch.size <= headerSize {
			return false, fmt.Errorf("receive buffer of %d bytes", ch.size)
		}
		if len(m.resets) > 0 {
			m.sendReset(q, ch)
			continue
		}
		c := m.waiting.pop()
		c.queued = false
		if err := m.deliver(q, ch, c); err != nil {
			return false, err
		}
		if c.state != stateClosed {
			m.enqueue(c) // behind all others
		}
	}
	return false, nil
}

// pending reports whether there may be something for the guest.
func (m *muxer) pending() bool { return len(m.resets) > 0 || m.waiting.len() > 0 }

// sendReset sends the oldest RST.
func (m *muxer) sendReset(q *virtqueue, ch *chain) {
	r := m.resets[0]
	if m.resets = m.resets[1:]; len(m.resets) == 0 {
		m.resets = nil
	}
	m.put(q, ch, &header{
		srcCID:     r.hostCID,
		srcPort:    r.key.host,
		dstPort:    r.key.guest,
		socketType: r.socketType,
		op:         opReset,
	})
}

// deliver sends at most one packet of a connection.
func (m *muxer) deliver(q *virtqueue, ch *chain, c *conn) error {
	if !c.ready() {
		return nil // it changed its state while it waited
	}
	if o, flags, ok := c.next(false); ok {
		m.control(q, ch, c, o, flags)
		return nil
	}
	if c.mayRead() {
		if sent, err := m.read(q, ch, c); sent || err != nil {
			return err
		}
	}
	if o, flags, ok := c.next(true); ok {
		m.control(q, ch, c, o, flags)
	}
	return nil
}

// read moves data from the host's socket into the guest's buffer.
func (m *muxer) read(q *virtqueue, ch *chain, c *conn) (sent bool, err error) {
	limit := min(ch.size-headerSize, int(c.window()), maxData)
	m.segments = ch.slice(m.segments[:0], headerSize, limit)
	n, err := unix.Readv(c.fd, m.segments)
	switch {
	case err == unix.EAGAIN:
		c.readable = false
		return false, nil
	case err == unix.EINTR:
		return false, nil // still readable: its turn comes again
	case err == unix.EFAULT:
		return false, fmt.Errorf("receive into the guest's memory: %w", err)
	case err != nil:
		// The host closed without reading all that the guest had sent.
		c.eof = true
		m.deafened(c)
		return false, nil
	case n == 0:
		c.eof = true
		return false, nil
	}
	m.counters.toGuest.Add(uint64(n))
	h := m.headerOf(c, opData, 0)
	h.length = uint32(n)
	m.put(q, ch, &h)
	c.wrote(opData, 0, uint32(n))
	return true, nil
}

// control sends a packet without payload.
func (m *muxer) control(q *virtqueue, ch *chain, c *conn, o op, flags uint32) {
	h := m.headerOf(c, o, flags)
	m.put(q, ch, &h)
	c.wrote(o, flags, 0)
	switch {
	case o == opRequest:
		m.timers.set(c, time.Now().Add(requestTime))
	case c.toldShut == shutdownBoth:
		m.timers.set(c, time.Now().Add(closeTime))
	}
}

func (m *muxer) headerOf(c *conn, o op, flags uint32) header {
	h := header{
		srcCID:     hostCID,
		srcPort:    c.key.host,
		dstPort:    c.key.guest,
		socketType: typeStream,
		op:         o,
		flags:      flags,
	}
	c.stamp(&h)
	return h
}

// put writes the header of a packet whose payload is in place and gives the
// buffer to the guest.
func (m *muxer) put(q *virtqueue, ch *chain, h *header) {
	h.dstCID = m.cid
	b := h.marshal()
	ch.copyIn(b[:])
	q.pop(headerSize + int(h.length))
}
