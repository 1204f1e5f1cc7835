package app

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/hypervisor/fake"
	"bake/internal/instance"
	"bake/internal/payload"
	"bake/internal/platform"
	"bake/internal/relay"
	"bake/internal/service/ssh"
	"bake/internal/wire"
)

// ownRegister gives the test a register of instances, and a store of ended ones,
// that nobody else is in.
func ownRegister(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "li") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
}

// named makes an instance's name that no other test's instance has: there is more
// than one register on a machine.
func named(t *testing.T) string {
	return strings.ReplaceAll(t.Name(), "/", ".") + "-" + filepath.Base(t.TempDir())
}

// find looks an instance up by its name.
func find(t *testing.T, name string) instance.Instance {
	i, err := instance.Find(instance.Query{Name: name})
	if err != nil {
		t.Errorf("find it: %v", err)
	}
	return i
}

// container is a guest whose container runs.
func container(t *testing.T, m *fake.Machine) *agent {
	a := boot(t, m)
	a.say(wire.GuestMessage{Type: wire.GuestStarted})
	return a
}

// await waits until the instance is as it should be. Its file is all that there
// is to look at.
func await(t *testing.T, name string, what string, is func(instance.Info) bool) instance.Instance {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if i, err := instance.Find(instance.Query{Name: name}); err == nil && is(i.Info) {
			return i
		}
	}
	t.Errorf("it was never seen %s", what)
	return instance.Instance{}
}

func isState(s instance.State) func(instance.Info) bool {
	return func(i instance.Info) bool { return i.State == s }
}

