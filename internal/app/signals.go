package app

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that go to the container. SIGWINCH is handled as a
// resize when there is a terminal. SIGPIPE is ignored: a write that fails with
// EPIPE closes the container's stream instead.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
}

// catchSignals returns the signals to handle, until stop is called.
func catchSignals() (c chan os.Signal, stop func()) {
	c = make(chan os.Signal, 16)
	signal.Ignore(syscall.SIGPIPE)
	for _, s := range forwarded {
		// Who started us with nohup(1) wants no hang-up to count.
		if s != syscall.SIGHUP || !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return c, func() { signal.Stop(c) }
}

// asksToStop says which signals end the container: its StopSignal is sent for
// them, and SIGKILL when it has not ended after the stop timeout.
func asksToStop(s os.Signal) bool {
	return s == syscall.SIGINT || s == syscall.SIGTERM || s == syscall.SIGHUP
}

// signalName is the Linux name of a host's signal.
func signalName(s os.Signal) string {
	if s, ok := s.(syscall.Signal); ok {
		return unix.SignalName(s)
	}
	return s.String()
}

// signalCode is the exit code of a process that ended by s.
func signalCode(s os.Signal) int {
	if s, ok := s.(syscall.Signal); ok {
		return codeSignal + int(s)
	}
	return CodeFailed
}
