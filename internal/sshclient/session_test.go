//go:build linux

package sshclient_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/sshclient"
	"bake/internal/sshclient/guesttest"
	"bake/internal/wire"
)

// limit bounds every wait of a test.
const limit = 2 * time.Minute

func dial(t *testing.T, g *guesttest.Guest) *ssh.Client {
	t.Helper()
	client, err := sshclient.Dial(t.Context(), g, "root")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// A result is what a program said and how it ended.
type result struct {
	out, err string
	code     int
	failed   error
}

// run runs a program with input, and an end of file after it.
func run(t *testing.T, client *ssh.Client, r sshclient.Request, input string, signals <-chan os.Signal) result {
	t.Helper()
	dir := t.TempDir()
	var files [3]*os.File
	for i, name := range []string{"in", "out", "err"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	files[0].WriteString(input)
	files[0].Seek(0, io.SeekStart)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var res result
	res.code, res.failed = sshclient.Run(ctx, client, r, sshclient.Streams{Stdin: files[0], Stdout: files[1], Stderr: files[2]}, signals)
	for i, to := range map[int]*string{1: &res.out, 2: &res.err} {
		data, err := os.ReadFile(files[i].Name())
		if err != nil {
			t.Fatal(err)
		}
		*to = string(data)
	}
	return res
}

func program(args ...string) sshclient.Request {
	return sshclient.Request{Exec: &wire.ExecRequest{Args: args}}
}

func shell(line string) sshclient.Request { return program("sh", "-c", line) }

func TestRun(t *testing.T) {
	client := dial(t, guesttest.Start(t))
	lingers := "while [ -e " + t.TempDir() + " ]; do sleep 0.1; done"
	for name, test := range map[string]struct {
		request sshclient.Request
		input   string
		want    result
	}{
		"streams apart":  {request: shell("echo out; echo err >&2"), want: result{out: "out\n", err: "err\n"}},
		"code":           {request: shell("exit 42"), want: result{code: 42}},
		"highest code":   {request: shell("exit 255"), want: result{code: 255}},
		"signal":         {request: shell("kill -KILL $$"), want: result{code: 137}},
		"rare signal":    {request: shell("kill -XCPU $$"), want: result{code: 128 + 24}},
		"input":          {request: program("cat"), input: "a\x00b\n", want: result{out: "a\x00b\n"}},
		"unread input":   {request: program("true"), input: strings.Repeat("x", 8<<20)},
		"much output":    {request: shell("head -c 5000000 /dev/zero | tr '\\0' x"), want: result{out: strings.Repeat("x", 5000000)}},
		"arguments":      {request: program("printf", "<%s>", "a b", "", "*", "$X", "'"), want: result{out: "<a b><><*><$X><'>"}},
		"shell's line":   {request: sshclient.Request{Line: "echo $((6*7))"}, want: result{out: "42\n"}},
		"login shell":    {request: sshclient.Request{}, input: "echo $0; exit 3\n", want: result{out: "-sh\n", code: 3}},
		"shell's env":    {request: sshclient.Request{Line: "echo $A$B", Env: []string{"A=1", "B=x=y"}}, want: result{out: "1x=y\n"}},
		"program's env":  {request: sshclient.Request{Exec: &wire.ExecRequest{Args: []string{"sh", "-c", "echo $A; pwd"}, Env: []string{"A=1"}, Cwd: "/usr"}}, want: result{out: "1\n/usr\n"}},
		"output at once": {request: shell("echo a; " + lingers + " & exit 5"), want: result{out: "a\n", code: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := run(t, client, test.request, test.input, nil); got != test.want {
				t.Errorf("got %.200q %q %d %v, want %.200q %q %d", got.out, got.err, got.code, got.failed, test.want.out, test.want.err, test.want.code)
			}
		})
	}
	t.Run("not found", func(t *testing.T) {
		got := run(t, client, program("no-such-program"), "", nil)
		if got.code != 127 || !strings.Contains(got.err, "no-such-program") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("too long", func(t *testing.T) {
		got := run(t, client, program("true", strings.Repeat("x", wire.SessionLimit)), "", nil)
		if got.failed == nil || !strings.Contains(got.failed.Error(), "too long") {
			t.Errorf("got %v", got.failed)
		}
	})
}

// Without an input the program reads an end of file, and does not wait.
func TestRunWithoutInput(t *testing.T) {
	client := dial(t, guesttest.Start(t))
	code, err := sshclient.Run(t.Context(), client, shell("cat; exit 9"), sshclient.Streams{}, nil)
	if code != 9 || err != nil {
		t.Errorf("got %d, %v", code, err)
	}
}

// A detached program goes on when its session has ended.
func TestRunDetached(t *testing.T) {
	client := dial(t, guesttest.Start(t))
	dir := t.TempDir()
	r := shell("while [ ! -e go ]; do sleep 0.05; done; echo $$ >pid.new; mv pid.new pid")
	r.Exec.Cwd, r.Exec.Detach = dir, true
	code, err := sshclient.Run(t.Context(), client, r, sshclient.Streams{}, nil)
	if code != 0 || err != nil {
		t.Fatalf("got %d, %v", code, err)
	}
	client.Close()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, "pid")); return err == nil })
}

