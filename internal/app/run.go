package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/platform"
	"bake/internal/service/console"
	"bake/internal/service/control"
	"bake/internal/service/files"
	"bake/internal/service/manifest"
	"bake/internal/wire"
)

// Run boots img's VM, joins it to stdio until the container's process has
// ended, and returns that process's exit code. The error is an [*Error]: bake
// or the VM failed, and its Code is the exit code. Nothing of the VM is left
// when Run returns.
func Run(ctx context.Context, img *Image, o Options, stdio Stdio) (int, error) {
	code, err := run(ctx, img, o, stdio)
	if err == nil {
		return code, nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: CodeFailed, Err: err}
	}
	return e.Code, e
}

func run(ctx context.Context, img *Image, o Options, stdio Stdio) (int, error) {
	// Signals first: one that comes while we prepare must end us cleanly too.
	signals, stopSignals := catchSignals()
	defer stopSignals()

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
	return runPlans(ctx, plan, driver, o, stdio, signals)
}

// boots is how often a guest is booted that asks for another boot.
const boots = 3

// A bootAgainError is the failure of a guest before its container ran, which
// another boot need not have.
type bootAgainError struct{ error }

// runPlans boots a planned VM, and another one if the first asks for that.
func runPlans(ctx context.Context, plan func() (*plan, error), driver hypervisor.Driver, o Options, stdio Stdio, signals <-chan os.Signal) (int, error) {
	for boot := 1; ; boot++ {
		pl, err := plan()
		if err != nil {
			return 0, err
		}
		code, err := runPlan(ctx, pl, driver, o, stdio, signals)
		var again *bootAgainError
		if boot == boots || !errors.As(err, &again) {
			return code, err
		}
		if o.Verbose {
			warn(stdio.Stderr, "boot again: %v", err)
		}
	}
}

// describe prints the VM that a run would make.
func describe(ctx context.Context, driver hypervisor.Driver, pl *plan, w io.Writer) error {
	ephemeral, err := ephemeralFile(pl)
	if err != nil {
		return err
	}
	defer ephemeral.Close()
	v := &volumes{}
	defer v.close()
	if err := v.openDisks(pl, showDisk); err != nil {
		return err
	}
	if err := v.showShares(pl); err != nil {
		return err
	}
	machine, err := driver.Describe(ctx, pl.config)
	if err != nil {
		return err
	}
	d := struct {
		hypervisor.Description
		Volumes []wire.Volume `json:"volumes,omitempty"`
	}{machine, pl.manifest.Volumes}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(d)
}

// runPlan boots the planned VM and supervises it.
func runPlan(ctx context.Context, pl *plan, driver hypervisor.Driver, o Options, stdio Stdio, signals <-chan os.Signal) (int, error) {
	for _, w := range pl.warnings {
		warn(stdio.Stderr, "%s", w)
	}
	ports, err := listenPorts(pl, stdio.Stderr)
	if err != nil {
		return 0, err
	}
	defer ports.Close()

	ws, err := newWorkspace(pl)
	if err != nil {
		return 0, err
	}
	defer ws.close()

	tty := isTerminal(o.Terminal, stdio)
	// What we say ourselves while the terminal is the container's.
	var stderr io.Writer = stdio.Stderr
	if tty {
		stderr = &rawWriter{w: stderr}
	}
	tail := &consoleTail{}
	if o.Verbose {
		tail.show = stderr
	}
	pl.config.Console = tail

	s := &supervisor{
		options: o, stopSignal: pl.stopSignal, memoryMiB: pl.config.MemoryMiB,
		control: control.New(), tail: tail, stderr: stderr, signals: signals,
		console: make(chan error, 1), lost: make(chan error, 1), running: make(chan struct{}),
	}
	v := &volumes{}
	defer v.close()
	if err := v.openDisks(pl, openDisk); err != nil {
		return 0, err
	}
	if err := v.openShares(ctx, pl, o.fileServer, files.Options{
		Dir: pl.config.Dir, Verbose: s.verbose, Changed: s.changed,
		Warn: func(format string, args ...any) { warn(stderr, format, args...) },
	}); err != nil {
		return 0, err
	}

	vm, sig, err := newVM(ctx, driver, pl, signals)
	if err != nil {
		return 0, err
	}
	if sig != nil {
		return signalCode(sig), nil
	}
	defer vm.Close()
	s.vm = vm
	v.started()

	var term *terminal
	if tty {
		if term, err = openTerminal(stdio); err != nil {
			return 0, err
		}
		defer term.restore()
		p := &pl.manifest.Process
		p.Terminal = true
		p.Rows, p.Cols = term.size()
		p.Env = withTerm(p.Env, stdio.Environ)
	}

	s.term = term
	serveCtx, stopServices := context.WithCancel(ctx)
	var services sync.WaitGroup
	defer func() {
		stopServices()
		// An output that nobody takes must not hold a finished app up.
		waitAtMost(&services, 2*time.Second)
	}()
	out := newOutbound(pl, o, s.verbose)
	if err := startServices(serveCtx, &services, s, pl, stdio); err != nil {
		return 0, err
	}
	if err := out.serve(serveCtx, &services, s, pl, ports); err != nil {
		return 0, err
	}
	services.Go(func() { servePorts(serveCtx, ports, s) })
	if err := v.serve(serveCtx, &services, s); err != nil {
		return 0, err
	}
	if err := v.ready(ctx); err != nil {
		return 0, err
	}
	if err := vm.Start(ctx); err != nil {
		return 0, err
	}
	return s.supervise(ctx)
}

