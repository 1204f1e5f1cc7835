package app

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bake/internal/hypervisor/fake"
	"bake/internal/instance"
	"bake/internal/payload"
	"bake/internal/wire"
)

// exits has the container of one boot end with a code, or, when it is negative,
// the guest's kernel panic.
func exits(a *agent, code int) {
	if code < 0 {
		a.Panic()
		return
	}
	a.end(wire.GuestMessage{Type: wire.GuestExit, Code: code})
}

func TestRestarts(t *testing.T) {
	for name, tt := range map[string]struct {
		policy Restart
		// codes are how the container ends each time; the last one is that of
		// the run.
		codes []int
	}{
		"no":                        {Restart{Mode: RestartNo}, []int{3}},
		"nothing said":              {Restart{}, []int{3}},
		"on failure, until none":    {Restart{Mode: RestartOnFailure}, []int{1, 2, 0}},
		"on failure, so often":      {Restart{Mode: RestartOnFailure, Max: 2}, []int{1, 2, 3}},
		"a VM that fails":           {Restart{Mode: RestartOnFailure}, []int{1, -1, 0}},
		"a VM that fails, the last": {Restart{Mode: RestartOnFailure, Max: 1}, []int{1, -1}},
		"a VM that fails at once":   {Restart{Mode: RestartOnFailure, Max: 1}, []int{-1, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			ownRegister(t)
			instanceName := named(t)
			boots := 0
			r := runKnown(t, payload.Manifest{}, Options{Name: instanceName, Restart: tt.policy}, func(ctx context.Context, vm *fake.Machine) {
				if i := find(t, instanceName); i.Restarts != boots || i.State != instance.StateStarting {
					t.Errorf("at boot %d it is %+v", boots, i.Info)
				}
				code := 99
				if boots < len(tt.codes) {
					code = tt.codes[boots]
				}
				boots++
				a := container(t, vm)
				a.output(wire.Stdout, "x")
				exits(a, code)
			})
			if boots != len(tt.codes) {
				t.Errorf("%d boots, want %d", boots, len(tt.codes))
			}
			if want := tt.codes[len(tt.codes)-1]; want < 0 {
				r.wantError(t, CodeFailed, "panicked")
			} else if r.err != nil || r.code != want {
				t.Errorf("got %+v, want code %d", r, want)
			}
			// Every container's output arrives, not the first one's alone.
			if r.stdout != strings.Repeat("x", boots) {
				t.Errorf("the output is %q of %d boots", r.stdout, boots)
			}
		})
	}
}

// What never ran is not started again, whatever the policy.
func TestFirstFailureIsTheLast(t *testing.T) {
	boots := 0
	r := runGuest(t, payload.Manifest{}, Options{Restart: Restart{Mode: RestartAlways}}, func(ctx context.Context, vm *fake.Machine) {
		boots++
		boot(t, vm).end(wire.GuestMessage{Type: wire.GuestFailed, Code: 127, Message: "no such command"})
	})
	r.wantError(t, 127, "no such command")
	if boots != 1 {
		t.Errorf("%d boots", boots)
	}
}

// What ends a container of "always" for good.
func TestAlwaysUntilItIsStopped(t *testing.T) {
	for name, stop := range map[string]struct {
		ask  func(i instance.Instance) error
		code int
	}{
		"stop":        {func(i instance.Instance) error { return i.Stop(context.Background(), time.Hour) }, 143},
		"SIGKILL":     {func(i instance.Instance) error { return i.Signal(context.Background(), "KILL") }, 137},
		"stop signal": {func(i instance.Instance) error { return i.Signal(context.Background(), "quit") }, 131},
	} {
		t.Run(name, func(t *testing.T) {
			ownRegister(t)
			instanceName := named(t)
			m := payload.Manifest{Process: payload.Process{StopSignal: "SIGQUIT"}}
			var boots atomic.Int32
			asked := make(chan error, 1)
			r := runKnown(t, m, Options{Name: instanceName, Restart: Restart{Mode: RestartUnlessStopped}}, func(ctx context.Context, vm *fake.Machine) {
				a := container(t, vm)
				if boots.Add(1) == 1 {
					exits(a, 0)
					return
				}
				i := await(t, instanceName, "running again", func(i instance.Info) bool { return i.State == instance.StateRunning && i.Restarts == 1 })
				go func() { asked <- stop.ask(i) }()
				a.hear()
				await(t, instanceName, "stopping", isState(instance.StateStopping))
				exits(a, stop.code)
			})
			if r.err != nil || r.code != stop.code || boots.Load() != 2 {
				t.Errorf("%d boots, %+v", boots.Load(), r)
			}
			if err := <-asked; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	want := firstPause
	for range 20 {
		if got := b.pause(steady - 1); got != want {
			t.Errorf("a pause of %v, want %v", got, want)
		}
		want = min(2*want, lastPause)
	}
	if got := b.pause(steady); got != firstPause {
		t.Errorf("after a steady run the pause is %v", got)
	}
	if got := b.pause(0); got != 2*firstPause {
		t.Errorf("and then %v", got)
	}
}

// Two Ctrl-C kill at once, at a second boot too.
func TestInterruptsAfterARestart(t *testing.T) {
	ownRegister(t)
	name := named(t)
	signals := make(chan os.Signal, 2)
	boots := 0
	r := runRegistered(t, payload.Manifest{}, Options{Name: name, Restart: Restart{Mode: RestartAlways}}, signals, func(ctx context.Context, vm *fake.Machine, _ *live) {
		a := container(t, vm)
		if boots++; boots == 1 {
			exits(a, 0)
			return
		}
		await(t, name, "running again", isState(instance.StateRunning))
		signals <- syscall.SIGINT
		if m := a.hear(); m.Signal != "SIGINT" {
			t.Errorf("SIGINT became %+v", m)
		}
		signals <- syscall.SIGINT
		a.listen() // until the VM is ended
	})
	if r.err != nil || r.code != 130 || boots != 2 {
		t.Errorf("%d boots, %+v", boots, r)
	}
}
