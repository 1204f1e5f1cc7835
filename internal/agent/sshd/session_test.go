//go:build linux

package sshd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"bake/internal/wire"
)

func TestLogin(t *testing.T) {
	s := startServer(t)
	if _, err := ssh.Dial("tcp", s.addr, s.config("baker", ed25519.NewKeyFromSeed(seed(3)))); err == nil {
		t.Error("a stranger can log in")
	}
	var banner string
	cfg := s.config("nobody", s.client)
	cfg.BannerCallback = func(message string) error { banner += message; return nil }
	if _, err := ssh.Dial("tcp", s.addr, cfg); err == nil {
		t.Error("somebody who does not exist can log in")
	}
	if !strings.Contains(banner, `"nobody"`) || !strings.Contains(banner, "/etc/passwd") {
		t.Errorf("the server says %q", banner)
	}
	if ok, _, err := s.dial().SendRequest("keepalive@openssh.com", true, nil); !ok || err != nil {
		t.Errorf("no answer to a keepalive: %v, %v", ok, err)
	}
	if ok, _, err := s.dial().SendRequest("nosuch@bake", true, nil); ok || err != nil {
		t.Errorf("an unknown request is %v, %v", ok, err)
	}
}

func TestExitCodes(t *testing.T) {
	s := startServer(t)
	client := s.dial()
	for line, want := range map[string]struct {
		code   int
		signal string
	}{
		"exit 0":         {0, ""},
		"exit 3":         {3, ""},
		"exit 255":       {255, ""},
		"no-such-thing":  {127, ""},
		"kill -TERM $$":  {0, "TERM"},
		"kill -KILL $$":  {0, "KILL"},
		"exec sleep 0.1": {0, ""},
	} {
		t.Run(line, func(t *testing.T) {
			wantExit(t, newClientSession(t, client).Run("ulimit -c 0; "+line), want.code, want.signal)
		})
	}
}

// A shell is a login shell, and the session's environment is that of a login.
func TestShell(t *testing.T) {
	s := startServer(t)
	session := s.session()
	session.Stdin = strings.NewReader("echo $0 $HOME $USER $LOGNAME $SHELL; echo $SSH_CONNECTION; echo $MINE; pwd; exit 5\n")
	if err := session.Setenv("MINE", "a b"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "A=B", "N\x00"} {
		if err := session.Setenv(bad, "x"); err == nil {
			t.Errorf("the variable %q is taken", bad)
		}
	}
	var out bytes.Buffer
	session.Stdout = &out
	if err := session.Shell(); err != nil {
		t.Fatal(err)
	}
	wantExit(t, session.Wait(), 5, "")
	home := s.container.login.Home
	if want := "-sh " + home + " baker baker /bin/sh\nUNKNOWN 65535 UNKNOWN 65535\na b\n" + home + "\n"; out.String() != want {
		t.Errorf("the shell says %q, want %q", out.String(), want)
	}
}

func TestStreamsAreApart(t *testing.T) {
	session := startServer(t).session()
	var out, err bytes.Buffer
	session.Stdout, session.Stderr = &out, &err
	wantExit(t, session.Run("echo out; echo err >&2; exit 4"), 4, "")
	if out.String() != "out\n" || err.String() != "err\n" {
		t.Errorf("stdout is %q, stderr is %q", out.String(), err.String())
	}
}

