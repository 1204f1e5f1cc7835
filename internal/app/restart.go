package app

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The values of Restart.Mode, as docker-run(1) has them.
const (
	RestartNo            = "no"
	RestartOnFailure     = "on-failure"
	RestartAlways        = "always"
	RestartUnlessStopped = "unless-stopped"
)

// Restart says when an app whose container has ended starts it again. The zero
// value is never.
type Restart struct {
	Mode string
	// Max bounds the restarts of RestartOnFailure; 0 is no bound.
	Max int
}

// ParseRestart reads what --restart has.
func ParseRestart(s string) (Restart, error) {
	mode, bound, bounded := strings.Cut(s, ":")
	switch mode {
	case "", RestartNo:
		mode = RestartNo
	case RestartOnFailure, RestartAlways, RestartUnlessStopped:
	default:
		return Restart{}, fmt.Errorf("--restart %q is no policy: give %s, %s, %s:NUMBER, %s or %s", s, RestartNo, RestartOnFailure, RestartOnFailure, RestartAlways, RestartUnlessStopped)
	}
	if !bounded {
		return Restart{Mode: mode}, nil
	}
	n, err := strconv.ParseUint(bound, 10, 31)
	if err != nil || mode != RestartOnFailure {
		return Restart{}, fmt.Errorf("--restart %q: only %s takes a number, which is how often at most, as in %s:5", s, RestartOnFailure, RestartOnFailure)
	}
	return Restart{Mode: mode, Max: int(n)}, nil
}

// String is the policy as --restart has it.
func (r Restart) String() string {
	switch {
	case r.Mode == "":
		return RestartNo
	case r.Max > 0:
		return r.Mode + ":" + strconv.Itoa(r.Max)
	}
	return r.Mode
}

// again says whether a container that ended with code is started again, after so
// many restarts.
func (r Restart) again(code, restarts int) bool {
	switch r.Mode {
	case RestartAlways, RestartUnlessStopped:
		return true
	case RestartOnFailure:
		return code != 0 && (r.Max == 0 || restarts < r.Max)
	}
	return false
}

// The pauses before restarts, as docker-run(1) has them.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Minute
	// steady is how long a container must have run for the pauses to begin anew.
	steady = 10 * time.Second
)

// A backoff is the pause before the next restart; the zero value is the first.
type backoff struct{ next time.Duration }

// pause is how long to wait after a container that ran for so long.
func (b *backoff) pause(ran time.Duration) time.Duration {
	if ran >= steady || b.next == 0 {
		b.next = firstPause
	}
	d := b.next
	b.next = min(2*b.next, lastPause)
	return d
}
