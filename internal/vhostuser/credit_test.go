//go:build linux

package vhostuser

import "testing"

func TestCreditWindow(t *testing.T) {
	const max = ^uint32(0)
	tests := []struct {
		name                   string
		sent, forwarded, alloc uint32
		want                   uint32
	}{
		{"fresh", 0, 0, 65536, 65536},
		{"no buffer", 0, 0, 0, 0},
		{"full", 65536, 0, 65536, 0},
		{"below the smallest window", 61441, 0, 65536, 0},
		{"the smallest window", 61440, 0, 65536, 4096},
		{"small buffer, free", 500, 500, 100, 100},
		{"small buffer, partly free", 501, 500, 100, 0},
		{"buffer shrunk below what is in flight", 65536, 0, 4096, 0},
		{"counters wrap", 10, max - 9, 65536, 65536 - 20},
		{"more forwarded than sent", 10, 11, 65536, 0},
		{"largest buffer", 0, 0, max, max},
	}
	for _, test := range tests {
		c := credit{sent: test.sent, peerForwarded: test.forwarded, peerAlloc: test.alloc}
		if got := c.window(); got != test.want {
			t.Errorf("%s: window %d, want %d", test.name, got, test.want)
		}
	}
}

func TestCreditReceive(t *testing.T) {
	const start = ^uint32(0) - 1000 // the counters wrap on the way
	c := credit{received: start, forwarded: start, announced: start, peerAlloc: 1 << 20}
	if c.receive(bufAlloc + 1) {
		t.Error("took more than the buffer")
	}
	if !c.receive(bufAlloc) {
		t.Error("did not take a full buffer")
	}
	if c.receive(1) || !c.receive(0) {
		t.Error("a full buffer takes nothing, and nothing only")
	}
	c.forward(bufAlloc/2 - 1)
	if c.due() {
		t.Error("an update is due one byte early")
	}
	c.forward(1)
	if !c.due() {
		t.Error("no update is due for half of the buffer")
	}
	if !c.receive(bufAlloc / 2) {
		t.Error("does not take what was freed")
	}
	var h header
	c.stamp(&h)
	if h.bufAlloc != bufAlloc || h.fwdCnt != uint32((uint64(start)+bufAlloc/2)%(1<<32)) || c.due() {
		t.Errorf("stamped %+v, due %v", h, c.due())
	}
}

// A guest caps its window at its own buffer: what is due is measured by that.
func TestCreditDueForSmallGuest(t *testing.T) {
	for alloc, want := range map[uint32]int{0: 1, 1: 1, 2: 1, 3: 1, 4096: 2048, bufAlloc: bufAlloc / 2, 1 << 31: bufAlloc / 2} {
		c := credit{peerAlloc: alloc}
		n := 0
		for !c.due() {
			c.receive(1)
			c.forward(1)
			n++
		}
		if n != want {
			t.Errorf("guest's buffer %d: an update is due after %d bytes, want %d", alloc, n, want)
		}
	}
}
