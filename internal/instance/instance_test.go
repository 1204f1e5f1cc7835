package instance

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/platform"
	"bake/internal/relay"
	"bake/internal/wire"
)

// TestMain lets this program be an instance that others kill.
func TestMain(m *testing.M) {
	if state := os.Getenv("INSTANCE_TEST_STATE"); state != "" {
		beInstance(State(state))
		return
	}
	os.Exit(m.Run())
}

// beInstance gets as far as state, says so, and waits to be killed. The states
// before registration are "dir" and "name".
func beInstance(state State) {
	must := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	dir, err := platform.NewRunDir()
	must(err)
	name := os.Getenv("INSTANCE_TEST_NAME")
	switch state {
	case "dir":
	case "name":
		_, err := claimName(dir, name)
		must(err)
	default:
		r, err := Register(dir, Info{Name: name, State: StateStarting}, &app{})
		must(err)
		must(r.Update(func(i *Info) { i.State = state }))
	}
	fmt.Println("ready", dir.Path())
	select {}
}

// other starts an instance in another process.
func other(t *testing.T, state State, name string) (cmd *exec.Cmd, dir string) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "INSTANCE_TEST_STATE="+string(state), "INSTANCE_TEST_NAME="+name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	dir, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		t.Fatalf("the other process said %q", line)
	}
	return cmd, dir
}

// alone gives the test a register and a store of ended instances of its own. The
// first has to be short enough for sockets.
func alone(t *testing.T) (base string) {
	t.Helper()
	run, err := os.MkdirTemp("", "in")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	t.Setenv("XDG_RUNTIME_DIR", run)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	return filepath.Join(run, "bake")
}

// mine lists the instances of the test's own register.
func mine(t *testing.T, base string) []Instance {
	t.Helper()
	all, err := List()
	if err != nil {
		t.Fatal(err)
	}
	var own []Instance
	for _, i := range all {
		if filepath.Dir(i.Dir) == base {
			own = append(own, i)
		}
	}
	return own
}

// An app is a handler.
type app struct {
	stops   chan time.Duration
	signals chan string
	stats   func(context.Context) (Stats, error)
	guest   func(context.Context) (relay.Conn, error)
	key     ed25519.PrivateKey
}

func (a *app) Stop(_ context.Context, timeout time.Duration) error {
	a.stops <- timeout
	return nil
}

func (a *app) Signal(name string) error {
	if name == "SIGNOT" {
		return errors.New("there is no such signal")
	}
	a.signals <- name
	return nil
}

func (a *app) Stats(ctx context.Context) (Stats, error)                { return a.stats(ctx) }
func (a *app) Guest(ctx context.Context, _ uint32) (relay.Conn, error) { return a.guest(ctx) }
func (a *app) Key() ed25519.PrivateKey                                 { return a.key }

