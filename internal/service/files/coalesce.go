package files

import (
	"context"
	"sync"
	"time"

	"bake/internal/wire"
)

const (
	// maxPending bounds the changes that wait to be reported.
	maxPending = 4096
	// batch is how many are reported at once, and batchTime how long after: a
	// file that is written for a while is reported so often.
	batch     = 128
	batchTime = 50 * time.Millisecond
)

// A change is what is reported once however often it happened.
type change struct{ path, op string }

// A coalescer reports changes, each once a while.
type coalescer struct {
	volume string
	say    *reporter

	mu      sync.Mutex
	pending []change
	known   map[change]bool
	lost    bool // some found no room
	more    chan struct{}
}

func newCoalescer(volume string, say *reporter) *coalescer {
	return &coalescer{volume: volume, say: say, known: map[change]bool{}, more: make(chan struct{}, 1)}
}

// add has a change reported, unless it waits for that already. One that finds
// no room is lost.
func (c *coalescer) add(path, op string) {
	if len(path) > wire.VolumePathLimit {
		return
	}
	ch := change{path, op}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[ch] {
		return
	}
	if len(c.pending) == maxPending {
		c.lost = true
		return
	}
	c.known[ch] = true
	c.pending = append(c.pending, ch)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// take returns the next changes, in order, and whether some were lost.
func (c *coalescer) take() (next []change, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(batch, len(c.pending))
	next = append(next, c.pending[:n]...)
	c.pending = append(c.pending[:0], c.pending[n:]...)
	for _, ch := range next {
		delete(c.known, ch)
	}
	return next, c.lost
}

// run reports until ctx ends or the parent is gone.
func (c *coalescer) run(ctx context.Context) {
	said := false
	for {
		next, lost := c.take()
		if lost && !said {
			said = true
			c.say.log("the guest is slower than the changes in the volume %s, and some are not reported", c.volume)
		}
		for _, ch := range next {
			if c.say.send(report{Type: reportChange, Volume: c.volume, Path: []byte(ch.path), Op: ch.op}) != nil {
				return
			}
		}
		if len(next) == 0 {
			select {
			case <-c.more:
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case <-time.After(batchTime):
		case <-ctx.Done():
			return
		}
	}
}
