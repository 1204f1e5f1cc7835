package app

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/instance"
	"bake/internal/service/console"
	"bake/internal/service/control"
	"bake/internal/service/files"
	"bake/internal/service/forward"
	"bake/internal/service/manifest"
	"bake/internal/wire"
)

// boot boots the planned VM and supervises it. Nothing of it is left when boot
// returns.
func (l *life) boot(ctx context.Context, pl *plan) (int, error) {
	for _, w := range pl.warnings {
		warn(l.say, "%s", w)
	}
	ports, err := listenPorts(pl, l.say)
	if err != nil {
		return 0, err
	}
	defer ports.Close()
	l.update(func(i *instance.Info) { i.Ports = infoPorts(ports) })

	ws, err := newWorkspace(pl, l.dir)
	if err != nil {
		return 0, err
	}
	defer ws.close()
	if l.keys != nil {
		pl.manifest.SSH = l.keys.Manifest()
	}

	tty := isTerminal(l.options.Terminal, l.stdio)
	s := l.newSupervisor(pl, tty)
	v := &volumes{}
	defer v.close()
	if err := v.openDisks(pl, openDisk); err != nil {
		return 0, err
	}
	if err := v.openShares(ctx, pl, l.options.fileServer, files.Options{
		Dir: pl.config.Dir, Verbose: s.verbose, Changed: s.changed,
		Warn: func(format string, args ...any) { warn(s.stderr, format, args...) },
	}); err != nil {
		return 0, err
	}

	vm, sig, err := l.newVM(ctx, pl)
	if err != nil {
		return 0, err
	}
	if sig != nil {
		return signalCode(sig), nil
	}
	defer vm.Close()
	s.vm = vm
	v.started()

	stdio := l.stdio
	if tty {
		if l.starter != nil {
			// Nobody types; /dev/null would be the end of what they typed.
			silent, end, err := os.Pipe()
			if err != nil {
				return 0, err
			}
			defer silent.Close()
			defer end.Close()
			stdio.Stdin = silent
		}
		if s.term, err = openTerminal(stdio); err != nil {
			return 0, err
		}
		defer s.term.restore()
		p := &pl.manifest.Process
		p.Terminal = true
		p.Rows, p.Cols = s.term.size()
		p.Env = withTerm(p.Env, stdio.Environ)
	}

	serveCtx, stopServices := context.WithCancel(ctx)
	var services sync.WaitGroup
	defer func() {
		stopServices()
		// An output that nobody takes must not hold a finished app up.
		waitAtMost(&services, 2*time.Second)
	}()
	out := newOutbound(pl, l.options, s.verbose)
	if err := startServices(serveCtx, &services, s, pl, stdio.Stdin); err != nil {
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
	l.setGuest(s)
	defer l.setGuest(nil)
	return s.supervise(ctx)
}

// newSupervisor makes the one of a VM to come.
func (l *life) newSupervisor(pl *plan, tty bool) *supervisor {
	s := &supervisor{
		life: l, options: l.options, stopSignal: pl.stopSignal, memoryMiB: pl.config.MemoryMiB, health: pl.manifest.Health,
		control: control.New(), tail: &consoleTail{}, stdout: l.stdout, stderr: l.say,
		console: make(chan error, 1), lost: make(chan error, 1), running: make(chan struct{}), done: make(chan struct{}),
	}
	s.pulse = newPulse(s.control.Send)
	if tty && l.starter == nil {
		// What we say ourselves while the terminal is the container's.
		s.stderr = &rawWriter{w: l.say}
	}
	if l.log != nil || l.options.Restart.Mode != "" && l.options.Restart.Mode != RestartNo {
		// The container's end of it is not ours: another one may follow.
		s.stdout = struct{ io.Writer }{l.stdout}
	}
	if l.options.Verbose {
		s.tail.show = s.stderr
	}
	pl.config.Console = s.tail
	return s
}

// infoPorts are the published ports, with what the system chose.
func infoPorts(p *forward.Published) []instance.Port {
	var ports []instance.Port
	for _, ln := range p.TCP {
		ports = append(ports, instance.Port{Host: ln.Addr().String(), Guest: ln.VMPort, Proto: string(forward.TCP)})
	}
	for _, c := range p.UDP {
		ports = append(ports, instance.Port{Host: c.LocalAddr().String(), Guest: c.VMPort, Proto: string(forward.UDP)})
	}
	return ports
}

// newVM asks the driver for the VM, which may try out KVM for seconds, and
// gives up at the first signal or order that asks to stop: sig says so.
func (l *life) newVM(ctx context.Context, pl *plan) (vm hypervisor.VM, sig os.Signal, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type made struct {
		vm  hypervisor.VM
		err error
	}
	done := make(chan made, 1)
	go func() {
		vm, err := l.driver.New(ctx, pl.config)
		done <- made{vm, err}
	}()
	for {
		select {
		case m := <-done:
			return m.vm, nil, m.err
		case sig = <-l.signals:
			if !asksToStop(sig) {
				continue
			}
		case o := <-l.orders:
			if !o.stop {
				continue
			}
			sig = syscall.SIGTERM
		}
		l.endForGood()
		cancel()
		if m := <-done; m.err == nil {
			m.vm.Close()
		}
		return nil, sig, nil
	}
}

// startServices listens on the ports that the guest connects to and serves
// them until ctx ends.
func startServices(ctx context.Context, wg *sync.WaitGroup, s *supervisor, pl *plan, stdin *os.File) error {
	return errors.Join(
		s.listen(ctx, wg, wire.PortManifest, func(ln net.Listener) error { return manifest.Serve(ctx, ln, pl.manifest) }),
		s.listen(ctx, wg, wire.PortControl, func(ln net.Listener) error { return s.control.Serve(ctx, ln) }),
		s.listen(ctx, wg, wire.PortConsole, func(ln net.Listener) error {
			err := console.Serve(ctx, ln, console.Streams{
				Stdin: stdin, Stdout: s.stdout, Stderr: s.life.stderr, Terminal: s.term != nil,
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
