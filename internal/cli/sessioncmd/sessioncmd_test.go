//go:build linux

package sessioncmd_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/cli/instancecmd"
	"bake/internal/cli/sessioncmd"
	"bake/internal/instance"
	"bake/internal/platform"
	"bake/internal/relay"
	"bake/internal/service/ssh"
	"bake/internal/sshclient/guesttest"
)

// limit bounds every wait of a test.
const limit = 2 * time.Minute

// testApp is the App of the instances here, and asApp the variable that makes this
// program that app.
const (
	testApp = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	asApp   = "BAKE_TEST_APP"
)

// TestMain makes this program the command line of the verbs, for ssh(1) too, which
// starts it as its ProxyCommand.
func TestMain(m *testing.M) {
	if os.Getenv(asApp) == "" {
		os.Exit(m.Run())
	}
	code := 0
	root := &cobra.Command{Use: "app", SilenceUsage: true, SilenceErrors: true}
	stdio := app.Stdio{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}
	sessioncmd.Add(root, instancecmd.Scope{App: testApp}, stdio, &code)
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "bake: %s\n", app.Sentence(err))
		code = app.CodeFailed
	}
	os.Exit(code)
}

// handler is a running app as far as the verbs here ask for it.
type handler struct{ guest *guesttest.Guest }

func (handler) Stop(context.Context, time.Duration) error { return errors.ErrUnsupported }
func (handler) Signal(string) error                       { return errors.ErrUnsupported }
func (handler) Stats(context.Context) (instance.Stats, error) {
	return instance.Stats{}, errors.ErrUnsupported
}
func (h handler) Key() ed25519.PrivateKey { return h.guest.Keys.Client() }
func (h handler) Guest(ctx context.Context, _ uint32) (relay.Conn, error) {
	conn, err := h.guest.DialSSH(ctx)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// A lab has instances, and a home with nothing in it.
type lab struct {
	t    *testing.T
	home string
	env  []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("HOME", dir)
	return &lab{t: t, home: dir, env: append(os.Environ(), asApp+"=1", "SSH_AUTH_SOCK=", "TERM=screen")}
}

// start registers an instance.
func (l *lab) start(name string) {
	l.t.Helper()
	dir, err := platform.NewRunDir()
	if err != nil {
		l.t.Fatal(err)
	}
	guest := guesttest.Start(l.t)
	if err := guest.Keys.Publish(dir.Path()); err != nil {
		l.t.Fatal(err)
	}
	r, err := instance.Register(dir, instance.Info{Name: name, App: testApp, State: instance.StateRunning, Started: time.Now()}, handler{guest})
	if err != nil {
		l.t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir.Path(), ssh.AgentSocket))
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ssh.ServeAgent(ctx, ln, guest.Keys.Client()) }()
	l.t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, r.Close(instance.Exit{}), dir.Close()); err != nil {
			l.t.Error(err)
		}
	})
}

// A result is how a program ended.
type result struct {
	out, err string
	code     int
}

func (l *lab) command(name string, args ...string) *exec.Cmd {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), limit)
	l.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = l.env, l.home
	return cmd
}

