package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/service/control"
	"bake/internal/wire"
)

// shutdownTimeout is how long a guest may take to power off once it has
// reported its end, before it is forced.
const shutdownTimeout = 5 * time.Second

// lastWordsTimeout is how long messages of a VM that is gone are waited for when
// none has come yet.
const lastWordsTimeout = 100 * time.Millisecond

// A supervisor watches one running VM until it ends.
type supervisor struct {
	life       *life
	vm         hypervisor.VM
	options    Options
	stopSignal string
	memoryMiB  int
	health     *wire.Health // nil if it is not tested
	control    *control.Control
	pulse      *pulse
	tail       *consoleTail
	term       *terminal // nil in pipe mode
	stdout     io.Writer // the container's
	stderr     io.Writer // what bake itself says
	console    chan error
	// lost takes why the VM cannot go on without what the host gave it.
	lost chan error

	reported   bool          // the agent has said something
	started    bool          // the container's process runs
	running    chan struct{} // closed when it does
	done       chan struct{} // closed when the VM is gone
	interrupts int           // how many SIGINT came
	// deadline is when the container, or with lastChance the guest, is killed;
	// due is that time.
	deadline   <-chan time.Time
	due        time.Time
	lastChance bool
}

// vmExit is what VM.Wait returned.
type vmExit struct {
	exit hypervisor.Exit
	err  error
}

// supervise returns the container's exit code, or an error with the code that
// tells of it. The VM is gone when it returns.
func (s *supervisor) supervise(ctx context.Context) (int, error) {
	gone := make(chan vmExit, 1)
	go func() {
		exit, err := s.vm.Wait()
		gone <- vmExit{exit, err}
	}()
	defer close(s.done)
	boot := time.NewTimer(s.options.BootTimeout)
	defer boot.Stop()
	var pinging sync.WaitGroup
	defer pinging.Wait()
	pingCtx, stopPinging := context.WithCancel(ctx)
	defer stopPinging()
	events := s.control.Events()
	for {
		select {
		case m, ok := <-events:
			if !ok {
				// The agent is gone; the VM follows, or is made to.
				events = nil
				stopPinging()
				s.killWithin(shutdownTimeout, true)
				continue
			}
			if boot.Stop(); !s.reported {
				s.reported = true
				tick := time.NewTicker(pingInterval)
				pinging.Go(func() {
					defer tick.Stop()
					s.pulse.run(pingCtx, tick.C)
				})
			}
			if s.take(m) {
				stopPinging()
				return s.finish(ctx, m, gone)
			}
		case sig := <-s.life.signals:
			if done, code := s.signal(sig, gone); done {
				return code, nil
			}
		case o := <-s.life.orders:
			if done, code := s.obey(o, gone); done {
				return code, nil
			}
		case <-s.deadline:
			s.deadline = nil
			if s.lastChance {
				s.kill(gone)
				return s.unreported(vmExit{exit: hypervisor.Exit{Reason: "the guest stopped answering and was killed"}})
			}
			// SIGKILL inside; a guest that does not even report that is
			// killed as a whole.
			s.send(wire.HostMessage{Type: wire.HostSignal, Signal: sigkill})
			s.killWithin(shutdownTimeout, true)
		case <-boot.C:
			s.kill(gone)
			return 0, failf("the guest did not report within %v of its start; run it with --verbose to see how far it came%s", s.options.BootTimeout, s.hint())
		case err := <-s.lost:
			s.kill(gone)
			return 0, &Error{Code: CodeFailed, Err: err}
		case e := <-gone:
			if m, ok := s.lastWords(events); ok {
				gone <- e
				return s.finish(ctx, m, gone)
			}
			return s.unreported(e)
		case <-ctx.Done():
			s.kill(gone)
			return 0, failf("the run was cancelled: %w", context.Cause(ctx))
		}
	}
}

// take takes what the guest says, and says whether it is its last report.
func (s *supervisor) take(m wire.GuestMessage) (last bool) {
	switch m.Type {
	case wire.GuestStarted:
		if !s.started {
			s.started = true
			close(s.running)
			s.life.runs(s.health)
		}
	case wire.GuestPong:
		s.pulse.pong(m)
	case wire.GuestHealth:
		s.healthIs(m)
	case wire.GuestLog:
		if s.options.Verbose {
			warn(s.stderr, "guest: %s", printable([]byte(m.Message)))
		}
	case wire.GuestWarning:
		warn(s.stderr, "guest: %s", printable([]byte(m.Message)))
	case wire.GuestExit, wire.GuestFailed:
		return true
	}
	return false
}

