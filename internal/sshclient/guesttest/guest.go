//go:build linux

// Package guesttest has a guest for tests of those who log in: the SSH server of
// the guest, in this process, over a container that is this machine.
package guesttest

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"bake/internal/agent/container"
	"bake/internal/agent/signals"
	"bake/internal/agent/sshd"
	"bake/internal/service/ssh"
)

// A Guest is a server that lets its key in, with what an instance publishes of it.
type Guest struct {
	// Dir holds known_hosts.
	Dir  string
	Keys *ssh.Keys
	addr string
	stop func()
}

// Start serves until the test ends.
func Start(t *testing.T) *Guest {
	t.Helper()
	keys, err := ssh.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "guest") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := keys.Publish(dir); err != nil {
		t.Fatal(err)
	}
	g := &Guest{Dir: dir, Keys: keys, addr: filepath.Join(dir, "sshd")}
	ln, err := net.Listen("unix", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- sshd.Serve(ctx, ln, sshd.Config{
			Keys: *keys.Manifest(), Container: machine{home: dir}, Log: t.Logf,
			Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
				return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			},
		})
	}()
	g.stop = cancel
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the guest's SSH server: %v", err)
		}
	})
	return g
}

// Stop ends the server as the end of a guest does.
func (g *Guest) Stop() { g.stop() }

// DialSSH connects to the server.
func (g *Guest) DialSSH(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", g.addr)
}

// Key is the one that the server lets in.
func (g *Guest) Key(context.Context) (ed25519.PrivateKey, error) { return g.Keys.Client(), nil }

// KnownHosts is the file with the server's key.
func (g *Guest) KnownHosts() string { return filepath.Join(g.Dir, ssh.KnownHostsFile) }

// A machine is this one, for sessions: everybody is who runs the test.
type machine struct{ home string }

func (m machine) LookupLogin(user string) (container.Login, error) {
	return container.Login{Name: user, Shell: "/bin/sh", Account: container.Account{
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Home: m.home,
	}}, nil
}

func (machine) EnterAs(_ container.Account, f func() error) error { return f() }

func (m machine) Exec(_ context.Context, cfg container.ExecConfig) (sshd.Program, *os.File, error) {
	if cfg.Role != "" {
		return nil, nil, &container.Error{Code: 125, Err: fmt.Errorf("this guest has no role %s", cfg.Role)}
	}
	path, err := exec.LookPath(cmp.Or(cfg.Path, cfg.Args[0]))
	if err != nil {
		return nil, nil, &container.Error{Code: 127, Err: err}
	}
	cmd := &exec.Cmd{
		Path: path, Args: cfg.Args, Dir: cmp.Or(cfg.Cwd, m.home),
		Env:         append([]string{"PATH=" + os.Getenv("PATH"), "EXEC_USER=" + cfg.User}, cfg.Env...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if cfg.Stdin != nil {
		cmd.Stdin = cfg.Stdin
	}
	for to, f := range map[*io.Writer]*os.File{&cmd.Stdout: cfg.Stdout, &cmd.Stderr: cfg.Stderr} {
		if f != nil {
			*to = f
		}
	}
	var master *os.File
	if cfg.Terminal {
		var slave *os.File
		if master, slave, err = pty.Open(); err != nil {
			return nil, nil, err
		}
		defer slave.Close()
		env, err := cfg.SetUp(master)
		if err == nil {
			err = pty.Setsize(master, &pty.Winsize{Rows: cfg.Rows, Cols: cfg.Cols})
		}
		if err != nil {
			master.Close()
			return nil, nil, err
		}
		cmd.Env = append(cmd.Env, env...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr.Setctty = true
	}
	if err := cmd.Start(); err != nil {
		if master != nil {
			master.Close()
		}
		return nil, nil, &container.Error{Code: 126, Err: err}
	}
	p := &program{cmd: cmd, ended: make(chan struct{})}
	go func() { // ends with the program
		_ = cmd.Wait()
		close(p.ended)
	}()
	return p, master, nil
}

type program struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

func (p *program) Signal(sig unix.Signal) error { return unix.Kill(-p.cmd.Process.Pid, sig) }

func (p *program) Wait() container.Exit {
	<-p.ended
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return container.Exit{Code: 128 + int(status.Signal()), Signal: signals.Name(status.Signal())}
	}
	return container.Exit{Code: status.ExitStatus()}
}
