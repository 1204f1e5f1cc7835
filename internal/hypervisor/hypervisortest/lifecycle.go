package hypervisortest

import (
	"context"
	"sync"
	"testing"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

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

func (s suite) stopWhileBooting(t *testing.T) {
	m := s.new(t)
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
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
	m := s.boot(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
	wantStopped(t, m)
}

func (s suite) stopAfterEnd(t *testing.T) {
	m := s.boot(t, nil)
	exit := m.End(t, testguest.OpPowerOff)
	if err := m.Stop(t.Context()); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if again := m.WaitEnd(t); again != exit {
		t.Errorf("after Stop the exit is %+v, was %+v", again, exit)
	}
}

func (s suite) startTwice(t *testing.T) {
	m := s.boot(t, nil)
	if err := m.Start(t.Context()); err == nil {
		t.Error("a VM that runs starts again")
	}
	if _, err := m.echo("still there"); err != nil {
		t.Errorf("after the second Start: %v", err)
	}
	m.End(t, testguest.OpPowerOff)
	if err := m.Start(t.Context()); err == nil {
		t.Error("a VM that has ended starts again")
	}
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