// eventually waits until something is so.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen within %v", limit)
		}
	}
}

// started runs a program, and returns when it has said so.
func started(t *testing.T, client *ssh.Client, line string, signals chan os.Signal) <-chan result {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	done := make(chan result, 1)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	go func() {
		code, err := sshclient.Run(ctx, client, shell(line), sshclient.Streams{Stdout: w}, signals)
		w.Close()
		done <- result{code: code, failed: err}
	}()
	if _, err := io.ReadFull(r, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	return done
}

func TestSignals(t *testing.T) {
	client := dial(t, guesttest.Start(t))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			signals := make(chan os.Signal, 2)
			done := started(t, client, "trap 'exit 40' "+strings.TrimPrefix(unix.SignalName(sig), "SIG")+"; printf ready; while :; do sleep 0.1; done", signals)
			signals <- syscall.SIGWINCH // about no terminal
			signals <- sig
			if got := <-done; got.code != 40 || got.failed != nil {
				t.Errorf("got %+v", got)
			}
		})
	}
	t.Run("second Ctrl-C", func(t *testing.T) {
		signals := make(chan os.Signal, 2)
		done := started(t, client, "trap '' INT; printf ready; sleep 1000", signals)
		signals <- syscall.SIGINT
		signals <- syscall.SIGINT
		if got := <-done; got.code != 130 || got.failed != nil {
			t.Errorf("got %+v", got)
		}
	})
}

// When the guest goes, a session ends with what is known of it.
func TestLost(t *testing.T) {
	g := guesttest.Start(t)
	client := dial(t, g)
	done := started(t, client, "printf ready; exec sleep 1000", nil)
	client.Close()
	if got := <-done; !errors.Is(got.failed, sshclient.ErrLost) {
		t.Errorf("got %+v", got)
	}
}

func TestHostKeyIsPinned(t *testing.T) {
	g, other := guesttest.Start(t), guesttest.Start(t)
	data, err := os.ReadFile(other.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.KnownHosts(), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sshclient.Dial(t.Context(), g, "root"); err == nil || !strings.Contains(err.Error(), "host key mismatch") {
		t.Errorf("another server's key: %v", err)
	}
	for _, text := range []string{"", "x", string(data) + string(data)} {
		if err := os.WriteFile(g.KnownHosts(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sshclient.Dial(t.Context(), g, "root"); err == nil {
			t.Errorf("a known_hosts of %q was taken", text)
		}
	}
	os.Remove(g.KnownHosts())
	if _, err := sshclient.Dial(t.Context(), g, "root"); err == nil || !strings.Contains(err.Error(), "--no-ssh") {
		t.Errorf("no known_hosts: %v", err)
	}
}

// On a terminal, the program has one of the same size, and follows it; ours is as
// before when it has ended.
func TestTerminal(t *testing.T) {
	client := dial(t, guesttest.Start(t))
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if err := pty.Setsize(master, &pty.Winsize{Rows: 33, Cols: 101}); err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	done := make(chan result, 1)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	go func() {
		r := program("sh")
		r.Terminal, r.Term = true, "screen"
		code, err := sshclient.Run(ctx, client, r, sshclient.Streams{Stdin: slave, Stdout: slave, Stderr: slave}, signals)
		done <- result{code: code, failed: err}
	}()
	seen := newReader(t, master)
	say := func(line string) {
		if _, err := master.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	say("stty size; echo $TERM; tty\r")
	seen.until("33 101\r\nscreen\r\n/dev/pts/")
	if err := pty.Setsize(master, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	signals <- syscall.SIGWINCH
	say("while [ \"$(stty size)\" != '40 120' ]; do sleep 0.05; done; echo re\"\"sized\r")
	seen.until("resized")
	// Ctrl-C is a character, and ends the program on the terminal alone.
	say("sh -c 'echo be\"\"gin; exec sleep 1000'\r")
	seen.until("begin")
	say("\x03")
	say("echo co\"\"de $?\r")
	seen.until("code 130")
	say("exit 7\r")
	if got := <-done; got.code != 7 || got.failed != nil {
		t.Errorf("got %+v", got)
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal's mode is another one than before: %v", err)
	}
}