func TestInstanceIsKnown(t *testing.T) {
	ownRegister(t)
	name := named(t)
	m := payload.Manifest{
		Image:   payload.Image{Ref: "example/web:1"},
		Process: payload.Process{Cmd: []string{"serve"}, Healthcheck: &payload.Healthcheck{Test: []string{"CMD", "true"}}},
	}
	ended := make(chan instance.Exit, 1)
	r := runKnown(t, m, Options{Name: name, MemoryMiB: 99, Restart: Restart{Mode: RestartOnFailure, Max: 3}}, func(ctx context.Context, vm *fake.Machine) {
		a := boot(t, vm)
		i := find(t, name)
		if i.State != instance.StateStarting || i.PID != os.Getpid() || i.Image != "example/web:1" || i.Command[0] != "serve" ||
			i.Hypervisor != "fake" || i.MemoryMiB != 99 || len(i.App) != 64 || i.Restart != "on-failure:3" || i.Detached || i.Health != "" {
			t.Errorf("while it boots it is %+v", i.Info)
		}
		if a.manifest.Health == nil || a.manifest.Health.Test[1] != "true" || a.manifest.Health.Retries != healthRetries {
			t.Errorf("the guest is told to test %+v", a.manifest.Health)
		}
		a.say(wire.GuestMessage{Type: wire.GuestStarted})
		await(t, name, "running", func(i instance.Info) bool {
			return i.State == instance.StateRunning && i.Health == wire.HealthStarting
		})
		a.say(wire.GuestMessage{Type: wire.GuestHealth, Health: "sick\x1b"})
		a.say(wire.GuestMessage{Type: wire.GuestHealth, Health: wire.HealthHealthy})
		await(t, name, "healthy", func(i instance.Info) bool { return i.Health == wire.HealthHealthy })
		go func() {
			exit, err := i.Wait(context.Background())
			if err != nil {
				t.Error(err)
			}
			ended <- exit
		}()
		go i.Stop(context.Background(), time.Hour)
		if m := a.hear(); m.Type != wire.HostSignal || m.Signal != "SIGTERM" {
			t.Errorf("it was stopped by %+v", m)
		}
		await(t, name, "stopping", isState(instance.StateStopping))
		a.end(wire.GuestMessage{Type: wire.GuestExit, Code: 6})
	})
	if r.err != nil || r.code != 6 {
		t.Errorf("got %+v", r)
	}
	if exit := <-ended; exit.Code != 6 {
		t.Errorf("who waited was told %+v", exit)
	}
	if _, err := instance.Find(instance.Query{Name: name}); !errors.Is(err, instance.ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
}

// runKnown is runGuest in the test's own register.
func runKnown(t *testing.T, m payload.Manifest, o Options, guest func(context.Context, *fake.Machine)) result {
	t.Helper()
	return runRegistered(t, m, o, make(chan os.Signal), func(ctx context.Context, vm *fake.Machine, _ *live) { guest(ctx, vm) })
}

// What others ask a running one for.
func TestInstanceIsAsked(t *testing.T) {
	ownRegister(t)
	name := named(t)
	r := runKnown(t, payload.Manifest{}, Options{Name: name}, func(ctx context.Context, vm *fake.Machine) {
		a := container(t, vm)
		i := await(t, name, "running", isState(instance.StateRunning))
		if a.manifest.SSH == nil || len(a.manifest.SSH.HostKey) != 32 || len(a.manifest.SSH.ClientKey) != 32 {
			t.Errorf("the guest has the keys %+v", a.manifest.SSH)
		}
		key, err := i.Key(ctx)
		if err != nil || !slices.Equal(key.Public().(ed25519.PublicKey), a.manifest.SSH.ClientKey) {
			t.Errorf("key: %v", err)
		}
		for path, want := range map[string]string{i.AgentSocket(): ssh.AgentSocket, i.KnownHosts(): ssh.KnownHostsFile} {
			if _, err := os.Stat(path); err != nil || filepath.Base(path) != want {
				t.Errorf("%s: %v", path, err)
			}
		}

		// The way to the server leads there also when that begins to listen later.
		dialed := make(chan error, 1)
		go func() {
			conn, err := i.DialSSH(ctx)
			if err == nil {
				var got []byte
				if got, err = io.ReadAll(conn); string(got) != "SSH-2.0" {
					t.Errorf("the server said %q", got)
				}
				conn.Close()
			}
			dialed <- err
		}()
		ln, err := vm.Listen(wire.PortSSH)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "SSH-2.0")
		conn.(relay.Conn).CloseWrite()
		if err := <-dialed; err != nil {
			t.Error(err)
		}

		// Pings go on meanwhile; one asks for what is used.
		counted := make(chan instance.Stats, 1)
		go func() {
			s, err := i.Stats(ctx)
			if err != nil {
				t.Error(err)
			}
			counted <- s
		}()
		for want := false; !want; {
			m, err := wire.ReadHostMessage(a.control)
			if err != nil || m.Type != wire.HostPing || m.UnixNano == 0 {
				t.Fatalf("the host said %+v, %v", m, err)
			}
			pong := wire.GuestMessage{Type: wire.GuestPong}
			if want = m.WantStats; want {
				pong.Stats = &wire.Stats{PIDs: 7}
			}
			a.say(pong)
		}
		if s := <-counted; s.Guest.PIDs != 7 || s.HostMemory == 0 {
			t.Errorf("it uses %+v", s)
		}

		if err := i.Signal(ctx, "usr1"); err != nil {
			t.Error(err)
		}
		if m := a.hear(); m.Type != wire.HostSignal || m.Signal != "SIGUSR1" {
			t.Errorf("the signal became %+v", m)
		}
		if err := i.Signal(ctx, "SIG\nX"); err == nil || !strings.Contains(err.Error(), "is no signal") {
			t.Errorf("a signal that is none: %v", err)
		}
		if err := i.Signal(ctx, "SIGKILL"); err != nil {
			t.Error(err)
		}
		if m := a.hear(); m.Type != wire.HostSignal || m.Signal != "SIGKILL" {
			t.Errorf("the signal became %+v", m)
		}
		a.end(wire.GuestMessage{Type: wire.GuestExit, Code: 137, Signal: "SIGKILL"})
	})
	if r.err != nil || r.code != 137 {
		t.Errorf("got %+v", r)
	}
}

