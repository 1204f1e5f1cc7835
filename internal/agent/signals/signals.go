//go:build linux

// Package signals turns the names of Linux signals into numbers and back, as
// they stand in signal(7). It sends none.
package signals

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The real-time signals that programs may use. The kernel's begin at 32; C
// libraries keep the first two for themselves, and names count from theirs.
const (
	rtMin = 34
	rtMax = 64
)

// aliases are the second names that signal(7) lists.
var aliases = map[string]unix.Signal{
	"SIGCLD":    unix.SIGCHLD,
	"SIGIOT":    unix.SIGABRT,
	"SIGPOLL":   unix.SIGIO,
	"SIGUNUSED": unix.SIGSYS,
}

// Parse reads a signal's name, with or without SIG and in any case, a
// real-time signal as SIGRTMIN+n or SIGRTMAX-n, or a number from 1 to 64.
func Parse(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > rtMax {
			return 0, fmt.Errorf("there is no signal %d: they go from 1 to %d", n, rtMax)
		}
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	if n, ok := aliases[name]; ok {
		return n, nil
	}
	if n, ok := parseRealTime(name); ok {
		return n, nil
	}
	return 0, fmt.Errorf("there is no signal called %.32q", s)
}

func parseRealTime(name string) (unix.Signal, bool) {
	base, sign := rtMin, '+'
	rest, ok := strings.CutPrefix(name, "SIGRTMIN")
	if !ok {
		base, sign = rtMax, '-'
		if rest, ok = strings.CutPrefix(name, "SIGRTMAX"); !ok {
			return 0, false
		}
	}
	if rest == "" {
		return unix.Signal(base), true
	}
	if rune(rest[0]) != sign {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[1:], 10, 8)
	if err != nil || n > rtMax-rtMin {
		return 0, false
	}
	if sign == '-' {
		return unix.Signal(base - int(n)), true
	}
	return unix.Signal(base + int(n)), true
}

// Name is the signal's name as Parse takes it, or its number if it has none.
func Name(s unix.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	switch {
	case s == rtMin:
		return "SIGRTMIN"
	case s > rtMin && s <= rtMax:
		return fmt.Sprintf("SIGRTMIN+%d", int(s)-rtMin)
	}
	return strconv.Itoa(int(s))
}