// newVM asks the driver for the VM, which may try out KVM for seconds, and
// gives up at the first signal that asks to stop.
func newVM(ctx context.Context, driver hypervisor.Driver, pl *plan, signals <-chan os.Signal) (hypervisor.VM, os.Signal, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type made struct {
		vm  hypervisor.VM
		err error
	}
	done := make(chan made, 1)
	go func() {
		vm, err := driver.New(ctx, pl.config)
		done <- made{vm, err}
	}()
	for {
		select {
		case m := <-done:
			return m.vm, nil, m.err
		case sig := <-signals:
			if !asksToStop(sig) {
				continue
			}
			cancel()
			if m := <-done; m.err == nil {
				m.vm.Close()
			}
			return nil, sig, nil
		}
	}
}

// startServices listens on the ports that the guest connects to and serves
// them until ctx ends.
func startServices(ctx context.Context, wg *sync.WaitGroup, s *supervisor, pl *plan, stdio Stdio) error {
	return errors.Join(
		s.listen(ctx, wg, wire.PortManifest, func(ln net.Listener) error { return manifest.Serve(ctx, ln, pl.manifest) }),
		s.listen(ctx, wg, wire.PortControl, func(ln net.Listener) error { return s.control.Serve(ctx, ln) }),
		s.listen(ctx, wg, wire.PortConsole, func(ln net.Listener) error {
			err := console.Serve(ctx, ln, console.Streams{
				Stdin: stdio.Stdin, Stdout: stdio.Stdout, Stderr: stdio.Stderr, Terminal: s.term != nil,
			})
			s.console <- err
			return err
		}),
	)
}

// listen takes what the guest connects to a port, and has f serve it.
func (s *supervisor) listen(ctx context.Context, wg *sync.WaitGroup, port uint32, f func(net.Listener) error) error {
	ln, err := s.vm.ListenVsock(port)
	if err != nil {
		return err
	}
	wg.Go(func() {
		defer ln.Close()
		if err := f(ln); err != nil && ctx.Err() == nil && s.options.Verbose {
			warn(s.stderr, "%v", err)
		}
	})
	return nil
}

// withTerm gives the container the user's TERM unless something else was
// asked for.
func withTerm(env, environ []string) []string {
	const key = "TERM="
	for _, kv := range env {
		if len(kv) >= len(key) && kv[:len(key)] == key {
			return env
		}
	}
	for _, kv := range environ {
		if len(kv) > len(key) && kv[:len(key)] == key {
			return append(env, kv)
		}
	}
	return append(env, "TERM=xterm")
}

// waitAtMost waits for wg, but not for ever.
func waitAtMost(wg *sync.WaitGroup, d time.Duration) {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(d):
	}
}