// A guest without a server says so, and has no keys.
func TestNoSSH(t *testing.T) {
	ownRegister(t)
	name := named(t)
	r := runKnown(t, payload.Manifest{}, Options{Name: name, NoSSH: true}, func(ctx context.Context, vm *fake.Machine) {
		a := container(t, vm)
		if a.manifest.SSH != nil {
			t.Errorf("the guest has the keys %+v", a.manifest.SSH)
		}
		i := find(t, name)
		if _, err := i.DialSSH(ctx); err == nil || !strings.Contains(err.Error(), "--no-ssh") {
			t.Errorf("dial: %v", err)
		}
		if _, err := i.Key(ctx); err == nil || !strings.Contains(err.Error(), "no SSH server") {
			t.Errorf("key: %v", err)
		}
		a.end(wire.GuestMessage{Type: wire.GuestExit})
	})
	if r.err != nil || r.code != 0 {
		t.Errorf("got %+v", r)
	}
}

// One that only boots is stopped at once, by others as by a signal.
func TestStopWhileItBoots(t *testing.T) {
	ownRegister(t)
	for code, ask := range map[int]func(context.Context, instance.Instance) error{
		143: func(ctx context.Context, i instance.Instance) error { return i.Stop(ctx, -1) },
		137: func(ctx context.Context, i instance.Instance) error { return i.Signal(ctx, "9") },
	} {
		name := named(t)
		asked := make(chan error, 1)
		r := runKnown(t, payload.Manifest{}, Options{Name: name, Restart: Restart{Mode: RestartAlways}}, func(ctx context.Context, vm *fake.Machine) {
			boot(t, vm)
			i := find(t, name)
			go func() {
				// The order is taken when the boot is on its way.
				err := ask(context.Background(), i)
				for err != nil && strings.Contains(err.Error(), "does not run") {
					err = ask(context.Background(), i)
				}
				asked <- err
			}()
			<-ctx.Done()
		})
		if r.err != nil || r.code != code {
			t.Errorf("got %+v, want code %d", r, code)
		}
		if err := <-asked; err != nil {
			t.Error(err)
		}
	}
}

// One that does not end is killed in the time that the one who stops it gives it,
// be it shorter than another one's before.
func TestStopWithin(t *testing.T) {
	ownRegister(t)
	name := named(t)
	r := runKnown(t, payload.Manifest{}, Options{Name: name, StopTimeout: time.Hour}, func(ctx context.Context, vm *fake.Machine) {
		a := container(t, vm)
		i := await(t, name, "running", isState(instance.StateRunning))
		for _, timeout := range []time.Duration{-1, time.Millisecond} {
			go i.Stop(context.Background(), timeout)
			if m := a.hear(); m.Signal != "SIGTERM" {
				t.Errorf("it was stopped by %+v", m)
			}
		}
		if m := a.hear(); m.Signal != "SIGKILL" {
			t.Errorf("after the timeout came %+v", m)
		}
		a.end(wire.GuestMessage{Type: wire.GuestExit, Code: 137})
	})
	if r.err != nil || r.code != 137 {
		t.Errorf("got %+v", r)
	}
}

func TestKeptInstance(t *testing.T) {
	ownRegister(t)
	name := named(t)
	r := runKnown(t, payload.Manifest{}, Options{Name: name, Keep: true}, func(ctx context.Context, vm *fake.Machine) {
		boot(t, vm).end(wire.GuestMessage{Type: wire.GuestFailed, Code: 127, Message: "no such command"})
	})
	r.wantError(t, 127, "no such command")
	e, err := instance.FindEnded(instance.Query{Name: name})
	if err != nil || e.Exit.Code != 127 || !strings.Contains(e.Exit.Error, "no such command") {
		t.Errorf("kept %+v, %v", e, err)
	}
}

