package app

import (
	"cmp"
	"context"
	"errors"
	"os"

	"bake/internal/hypervisor"
	"bake/internal/platform"
)

// Run boots img's VM, joins it to stdio until the container's process has
// ended, and returns that process's exit code. The error is an [*Error]: bake
// or the VM failed, and its Code is the exit code. Nothing of the VM is left
// when Run returns.
//
// With Options.Detach it starts the app in the background instead, and returns
// when the container's process runs there, or with how that failed.
func Run(ctx context.Context, img *Image, o Options, stdio Stdio) (int, error) {
	code, err := run(ctx, img, o, stdio)
	if err == nil {
		return code, nil
	}
	return codeOf(err), asError(err)
}

func run(ctx context.Context, img *Image, o Options, stdio Stdio) (int, error) {
	// Signals first: one that comes while we prepare must end us cleanly too.
	signals, stopSignals := catchSignals()
	defer stopSignals()

	if !o.Detach || o.DryRun {
		return runHere(ctx, img, o, stdio, signals, nil)
	}
	return inBackground(ctx, stdio, signals, func(s *starter) (int, error) {
		return runHere(ctx, img, o, stdio, signals, s)
	})
}

// runHere runs the app in this process. starter is who started it in the
// background, nil if it is in the foreground.
func runHere(ctx context.Context, img *Image, o Options, stdio Stdio, signals <-chan os.Signal, starter *starter) (int, error) {
	// Before anything else is started, which must not have what this takes out of
	// the environment.
	notify, err := newNotifier()
	if err != nil {
		return 0, failf("find the service manager to notify: %w", err)
	}
	defer notify.close()
	drivers, err := drivers(ctx, img, o.Verbose, stdio)
	if err != nil {
		return 0, err
	}
	driver, err := hypervisor.Choose(ctx, cmp.Or(o.Hypervisor, img.Manifest.Defaults.Hypervisor, hypervisor.Auto), drivers)
	if err != nil {
		return 0, err
	}
	ipv6 := platform.HasIPv6(ctx)
	plan := func() (*plan, error) { return newPlan(img, o, stdio.Environ, driver.Capabilities(), ipv6) }
	if o.DryRun {
		pl, err := plan()
		if err != nil {
			return 0, err
		}
		return 0, describe(ctx, driver, pl, stdio.Stdout)
	}
	l := &life{
		img: img, options: o, driver: driver, plan: plan, stdio: stdio,
		signals: signals, notify: notify, starter: starter,
	}
	return l.run(ctx)
}

// asError is err with an exit code.
func asError(err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: CodeFailed, Err: err}
	}
	return e
}

func codeOf(err error) int { return asError(err).Code }