func (l *lab) run(cmd *exec.Cmd, input string) result {
	l.t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatal(err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// app runs a verb.
func (l *lab) app(args ...string) result {
	l.t.Helper()
	return l.run(l.command(self(l.t), args...), "")
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func TestExec(t *testing.T) {
	l := newLab(t)
	l.start("web")
	for name, test := range map[string]struct {
		args  []string
		input string
		want  result
	}{
		"command":       {args: []string{"exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7"}, want: result{"out\n", "err\n", 7}},
		"signal":        {args: []string{"exec", "--", "sh", "-c", "kill -TERM $$"}, want: result{code: 143}},
		"input":         {args: []string{"exec", "-i", "--", "cat"}, input: "in", want: result{out: "in"}},
		"no input":      {args: []string{"exec", "--", "cat"}, input: "in"},
		"name":          {args: []string{"exec", "web", "--", "echo", "--", "-x"}, want: result{out: "-- -x\n"}},
		"name alone":    {args: []string{"exec", "web", "echo", "a"}, want: result{out: "a\n"}},
		"--name":        {args: []string{"exec", "--name", "web", "--", "true"}},
		"pid":           {args: []string{"exec", "-p", fmt.Sprint(os.Getpid()), "--", "true"}},
		"user and all":  {args: []string{"exec", "-u", "nobody", "-w", "/usr", "-e", "A=b", "-e", "TERM", "--", "sh", "-c", "echo $EXEC_USER $A $TERM; pwd"}, want: result{out: "nobody b screen\n/usr\n"}},
		"a terminal":    {args: []string{"exec", "-t", "--", "sh", "-c", "stty size; echo $TERM"}, want: result{out: "24 80\r\nscreen\r\n"}},
		"detached":      {args: []string{"exec", "-d", "--", "sh", "-c", "exit 9"}},
		"detached fail": {args: []string{"exec", "-d", "--", "no-such"}, want: result{err: "bake: exec: \"no-such\": executable file not found in $PATH\r\n", code: 127}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := l.run(l.command(self(t), test.args...), test.input); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	l := newLab(t)
	if got := l.app("exec", "--", "true"); got.code != 125 || !strings.Contains(got.err, "nothing runs") {
		t.Errorf("with no instance: %+v", got)
	}
	l.start("web")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"exec"}, "there is no command"},
		{[]string{"exec", "web"}, "there is no command"},
		{[]string{"exec", "web", "-it", "--", "sh"}, "put the flags of exec before it"},
		{[]string{"exec", "--name", "web", "db", "--", "sh"}, "two instances"},
		{[]string{"exec", "other", "--", "sh"}, "other"},
		{[]string{"exec", "", "--", "sh"}, "empty"},
		{[]string{"exec", "-it", "--", "sh"}, "needs a terminal"},
		{[]string{"exec", "-d", "-i", "--", "sh"}, "leave out -d"},
		{[]string{"ssh", "--", "-L"}, "needs an argument"},
		{[]string{"ssh", "--builtin", "--", "-o", "X=y"}, "does not have the option -o"},
		{[]string{"ssh", "--builtin", "--", "-L", "x"}, "is not a forwarded port"},
		{[]string{"ssh-config", "web", "x"}, "one argument too many"},
		{[]string{"ssh-config", "--host", "a b"}, "cannot be an alias"},
		{[]string{"ssh-proxy"}, "for ssh(1)"},
	} {
		if got := l.app(test.args...); got.code != 125 || !strings.Contains(got.err, test.want) || got.out != "" {
			t.Errorf("%q: got %+v, want %q", test.args, got, test.want)
		}
	}
	l.start("db")
	if got := l.app("ssh"); got.code != 125 || !strings.Contains(got.err, "web") || !strings.Contains(got.err, "db") {
		t.Errorf("with two instances: %+v", got)
	}
}

// Both clients are told the same, and do the same.
func TestSSH(t *testing.T) {
	l := newLab(t)
	l.start("web")
	for client, flags := range map[string][]string{"ssh(1)": {"ssh"}, "built-in": {"ssh", "--builtin"}} {
		for name, test := range map[string]struct {
			args  []string
			input string
			want  result
		}{
			"command":  {args: []string{"--", "echo out; echo err >&2; exit 7"}, want: result{"out\n", "err\n", 7}},
			"words":    {args: []string{"web", "--", "echo", "a  b", "$USER"}, want: result{out: "a b root\n"}},
			"user":     {args: []string{"--", "-lsomebody", "echo $USER"}, want: result{out: "somebody\n"}},
			"shell":    {input: "echo in; exit 4\n", want: result{out: "in\n", code: 4}},
			"no input": {args: []string{"--", "-n", "cat"}, input: "in"},
			"terminal": {args: []string{"--", "-tt", "-q", "stty size; echo $TERM; exit 5"}, want: result{out: "24 80\r\nscreen\r\n", code: 5}},
		} {
			t.Run(client+"/"+name, func(t *testing.T) {
				got := l.run(l.command(self(t), append(flags[:len(flags):len(flags)], test.args...)...), test.input)
				if test.want.out == "24 80\r\nscreen\r\n" {
					// ssh(1) has no size to tell.
					got.out = strings.Replace(got.out, "0 0", "24 80", 1)
				}
				got.err = strings.TrimPrefix(got.err, "Pseudo-terminal will not be allocated because stdin is not a terminal.\r\n")
				if got != test.want {
					t.Errorf("got %+v, want %+v", got, test.want)
				}
			})
		}
	}
	t.Run("signal", func(t *testing.T) {
		if got := l.app("ssh", "--builtin", "--", "kill -KILL $$"); got.code != 137 {
			t.Errorf("got %+v", got)
		}
	})
	// What ssh(1) makes of all that it is told.
	got := l.app("ssh", "--", "-G", "-o", "Port=2222", "-v")
	for _, want := range []string{"\nuser root\n", "\nport 2222\n", "\nstricthostkeychecking true\n", "\nidentitiesonly yes\n", "\nforwardagent no\n"} {
		if !strings.Contains("\n"+got.out, want) {
			t.Errorf("ssh -G says no %q:\n%s", want, got.out)
		}
	}
}

// A port is forwarded until a signal comes.
func TestBuiltinForwards(t *testing.T) {
	l := newLab(t)
	l.start("web")
	ln, err := net.Listen("unix", filepath.Join(l.home, "server"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cmd := l.command(self(t), "ssh", "--builtin", "--", "-N", "-L", filepath.Join(l.home, "port")+":"+ln.Addr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var conn net.Conn
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if conn, err = net.Dial("unix", filepath.Join(l.home, "port")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	defer conn.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 128+15 {
		t.Errorf("it ended with %v", err)
	}
}

// -A forwards the user's own agent, and not the one that we log in by.
func TestForwardAgent(t *testing.T) {
	l := newLab(t)
	l.start("web")
	keys, err := ssh.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(l.home, "my own agent")
	ln, err := net.Listen("unix", own)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ssh.ServeAgent(ctx, ln, keys.Client()) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	if err := keys.Publish(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, ssh.IdentityFile))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(string(data))
	for _, flags := range [][]string{{"ssh"}, {"ssh", "--builtin"}} {
		l.env = append(l.env, "SSH_AUTH_SOCK="+own)
		got := l.app(append(flags, "--", "-A", "ssh-add -L")...)
		if got.code != 0 || !strings.HasPrefix(got.out, want) {
			t.Errorf("%q: got %+v, want %s", flags, got, want)
		}
		got = l.app(append(flags, "--", "echo $SSH_AUTH_SOCK")...)
		if got.out != "\n" && got.out != own+"\n" {
			t.Errorf("%q without -A: got %+v", flags, got)
		}
		// With no agent of the user's, there is nothing to forward.
		l.env = append(l.env, "SSH_AUTH_SOCK=")
		got = l.app(append(flags, "--", "-A", "test -z \"$SSH_AUTH_SOCK\"")...)
		if got.code != 0 {
			t.Errorf("%q with no agent: got %+v", flags, got)
		}
	}
}

// A Host block works as it is printed, also for the next instance of that name.
func TestSSHConfig(t *testing.T) {
	l := newLab(t)
	config := filepath.Join(l.home, "config")
	for range 2 {
		t.Run("run", func(t *testing.T) {
			l := &lab{t: t, home: l.home, env: l.env}
			l.start("web")
			got := l.app("ssh-config", "--host", "host")
			if got.code != 0 || !strings.HasPrefix(got.out, "Host host\n") {
				t.Fatalf("got %+v", got)
			}
			if _, err := os.Stat(config); err != nil {
				if err := os.WriteFile(config, []byte(got.out), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if first, err := os.ReadFile(config); err != nil || string(first) != got.out {
				t.Errorf("it has changed: %v\n%s", err, got.out)
			}
			if got := l.run(l.command("ssh", "-F", config, "host", "echo hi; exit 3"), ""); got != (result{out: "hi\n", code: 3}) {
				t.Errorf("ssh: got %+v", got)
			}
		})
	}
}

// The built-in client is what a host without ssh(1) uses.
func TestWithoutSSH(t *testing.T) {
	l := newLab(t)
	l.start("web")
	l.env = append(l.env, "PATH="+l.home)
	if got := l.app("ssh", "--", "echo hi"); got.code != 0 || got.out != "hi\n" {
		t.Errorf("got %+v", got)
	}
}