func TestNameInUse(t *testing.T) {
	ownRegister(t)
	name := named(t)
	dir, err := platform.NewRunDir()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	other, err := instance.Register(dir, instance.Info{Name: name}, handler{&life{}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(instance.Exit{})
	r := runKnown(t, payload.Manifest{}, Options{Name: name}, func(context.Context, *fake.Machine) { t.Error("it boots") })
	r.wantError(t, CodeFailed, "is in use")
}

func TestLinuxSignal(t *testing.T) {
	for in, want := range map[string]string{
		"SIGUSR1": "SIGUSR1", "usr1": "SIGUSR1", "SIGRTMIN+3": "SIGRTMIN+3", "rtmax-1": "SIGRTMAX-1", "9": "9",
		"": "", "SIG USR1": "", "../x": "", strings.Repeat("X", 33): "", "ß": "",
	} {
		got, err := linuxSignal(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestHealthOptions(t *testing.T) {
	image := &payload.Healthcheck{Test: []string{"CMD", "check"}, Interval: time.Minute, Retries: 9}
	for name, tt := range map[string]struct {
		image *payload.Healthcheck
		o     *HealthOptions
		want  *wire.Health
	}{
		"nothing":        {nil, nil, nil},
		"none":           {&payload.Healthcheck{Test: []string{"NONE"}}, nil, nil},
		"as the image":   {image, nil, &wire.Health{Test: image.Test, Interval: 60e9, Timeout: 30e9, StartInterval: 5e9, Retries: 9}},
		"disabled":       {image, &HealthOptions{Disable: true}, nil},
		"times alone":    {nil, &HealthOptions{Interval: time.Second}, nil},
		"another line":   {image, &HealthOptions{Cmd: "a b", Retries: 1}, &wire.Health{Test: []string{"CMD-SHELL", "a b"}, Interval: 60e9, Timeout: 30e9, StartInterval: 5e9, Retries: 1}},
		"other times":    {image, &HealthOptions{Interval: 1, Timeout: 2, StartPeriod: 3, StartInterval: 4}, &wire.Health{Test: image.Test, Interval: 1, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 9}},
		"one's own line": {&payload.Healthcheck{Test: []string{"NONE"}}, &HealthOptions{Cmd: "x"}, &wire.Health{Test: []string{"CMD-SHELL", "x"}, Interval: 30e9, Timeout: 30e9, StartInterval: 5e9, Retries: 3}},
	} {
		got := health(tt.image, tt.o)
		if (got == nil) != (tt.want == nil) || got != nil && (!slices.Equal(got.Test, tt.want.Test) || got.Interval != tt.want.Interval ||
			got.Timeout != tt.want.Timeout || got.StartPeriod != tt.want.StartPeriod || got.StartInterval != tt.want.StartInterval || got.Retries != tt.want.Retries) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// A signal that came while nothing ran ends it, and the others do not.
func TestRest(t *testing.T) {
	ownRegister(t)
	for name, tt := range map[string]struct {
		signals []os.Signal
		orders  []order
		cancel  bool
	}{
		"SIGTERM": {signals: []os.Signal{syscall.SIGUSR1, syscall.SIGWINCH, syscall.SIGTERM}},
		"Ctrl-C":  {signals: []os.Signal{syscall.SIGINT}},
		"stop":    {orders: []order{{signal: "SIGUSR1"}, {stop: true}}},
		"the end": {cancel: true},
	} {
		dir, err := platform.NewRunDir()
		if err != nil {
			t.Fatal(err)
		}
		signals := make(chan os.Signal, 8)
		l := &life{signals: signals, orders: make(chan order, 8), dir: dir, say: io.Discard}
		if l.reg, err = instance.Register(dir, instance.Info{}, handler{l}); err != nil {
			t.Fatal(err)
		}
		for _, s := range tt.signals {
			signals <- s
		}
		for _, o := range tt.orders {
			l.orders <- o
		}
		ctx, cancel := context.WithCancel(t.Context())
		if tt.cancel {
			cancel()
		}
		if l.rest(ctx, time.Hour) {
			t.Errorf("%s: it is to be started again", name)
		}
		cancel()
		l.reg.Close(instance.Exit{})
		dir.Close()
	}
}
