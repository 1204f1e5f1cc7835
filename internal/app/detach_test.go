package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/hypervisor/fake"
	"bake/internal/instance"
	"bake/internal/payload"
	"bake/internal/wire"
)

// The variables that make this program an app to put into the background: its
// file, its instance's name, and what its guest does.
const (
	backgroundApp   = "APP_TEST_FILE"
	backgroundName  = "APP_TEST_NAME"
	backgroundGuest = "APP_TEST_GUEST"
)

// inBackgroundMain is that app.
func inBackgroundMain() int {
	code, err := func() (int, error) {
		signals, stop := catchSignals()
		defer stop()
		f, err := payload.OpenFile(os.Getenv(backgroundApp))
		if err != nil {
			return 0, err
		}
		defer f.Close()
		img, err := OpenImage(f)
		if err != nil {
			return 0, err
		}
		driver := &fake.Driver{Guest: backgroundGuests[os.Getenv(backgroundGuest)]}
		o := Options{Name: os.Getenv(backgroundName), Detach: true, StopTimeout: DefaultStopTimeout, BootTimeout: DefaultBootTimeout, EphemeralDiskMiB: 16}
		stdio := Stdio{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}
		ctx := context.Background()
		return inBackground(ctx, stdio, signals, func(s *starter) (int, error) {
			l := &life{
				img: img, options: o, driver: driver, signals: signals, stdio: stdio, starter: s,
				plan: func() (*plan, error) { return newPlan(img, o, nil, driver.Capabilities(), false) },
			}
			return l.run(ctx)
		})
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, Sentence(err))
		return codeOf(err)
	}
	return code
}

// backgroundGuests are guests without a test to tell of what is wrong.
var backgroundGuests = map[string]func(context.Context, *fake.Machine){
	"serve": func(ctx context.Context, m *fake.Machine) {
		a := bootQuietly(m)
		wire.WriteGuestMessage(a.control, wire.GuestMessage{Type: wire.GuestStarted})
		a.output(wire.Stdout, "to stdout\n")
		a.output(wire.Stderr, "to stderr\n")
		for {
			m, err := a.listen()
			if err != nil {
				return
			}
			if m.Type == wire.HostSignal {
				break
			}
		}
		wire.WriteGuestMessage(a.control, wire.GuestMessage{Type: wire.GuestExit, Code: 9})
		a.listen()
		m.PowerOff()
	},
	"fail": func(ctx context.Context, m *fake.Machine) {
		a := bootQuietly(m)
		wire.WriteGuestMessage(a.control, wire.GuestMessage{Type: wire.GuestWarning, Message: "a warning"})
		wire.WriteGuestMessage(a.control, wire.GuestMessage{Type: wire.GuestFailed, Code: 127, Message: "no such command"})
		a.listen()
		m.PowerOff()
	},
	"boot for ever": func(ctx context.Context, m *fake.Machine) { <-ctx.Done() },
}

func bootQuietly(m *fake.Machine) *agent {
	conn, err := m.Dial(wire.PortManifest)
	if err == nil {
		wire.ReadManifest(conn)
		conn.Close()
	}
	control, err := m.Dial(wire.PortControl)
	if err != nil {
		panic(err)
	}
	wire.WriteGuestMessage(control, wire.GuestMessage{Type: wire.GuestHello})
	return &agent{Machine: m, control: control}
}

// start starts such an app.
func start(t *testing.T, name, guest string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	img := testImage(t, payload.Manifest{Process: payload.Process{Cmd: []string{"serve"}}})
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), backgroundApp+"="+img.File.OSFile().Name(), backgroundName+"="+name, backgroundGuest+"="+guest)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if i, err := instance.Find(instance.Query{Name: name}); err == nil {
			syscall.Kill(i.PID, syscall.SIGKILL)
		}
	})
	return cmd, stdout, stderr
}

