package app

import (
	"context"
	"sync"
	"time"

	"bake/internal/wire"
)

// pingInterval is how often the guest hears the host's clock.
const pingInterval = time.Second

// A pulse pings one guest. At most one ping is unanswered: those that wait for a
// guest that was paused would tell it of times long past, and the next one follows
// at once when it goes on.
type pulse struct {
	send func(wire.HostMessage) error

	mu sync.Mutex
	// since is when the ping was sent that is unanswered; zero if none is.
	since time.Time
	// late says that the next ping was due before that was answered.
	late    bool
	waiting []chan<- wire.Stats
	kick    chan struct{} // one ping out of turn
}

func newPulse(send func(wire.HostMessage) error) *pulse {
	return &pulse{send: send, kick: make(chan struct{}, 1)}
}

// run pings at every tick until ctx ends.
func (p *pulse) run(ctx context.Context, tick <-chan time.Time) {
	defer p.stop()
	for {
		p.ping()
		select {
		case <-tick:
		case <-p.kick:
		case <-ctx.Done():
			return
		}
	}
}

func (p *pulse) ping() {
	p.mu.Lock()
	now := time.Now()
	if !p.since.IsZero() {
		p.late = true
		p.mu.Unlock()
		return
	}
	p.since = now
	want := len(p.waiting) > 0
	p.mu.Unlock()
	// A guest that takes nothing is seen by the silence that follows.
	_ = p.send(wire.HostMessage{Type: wire.HostPing, UnixNano: now.UnixNano(), WantStats: want})
}

// pong is the guest's answer. One that nobody asked for counts for nothing.
func (p *pulse) pong(m wire.GuestMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return
	}
	p.since = time.Time{}
	if m.Stats != nil {
		for _, c := range p.waiting {
			c <- *m.Stats
		}
		p.waiting = nil
	}
	if p.late || len(p.waiting) > 0 {
		p.late = false
		p.soon()
	}
}

// soon pings out of turn.
func (p *pulse) soon() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// stats asks the guest what it uses.
func (p *pulse) stats(ctx context.Context) (wire.Stats, error) {
	c := make(chan wire.Stats, 1)
	p.mu.Lock()
	p.waiting = append(p.waiting, c)
	p.mu.Unlock()
	p.soon()
	select {
	case s := <-c:
		return s, nil
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		for i, w := range p.waiting {
			if w == c {
				p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
				break
			}
		}
		return wire.Stats{}, context.Cause(ctx)
	}
}

// alive says whether no ping has waited for longer than that. A guest that is not
// pinged, as it boots or ends, is alive: those have bounds of their own.
func (p *pulse) alive(within time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since.IsZero() || time.Since(p.since) < within
}

// stop forgets the ping that nobody will answer.
func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since, p.late = time.Time{}, false
}
