//go:build linux

package agent

import (
	"testing"
	"time"

	"bake/internal/agent/clock"
	"bake/internal/wire"
)

func TestPing(t *testing.T) {
	c, host := newTestHost(t)
	corrections := make(chan clock.Correction, 1)
	c.correct = func(c clock.Correction) error {
		corrections <- c
		return nil
	}
	ask := func(m wire.HostMessage) wire.GuestMessage {
		t.Helper()
		m.Type = wire.HostPing
		if err := wire.WriteHostMessage(host, m); err != nil {
			t.Fatal(err)
		}
		answer, err := wire.ReadGuestMessage(host)
		if err != nil || answer.Type != wire.GuestPong {
			t.Fatalf("the answer is %+v, %v", answer, err)
		}
		return answer
	}
	// A ping without a clock is one too, as is one before there are statistics.
	for _, want := range []bool{false, true} {
		if answer := ask(wire.HostMessage{WantStats: want}); answer.Stats != nil {
			t.Errorf("statistics came of nowhere: %+v", answer.Stats)
		}
	}
	c.setUsage(func() wire.Stats { return wire.Stats{PIDs: 5} })
	if answer := ask(wire.HostMessage{}); answer.Stats != nil {
		t.Errorf("statistics came that nobody asked for: %+v", answer.Stats)
	}
	if answer := ask(wire.HostMessage{WantStats: true}); answer.Stats == nil || answer.Stats.PIDs != 5 {
		t.Errorf("the statistics are %+v", answer.Stats)
	}
	// The host's clock is an hour ahead of the guest's.
	ask(wire.HostMessage{UnixNano: time.Now().Add(time.Hour).UnixNano()})
	correction := <-corrections
	if correction.Step > time.Hour || correction.Step < 59*time.Minute {
		t.Errorf("the clock is corrected by %+v, want a step of nearly an hour", correction)
	}
	// One that is behind may have been heard late.
	ask(wire.HostMessage{UnixNano: time.Now().Add(-time.Hour).UnixNano()})
	select {
	case correction := <-corrections:
		t.Errorf("the clock is set back at once by %+v", correction)
	default:
	}
}
