package app

import (
	"cmp"
	"os"
	"strings"
	"syscall"
	"time"

	"bake/internal/wire"
)

// sigkill is what ends a container that does not end by itself.
const sigkill = "SIGKILL"

// defaultStopSignal is that of an image which names none.
const defaultStopSignal = "SIGTERM"

// signal handles one signal to the app. done is true when the run is over.
func (s *supervisor) signal(sig os.Signal, gone <-chan vmExit) (done bool, code int) {
	if sig == syscall.SIGWINCH {
		if s.term != nil {
			rows, cols := s.term.size()
			s.send(wire.HostMessage{Type: wire.HostResize, Rows: rows, Cols: cols})
		}
		return false, 0
	}
	if sig == syscall.SIGINT {
		s.interrupts++
	}
	if asksToStop(sig) {
		return s.stop(sig, s.options.StopTimeout, gone)
	}
	s.send(wire.HostMessage{Type: wire.HostSignal, Signal: signalName(sig)})
	return false, 0
}

// obey does what another process asked for.
func (s *supervisor) obey(o order, gone <-chan vmExit) (done bool, code int) {
	timeout := s.options.StopTimeout
	switch {
	case o.stop && o.timeout >= 0:
		timeout = o.timeout
		fallthrough
	case o.stop:
		return s.stop(syscall.SIGTERM, timeout, gone)
	case o.signal == sigkill || o.signal == "9":
		s.life.endForGood()
		if !s.started {
			s.kill(gone)
			return true, signalCode(syscall.SIGKILL)
		}
		s.killWithin(shutdownTimeout, true)
	case o.signal == cmp.Or(strings.ToUpper(s.stopSignal), defaultStopSignal):
		s.life.endForGood()
	}
	s.send(wire.HostMessage{Type: wire.HostSignal, Signal: o.signal})
	return false, 0
}

// stop asks the container to end, because of sig, and has it killed if it has
// not after the timeout.
func (s *supervisor) stop(sig os.Signal, timeout time.Duration, gone <-chan vmExit) (done bool, code int) {
	s.life.endForGood()
	if !s.started || s.interrupts > 1 {
		// Nothing runs yet that could end in good order, or the user insists.
		s.kill(gone)
		return true, signalCode(sig)
	}
	s.killWithin(timeout, false)
	s.send(wire.HostMessage{Type: wire.HostSignal, Signal: cmp.Or(s.stopSignal, signalName(sig))})
	return false, 0
}

// killWithin sets the time to kill the container or, with lastChance, the guest.
// One that is set already only comes nearer.
func (s *supervisor) killWithin(d time.Duration, lastChance bool) {
	due := time.Now().Add(d)
	if s.lastChance || s.deadline != nil && !lastChance && s.due.Before(due) {
		return
	}
	s.deadline, s.due, s.lastChance = time.After(d), due, lastChance
}
