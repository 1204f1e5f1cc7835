//go:build linux

package agent

import (
	"time"

	"bake/internal/agent/clock"
	"bake/internal/wire"
)

// ping follows the host's clock and answers. now is when the ping arrived.
func (c *control) ping(m wire.HostMessage, now time.Time) {
	if m.UnixNano > 0 {
		c.hearClock(time.Unix(0, m.UnixNano), now)
	}
	answer := wire.GuestMessage{Type: wire.GuestPong}
	if m.WantStats {
		answer.Stats = c.stats()
	}
	if err := c.send(answer); err != nil {
		c.log.always("%v", err)
	}
}

func (c *control) hearClock(host, now time.Time) {
	// Round takes the reading of the monotonic clock away.
	correction := c.follow.Hear(host.Sub(now.Round(0)), now.Sub(c.began))
	if correction == (clock.Correction{}) {
		return
	}
	if err := c.correct(correction); err != nil {
		c.log.always("%v", err)
		return
	}
	if correction.Step != 0 {
		c.log.verbose("the clock was stepped by %v to the host's", correction.Step)
	}
}

// setUsage names who knows what the guest uses.
func (c *control) setUsage(f func() wire.Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.usage = f
}

// stats is nil until somebody knows.
func (c *control) stats() *wire.Stats {
	c.mu.Lock()
	usage := c.usage
	c.mu.Unlock()
	if usage == nil {
		return nil
	}
	st := usage()
	return &st
}
