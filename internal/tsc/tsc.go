// Package tsc measures how fast this machine's time stamp counter runs.
//
// QEMU's TCG hands the guest the host's counter as it is, and a microvm has no
// clock that the guest's kernel could calibrate it with, so the kernel must be
// told (tsc_early_khz=). The package knows neither QEMU nor kernels.
package tsc

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// A Measurement is one that runs. It costs nothing while other work is done.
type Measurement struct {
	at  sample
	err error
}

// A sample is the counter and the time, in nanoseconds of
// CLOCK_MONOTONIC_RAW, which nobody slews (clock_gettime(2)).
type sample struct {
	ticks uint64
	time  int64
}

// ErrUnsupported says that the processor has no counter that TCG would hand to
// a guest.
var ErrUnsupported = errors.New("this processor has no time stamp counter")

// Begin begins to measure.
func Begin() Measurement {
	if !supported {
		return Measurement{err: ErrUnsupported}
	}
	at, err := take()
	return Measurement{at: at, err: err}
}

// KHz is the counter's frequency in kHz. It waits until the measurement has
// run for shortest; 10 ms make it good to a few parts in a million.
func (m Measurement) KHz(shortest time.Duration) (uint64, error) {
	if m.err != nil {
		return 0, m.err
	}
	for {
		end, err := take()
		if err != nil {
			return 0, err
		}
		elapsed := end.time - m.at.time
		if wait := int64(shortest) - elapsed; wait > 0 {
			time.Sleep(time.Duration(wait))
			continue
		}
		if elapsed <= 0 || end.ticks <= m.at.ticks {
			return 0, errors.New("the time stamp counter of this machine does not count")
		}
		return uint64(float64(end.ticks-m.at.ticks)/float64(elapsed)*1e6 + 0.5), nil
	}
}

// take reads the clock before and after the counter, and keeps the tightest of
// a few tries, so that being scheduled away in between does no harm.
func take() (sample, error) {
	var best sample
	width := int64(-1)
	for range 8 {
		before, err := rawTime()
		if err != nil {
			return sample{}, err
		}
		ticks := read()
		after, err := rawTime()
		if err != nil {
			return sample{}, err
		}
		if width < 0 || after-before < width {
			best, width = sample{ticks, before + (after-before)/2}, after-before
		}
	}
	return best, nil
}

func rawTime() (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		return 0, err
	}
	return ts.Nano(), nil
}
