package egress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bake/internal/policy"
)

const (
	// reportEvery is the least time between two reports of the count, and
	// sumEvery how long lines that repeat are only counted.
	reportEvery = time.Second
	sumEvery    = 10 * time.Second
	// maxLines bounds how many different lines are told apart in sumEvery: a
	// guest chooses what is in them.
	maxLines = 64
)

// A report counts denials and says each kind of line once, and later how often
// it came again.
type report struct {
	log     func(string)
	total   atomic.Uint64
	changed chan struct{} // has one when something is to be reported

	mu     sync.Mutex
	lines  map[string]int // those that were said, and how often they came again
	others int            // lines beyond maxLines
}

func newReport(log func(string)) *report {
	return &report{log: log, changed: make(chan struct{}, 1), lines: map[string]int{}}
}

// Refused counts and says a denial that was found elsewhere, such as that of a
// name by the resolver.
func (g *Gate) Refused(err error) { g.deny(err) }

// deny counts err, says it and returns it.
func (g *Gate) deny(err error) error {
	var d *policy.Denied
	if errors.As(err, &d) {
		g.report.total.Add(1)
		g.report.note(d.Error())
	}
	return err
}

// note says a line, or counts it.
func (r *report) note(line string) {
	if r.log != nil {
		r.mu.Lock()
		again, known := r.lines[line]
		say := !known && len(r.lines) < maxLines
		switch {
		case known:
			r.lines[line] = again + 1
		case say:
			r.lines[line] = 0
		default:
			r.others++
		}
		r.mu.Unlock()
		if say {
			r.log(line)
		}
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// sum says what was counted, and forgets the lines that did not come again. It
// reports whether any are left.
func (r *report) sum() bool {
	var say []string
	r.mu.Lock()
	for line, again := range r.lines {
		if again == 0 {
			delete(r.lines, line)
			continue
		}
		say = append(say, fmt.Sprintf("%s: %d more", line, again))
		r.lines[line] = 0
	}
	slices.Sort(say)
	if r.others > 0 {
		say = append(say, fmt.Sprintf("%d more of other kinds were denied or failed", r.others))
		r.others = 0
	}
	left := len(r.lines) > 0
	r.mu.Unlock()
	if r.log != nil {
		for _, line := range say {
			r.log(line)
		}
	}
	return left
}

// Denials is how many connections, datagrams and names were denied.
func (g *Gate) Denials() uint64 { return g.report.total.Load() }

// Report calls changed with [Gate.Denials] at most once a second when that has
// changed, and says in Options.Log how often lines were repeated, until ctx
// ends. One call at a time.
func (g *Gate) Report(ctx context.Context, changed func(denials uint64)) {
	r := g.report
	var told uint64
	var sum <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			r.sum()
			return
		case <-sum:
			sum = nil
			if r.sum() {
				sum = time.After(sumEvery)
			}
		case <-r.changed:
			if n := r.total.Load(); n != told {
				told = n
				changed(n)
			}
			if sum == nil {
				sum = time.After(sumEvery)
			}
			select {
			case <-ctx.Done():
			case <-time.After(reportEvery):
			}
		}
	}
}
