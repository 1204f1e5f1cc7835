package clock

import (
	"testing"
	"time"
)

const ms = time.Millisecond

// A word is what the host tells: at, of the guest's clock that is never set, and
// how far the guest is behind it.
type word struct{ at, behind time.Duration }

func every(second, from time.Duration, behind ...time.Duration) (words []word) {
	for i, b := range behind {
		words = append(words, word{from + time.Duration(i)*second, b})
	}
	return words
}

func TestHear(t *testing.T) {
	step := func(d time.Duration) Correction { return Correction{Step: d} }
	slew := func(d time.Duration) Correction { return Correction{Slew: d} }
	const s = time.Second
	for name, test := range map[string]struct {
		words []word
		want  map[int]Correction // by the word that it follows
	}{
		"alike":                   {every(s, 0, 0, -1*ms, 9*ms, -9*ms, 0, 10*ms, -10*ms+1), nil},
		"behind":                  {every(s, 0, 51*ms), map[int]Correction{0: step(51 * ms)}},
		"far behind":              {every(s, 0, 30*s), map[int]Correction{0: step(30 * s)}},
		"a little behind":         {every(s, 0, 11*ms, 50*ms), map[int]Correction{0: slew(11 * ms), 1: slew(50 * ms)}},
		"behind, in a burst":      {every(ms, 0, s, s, s), map[int]Correction{0: step(s), 1: step(s), 2: step(s)}},
		"ahead":                   {every(s, 0, -90*ms, -70*ms, -95*ms, -80*ms, -3*s), map[int]Correction{4: step(-70 * ms)}},
		"ahead, twice":            {every(s, 0, -s, -s, -s, -s, -s, -s, -s, -s, -s, -s), map[int]Correction{4: step(-s), 9: step(-s)}},
		"a little ahead":          {every(s, 0, -90*ms, -20*ms, -95*ms, -80*ms, -3*s), map[int]Correction{4: slew(-20 * ms)}},
		"late for four words":     {every(s, 0, -s, -s, -s, -s, 0, -s, -s, -s, -s, -5*ms), nil},
		"behind after being late": {every(s, 0, -s, -s, -s, -s, s, -s), map[int]Correction{4: step(s)}},
		// The guest stood still for some seconds, its clock did not: what the
		// host said meanwhile comes at once.
		"late words at once": {append(every(s, 0, 0, 0), append(every(ms, 20*s, -18*s, -17*s, -16*s, -15*s, -14*s, -13*s, -s), every(s, 21*s, -ms, 0)...)...), nil},
		"late words and one": {append(every(ms, 20*s, -9*s, -8*s, -7*s, -6*s, -5*s, -4*s, -3*s), every(s, 21*s, -80*ms, -70*ms, -60*ms, -60*ms)...), map[int]Correction{10: step(-60 * ms)}},
	} {
		var f Follower
		for i, w := range test.words {
			if got := f.Hear(w.behind, w.at); got != test.want[i] {
				t.Errorf("%s: after word %d (%v): %+v, want %+v", name, i, w.behind, got, test.want[i])
			}
		}
	}
}

// A clock that is never more behind than it may be, however fast it drifts and
// however late the host is heard.
func TestFollow(t *testing.T) {
	for _, drift := range []time.Duration{0, 20 * time.Microsecond, -20 * time.Microsecond, 40 * ms, -40 * ms} { // a second
		for _, late := range []time.Duration{0, 5 * ms, 45 * ms} {
			var f Follower
			offset := time.Duration(0) // of the guest
			for i := range 10000 {
				now := time.Duration(i) * time.Second
				delay := late * time.Duration(i%3) / 2
				c := f.Hear(-offset-delay, now+delay)
				offset += c.Step + c.Slew + drift
				if offset < -100*ms || offset > 2*window*drift.Abs()+100*ms {
					t.Fatalf("drift %v a second, words up to %v late: after %v the guest's clock is off by %v", drift, late, now, offset)
				}
			}
		}
	}
}
