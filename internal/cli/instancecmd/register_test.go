package instancecmd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/instance"
	"bake/internal/platform"
	"bake/internal/relay"
	"bake/internal/wire"
)

// A fake is an instance that this test's process registers.
type fake struct {
	dir *platform.RunDir
	reg *instance.Registration

	mu      sync.Mutex
	stops   []time.Duration
	signals []string
	cpu     uint64
	broken  error // what Stats says
	gone    sync.WaitGroup
}

// testApp is the app of the tests' instances. There may be others: of tests of
// other packages that run at the same time, and of who runs the tests.
var testApp = Scope{App: strings.Repeat("7e", 32)}

// register makes the register of instances one of this test's own.
func register(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "r") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
}

// start registers an instance. It runs until end, or until the test ends.
func start(t *testing.T, info instance.Info) *fake {
	t.Helper()
	dir, err := platform.NewRunDir()
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{dir: dir}
	info.App = cmp.Or(info.App, testApp.App)
	if info.State == "" {
		info.State = instance.StateRunning
	}
	if f.reg, err = instance.Register(dir, info, f); err != nil {
		dir.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.end(instance.Exit{})
		f.gone.Wait()
	})
	return f
}

// end is what an app does when its container has ended.
func (f *fake) end(exit instance.Exit) {
	f.reg.Close(exit)
	f.dir.Close()
}

func (f *fake) Stop(_ context.Context, timeout time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stops = append(f.stops, timeout)
	f.gone.Go(func() { f.end(instance.Exit{Code: 143}) })
	return nil
}

func (f *fake) Signal(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name == "SIGNONE" {
		return errors.New("there is no signal called SIGNONE")
	}
	f.signals = append(f.signals, name)
	return nil
}

func (f *fake) Stats(context.Context) (instance.Stats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cpu += 500e6
	return instance.Stats{
		Guest: wire.Stats{CPUNanos: f.cpu, CPUs: 2, Memory: 64 << 20, MemoryTotal: 256 << 20, Received: 1500, Sent: 2_000_000, Read: 10, Written: 20, PIDs: 3},
		// Not of a container, so more.
		HostCPUNanos: 2 * f.cpu, HostMemory: 300 << 20,
	}, f.broken
}

func (f *fake) Guest(context.Context, uint32) (relay.Conn, error) {
	return nil, errors.New("there is no guest")
}
func (f *fake) Key() ed25519.PrivateKey { return nil }

// A result is what a command line came to.
type result struct {
	out  string
	err  error
	code int
}

// verb runs a verb of bake, or of an app where scope names one.
func verb(ctx context.Context, scope Scope, args ...string) result {
	var out bytes.Buffer
	root := &cobra.Command{Use: "bake", SilenceUsage: true, SilenceErrors: true}
	Add(root, scope)
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	r := result{err: root.ExecuteContext(ctx)}
	r.out = out.String()
	var e *app.Error
	switch {
	case errors.As(r.err, &e):
		r.code = e.Code
	case r.err != nil:
		r.code = app.CodeFailed
	}
	return r
}

// run runs a verb that must succeed, and returns its output.
func run(t *testing.T, args ...string) string {
	t.Helper()
	r := verb(t.Context(), testApp, args...)
	if r.err != nil {
		t.Fatalf("%s: %v", strings.Join(args, " "), r.err)
	}
	return r.out
}

// fails runs a verb that must fail with code, in a sentence with all of words.
func fails(t *testing.T, scope Scope, code int, words string, args ...string) {
	t.Helper()
	r := verb(t.Context(), scope, args...)
	if r.err == nil || r.code != code || !strings.Contains(r.err.Error(), words) {
		t.Errorf("%s: %d, %v, want %d and %q", strings.Join(args, " "), r.code, r.err, code, words)
	}
}
