package app

import (
	"fmt"
	"strconv"
	"strings"
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
