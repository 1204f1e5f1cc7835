package hypervisortest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

// life goes through all states, and does everything that is too early or too
// late in between.
func (s suite) life(t *testing.T) {
	m := s.new(t)
	states := []hypervisor.State{m.State()}
	if conn, err := m.Dial(testguest.PortEcho); err == nil {
		t.Error("a VM that does not run takes connections")
		conn.Close()
	}
	m.StartAndWait(t)
	states = append(states, m.State())
	if err := m.Start(t.Context()); err == nil {
		t.Error("a VM that runs starts again")
	}
	if back, err := m.echo("still there"); err != nil || back != "still there" {
		t.Errorf("after the second Start: %q, %v", back, err)
	}
	exit := m.lastBytesArrive(t)
	states = append(states, m.State())
	if want := []hypervisor.State{hypervisor.StateNew, hypervisor.StateRunning, hypervisor.StateStopped}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	if !exit.Clean || exit.Reason != "" {
		t.Errorf("after a power-off: exit %+v, want clean", exit)
	}
	if err := m.Start(t.Context()); err == nil {
		t.Error("a VM that has ended starts again")
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Errorf("Stop of a VM that has ended: %v", err)
	}
	for range 2 {
		if again := m.WaitEnd(t); again != exit {
			t.Errorf("Wait says %+v and then %+v", exit, again)
		}
	}
}

func (s suite) rebootWithoutConsole(t *testing.T) {
	m := s.boot(t, func(c *hypervisor.Config) { c.Console = nil })
	m.MustAsk(t, testguest.Request{Op: testguest.OpPrint, Text: "nobody reads this\n"})
	if exit := m.End(t, testguest.OpReboot); !exit.Clean || exit.Reason != "" {
		t.Errorf("after a reboot: exit %+v, want clean", exit)
	}
}

func (s suite) panics(t *testing.T) {
	m := s.boot(t, nil)
	m.End(t, testguest.OpPanic) // clean or not: a panic looks like a reboot
	if !strings.Contains(m.Console.String(), "Kernel panic") {
		t.Errorf("the console does not say that the kernel panicked:\n%s", m.Console)
	}
}

// wantStopped checks a VM that was stopped from outside.
func wantStopped(t *testing.T, m *Machine) {
	t.Helper()
	if state := m.State(); state != hypervisor.StateStopped {
		t.Errorf("state %v, want stopped", state)
	}
	if exit := m.WaitEnd(t); exit.Clean || exit.Reason == "" {
		t.Errorf("exit %+v, want not clean, with a reason", exit)
	}
}

func (s suite) stopBeforeStart(t *testing.T) {
	m := s.new(t)
	for range 2 {
		if err := m.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	wantStopped(t, m)
	if err := m.Start(t.Context()); err == nil {
		t.Error("a VM that was stopped starts")
	}
}

func (s suite) stopWhileStarting(t *testing.T) {
	for range 5 {
		m := s.new(t)
		var wg sync.WaitGroup
		wg.Go(func() { m.Start(t.Context()) }) // an error or none, as it comes
		wg.Go(func() {
			if err := m.Stop(t.Context()); err != nil {
				t.Errorf("Stop: %v", err)
			}
		})
		wg.Wait()
		wantStopped(t, m)
	}
}

// start starts a VM and does not wait for its guest.
func (s suite) start(t *testing.T) *Machine {
	t.Helper()
	m := s.new(t)
	if err := m.Start(t.Context()); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return m
}

func (s suite) stopWhileBooting(t *testing.T) {
	m := s.start(t)
	if err := m.Stop(t.Context()); err != nil {
		t.Errorf("Stop: %v", err)
	}
	wantStopped(t, m)
}

func (s suite) stopRunning(t *testing.T) {
	m := s.boot(t, nil)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := m.Stop(t.Context()); err != nil {
				t.Errorf("Stop: %v", err)
			}
		})
	}
	wg.Wait()
	wantStopped(t, m)
}

func (s suite) stopWithoutTime(t *testing.T) {
	m := s.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
	wantStopped(t, m)
}

func (s suite) startWithoutTime(t *testing.T) {
	m := s.new(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Start(ctx); err == nil {
		t.Error("Start takes a context that has ended")
	}
	wantStopped(t, m)
}

func (s suite) closeRunning(t *testing.T) {
	m := s.boot(t, nil)
	for range 2 {
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	wantStopped(t, m)
}

func (s suite) closeWhileBooting(t *testing.T) {
	m := s.start(t)
	if err := m.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wantStopped(t, m)
}
