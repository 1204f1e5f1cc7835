// Package health finds out, again and again, whether the container does its
// work, as Docker's HEALTHCHECK and docker-run(1)'s --health flags have it. It
// keeps the time and counts; who runs a test, and who is told, it does not know.
package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"bake/internal/wire"
)

// What holds where nothing is said, as in Docker.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
)

// OutputLimit is how much of what a test says is kept, in bytes.
const OutputLimit = 4 << 10

// The first words of a test (the image specification of Docker, Healthcheck).
const (
	testNone    = "NONE"
	testCommand = "CMD"
	testShell   = "CMD-SHELL"
)

// A Runner runs a test's program. It kills it when ctx ends, and always returns
// soon after that. The error says why the program did not run.
type Runner func(ctx context.Context, args []string, output io.Writer) (code int, err error)

// Command is the arguments of a test, or none if there is nothing to test.
func Command(test []string) ([]string, error) {
	switch {
	case len(test) == 0, test[0] == testNone:
		return nil, nil
	case test[0] == testCommand && len(test) > 1:
		return test[1:], nil
	case test[0] == testShell && len(test) == 2:
		return []string{"/bin/sh", "-c", test[1]}, nil
	}
	return nil, fmt.Errorf("the health test %q is none: it begins with %s and has a program, or with %s and has one line for a shell", test, testCommand, testShell)
}

// Watch tests until ctx ends. It calls report with one of wire's states and the
// last test's output each time that the state changes, and first of all.
func Watch(ctx context.Context, h wire.Health, run Runner, report func(state, message string)) error {
	args, err := Command(h.Test)
	if err != nil || len(args) == 0 {
		return err
	}
	w := newWatch(h)
	report(w.state, "")
	timer := time.NewTimer(w.pause())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		began, before := time.Now(), w.state
		result := w.test(ctx, args, run)
		if ctx.Err() != nil {
			return nil // it failed because it was killed
		}
		w.count(began, result.failed)
		if w.state != before {
			report(w.state, result.message)
		}
		timer.Reset(w.pause())
	}
}

// A watch is what is known so far.
type watch struct {
	interval, timeout, startInterval time.Duration
	starting                         time.Time // the end of the start period
	hasStart                         bool
	retries                          int

	state    string
	failures int // in a row
}

func newWatch(h wire.Health) *watch {
	return &watch{
		interval:      duration(h.Interval, defaultInterval),
		timeout:       duration(h.Timeout, defaultTimeout),
		startInterval: duration(h.StartInterval, defaultStartInterval),
		starting:      time.Now().Add(time.Duration(h.StartPeriod)),
		hasStart:      h.StartPeriod > 0,
		retries:       positive(h.Retries, defaultRetries),
		state:         wire.HealthStarting,
	}
}

func duration(nanoseconds int64, otherwise time.Duration) time.Duration {
	return positive(time.Duration(nanoseconds), otherwise)
}

// positive is v if that is positive.
func positive[T ~int | ~int64](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// pause is the time from the end of a test to the next one.
func (w *watch) pause() time.Duration {
	if w.inStart(time.Now()) {
		return w.startInterval
	}
	return w.interval
}

// inStart says whether failures at a time do not count yet. The first success
// ends that.
func (w *watch) inStart(t time.Time) bool {
	return w.state == wire.HealthStarting && w.hasStart && t.Before(w.starting)
}

// count takes the result of a test that began at a time.
func (w *watch) count(began time.Time, failed bool) {
	if !failed {
		w.failures, w.state = 0, wire.HealthHealthy
		return
	}
	if w.inStart(began) {
		return
	}
	if w.failures++; w.failures >= w.retries {
		w.state = wire.HealthUnhealthy
	}
}

// A result is what became of a test.
type result struct {
	failed  bool
	message string
}

// test runs one test.
func (w *watch) test(ctx context.Context, args []string, run Runner) result {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var output bounded
	code, err := run(ctx, args, &output)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return result{true, output.with(fmt.Sprintf("the test did not end within %v", w.timeout))}
	case err != nil:
		return result{true, output.with(err.Error())}
	}
	return result{code != 0, output.with("")}
}
