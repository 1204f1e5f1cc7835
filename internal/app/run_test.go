package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bake/internal/hypervisor/fake"
	"bake/internal/payload"
	"bake/internal/wire"
)

// testImage is an app with a tiny payload around it.
func testImage(t *testing.T, m payload.Manifest) *Image {
	t.Helper()
	m.Version = payload.ManifestVersion
	m.Target = payload.Target{OS: "linux", Arch: "amd64"}
	m.Rootfs.Type = "erofs"
	encoded, err := payload.EncodeManifest(&m)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	info, err := exe.Stat()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app")
	err = payload.Create(t.Context(), path, io.NewSectionReader(exe, 0, info.Size()), []payload.Source{
		payload.BytesSource(payload.PartManifest, encoded),
		payload.BytesSource(payload.PartKernel, []byte("kernel")),
		payload.BytesSource(payload.PartInitrd, []byte("initrd")),
		payload.BytesSource(payload.PartRootfs, bytes.Repeat([]byte("rootfs"), 1000)),
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := payload.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	img, err := OpenImage(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// An agent is the fake guest's end of the services.
type agent struct {
	t *testing.T
	*fake.Machine
	manifest *wire.BootManifest
	control  net.Conn
}

// boot does what the real agent does first.
func boot(t *testing.T, m *fake.Machine) *agent {
	a := &agent{t: t, Machine: m}
	conn, err := m.Dial(wire.PortManifest)
	if err != nil {
		t.Errorf("dial the manifest: %v", err)
		return a
	}
	defer conn.Close()
	if a.manifest, err = wire.ReadManifest(conn); err != nil {
		t.Error(err)
	}
	if a.control, err = m.Dial(wire.PortControl); err != nil {
		t.Errorf("dial the control port: %v", err)
	}
	a.say(wire.GuestMessage{Type: wire.GuestHello})
	return a
}

func (a *agent) say(m wire.GuestMessage) {
	if err := wire.WriteGuestMessage(a.control, m); err != nil {
		a.t.Errorf("say %q: %v", m.Type, err)
	}
}

// hear is what the host says next, but for its pings.
func (a *agent) hear() wire.HostMessage {
	m, err := a.listen()
	if err != nil {
		a.t.Errorf("hear the host: %v", err)
	}
	return m
}

func (a *agent) listen() (wire.HostMessage, error) {
	for {
		m, err := wire.ReadHostMessage(a.control)
		if err != nil || m.Type != wire.HostPing {
			return m, err
		}
	}
}

// output writes to one stream and waits until the host has it.
func (a *agent) output(s wire.Stream, text string) {
	conn, err := a.Dial(wire.PortConsole)
	if err != nil {
		a.t.Errorf("dial the console: %v", err)
		return
	}
	defer conn.Close()
	wire.WriteConsoleHello(conn, s)
	io.WriteString(conn, text)
	conn.(interface{ CloseWrite() error }).CloseWrite()
	io.Copy(io.Discard, conn)
}

// end reports m and waits for the leave to power off.
func (a *agent) end(m wire.GuestMessage) {
	if m.Type == wire.GuestExit {
		a.output(wire.Stdout, "")
		a.output(wire.Stderr, "")
	}
	a.say(m)
	if got := a.hear(); got.Type != wire.HostDone {
		a.t.Errorf("the host answered the report with %+v", got)
	}
	a.PowerOff()
}

// result is how one run ended.
type result struct {
	code           int
	err            error
	stdout, stderr string
}

// runGuest runs an app whose guest is a function, with the given signals
// waiting for it.
func runGuest(t *testing.T, m payload.Manifest, o Options, guest func(context.Context, *fake.Machine), signals ...os.Signal) result {
	t.Helper()
	c := make(chan os.Signal, len(signals))
	for _, s := range signals {
		c <- s
	}
	return runWatched(t, m, o, c, func(ctx context.Context, vm *fake.Machine, _ *live) { guest(ctx, vm) })
}

// runWatched is runGuest for guests that watch the app's stderr and signals.
func runWatched(t *testing.T, m payload.Manifest, o Options, signals <-chan os.Signal, guest func(context.Context, *fake.Machine, *live)) result {
	t.Helper()
	ownRegister(t)
	return runRegistered(t, m, o, signals, guest)
}

// runRegistered is runWatched in the register that the test has.
func runRegistered(t *testing.T, m payload.Manifest, o Options, signals <-chan os.Signal, guest func(context.Context, *fake.Machine, *live)) result {
	t.Helper()
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, stderr := newLive(t), newLive(t)
	if o.StopTimeout == 0 {
		o.StopTimeout = time.Minute
	}
	if o.BootTimeout == 0 {
		o.BootTimeout = time.Minute
	}
	o.EphemeralDiskMiB = 16
	if len(m.Process.Cmd) == 0 {
		m.Process.Cmd = []string{"sh"}
	}
	driver := &fake.Driver{Guest: func(ctx context.Context, vm *fake.Machine) { guest(ctx, vm, stderr) }}
	img := testImage(t, m)
	l := &life{
		img: img, options: o, driver: driver, signals: signals,
		plan:  func() (*plan, error) { return newPlan(img, o, nil, driver.Capabilities(), false) },
		stdio: Stdio{Stdin: stdin, Stdout: stdout.w, Stderr: stderr.w},
	}
	var r result
	r.code, r.err = l.run(t.Context())
	r.stdout, r.stderr = stdout.end(), stderr.end()
	return r
}

// A live is an output that can be read while it is written.
type live struct {
	w    *os.File
	done chan struct{}

	mu   sync.Mutex
	cond *sync.Cond
	buf  bytes.Buffer
}

func newLive(t *testing.T) *live {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := &live{w: w, done: make(chan struct{})}
	l.cond = sync.NewCond(&l.mu)
	go func() {
		defer close(l.done)
		defer r.Close()
		io.Copy(l, r)
	}()
	return l
}

func (l *live) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cond.Broadcast()
	return l.buf.Write(p)
}

// wait returns when text has been written.
func (l *live) wait(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !strings.Contains(l.buf.String(), text) {
		l.cond.Wait()
	}
}

func (l *live) end() string {
	l.w.Close()
	<-l.done
	return l.buf.String()
}

func (r result) wantError(t *testing.T, code int, text string) {
	t.Helper()
	var e *Error
	if r.err == nil || !strings.Contains(r.err.Error(), text) {
		t.Fatalf("got code %d, error %v; want an error with %q", r.code, r.err, text)
	}
	got := CodeFailed
	if errors.As(r.err, &e) {
		got = e.Code
	}
	if got != code {
		t.Errorf("the exit code is %d, want %d", got, code)
	}
}

func TestRunCarriesManifestStreamsAndExitCode(t *testing.T) {
	m := payload.Manifest{Process: payload.Process{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=1"}}}
	r := runGuest(t, m, Options{}, func(ctx context.Context, vm *fake.Machine) {
		a := boot(t, vm)
		if got := strings.Join(a.manifest.Process.Args, " "); got != "/e c" {
			t.Errorf("the guest was told to run %q", got)
		}
		b := make([]byte, 6)
		if err := a.ReadDisk(0, b, 6); err != nil || string(b) != "rootfs" {
			t.Errorf("the first disk has %q, %v", b, err)
		}
		if ro, _ := a.DiskReadOnly(0); !ro {
			t.Error("the root filesystem can be written")
		}
		if size, _ := a.DiskSize(1); size != 16<<20 {
			t.Errorf("the ephemeral disk has %d bytes", size)
		}
		a.say(wire.GuestMessage{Type: wire.GuestStarted})
		a.output(wire.Stdout, "out")
		a.output(wire.Stderr, "err")
		a.say(wire.GuestMessage{Type: wire.GuestExit, Code: 3})
		a.hear()
		a.PowerOff()
	})
	if r.err != nil || r.code != 3 || r.stdout != "out" || r.stderr != "err" {
		t.Errorf("got %+v", r)
	}
}

func TestGuestFailureHasItsCodeAndSentence(t *testing.T) {
	r := runGuest(t, payload.Manifest{}, Options{}, func(ctx context.Context, vm *fake.Machine) {
		boot(t, vm).end(wire.GuestMessage{Type: wire.GuestFailed, Code: 127, Message: "the command \x1b[2J was not found"})
	})
	r.wantError(t, 127, "the command [2J was not found")
}

func TestOutOfMemoryIsSaid(t *testing.T) {
	r := runGuest(t, payload.Manifest{}, Options{MemoryMiB: 64}, func(ctx context.Context, vm *fake.Machine) {
		boot(t, vm).end(wire.GuestMessage{Type: wire.GuestExit, Code: 137, Signal: "SIGKILL", OutOfMemory: true})
	})
	if r.err != nil || r.code != 137 || !strings.Contains(r.stderr, "64 MiB, give it more with --memory") {
		t.Errorf("got %+v", r)
	}
}

func TestVMsThatEndWithoutAReport(t *testing.T) {
	for name, tt := range map[string]struct {
		guest func(context.Context, *fake.Machine)
		want  string
	}{
		"a kernel panic": {func(_ context.Context, m *fake.Machine) { boot(t, m); m.Panic() }, "the guest's kernel panicked: fake"},
		"out of memory": {func(_ context.Context, m *fake.Machine) {
			m.Print("Kernel panic - not syncing: System is deadlocked on memory\n")
			m.PowerOff()
		}, "give it more with --memory"},
		"a power-off":     {func(_ context.Context, m *fake.Machine) { boot(t, m); m.PowerOff() }, "without telling how the container ended"},
		"a VMM that died": {func(context.Context, *fake.Machine) {}, "the fake guest returned"},
	} {
		t.Run(name, func(t *testing.T) {
			runGuest(t, payload.Manifest{}, Options{}, tt.guest).wantError(t, CodeFailed, tt.want)
		})
	}
}

func TestBootTimeout(t *testing.T) {
	r := runGuest(t, payload.Manifest{}, Options{BootTimeout: time.Millisecond}, func(ctx context.Context, m *fake.Machine) { <-ctx.Done() })
	r.wantError(t, CodeFailed, "did not report within 1ms")
}

func TestSignalBeforeTheContainerRunsEndsTheVM(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGHUP: 129} {
		r := runGuest(t, payload.Manifest{}, Options{}, func(ctx context.Context, m *fake.Machine) { <-ctx.Done() }, sig)
		if r.err != nil || r.code != code {
			t.Errorf("%v: got %+v, want code %d", sig, r, code)
		}
	}
}

// started runs a guest whose container runs, with the app's signals in its
// hand.
func started(t *testing.T, m payload.Manifest, o Options, guest func(a *agent, signals chan<- os.Signal)) result {
	t.Helper()
	o.Verbose = true
	signals := make(chan os.Signal, 4)
	return runWatched(t, m, o, signals, func(ctx context.Context, vm *fake.Machine, stderr *live) {
		a := boot(t, vm)
		a.say(wire.GuestMessage{Type: wire.GuestStarted})
		// Messages are handled in order, so this line says that the app knows.
		a.say(wire.GuestMessage{Type: wire.GuestLog, Message: "it runs"})
		stderr.wait("it runs")
		guest(a, signals)
	})
}

// A warning is shown without --verbose too, and cannot drive the terminal.
func TestWarningOfTheGuest(t *testing.T) {
	r := runWatched(t, payload.Manifest{}, Options{}, make(chan os.Signal), func(ctx context.Context, vm *fake.Machine, stderr *live) {
		a := boot(t, vm)
		a.say(wire.GuestMessage{Type: wire.GuestLog, Message: "a detail"})
		a.say(wire.GuestMessage{Type: wire.GuestWarning, Message: "no such \x1b[31mname"})
		stderr.wait("name")
		a.end(wire.GuestMessage{Type: wire.GuestExit})
	})
	if r.err != nil || r.code != 0 || strings.Contains(r.stderr, "detail") || strings.Contains(r.stderr, "\x1b") || !strings.Contains(r.stderr, "bake: guest: no such") {
		t.Errorf("got %+v", r)
	}
}

func TestStopSignalThenKill(t *testing.T) {
	m := payload.Manifest{Process: payload.Process{StopSignal: "SIGQUIT"}}
	r := started(t, m, Options{StopTimeout: time.Millisecond}, func(a *agent, signals chan<- os.Signal) {
		signals <- syscall.SIGTERM
		if m := a.hear(); m.Type != wire.HostSignal || m.Signal != "SIGQUIT" {
			t.Errorf("SIGTERM became %+v, want the image's stop signal", m)
		}
		if m := a.hear(); m.Type != wire.HostSignal || m.Signal != "SIGKILL" {
			t.Errorf("after the stop timeout came %+v, want SIGKILL", m)
		}
		a.end(wire.GuestMessage{Type: wire.GuestExit, Code: 137, Signal: "SIGKILL"})
	})
	if r.err != nil || r.code != 137 {
		t.Errorf("got %+v", r)
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	r := started(t, payload.Manifest{}, Options{}, func(a *agent, signals chan<- os.Signal) {
		for sig, name := range map[syscall.Signal]string{
			syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2", syscall.SIGQUIT: "SIGQUIT", syscall.SIGHUP: "SIGHUP",
		} {
			signals <- sig
			if m := a.hear(); m.Type != wire.HostSignal || m.Signal != name {
				t.Errorf("%s became %+v", name, m)
			}
		}
		a.end(wire.GuestMessage{Type: wire.GuestExit})
	})
	if r.err != nil || r.code != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestSecondInterruptEndsTheVM(t *testing.T) {
	r := started(t, payload.Manifest{}, Options{}, func(a *agent, signals chan<- os.Signal) {
		signals <- syscall.SIGINT
		if m := a.hear(); m.Signal != "SIGINT" {
			t.Errorf("SIGINT became %+v", m)
		}
		signals <- syscall.SIGINT
		// The connection ends with the VM.
		if m, err := a.listen(); err == nil {
			t.Errorf("the host said %+v", m)
		}
	})
	if r.err != nil || r.code != 130 {
		t.Errorf("got %+v", r)
	}
}

func TestDeadGuestIsKilledAfterTheKill(t *testing.T) {
	r := started(t, payload.Manifest{}, Options{StopTimeout: time.Millisecond}, func(a *agent, signals chan<- os.Signal) {
		signals <- syscall.SIGTERM
		a.hear()
		a.hear()
		a.listen() // until the VM is ended
	})
	r.wantError(t, CodeFailed, "stopped answering")
}

// A guest that could not start for the moment is booted again, a few times.
func TestBootsAgain(t *testing.T) {
	for _, tt := range []struct{ failing, boots, code int }{{1, 2, 7}, {bootsAtOnce, bootsAtOnce, CodeFailed}} {
		tried := 0
		r := runGuest(t, payload.Manifest{}, Options{}, func(_ context.Context, m *fake.Machine) {
			tried++
			a := boot(t, m)
			if tried <= tt.failing {
				a.end(wire.GuestMessage{Type: wire.GuestFailed, Code: CodeFailed, Message: "no timer", Again: true})
				return
			}
			a.say(wire.GuestMessage{Type: wire.GuestStarted})
			a.end(wire.GuestMessage{Type: wire.GuestExit, Code: 7})
		})
		code := r.code
		var failed *Error
		if errors.As(r.err, &failed) {
			code = failed.Code
		}
		if tried != tt.boots || code != tt.code {
			t.Errorf("%d failing: %d boots, %+v", tt.failing, tried, r)
		}
	}
}

// What failed after the container ran is not done again.
func TestRunsOnce(t *testing.T) {
	tried := 0
	r := runGuest(t, payload.Manifest{}, Options{}, func(_ context.Context, m *fake.Machine) {
		tried++
		a := boot(t, m)
		a.say(wire.GuestMessage{Type: wire.GuestStarted})
		a.end(wire.GuestMessage{Type: wire.GuestFailed, Code: CodeFailed, Message: "no timer", Again: true})
	})
	if tried != 1 || r.err == nil {
		t.Errorf("%d boots, %+v", tried, r)
	}
}