// What goes in comes out whole, and its end ends the program.
func TestCat(t *testing.T) {
	data := make([]byte, 20<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	session := startServer(t).session()
	session.Stdin = bytes.NewReader(data)
	h := sha256.New()
	session.Stdout = h
	wantExit(t, session.Run("cat"), 0, "")
	if !bytes.Equal(h.Sum(nil), sum(data)) {
		t.Error("other bytes came back")
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// A program that does not want its input can end, and so can one whose output
// nobody wants.
func TestUnwantedData(t *testing.T) {
	s := startServer(t)
	session := s.session()
	in, _ := session.StdinPipe()
	go func() { _, _ = io.Copy(in, zeros{}) }()
	wantExit(t, session.Run("head -c 100000 >/dev/null"), 0, "")

	client := s.dial()
	session = newClientSession(t, client)
	pid := filepath.Join(s.container.login.Home, "pid")
	if err := session.Start("echo $$ >" + pid + "; mkfifo gone; (yes; echo >gone)"); err != nil {
		t.Fatal(err)
	}
	waitForFile(t, s, pid)
	client.Close()
	// yes ends by SIGPIPE or SIGHUP, or this waits for it for ever.
	s.waitForEnd(pid)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestSignals(t *testing.T) {
	session := startServer(t).session()
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("trap 'echo usr; exit 9' USR1; echo ready; while :; do sleep 0.05; done"); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, out)
	r.until("ready\n")
	if err := session.Signal(ssh.SIGUSR1); err != nil {
		t.Error(err)
	}
	wantExit(t, session.Wait(), 9, "")
	r.until("usr\n")
}

func TestTerminal(t *testing.T) {
	s := startServer(t)
	session := s.session()
	modes := ssh.TerminalModes{ssh.ECHO: 0, ssh.VINTR: 24, ssh.ONLCR: 0}
	if err := session.RequestPty("vt100", 40, 100, modes); err != nil {
		t.Fatal(err)
	}
	in, _ := session.StdinPipe()
	out, _ := session.StdoutPipe()
	if err := session.Start(`tty; echo $SSH_TTY; stty size; echo $TERM; stty -a | tr ' ;' '\n\n' | grep -xF -e -echo -e -onlcr -e ^X
		trap 'stty size; changed=1' WINCH; echo ready; until [ "$changed" ]; do sleep 0.05; done; echo on; cat; echo eof; exit 6`); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, out)
	r.until("ready\n")
	lines := strings.Split(r.text(), "\n")
	if lines[0] != lines[1] || !strings.HasPrefix(lines[0], "/dev/pts/") {
		t.Errorf("the terminal is %q, SSH_TTY %q", lines[0], lines[1])
	}
	if got, want := strings.Join(lines[2:], " "), "40 100 vt100 ^X -onlcr -echo ready "; got != want {
		t.Errorf("the terminal says %q, want %q", got, want)
	}
	if err := session.WindowChange(50, 120); err != nil {
		t.Error(err)
	}
	r.until("50 120\non\n")
	_, _ = io.WriteString(in, "one\n")
	r.until("on\none\n")
	in.Close() // is the end of file of a terminal, too
	wantExit(t, session.Wait(), 6, "")
	r.until("eof\n")
}

func TestTerminalInterrupt(t *testing.T) {
	session := startServer(t).session()
	if err := session.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	in, _ := session.StdinPipe()
	out, _ := session.StdoutPipe()
	if err := session.Start("trap 'echo interrupted; exit 8' INT; echo ready; while :; do sleep 0.05; done"); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, out)
	r.until("ready\r\n")
	_, _ = io.WriteString(in, "\x03")
	wantExit(t, session.Wait(), 8, "")
	r.until("interrupted\r\n")
}

// When the client is gone, a session is hung up; what ignores that lives on.
func TestHangUp(t *testing.T) {
	s := startServer(t)
	for name, terminal := range map[string]bool{"pipes": false, "terminal": true} {
		t.Run(name, func(t *testing.T) {
			client := s.dial()
			session := newClientSession(t, client)
			if terminal {
				if err := session.RequestPty("xterm", 24, 80, nil); err != nil {
					t.Fatal(err)
				}
			}
			pid := filepath.Join(t.TempDir(), "pid")
			if err := session.Start("echo $$ >" + pid + ".new; mv " + pid + ".new " + pid + "; while :; do sleep 0.05; done"); err != nil {
				t.Fatal(err)
			}
			waitForFile(t, s, pid)
			client.Close()
			s.waitForEnd(pid)
		})
	}
}

// The session of a shell goes on while something holds its output; that of a
// program by its arguments does not, and loses nothing.
func TestWhatIsLeftBehind(t *testing.T) {
	s := startServer(t)
	session := s.session()
	out, err := session.Output("(sleep 0.3; echo late) & echo early")
	if err != nil || string(out) != "early\nlate\n" {
		t.Errorf("a shell's line gives %q, %v", out, err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	r := s.exec(wire.ExecRequest{Args: []string{"sh", "-c", "mkfifo " + fifo + "; (cat " + fifo + ") & seq 1 9000; exit 2"}})
	if r.code != 2 || !strings.HasSuffix(r.stdout, "\n9000\n") {
		t.Errorf("the program ends with %d after %d bytes", r.code, len(r.stdout))
	}
	// It still waits there.
	if f, err := os.OpenFile(fifo, os.O_WRONLY, 0); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}

func TestExec(t *testing.T) {
	s := startServer(t)
	r := s.exec(wire.ExecRequest{
		Args: []string{"sh", "-c", `echo "$0 $1 $A $B"; pwd; exit 7`, "a b", "$x"}, Env: []string{"A=mine", "B=b"}, Cwd: "/usr", User: "5:6",
	})
	if want := (result{code: 7, stdout: "a b $x mine b\n/usr\n"}); r != want {
		t.Errorf("the program gives %+v", r)
	}
	if s.container.last.User != "5:6" || s.container.last.As != nil || hasEnv(s.container.last.Env, "USER=baker") {
		t.Errorf("the program runs as %+v", s.container.last)
	}

	r = s.exec(wire.ExecRequest{Args: []string{"/no/such"}})
	if r.code != 127 || !strings.HasPrefix(r.stderr, "bake: ") || !strings.Contains(r.stderr, "/no/such") {
		t.Errorf("a program that does not exist gives %+v", r)
	}

	for _, bad := range []string{"", "{", `{"args":[]}`, `{"args":"x"}`} {
		if ok, err := s.session().SendRequest(wire.RequestExec, true, ssh.Marshal(oneString{bad})); ok || err != nil {
			t.Errorf("%q is taken: %v, %v", bad, ok, err)
		}
	}
}

func TestRoles(t *testing.T) {
	s := startServer(t)
	if r := s.run("subsystem", "sftp", "data"); r != (result{stdout: "role sftp []\ndata"}) || s.container.last.As == nil {
		t.Errorf("sftp gives %+v, as %v", r, s.container.last.As)
	}
	if ok, err := s.session().SendRequest("subsystem", true, ssh.Marshal(oneString{"netconf"})); ok || err != nil {
		t.Errorf("an unknown subsystem is taken: %v, %v", ok, err)
	}
	text := `{"op":"pack","path":"/etc"}`
	if r := s.run(wire.RequestArchive, text, ""); r != (result{stdout: "role archive [" + text + "]\n"}) || s.container.last.User != "0:0" {
		t.Errorf("the archive gives %+v, as %q", r, s.container.last.User)
	}
}

// A session has one program.
func TestOneProgram(t *testing.T) {
	session := startServer(t).session()
	in, _ := session.StdinPipe()
	if err := session.Start("cat"); err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string][]byte{
		"shell":                      nil,
		"exec":                       ssh.Marshal(oneString{"true"}),
		"pty-req":                    ssh.Marshal(ptyRequest{Term: "x", Cols: 1, Rows: 1}),
		"env":                        ssh.Marshal(envRequest{"A", "b"}),
		"auth-agent-req@openssh.com": nil,
		"x11-req":                    nil,
	} {
		if ok, err := session.SendRequest(name, true, payload); ok || err != nil {
			t.Errorf("%s is taken: %v, %v", name, ok, err)
		}
	}
	in.Close()
	wantExit(t, session.Wait(), 0, "")
}

// When the server is told to end, sessions whose programs end are told of it.
func TestEnd(t *testing.T) {
	s := startServerWith(t, limit)
	session := s.session()
	idle := s.dial()
	out, _ := session.StdoutPipe()
	in, _ := session.StdinPipe() // stays open
	defer in.Close()
	if err := session.Start("echo ready; read x; exit 3"); err != nil {
		t.Fatal(err)
	}
	newReader(t, out).until("ready\n")
	s.end()
	// What the container's end does.
	if err := session.Signal(ssh.SIGKILL); err != nil {
		t.Error(err)
	}
	wantExit(t, session.Wait(), 0, "KILL")
	s.wait(s.done)
	if err := idle.Wait(); err == nil {
		t.Error("a connection outlives the server")
	}
}

// BenchmarkOutput is what a program can say, server and client in one process.
func BenchmarkOutput(b *testing.B) {
	s := startServer(b)
	session := s.session()
	out, _ := session.StdoutPipe()
	if err := session.Start("exec cat /dev/zero"); err != nil {
		b.Fatal(err)
	}
	const chunk = 1 << 20
	b.SetBytes(chunk)
	for b.Loop() {
		if _, err := io.CopyN(io.Discard, out, chunk); err != nil {
			b.Fatal(err)
		}
	}
}
