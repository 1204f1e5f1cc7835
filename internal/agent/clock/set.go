//go:build linux

package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Apply corrects CLOCK_REALTIME; adjtimex(2).
func (c Correction) Apply() error {
	var t unix.Timex
	switch {
	case c.Step != 0:
		offset := unix.NsecToTimeval(0)
		// With ADJ_NANO tv_usec holds nanoseconds, which are never negative.
		seconds := c.Step / time.Second
		if c.Step%time.Second < 0 {
			seconds--
		}
		offset.Sec, offset.Usec = int64(seconds), int64(c.Step-seconds*time.Second)
		t.Modes, t.Time = unix.ADJ_SETOFFSET|unix.ADJ_NANO, offset
	case c.Slew != 0:
		t.Modes, t.Offset = unix.ADJ_OFFSET_SINGLESHOT, c.Slew.Microseconds()
	default:
		return nil
	}
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("correct the guest's clock by %v: %w", c.Step+c.Slew, err)
	}
	return nil
}
