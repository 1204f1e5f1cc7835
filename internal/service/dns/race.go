package dns

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// suspicion is how long a nameserver that did not answer in time is not waited
// for alone.
const suspicion = 30 * time.Second

// A field is the nameservers and how they fared. The zero value is ready.
type field struct {
	turn atomic.Uint32

	mu       sync.Mutex
	suspects map[netip.AddrPort]time.Time // until when
}

// headStart is how long a nameserver is asked alone before the next is asked
// too. What programs in the guest wait for is c's timeout at most, in which
// all nameservers must have had their turn.
func headStart(c *resolvConf) time.Duration { return c.timeout / 5 }

// race asks c's nameservers in their order and returns the first answer. One
// that says that it cannot answer passes the turn to the next at once; one that
// says nothing keeps being listened to while the next is asked. If none
// answers, race returns what the first of them said instead, or an error.
func (f *field) race(ctx context.Context, q *query, c *resolvConf) (*dns.Msg, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	type result struct {
		runner int
		msg    *dns.Msg
		err    error
	}
	servers := f.order(c)
	results := make(chan result, len(servers))
	since := make([]time.Time, 0, len(servers))
	done := make([]bool, len(servers))
	next := time.NewTimer(0)
	defer next.Stop()
	start := func() {
		i := len(since)
		if i == len(servers) {
			next.Stop()
			return
		}
		since = append(since, time.Now())
		wg.Go(func() {
			m, err := q.ask(ctx, servers[i], c)
			results <- result{i, m, err}
		})
		wait := headStart(c)
		if f.suspect(servers[i]) {
			wait = 0
		}
		next.Reset(wait)
	}
	var best *result
	for running := true; running; {
		select {
		case <-next.C:
			start()
		case r := <-results:
			done[r.runner] = true
			if r.err == nil && !r.msg.Truncated && !refuses(r.msg) {
				f.clear(servers[r.runner])
				for i, t := range since {
					if !done[i] && time.Since(t) >= headStart(c) {
						f.doubt(servers[i])
					}
				}
				return r.msg, nil
			}
			if r.err != nil && ctx.Err() == nil {
				f.doubt(servers[r.runner])
			}
			if best == nil || worth(r.msg) > worth(best.msg) {
				best = &r
			}
			start()
			running = false
			for i := range since {
				running = running || !done[i]
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return best.msg, best.err
}

// worth orders what nameservers say that is no answer: a part of one, a reason,
// nothing.
func worth(m *dns.Msg) int {
	switch {
	case m == nil:
		return 0
	case refuses(m):
		return 1
	}
	return 2
}

// order is c's nameservers, beginning with the one whose turn it is.
func (f *field) order(c *resolvConf) []netip.AddrPort {
	if !c.rotate {
		return c.nameservers
	}
	n := len(c.nameservers)
	i := int(f.turn.Add(1)-1) % n
	return append(append(make([]netip.AddrPort, 0, n), c.nameservers[i:]...), c.nameservers[:i]...)
}

func (f *field) suspect(s netip.AddrPort) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.suspects[s])
}

func (f *field) doubt(s netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for other, until := range f.suspects {
		if now.After(until) {
			delete(f.suspects, other)
		}
	}
	if f.suspects == nil {
		f.suspects = map[netip.AddrPort]time.Time{}
	}
	f.suspects[s] = now.Add(suspicion)
}

func (f *field) clear(s netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.suspects, s)
}
