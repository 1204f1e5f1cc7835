package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/service/control"
	"bake/internal/wire"
)

// shutdownTimeout is how long a guest may take to power off once it has
// reported its end, before it is forced.
const shutdownTimeout = 5 * time.Second

// A supervisor watches one running VM until it ends.
type supervisor struct {
	vm         hypervisor.VM
	options    Options
	stopSignal string
	memoryMiB  int
	control    *control.Control
	tail       *consoleTail
	term       *terminal // nil in pipe mode
	stderr     io.Writer
	signals    <-chan os.Signal
	console    chan error
	// lost takes why the VM cannot go on without what the host gave it.
	lost chan error

	started    bool          // the container's process runs
	running    chan struct{} // closed when it does
	asked      os.Signal     // the first signal that asked it to stop
	interrupts int           // how many SIGINT came
	// deadline is when the container, or with lastChance the guest, is killed.
	deadline   <-chan time.Time
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
	boot := time.NewTimer(s.options.BootTimeout)
	defer boot.Stop()
	events := s.control.Events()
	for {
		select {
		case m, ok := <-events:
			if !ok {
				// The agent is gone; the VM follows, or is made to.
				events = nil
				s.lastChance = true
				s.deadline = time.After(shutdownTimeout)
				continue
			}
			boot.Stop()
			switch m.Type {
			case wire.GuestStarted:
				if !s.started {
					s.started = true
					close(s.running)
				}
			case wire.GuestLog:
				if s.options.Verbose {
					warn(s.stderr, "guest: %s", printable([]byte(m.Message)))
				}
			case wire.GuestWarning:
				warn(s.stderr, "guest: %s", printable([]byte(m.Message)))
			case wire.GuestExit, wire.GuestFailed:
				return s.finish(ctx, m, gone)
			}
		case sig := <-s.signals:
			if done, code, err := s.signal(ctx, sig, gone); done {
				return code, err
			}
		case <-s.deadline:
			s.deadline = nil
			if s.lastChance {
				s.kill(gone)
				return s.unreported(vmExit{exit: hypervisor.Exit{Reason: "the guest stopped answering and was killed"}})
			}
			// SIGKILL inside; a guest that does not even report that is
			// killed as a whole.
			s.send(wire.HostMessage{Type: wire.HostSignal, Signal: "SIGKILL"})
			s.lastChance = true
			s.deadline = time.After(shutdownTimeout)
		case <-boot.C:
			s.kill(gone)
			return 0, failf("the guest did not report within %v of its start; run it with --verbose to see how far it came%s", s.options.BootTimeout, s.hint())
		case err := <-s.lost:
			s.kill(gone)
			return 0, &Error{Code: CodeFailed, Err: err}
		case e := <-gone:
			return s.unreported(e)
		case <-ctx.Done():
			s.kill(gone)
			return 0, failf("the run was cancelled: %w", context.Cause(ctx))
		}
	}
}

// signal handles one signal to the app. done is true when the run is over.
func (s *supervisor) signal(ctx context.Context, sig os.Signal, gone <-chan vmExit) (done bool, code int, err error) {
	if sig == syscall.SIGWINCH {
		if s.term != nil {
			rows, cols := s.term.size()
			s.send(wire.HostMessage{Type: wire.HostResize, Rows: rows, Cols: cols})
		}
		return false, 0, nil
	}
	if sig == syscall.SIGINT {
		s.interrupts++
	}
	if asksToStop(sig) && (!s.started || s.interrupts > 1) {
		// Nothing runs yet that could end in good order, or the user insists.
		s.kill(gone)
		return true, signalCode(sig), nil
	}
	name := signalName(sig)
	if asksToStop(sig) {
		if s.stopSignal != "" {
			name = s.stopSignal
		}
		if s.asked == nil {
			s.asked = sig
			s.deadline = time.After(s.options.StopTimeout)
		}
	}
	s.send(wire.HostMessage{Type: wire.HostSignal, Signal: name})
	return false, 0, nil
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
		case <-s.signals:
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
