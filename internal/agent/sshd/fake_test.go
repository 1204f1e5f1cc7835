//go:build linux

package sshd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/agent/container"
	"bake/internal/agent/signals"
	"bake/internal/wire"
)

// limit bounds every wait of a test.
const limit = time.Minute

// A fakeContainer is this machine: programs run as who runs the test.
type fakeContainer struct {
	login container.Login

	mu   sync.Mutex
	last container.ExecConfig
}

func (c *fakeContainer) LookupLogin(user string) (container.Login, error) {
	if user != c.login.Name {
		return container.Login{}, fmt.Errorf("the user %q is not in the image's /etc/passwd", user)
	}
	return c.login, nil
}

func (c *fakeContainer) EnterAs(_ container.Account, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // for umask
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

func (c *fakeContainer) Exec(_ context.Context, cfg container.ExecConfig) (Program, *os.File, error) {
	c.mu.Lock()
	c.last = cfg
	c.mu.Unlock()
	if cfg.Role != "" {
		cfg.Args = []string{"sh", "-c", `echo "role $0 $1"; cat`, cfg.Role, fmt.Sprint(cfg.Args)}
	}
	path, err := exec.LookPath(cmp.Or(cfg.Path, cfg.Args[0]))
	if err != nil {
		return nil, nil, &container.Error{Code: 127, Err: err}
	}
	cmd := &exec.Cmd{
		Path: path, Args: cfg.Args, Dir: cfg.Cwd, Env: append([]string{"PATH=" + os.Getenv("PATH")}, cfg.Env...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	set := func(to *io.Writer, f *os.File) {
		if f != nil {
			*to = f
		}
	}
	if cfg.Stdin != nil {
		cmd.Stdin = cfg.Stdin
	}
	set(&cmd.Stdout, cfg.Stdout)
	set(&cmd.Stderr, cfg.Stderr)
	var master *os.File
	if cfg.Terminal {
		var slave *os.File
		if master, slave, err = openTerminal(cfg.Rows, cfg.Cols); err != nil {
			return nil, nil, err
		}
		defer slave.Close()
		env, err := cfg.SetUp(master)
		if err != nil {
			return nil, nil, err
		}
		cmd.Env = append(cmd.Env, env...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr.Setctty = true
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	p := &fakeProgram{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	return p, master, nil
}

func openTerminal(rows, cols uint16) (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	var name string
	err = control(master, func(fd int) error {
		n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		name = fmt.Sprint("/dev/pts/", n)
		return errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	})
	if err == nil {
		setWindow(master, rows, cols)
		slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
	}
	return master, slave, err
}

type fakeProgram struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *fakeProgram) Signal(sig unix.Signal) error { return unix.Kill(-p.cmd.Process.Pid, sig) }

func (p *fakeProgram) Wait() container.Exit {
	<-p.done
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return container.Exit{Code: 128 + int(status.Signal()), Signal: signals.Name(status.Signal())}
	}
	return container.Exit{Code: status.ExitStatus()}
}

// A testServer is a server with a fake container.
type testServer struct {
	t         testing.TB
	container *fakeContainer
	addr      string
	hostKey   ssh.PublicKey
	client    ed25519.PrivateKey
	// end ends the server; done is closed when it has.
	end  context.CancelFunc
	done chan struct{}
}

func seed(b byte) []byte { return bytes.Repeat([]byte{b}, ed25519.SeedSize) }

func startServer(t testing.TB) *testServer {
	t.Helper()
	home := t.TempDir()
	s := &testServer{
		t: t, client: ed25519.NewKeyFromSeed(seed(2)), done: make(chan struct{}),
		container: &fakeContainer{login: container.Login{
			Name: "baker", Shell: "/bin/sh",
			Account: container.Account{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Home: home},
		}},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	if s.hostKey, err = ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed(1)).Public()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.end = cancel
	go func() {
		defer close(s.done)
		err := Serve(ctx, l, Config{
			Keys:      wire.SSH{HostKey: seed(1), ClientKey: s.client.Public().(ed25519.PublicKey)},
			Container: s.container,
			Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
				return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			},
		})
		if err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		s.wait(s.done)
	})
	return s
}

// wait waits for an event.
func (s *testServer) wait(event <-chan struct{}) {
	s.t.Helper()
	select {
	case <-event:
	case <-time.After(limit):
		stacks := make([]byte, 1<<20)
		s.t.Fatalf("nothing happened within %v:\n%s", limit, stacks[:runtime.Stack(stacks, true)])
	}
}

func (s *testServer) config(user string, key ed25519.PrivateKey) *ssh.ClientConfig {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	return &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(s.hostKey),
	}
}

func (s *testServer) dial() *ssh.Client {
	s.t.Helper()
	client, err := ssh.Dial("tcp", s.addr, s.config("baker", s.client))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	return client
}

func (s *testServer) session() *ssh.Session {
	s.t.Helper()
	return newClientSession(s.t, s.dial())
}

func newClientSession(t testing.TB, c *ssh.Client) *ssh.Session {
	t.Helper()
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

// wantExit checks how a program ended: with a code, or a signal by its name.
func wantExit(t *testing.T, err error, code int, signal string) {
	t.Helper()
	var exit *ssh.ExitError
	switch {
	case err == nil && code == 0 && signal == "":
	case errors.As(err, &exit) && (signal != "" || exit.ExitStatus() == code) && exit.Signal() == signal:
	default:
		t.Errorf("the program ended with %v, want code %d, signal %q", err, code, signal)
	}
}

func hasEnv(env []string, kv string) bool { return slices.Contains(env, kv) }

// A reader collects what a program says, and waits for it.
type reader struct {
	t   *testing.T
	mu  sync.Mutex
	got []byte
	end error
	new chan struct{}
}

func newReader(t *testing.T, r io.Reader) *reader {
	out := &reader{t: t, new: make(chan struct{}, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			out.mu.Lock()
			out.got, out.end = append(out.got, buf[:n]...), err
			out.mu.Unlock()
			select {
			case out.new <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.got)
}

// until waits until the text contains something.
func (r *reader) until(want string) {
	r.t.Helper()
	deadline := time.After(limit)
	for {
		r.mu.Lock()
		has, end := bytes.Contains(r.got, []byte(want)), r.end
		r.mu.Unlock()
		if has {
			return
		}
		if end != nil {
			r.t.Fatalf("the program says %q, and not %q, until %v", r.text(), want, end)
		}
		select {
		case <-r.new:
		case <-deadline:
			r.t.Fatalf("the program says %q, and not %q", r.text(), want)
		}
	}
}
