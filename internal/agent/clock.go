//go:build linux

package agent

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// clockTolerance is a difference that is left alone.
const clockTolerance = 10 * time.Millisecond

// setClock steps the guest's clock to the host's. A guest without a clock that
// is right still runs.
func (a *agent) setClock(context.Context) error {
	if a.manifest.UnixNano <= 0 {
		return nil
	}
	host := time.Unix(0, a.manifest.UnixNano).Add(time.Since(a.received))
	if difference := time.Until(host); difference.Abs() < clockTolerance {
		return nil
	}
	ts := unix.NsecToTimespec(host.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		a.warn("the guest's clock is not the host's: %v", err)
	}
	return nil
}
