//go:build linux

package vhostuser

import "testing"

func TestShutdownFlags(t *testing.T) {
	tests := []struct {
		name string
		conn conn
		want uint32
	}{
		{"open", conn{}, 0},
		{"host has sent all", conn{eof: true}, shutdownSend},
		{"host has closed", conn{eof: true, hup: true}, shutdownBoth},
		{"host has closed, data on the way", conn{hup: true}, 0},
		{"host reads no more", conn{deaf: true}, shutdownReceive},
		{"host reads no more and has sent all", conn{deaf: true, eof: true}, shutdownBoth},
		{"guest has sent all", conn{guestShut: shutdownSend}, 0},
		{"both have sent all", conn{guestShut: shutdownSend, eof: true}, shutdownBoth},
	}
	for _, test := range tests {
		if got := test.conn.shutdownFlags(); got != test.want {
			t.Errorf("%s: flags %d, want %d", test.name, got, test.want)
		}
	}
}

// The order in which a connection's packets leave.
func TestNextPacket(t *testing.T) {
	c := conn{state: stateOpen, eof: true, owes: oweResponse | oweCredit | oweCreditRequest}
	if !c.ready() {
		t.Error("not ready with packets owed")
	}
	if o, _, ok := c.next(false); !ok || o != opResponse {
		t.Errorf("first %v, %v; want the response", o, ok)
	}
	c.wrote(opResponse, 0, 0)
	if c.owes&oweCredit != 0 {
		t.Error("credit is still owed after a packet that had it")
	}
	if _, _, ok := c.next(false); ok {
		t.Error("something goes before the data that should not")
	}
	if o, flags, ok := c.next(true); !ok || o != opShutdown || flags != shutdownSend {
		t.Errorf("then %v %d, want the shutdown of sending", o, flags)
	}
	c.wrote(opShutdown, shutdownSend, 0)
	c.owes |= oweCredit
	if o, _, _ := c.next(true); o != opCreditRequest {
		t.Errorf("then %v, want the credit request", o)
	}
	c.wrote(opCreditRequest, 0, 0)
	if _, _, ok := c.next(true); ok || c.ready() {
		t.Error("something is left")
	}
	c.hup = true // shut more: told again
	if o, flags, _ := c.next(true); o != opShutdown || flags != shutdownBoth {
		t.Errorf("then %v %d, want the shutdown of both", o, flags)
	}
}

func TestReadyByState(t *testing.T) {
	for st, want := range map[state]bool{
		stateGreeting: false, stateRequesting: true, stateConnecting: false,
		stateOpen: true, stateDraining: false, stateClosed: false,
	} {
		c := conn{state: st, owes: oweCredit}
		if got := c.ready(); got != want {
			t.Errorf("state %d: ready %v, want %v", st, got, want)
		}
	}
}