// register makes an instance of this process; end ends it.
func register(t *testing.T, info Info, a *app) (i Instance, end func(Exit)) {
	t.Helper()
	dir, err := platform.NewRunDir()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Register(dir, info, a)
	if err != nil {
		dir.Close()
		t.Fatal(err)
	}
	end = func(exit Exit) {
		if err := errors.Join(r.Close(exit), dir.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { end(Exit{}) })
	return Instance{Info: r.Info(), Dir: dir.Path()}, end
}

func TestLife(t *testing.T) {
	base := alone(t)
	i, end := register(t, Info{Name: "web", App: "a", State: StateStarting, Command: []string{"sh"}}, &app{})
	got, err := Find(Query{Name: "web"})
	if err != nil || got.ID != i.ID || got.PID != os.Getpid() || got.Dir != i.Dir || got.Version != InfoVersion || got.Command[0] != "sh" {
		t.Errorf("found %+v, %v", got, err)
	}
	if st, err := os.Stat(filepath.Join(i.Dir, apiSocket)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", st, err)
	}
	if to, err := filepath.EvalSymlinks(filepath.Join(base, "names", "web")); err != nil || to != i.Dir {
		t.Errorf("the name leads to %s, %v", to, err)
	}
	end(Exit{})
	if _, err := Find(Query{Name: "web"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
	wantFiles(t, base)
	if ended, err := ListEnded(); err != nil || len(ended) != 0 {
		t.Errorf("ended ones: %+v, %v", ended, err)
	}
}

// wantFiles compares what a directory has.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

// However far it had come: a killed one is not listed, its name is free, and the
// next start leaves nothing of it.
func TestKilled(t *testing.T) {
	for _, state := range []State{"dir", "name", StateStarting, StateRunning, StateStopping, StateRestarting} {
		t.Run(string(state), func(t *testing.T) {
			base := alone(t)
			cmd, dir := other(t, state, "web")
			registered := state != "dir" && state != "name"
			if all := mine(t, base); registered != (len(all) == 1) {
				t.Errorf("before: %+v", all)
			}
			cmd.Process.Kill()
			cmd.Wait()
			if all := mine(t, base); len(all) != 0 {
				t.Errorf("a killed one is listed: %+v", all)
			}
			killed := Instance{Dir: dir}
			if err := killed.Stop(t.Context(), -1); err != nil {
				t.Errorf("stop a killed one: %v", err)
			}
			if _, err := killed.Wait(t.Context()); !errors.Is(err, ErrKilled) {
				t.Errorf("wait for a killed one: %v", err)
			}
			if n, err := platform.Sweep(); err != nil || n < 1 {
				t.Errorf("swept %d, %v", n, err)
			}
			i, end := register(t, Info{Name: "web"}, &app{})
			if all := mine(t, base); len(all) != 1 || all[0].ID != i.ID {
				t.Errorf("after: %+v", all)
			}
			end(Exit{})
			wantFiles(t, base)
		})
	}
}

// Whoever waits for one that is killed then learns of it.
func TestKilledWhileAsked(t *testing.T) {
	alone(t)
	cmd, dir := other(t, StateRunning, "web")
	i, err := Find(Query{Name: "web"})
	if err != nil || i.Dir != dir {
		t.Fatalf("found %+v, %v", i, err)
	}
	conn, err := net.Dial("unix", filepath.Join(dir, apiSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := wire.WriteJSON(conn, request{Op: opWait}, requestLimit); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := i.Wait(context.Background())
		waited <- err
	}()
	cmd.Process.Kill()
	cmd.Wait()
	if err := <-waited; !errors.Is(err, ErrKilled) {
		t.Errorf("Wait: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a killed one answered")
	}
}

func TestNames(t *testing.T) {
	base := alone(t)
	for _, name := range []string{"", "a", "A.b_c-9", strings.Repeat("x", 63)} {
		i, end := register(t, Info{Name: name}, &app{})
		if name == "" {
			if !nameForm.MatchString(i.Name) || !strings.Contains(i.Name, "_") {
				t.Errorf("made up the name %q", i.Name)
			}
		} else if i.Name != name {
			t.Errorf("%q is called %q", name, i.Name)
		}
		end(Exit{})
	}
	dir, err := platform.NewRunDir()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, name := range []string{".", "..", "a/b", "-a", "a b", strings.Repeat("x", 64), "ä", "a\n"} {
		if _, err := Register(dir, Info{Name: name}, &app{}); err == nil || !strings.Contains(err.Error(), "cannot be an instance's name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	_, end := register(t, Info{Name: "web"}, &app{})
	if _, err := Register(dir, Info{Name: "web"}, &app{}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the instance with PID %d has it", os.Getpid())) {
		t.Errorf("the same name twice: %v", err)
	}
	// A name that leads nowhere, or out of the register, is nobody's.
	for i, to := range []string{"../0123456789abcdef", "../../..", "/", ".."} {
		name := fmt.Sprint("stale", i)
		if err := os.Symlink(to, nameLink(base, name)); err != nil {
			t.Fatal(err)
		}
		_, end := register(t, Info{Name: name}, &app{})
		end(Exit{})
	}
	end(Exit{})
	wantFiles(t, base, dir.ID())
}

// Of many that want one name at the same time, one gets it.
func TestNameRace(t *testing.T) {
	alone(t)
	var wg sync.WaitGroup
	got := make(chan func() error, 20)
	for range cap(got) {
		wg.Go(func() {
			dir, err := platform.NewRunDir()
			if err != nil {
				t.Error(err)
				return
			}
			r, err := Register(dir, Info{Name: "one"}, &app{})
			if err != nil {
				if !strings.Contains(err.Error(), "in use") {
					t.Error(err)
				}
				dir.Close()
				return
			}
			got <- func() error { return errors.Join(r.Close(Exit{}), dir.Close()) }
		})
	}
	wg.Wait()
	if len(got) != 1 {
		t.Errorf("%d have the name", len(got))
	}
	for range len(got) {
		if err := (<-got)(); err != nil {
			t.Error(err)
		}
	}
}

// Fifty come and go while others look.
func TestFifty(t *testing.T) {
	base := alone(t)
	const n = 50
	var starting, ending sync.WaitGroup
	all, names := make(chan struct{}), make(chan string, n)
	starting.Add(n)
	for range n {
		ending.Go(func() {
			platform.Sweep()
			dir, err := platform.NewRunDir()
			if err != nil {
				t.Error(err)
				starting.Done()
				return
			}
			r, err := Register(dir, Info{State: StateRunning}, &app{})
			if err != nil {
				t.Error(err)
				starting.Done()
				return
			}
			names <- r.Info().Name
			starting.Done()
			if _, err := Find(Query{Name: r.Info().Name}); err != nil {
				t.Errorf("cannot find itself: %v", err)
			}
			<-all
			if err := errors.Join(r.Close(Exit{}), dir.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	if got := len(mine(t, base)); got != n {
		t.Errorf("%d are listed", got)
	}
	close(all)
	ending.Wait()
	close(names)
	seen := map[string]bool{}
	for name := range names {
		if seen[name] {
			t.Errorf("two are called %s", name)
		}
		seen[name] = true
	}
	if got := mine(t, base); len(got) != 0 {
		t.Errorf("after the end %d are listed", len(got))
	}
	wantFiles(t, base)
}

func TestFind(t *testing.T) {
	all := []Instance{
		{Info: Info{ID: "aa00000000000000", Name: "web", PID: 1, App: "x"}},
		{Info: Info{ID: "ab00000000000000", Name: "db", PID: 2, App: "x"}},
		{Info: Info{ID: "cd00000000000000", Name: "aa", PID: 3, App: "y"}},
	}
	for _, tt := range []struct {
		q    Query
		want string // the name, or a part of the error
	}{
		{Query{Name: "web"}, "web"},
		{Query{Name: "aa"}, "aa"}, // a name before the beginning of an ID
		{Query{Name: "ab"}, "db"},
		{Query{Name: "cd00000000000000"}, "aa"},
		{Query{PID: 2}, "db"},
		{Query{App: "y"}, "aa"},
		{Query{Name: "db", PID: 2, App: "x"}, "db"},
		{Query{Name: "db", App: "y"}, "there is aa (PID 3)"},
		{Query{Name: "a"}, "web (PID 1), db (PID 2); say which"},
		{Query{App: "x"}, "web (PID 1), db (PID 2); say which"},
		{Query{}, "say which with --name or --pid"},
		{Query{PID: 9}, "no such instance with PID 9; there is web (PID 1)"},
		{Query{App: "z"}, "nothing runs"},
	} {
		got, err := pick(all, tt.q)
		if got.Name != tt.want && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %q, %v; want %q", tt.q, got.Name, err, tt.want)
		}
		if err != nil && errors.Is(err, ErrNotFound) == errors.Is(err, ErrAmbiguous) {
			t.Errorf("%+v: %v is not one of both", tt.q, err)
		}
	}
}

func TestAsk(t *testing.T) {
	alone(t)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{
		stops: make(chan time.Duration, 1), signals: make(chan string, 1), key: key,
		stats: func(context.Context) (Stats, error) {
			return Stats{Guest: wire.Stats{CPUNanos: 1, PIDs: 2}, HostMemory: 3}, nil
		},
	}
	i, end := register(t, Info{}, a)
	ctx := t.Context()
	if err := i.Signal(ctx, "SIGUSR1"); err != nil || <-a.signals != "SIGUSR1" {
		t.Errorf("signal: %v", err)
	}
	if err := i.Signal(ctx, "SIGNOT"); err == nil || !strings.Contains(err.Error(), "no such signal") {
		t.Errorf("a signal that is none: %v", err)
	}
	if s, err := i.Stats(ctx); err != nil || s.Guest.PIDs != 2 || s.HostMemory != 3 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	if k, err := i.Key(ctx); err != nil || !k.Equal(key) {
		t.Errorf("key: %v", err)
	}
	a.key = nil
	if _, err := i.Key(ctx); err == nil || !strings.Contains(err.Error(), "no SSH server") {
		t.Errorf("no key: %v", err)
	}
	a.stats = func(context.Context) (Stats, error) {
		return Stats{}, errors.New(strings.Repeat("x\x00", responseLimit))
	}
	if _, err := i.Stats(ctx); err == nil || !strings.Contains(err.Error(), "xx") && !strings.Contains(err.Error(), "x\x00") {
		t.Errorf("a long error: %v", err)
	}

	type waited struct {
		exit Exit
		err  error
	}
	wait, stop := make(chan waited, 1), make(chan error, 1)
	go func() {
		exit, err := i.Wait(ctx)
		wait <- waited{exit, err}
	}()
	go func() { stop <- i.Stop(ctx, 7*time.Second) }()
	if d := <-a.stops; d != 7*time.Second {
		t.Errorf("asked to stop within %v", d)
	}
	end(Exit{Code: 3, Error: "so"})
	// Wait may have been too late to ask, and then knows no code.
	if w := <-wait; w.err == nil && (w.exit != Exit{Code: 3, Error: "so"}) || w.err != nil && !errors.Is(w.err, ErrKilled) {
		t.Errorf("wait: %+v", w)
	}
	if err := <-stop; err != nil {
		t.Errorf("stop: %v", err)
	}
	if platform.IsLiving(i.Dir) {
		t.Error("stop returned before the end")
	}
	for name, err := range map[string]error{"signal": i.Signal(ctx, "SIGUSR1"), "stop": i.Stop(ctx, 0)} {
		if name == "stop" && err != nil || name == "signal" && !errors.Is(err, ErrGone) {
			t.Errorf("%s what has ended: %v", name, err)
		}
	}
}

// A context ends what is asked, on both sides.
func TestAskedTooLong(t *testing.T) {
	alone(t)
	began, ended := make(chan struct{}), make(chan struct{})
	a := &app{stops: make(chan time.Duration, 1), stats: func(ctx context.Context) (Stats, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return Stats{}, ctx.Err()
	}}
	i, _ := register(t, Info{}, a)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := i.Stats(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stats: %v", err)
	}
	<-ended
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-a.stops; cancel() }()
	if err := i.Stop(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop of what does not end: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := i.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
}

// The way to the guest carries both directions and their ends.
func TestDialSSH(t *testing.T) {
	alone(t)
	guest := make(chan *net.UnixConn, 1)
	a := &app{guest: func(context.Context) (relay.Conn, error) {
		near, far := socketPair(t)
		guest <- far
		return near, nil
	}}
	i, end := register(t, Info{}, a)
	conn, err := i.DialSSH(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	far := <-guest
	defer far.Close()
	for _, way := range []struct{ from, to net.Conn }{{conn, far}, {far, conn}} {
		text := strings.Repeat("there and back ", 1<<12)
		go func() {
			io.WriteString(way.from, text)
			way.from.(relay.Conn).CloseWrite()
		}()
		if got, err := io.ReadAll(way.to); err != nil || string(got) != text {
			t.Errorf("%d of %d bytes came through, %v", len(got), len(text), err)
		}
	}
	conn.Close()

	// One that is open does not hold the end up.
	conn, err = i.DialSSH(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer (<-guest).Close()
	end(Exit{})
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the stream outlives the instance")
	}
}

func TestDialSSHFails(t *testing.T) {
	alone(t)
	a := &app{guest: func(context.Context) (relay.Conn, error) { return nil, errors.New("it has no server") }}
	i, _ := register(t, Info{}, a)
	if _, err := i.DialSSH(t.Context()); err == nil || !strings.Contains(err.Error(), "it has no server") {
		t.Errorf("got %v", err)
	}
}

func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "@" + rndName()})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed := make(chan *net.UnixConn, 1)
	go func() {
		c, err := net.DialUnix("unix", nil, ln.Addr().(*net.UnixAddr))
		if err != nil {
			t.Error(err)
		}
		dialed <- c
	}()
	a, err = ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	return a, <-dialed
}

func rndName() string { return fmt.Sprintf("%s-%d", makeName(10), os.Getpid()) }

func TestKeep(t *testing.T) {
	base := alone(t)
	names := []string{"web", "web", "db"}
	var ids []string
	for n, name := range names {
		i, end := register(t, Info{Name: name, App: "a", Keep: true, State: StateRunning, Started: time.Unix(int64(n), 0)}, &app{})
		os.WriteFile(i.LogPath(), []byte("new"), 0o600)
		os.WriteFile(i.LogPath()+OlderLog, []byte("old"), 0o600)
		end(Exit{Code: n, Error: "e"})
		ids = append(ids, i.ID)
	}
	wantFiles(t, base)
	all, err := ListEnded()
	if err != nil || len(all) != 3 {
		t.Fatalf("%d are kept, %v", len(all), err)
	}
	for n, e := range all {
		if e.ID != ids[n] || e.Exit.Code != n || e.Exit.Error != "e" || e.State != StateExited || e.Finished.IsZero() {
			t.Errorf("kept %+v", e)
		}
		for suffix, want := range map[string]string{"": "new", OlderLog: "old"} {
			if got, err := os.ReadFile(e.LogPath() + suffix); err != nil || string(got) != want {
				t.Errorf("the log has %q, %v", got, err)
			}
		}
	}
	if e, err := FindEnded(Query{Name: "web", App: "a"}); err != nil || e.ID != ids[1] {
		t.Errorf("of two it is %+v, %v", e, err)
	}
	if e, err := FindEnded(Query{Name: ids[0]}); err != nil || e.ID != ids[0] || e.Exit.Code != 0 {
		t.Errorf("by its ID it is %+v, %v", e, err)
	}
	if _, err := FindEnded(Query{Name: "none"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := all[0].Remove(); err != nil {
		t.Error(err)
	}
	if all, err := ListEnded(); err != nil || len(all) != 2 {
		t.Errorf("%d are kept after one was removed, %v", len(all), err)
	}
	// Half a record is none.
	os.Remove(filepath.Join(all[1].Dir, infoFile))
	os.WriteFile(filepath.Join(all[2].Dir, infoFile), []byte("{"), 0o600)
	if all, err := ListEnded(); err != nil || len(all) != 0 {
		t.Errorf("%+v are kept, %v", all, err)
	}
}

// A file that something else wrote is no instance, and no reason to list none.
func TestForeignFiles(t *testing.T) {
	base := alone(t)
	i, _ := register(t, Info{}, &app{})
	for name, content := range map[string]string{"garbage": "{", "another's": `{"id":"0000000000000000"}`, "nothing": ""} {
		dir, err := platform.NewRunDir()
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		if err := os.WriteFile(filepath.Join(dir.Path(), infoFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if all := mine(t, base); len(all) != 1 || all[0].ID != i.ID {
			t.Errorf("with %s: %+v", name, all)
		}
	}
}

func TestClosedRegistrationIsLeftAlone(t *testing.T) {
	base := alone(t)
	dir, err := platform.NewRunDir()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	r, err := Register(dir, Info{}, &app{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Update(func(i *Info) { i.ID, i.Name, i.PID, i.State = "x", "y", 1, StateRunning }); err != nil {
		t.Error(err)
	}
	if all := mine(t, base); len(all) != 1 || all[0].PID != os.Getpid() || all[0].Name == "y" || all[0].State != StateRunning {
		t.Errorf("after an update: %+v", all)
	}
	if err := errors.Join(r.Close(Exit{}), r.Close(Exit{}), r.Update(func(*Info) { t.Error("updated after its end") })); err != nil {
		t.Error(err)
	}
	if all := mine(t, base); len(all) != 0 {
		t.Errorf("after its end: %+v", all)
	}
}