func TestDetach(t *testing.T) {
	ownRegister(t)
	name := named(t)
	cmd, stdout, stderr := start(t, name, "serve")
	// Wait returns at the end of the outputs: the background must not hold them.
	if err := cmd.Wait(); err != nil {
		t.Fatalf("start: %v: %s", err, stderr)
	}
	i := find(t, name)
	if stdout.String() != i.ID+"\n" || !i.Detached || i.State != instance.StateRunning || i.PID == cmd.Process.Pid {
		t.Errorf("it said %q and is %+v", stdout, i.Info)
	}
	if session, err := unix.Getsid(i.PID); err != nil || session != i.PID {
		t.Errorf("its session is %d, %v, not its own", session, err)
	}
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", i.PID, fd)); err != nil || to != os.DevNull {
			t.Errorf("descriptor %d is %s, %v", fd, to, err)
		}
	}
	for _, want := range []string{"to stdout\n", "to stderr\n"} {
		for {
			log, err := os.ReadFile(i.LogPath())
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(log), want) {
				break
			}
		}
	}
	exit := make(chan instance.Exit, 1)
	go func() {
		e, err := i.Wait(context.Background())
		if err != nil {
			t.Error(err)
		}
		exit <- e
	}()
	// A hang-up asks it to stop as SIGTERM does, and stopping twice is no error.
	if err := syscall.Kill(i.PID, syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	if e := <-exit; e.Code != 9 {
		t.Errorf("it ended with %+v", e)
	}
	if err := i.Stop(t.Context(), -1); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(i.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left %s: %v", i.Dir, err)
	}
}

func TestDetachedStartFails(t *testing.T) {
	ownRegister(t)
	name := named(t)
	cmd, stdout, stderr := start(t, name, "fail")
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 127 || stdout.Len() != 0 {
		t.Errorf("it ended with %v and said %q", err, stdout)
	}
	if got := stderr.String(); !strings.HasPrefix(got, "bake: guest: a warning\n") || strings.Count(got, "no such command") != 1 {
		t.Errorf("the user reads %q", got)
	}
	wantEmptyRegister(t)
}

func wantEmptyRegister(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bake"))
	if err != nil || len(entries) != 0 {
		t.Errorf("these are left: %v, %v", entries, err)
	}
}

func TestDetachedStartIsStopped(t *testing.T) {
	ownRegister(t)
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		name := named(t)
		cmd, _, stderr := start(t, name, "boot for ever")
		await(t, name, "starting", isState(instance.StateStarting))
		cmd.Process.Signal(sig)
		err := cmd.Wait()
		if cmd.ProcessState.ExitCode() != code || stderr.Len() != 0 {
			t.Errorf("%v: it ended with %v and said %q", sig, err, stderr)
		}
		wantEmptyRegister(t)
	}
}

func TestDetachedStartIsKilled(t *testing.T) {
	ownRegister(t)
	name := named(t)
	cmd, _, stderr := start(t, name, "boot for ever")
	i := await(t, name, "starting", isState(instance.StateStarting))
	syscall.Kill(i.PID, syscall.SIGKILL)
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != CodeFailed || !strings.Contains(stderr.String(), "died before its container ran: signal: killed") {
		t.Errorf("it ended with %v and said %q", err, stderr)
	}
	if _, err := instance.Find(instance.Query{Name: name}); !errors.Is(err, instance.ErrNotFound) {
		t.Errorf("a killed one: %v", err)
	}
}

// The variable that a starting app sets is of no use to others.
func TestForeignStarter(t *testing.T) {
	for _, value := range []string{"", "x", "-1", "100000"} {
		t.Setenv(starterEnv, value)
		_, err := takeStarter()
		if err == nil || !strings.Contains(err.Error(), "unset it") {
			t.Errorf("%q: %v", value, err)
		}
	}
	os.Unsetenv(starterEnv)
	if s, err := takeStarter(); s != nil || err != nil {
		t.Errorf("without one: %v, %v", s, err)
	}
}
