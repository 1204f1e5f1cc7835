//go:build linux

package vhostuser

import "time"

// A state is where a connection is in its life.
type state uint8

const (
	// A client of the host has connected to PATH and not yet sent its line.
	stateGreeting state = iota
	// The guest is owed a REQUEST, or its answer is awaited.
	stateRequesting
	// The guest asked; the host's listener has no room in its backlog yet.
	stateConnecting
	// Both ends are there.
	stateOpen
	// The guest's end is gone; what it sent waits for the host to read it.
	stateDraining
	// Gone; what still points here must forget it.
	stateClosed
)

// owed is a set of packets that a connection owes the guest. It is all that is
// kept of them, so that no guest can make a queue of them grow. A RST is not
// in it: see muxer.reset.
type owed uint8

const (
	oweRequest owed = 1 << iota
	oweResponse
	oweCredit        // a packet, whatever kind, with our counters
	oweCreditRequest // a question for the guest's counters
)

// A connKey names a connection: the guest's CID and the host's are the same
// for all.
type connKey struct {
	host, guest uint32 // ports
}

// A conn is one connection, and everything known about it. Its methods in this
// file are the rules, and touch no socket and no ring.
type conn struct {
	credit
	key   connKey
	state state
	owes  owed

	// The guest's end.
	guestShut uint32 // SHUTDOWN flags that it sent
	toldShut  uint32 // SHUTDOWN flags that it was sent

	// The host's end.
	fd       int
	readable bool   // reading may give something: nobody has said EAGAIN since
	eof      bool   // it sends nothing more
	deaf     bool   // it reads nothing more: writing failed
	hup      bool   // both directions of its socket are shut (EPOLLHUP): it has closed, or as good as
	pending  buffer // what it has not taken yet
	blocked  bool   // epoll watches for room to write
	tries    int    // of connect, in stateConnecting

	// Bookkeeping of the muxer.
	slot       int32
	generation int32
	queued     bool // in the list of those that have something for the guest
	timer      timer
	patience   time.Duration // how long until the guest is asked for credit
}

// mayRead reports whether data of the host may go to the guest now.
func (c *conn) mayRead() bool {
	return c.state == stateOpen && c.readable && !c.eof &&
		c.guestShut&shutdownReceive == 0 && c.window() > 0
}

// short reports whether data is kept from the guest by want of credit only.
func (c *conn) short() bool {
	return c.state == stateOpen && c.readable && !c.eof &&
		c.guestShut&shutdownReceive == 0 && c.window() == 0
}

// shutdownFlags is what the guest has to know about the host's directions.
func (c *conn) shutdownFlags() uint32 {
	var flags uint32
	if c.eof {
		flags |= shutdownSend
	}
	// After EOF of a socket that is closed, nobody reads there any more. A
	// closed socket with data in it is left alone until then: a guest that is
	// told would not take the data. When both ends have said all they had to,
	// it is over, too.
	if c.deaf || c.eof && (c.hup || c.guestShut&shutdownSend != 0) {
		flags |= shutdownReceive
	}
	return flags
}

// owesShutdown reports whether the guest does not know all shutdownFlags yet.
func (c *conn) owesShutdown() bool {
	return c.state == stateOpen && c.shutdownFlags()&^c.toldShut != 0
}

// ready reports whether there may be something to send to the guest.
func (c *conn) ready() bool {
	switch c.state {
	case stateRequesting, stateOpen:
		return c.owes != 0 || c.mayRead() || c.owesShutdown()
	}
	return false
}

// next says which packet without payload is to be sent now: before data the
// ones that make the connection, after it (late) the others.
func (c *conn) next(late bool) (op, uint32, bool) {
	switch {
	case c.owes&oweRequest != 0:
		return opRequest, 0, true
	case c.owes&oweResponse != 0:
		return opResponse, 0, true
	case !late:
	case c.owesShutdown():
		return opShutdown, c.shutdownFlags(), true
	case c.owes&oweCreditRequest != 0:
		return opCreditRequest, 0, true
	case c.owes&oweCredit != 0:
		return opCreditUpdate, 0, true
	}
	return 0, 0, false
}

// wrote takes note of a packet to the guest.
func (c *conn) wrote(o op, flags, payload uint32) {
	c.owes &^= oweCredit // every packet has the counters
	switch o {
	case opRequest:
		c.owes &^= oweRequest
	case opResponse:
		c.owes &^= oweResponse
	case opShutdown:
		c.toldShut |= flags
	case opCreditRequest:
		c.owes &^= oweCreditRequest
	case opData:
		c.credit.sent += payload
	}
}
