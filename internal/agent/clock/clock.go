// Package clock keeps the guest's clock at the host's. It decides from what
// the host tells of its clock, every second, and sets CLOCK_REALTIME; it knows
// nothing of how that is told.
//
// A word of the host's can only be late, never early: when it arrives, the
// host's clock has moved on. So a guest that is behind even that is behind for
// certain, and is corrected at once. One that seems to be ahead may just have
// been told late, by a busy machine, or all at once after it was stopped: it is
// corrected after several words in a row that took their time to come.
package clock

import "time"

const (
	// stepAt is from where on the clock jumps: half of what it may ever be
	// behind.
	stepAt = 50 * time.Millisecond
	// tolerance is a difference that is left alone.
	tolerance = 10 * time.Millisecond
	// window is how many words in a row must find the guest ahead, and gap how
	// long after the one before each of them comes at least, or else it was held
	// up on its way.
	window = 5
	gap    = 500 * time.Millisecond
)

// A Correction is what to do to the clock. One of the two is zero.
type Correction struct {
	// Step is added at once.
	Step time.Duration
	// Slew is added by and by: the clock runs a little faster or slower
	// (adjtime(3)).
	Slew time.Duration
}

// A Follower decides on corrections. Its zero value has heard nothing yet.
type Follower struct {
	last  time.Duration // when the last word came
	heard bool
	ahead int           // words in a row that found the guest ahead
	least time.Duration // by which it was in all of them
}

// Hear takes a word of the host: behind is the host's clock less the guest's
// when the word arrived, and now the arrival on a clock that is never set. It
// returns what to do about it, which the caller does before the next word.
func (f *Follower) Hear(behind, now time.Duration) Correction {
	heldUp := f.heard && now-f.last < gap
	f.last, f.heard = now, true
	if behind > -tolerance {
		f.ahead = 0
		return correction(behind)
	}
	if heldUp {
		return Correction{} // it tells nothing
	}
	f.ahead++
	if f.ahead == 1 || -behind < f.least {
		f.least = -behind
	}
	if f.ahead < window {
		return Correction{}
	}
	f.ahead = 0
	return correction(-f.least)
}

func correction(behind time.Duration) Correction {
	switch d := behind.Abs(); {
	case d > stepAt:
		return Correction{Step: behind}
	case d > tolerance:
		return Correction{Slew: behind}
	}
	return Correction{}
}
