//go:build linux

package vhostuser

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// greetingTime is how long a client of the host has for its CONNECT line.
	greetingTime = 5 * time.Second
	// requestTime is how long the guest has to answer a REQUEST that is in its
	// ring. Linux answers in its receive handler; this is for guests that
	// don't, and generous because an emulated guest can be very slow.
	requestTime = 30 * time.Second
	// A full backlog of the host's listener is tried connectTries times, at
	// intervals that double up to lastConnectPause: 3 seconds together. A
	// Linux guest gives up after 2.
	firstConnectPause = 5 * time.Millisecond
	lastConnectPause  = 100 * time.Millisecond
	connectTries      = 34
	// closeTime is how long the guest has to confirm the end of a connection.
	closeTime = 2 * time.Second
	// stallTime is how long a host may leave untouched what a guest that is
	// gone has sent, when its place is needed or the machine has ended.
	stallTime = 2 * time.Second
	// acceptPause is how long the listener rests when there is no room or no
	// descriptor for another connection.
	acceptPause = 100 * time.Millisecond
	// A guest that lets data wait is asked for its credit after firstPatience,
	// then at intervals that double up to lastPatience. Linux tells by itself;
	// this repairs whatever went wrong.
	firstPatience = time.Second
	lastPatience  = time.Minute
)

// The ports that stand for clients of the host, as the guest sees them. Guests
// dial the lower ones.
const (
	firstHostPort = 1 << 30
	lastHostPort  = 1<<31 - 1
)

// maxResets bounds the RST packets that wait for room in the guest's ring. A
// guest that provokes more and takes none does not get the rest.
const maxResets = 8192

// A poller tells the muxer of events on the sockets of its connections,
// edge-triggered. Closing a descriptor ends that.
type poller interface {
	add(fd int, slot, generation int32) error
	// output starts or ends the watch for room to write.
	output(fd int, slot, generation int32, on bool) error
}

// A resetPacket is a RST to send, to whom and as whom.
type resetPacket struct {
	key        connKey
	hostCID    uint64
	socketType uint16
}

// A muxer has the connections of one guest.
type muxer struct {
	cid      uint64
	path     string
	max      int
	poll     poller
	counters *counters

	slots     []slot
	freeSlots []int32
	open      int // connections in slots
	byKey     map[connKey]*conn
	nextPort  uint32
	waiting   fifo // connections that have something for the guest
	resets    []resetPacket
	timers    timers
	segments  [][]byte // scratch
	lingering bool     // the machine has ended
}

// A slot holds a connection; the generation tells a late event for its
// predecessor from one for itself.
type slot struct {
	conn       *conn
	generation int32
}

func newMuxer(cid uint64, path string, max int, poll poller, counters *counters) *muxer {
	return &muxer{
		cid:      cid,
		path:     path,
		max:      max,
		poll:     poll,
		counters: counters,
		byKey:    make(map[connKey]*conn),
		nextPort: firstHostPort,
	}
}

