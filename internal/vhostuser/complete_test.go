//go:build linux

package vhostuser

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Packets that were taken are told of together: when they are many, or after a
// while.
func TestCompletionsAreToldTogether(t *testing.T) {
	for _, c := range []struct {
		name     string
		features uint64
		taken    uint16
		waits    bool
	}{
		{"one", featureIndirect, 1, true},
		{"just not a quarter", featureIndirect, 3, true},
		{"a quarter", featureIndirect, 4, false},
		{"all", featureIndirect, 16, false},
		{"one may fill the ring", 0, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := make([]byte, 0x4000)
			q, err := newVirtqueue(&memory{regions: []region{{regionSpec{size: uint64(len(mem))}, mem}}},
				ringLayout{size: 16, avail: 0x1000, used: 0x2000}, 0, fromGuest, false)
			if err != nil {
				t.Fatal(err)
			}
			call, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(call)
			told := func() bool {
				var b [8]byte
				_, err := unix.Read(call, b[:])
				return err == nil
			}
			l := &loop{session: &session{features: c.features}, mux: &muxer{}, listening: true}
			l.complete(q, call)
			if !told() {
				t.Error("a queue that begins was not told of")
			}
			l.complete(q, call)
			if told() || l.timeout(false) != -1 {
				t.Error("the driver was told of nothing")
			}
			q.usedIdx += c.taken
			l.complete(q, call)
			if told() == c.waits {
				t.Errorf("waits: %v, want %v", !c.waits, c.waits)
			}
			if c.waits {
				if ms := l.timeout(false); ms < 0 || ms > 1 {
					t.Errorf("the loop would sleep for %d ms", ms)
				}
				l.completeAt = time.Now().Add(time.Hour)
				l.complete(q, call)
				if told() {
					t.Error("the driver was told before its time")
				}
				l.completeAt = time.Now().Add(-time.Second)
				l.complete(q, call)
				if !told() {
					t.Error("the driver was never told")
				}
			}
			if !l.completeAt.IsZero() || l.timeout(false) != -1 {
				t.Error("something is still to be told")
			}
			q.usedIdx++
			l.complete(q, call)
			l.complete(nil, call) // the ring stops
			if !l.completeAt.IsZero() {
				t.Error("a ring that stopped is to be told of")
			}
		})
	}
}