// lastWords takes what a guest that is gone had said before, which may be that
// the container runs, or the last report. An agent that never came said nothing,
// and its messages have no end to wait for.
func (s *supervisor) lastWords(events <-chan wire.GuestMessage) (m wire.GuestMessage, ok bool) {
	wait := lastWordsTimeout
	if s.reported {
		wait = shutdownTimeout
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for events != nil {
		select {
		case m, ok := <-events:
			switch {
			case !ok:
				events = nil
			case s.take(m):
				return m, true
			}
		case <-limit.C:
			events = nil
		}
	}
	return m, false
}

// healthIs takes the guest's word for the container's health.
func (s *supervisor) healthIs(m wire.GuestMessage) {
	switch m.Health {
	case wire.HealthStarting, wire.HealthHealthy, wire.HealthUnhealthy:
		s.life.healthIs(m.Health)
		s.verbose("the container is %s: %s", m.Health, printable([]byte(m.Message)))
	}
}

// leaveTerminal gives the terminal back as soon as the container no longer has
// it, so that what follows is printed as usual.
func (s *supervisor) leaveTerminal() {
	if s.term == nil {
		return
	}
	s.term.restore()
	if raw, ok := s.stderr.(*rawWriter); ok {
		raw.cooked.Store(true)
	}
}

// verbose says a line that only --verbose shows.
func (s *supervisor) verbose(format string, args ...any) {
	if s.options.Verbose {
		warn(s.stderr, format, args...)
	}
}

func (s *supervisor) send(m wire.HostMessage) {
	if err := s.control.Send(m); err != nil && s.options.Verbose {
		warn(s.stderr, "%v", err)
	}
}

// finish handles the guest's last report: it lets the guest power off and
// waits for that and for the streams.
func (s *supervisor) finish(ctx context.Context, m wire.GuestMessage, gone <-chan vmExit) (int, error) {
	if m.Type == wire.GuestExit {
		// The agent reports once the host took all output; this only waits
		// for the host's own last write.
		select {
		case err := <-s.console:
			if err != nil {
				warn(s.stderr, "%v", err)
			}
		case <-time.After(shutdownTimeout):
		case <-ctx.Done():
		}
	}
	s.leaveTerminal()
	if s.options.NoReboot {
		warn(s.stderr, "the container ended with exit code %d and the guest is kept, as BAKE_NO_REBOOT asks; press Ctrl-C to end it", m.Code)
		select {
		case <-s.life.signals:
		case <-s.life.orders:
		case <-gone:
		case <-ctx.Done():
		}
	}
	s.send(wire.HostMessage{Type: wire.HostDone})
	select {
	case <-gone:
	case <-time.After(shutdownTimeout):
		s.kill(gone)
	case <-ctx.Done():
		s.kill(gone)
	}
	code := m.Code
	if code < 0 || code > 255 {
		code = CodeFailed
	}
	if m.Type == wire.GuestFailed {
		if code == 0 {
			code = CodeFailed
		}
		err := errors.New(printable([]byte(m.Message)) + s.hint())
		if m.Again && !s.started {
			err = &bootAgainError{err}
		}
		return 0, &Error{Code: code, Err: err}
	}
	if m.OutOfMemory {
		warn(s.stderr, "the guest ran out of memory and its kernel killed the container: it has %d MiB, give it more with --memory", s.memoryMiB)
	}
	return code, nil
}

// unreported explains a VM that ended before the agent told how the container
// did.
func (s *supervisor) unreported(e vmExit) (int, error) {
	reason, memory := crash(s.tail.bytes())
	switch {
	case memory:
		return 0, failf("the guest ran out of memory: it has %d MiB, give it more with --memory", s.memoryMiB)
	case reason != "":
		return 0, failf("%s; run it with --verbose to see the kernel's messages", reason)
	case e.err != nil:
		return 0, &Error{Code: CodeFailed, Err: fmt.Errorf("the VM failed: %w", e.err)}
	case !e.exit.Clean && e.exit.Reason != "":
		return 0, failf("the VM ended before the container did: %s", e.exit.Reason)
	}
	return 0, failf("the guest powered off without telling how the container ended; run it with --verbose to see why")
}

// hint adds what the kernel's console tells about a failure.
func (s *supervisor) hint() string {
	reason, memory := crash(s.tail.bytes())
	switch {
	case memory:
		return fmt.Sprintf(" (the guest ran out of memory: it has %d MiB, give it more with --memory)", s.memoryMiB)
	case reason != "":
		return " (" + reason + ")"
	}
	return ""
}

// kill ends the VM by force and waits for it.
func (s *supervisor) kill(gone <-chan vmExit) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.vm.Stop(ctx)
	<-gone
}