// add makes a connection of a socket, which it takes over.
func (m *muxer) add(fd int, st state) (*conn, error) {
	if len(m.freeSlots) == 0 {
		m.slots = append(m.slots, slot{})
		m.freeSlots = append(m.freeSlots, int32(len(m.slots)-1))
	}
	last := len(m.freeSlots) - 1
	i := m.freeSlots[last]
	c := &conn{state: st, fd: fd, slot: i, generation: m.slots[i].generation}
	if st != stateConnecting { // an unconnected socket would report a hang-up
		if err := m.poll.add(fd, c.slot, c.generation); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	m.freeSlots = m.freeSlots[:last]
	m.slots[i].conn = c
	m.open++
	m.counters.open.Add(1)
	return c, nil
}

// find returns the connection that an event is for, or nil.
func (m *muxer) find(i, generation int32) *conn {
	if int(i) >= len(m.slots) || m.slots[i].generation != generation {
		return nil
	}
	return m.slots[i].conn
}

// remove closes the socket of a connection and forgets it.
func (m *muxer) remove(c *conn) {
	if c.state == stateClosed {
		return
	}
	m.forget(c)
	c.state = stateClosed
	c.pending = buffer{}
	m.timers.clear(c)
	unix.Close(c.fd)
	m.slots[c.slot] = slot{generation: c.generation + 1}
	m.freeSlots = append(m.freeSlots, c.slot)
	m.open--
	m.counters.open.Add(-1)
}

// forget frees the ports of a connection.
func (m *muxer) forget(c *conn) {
	if m.byKey[c.key] == c {
		delete(m.byKey, c.key)
	}
}

// guestGone is for a connection whose guest end is no more. What it sent goes
// on to the host, at the host's pace.
func (m *muxer) guestGone(c *conn) {
	m.forget(c)
	if c.state != stateOpen {
		m.remove(c)
		return
	}
	// The host reads EOF after the data, and not "connection reset" for what
	// it has sent in vain itself.
	discardInput(c)
	if c.pending.len() == 0 {
		m.remove(c)
		return
	}
	c.state = stateDraining
	m.timers.clear(c)
	m.watchDrain(c)
}

// watchDrain notes when the host last took something of a draining connection.
func (m *muxer) watchDrain(c *conn) { m.timers.set(c, time.Now().Add(stallTime)) }

// discardInput makes writing fail for the host and empties the socket: one
// that is closed with data in it resets the other end.
func discardInput(c *conn) {
	if c.eof {
		return
	}
	unix.Shutdown(c.fd, unix.SHUT_RD)
	var scratch [16 << 10]byte
	for range 64 { // more than a socket buffer; nothing can be added to it now
		if n, err := unix.Read(c.fd, scratch[:]); n <= 0 && err != unix.EINTR {
			return
		}
	}
}

// end closes a connection in good order: the guest gets a RST, the host what
// is left.
func (m *muxer) end(c *conn) {
	m.reset(c.key, hostCID, typeStream)
	m.guestGone(c)
}

// abort closes a connection that cannot go on.
func (m *muxer) abort(c *conn) {
	m.counters.resets.Add(1)
	m.reset(c.key, hostCID, typeStream)
	m.remove(c)
}

// reset queues a RST. It has a list of its own because a connection is gone
// from here as soon as its end is decided, and because there may be none.
func (m *muxer) reset(key connKey, host uint64, socketType uint16) {
	if len(m.resets) < maxResets {
		m.resets = append(m.resets, resetPacket{key, host, socketType})
	}
}

// room reports whether there is a place for another connection. In need it
// takes the one of a host that does not read what a former guest end left.
func (m *muxer) room() bool {
	if m.open < m.max {
		return true
	}
	for i := range m.slots {
		if c := m.slots[i].conn; c != nil && c.state == stateDraining && c.timer.index == 0 {
			m.remove(c)
			return true
		}
	}
	return false
}

// enqueue puts a connection in the list of those with something for the guest,
// if it has.
func (m *muxer) enqueue(c *conn) {
	if !c.queued && c.ready() {
		c.queued = true
		m.waiting.push(c)
	}
	if c.short() && c.timer.index == 0 && c.toldShut != shutdownBoth {
		c.patience = max(c.patience, firstPatience)
		m.timers.set(c, time.Now().Add(c.patience))
	}
}

// expire handles the deadlines that have passed.
func (m *muxer) expire(now time.Time) {
	for c := m.timers.expired(now); c != nil; c = m.timers.expired(now) {
		switch c.state {
		case stateGreeting:
			m.remove(c)
		case stateRequesting:
			m.abort(c)
		case stateConnecting:
			m.connect(c)
		case stateOpen:
			if c.toldShut == shutdownBoth {
				m.end(c)
			} else if c.short() {
				c.owes |= oweCreditRequest
				c.patience = min(2*c.patience, lastPatience)
				m.enqueue(c)
			}
		case stateDraining:
			// Stalled. While the machine runs it may stay until its
			// place is needed: see room.
			if m.lingering {
				m.remove(c)
			}
		}
	}
}

// guestReset is for a guest whose driver started anew: it has forgotten all
// connections. A client of the host that has only asked may go on waiting.
func (m *muxer) guestReset() {
	m.resets = nil
	for i := range m.slots {
		c := m.slots[i].conn
		if c == nil || c.state == stateGreeting || c.state == stateDraining ||
			c.state == stateRequesting && c.owes&oweRequest != 0 {
			continue
		}
		m.guestGone(c)
	}
}

// linger ends everything but the delivery of what the guest has sent before
// its machine ended.
func (m *muxer) linger() {
	m.lingering = true
	m.guestReset()
	for i := range m.slots {
		switch c := m.slots[i].conn; {
		case c == nil:
		case c.state == stateDraining:
			m.watchDrain(c)
		default:
			m.remove(c)
		}
	}
}

// close releases all sockets.
func (m *muxer) close() {
	for i := range m.slots {
		if c := m.slots[i].conn; c != nil {
			m.remove(c)
		}
	}
}

// hostPort picks a port for a client of the host.
func (m *muxer) hostPort(guest uint32) connKey {
	for {
		key := connKey{m.nextPort, guest}
		if m.nextPort++; m.nextPort > lastHostPort {
			m.nextPort = firstHostPort
		}
		if m.byKey[key] == nil {
			return key
		}
	}
}

// listenerPath is where the host listens for what the guest dials.
func (m *muxer) listenerPath(port uint32) string { return fmt.Sprintf("%s_%d", m.path, port) }

// A fifo is a first-in, first-out list of connections.
type fifo struct {
	conns []*conn
	head  int
}

func (q *fifo) push(c *conn) { q.conns = append(q.conns, c) }

func (q *fifo) len() int { return len(q.conns) - q.head }

func (q *fifo) pop() *conn {
	c := q.conns[q.head]
	q.conns[q.head] = nil
	if q.head++; q.head == len(q.conns) {
		q.conns, q.head = q.conns[:0], 0
	} else if q.head >= 1024 && q.head > len(q.conns)/2 {
		n := copy(q.conns, q.conns[q.head:])
		clear(q.conns[n:])
		q.conns, q.head = q.conns[:n], 0
	}
	return c
}
