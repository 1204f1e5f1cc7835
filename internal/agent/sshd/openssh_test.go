//go:build linux

package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// openSSH is ssh(1) with what it needs to log in to s.
func (s *testServer) openSSH(args ...string) *exec.Cmd {
	s.t.Helper()
	path, err := exec.LookPath("ssh")
	if err != nil {
		s.t.Skip("there is no ssh(1) here")
	}
	dir := s.t.TempDir()
	block, err := ssh.MarshalPrivateKey(s.client, "")
	if err != nil {
		s.t.Fatal(err)
	}
	key, hosts := filepath.Join(dir, "key"), filepath.Join(dir, "hosts")
	err = errors.Join(
		os.WriteFile(key, pem.EncodeToMemory(block), 0o600),
		os.WriteFile(hosts, []byte(knownhosts.Line([]string{s.addr}, s.hostKey)+"\n"), 0o600),
	)
	if err != nil {
		s.t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(s.addr)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	s.t.Cleanup(cancel)
	return exec.CommandContext(ctx, path, append([]string{
		"-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + hosts, "-o", "GlobalKnownHostsFile=none",
		"-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-l", "baker", "-p", port, host,
	}, args...)...)
}

// wantSSH checks what ssh(1) prints and its exit code.
func wantSSH(t *testing.T, cmd *exec.Cmd, code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	runErr := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code || out.String() != stdout || err.String() != stderr {
		t.Errorf("ssh ends with %d, stdout %q, stderr %q (%v); want %d, %q, %q", got, out.String(), err.String(), runErr, code, stdout, stderr)
	}
}

func TestOpenSSH(t *testing.T) {
	s := startServer(t)
	wantSSH(t, s.openSSH("exit 3"), 3, "", "")
	wantSSH(t, s.openSSH("echo out; echo err >&2"), 0, "out\n", "err\n")
	wantSSH(t, s.openSSH("kill -TERM $$"), 255, "", "")
	cat := s.openSSH("cat")
	cat.Stdin = strings.NewReader("x\n")
	wantSSH(t, cat, 0, "x\n", "")
	head := s.openSSH("head -n 1")
	head.Stdin = io.MultiReader(strings.NewReader("first\n"), zeros{})
	wantSSH(t, head, 0, "first\n", "")
	wantSSH(t, s.openSSH("-tt", "stty -echo; tty | cut -c 1-9; read x; echo $?"), 0, "/dev/pts/\r\n1\r\n", "Connection to 127.0.0.1 closed.\r\n")
	env := s.openSSH("-o", "SendEnv=A_VARIABLE", "-o", "SetEnv=B=b", "echo $A_VARIABLE $B")
	env.Env = append(os.Environ(), "A_VARIABLE=a")
	wantSSH(t, env, 0, "a b\n", "")
	wantSSH(t, s.openSSH("-s", "sftp"), 0, "role sftp []\n", "")

	stranger := startServer(t)
	stranger.container.login.Name = "somebody"
	cmd := stranger.openSSH("true")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil || !strings.HasPrefix(stderr.String(), `bake: cannot log in as "baker": the user "baker" is not`) {
		t.Errorf("ssh as somebody who does not exist: %v, %q", err, stderr.String())
	}
}

func TestOpenSSHForwarding(t *testing.T) {
	s := startServer(t)
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, in)
	// -W is direct-tcpip; what is typed goes through.
	cmd := s.openSSH("-W", in.Addr().String())
	cmd.Stdin = strings.NewReader("hello")
	wantSSH(t, cmd, 0, "HELLO", "")

	// -R of a socket in the container to a server here, and -A.
	home := s.container.login.Home
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: ed25519.NewKeyFromSeed(seed(9)), Comment: "of the test"}); err != nil {
		t.Fatal(err)
	}
	sock, remote := filepath.Join(home, "agent"), filepath.Join(home, "remote")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keys, conn) }()
		}
	}()
	cmd = s.openSSH("-A", "-R", remote+":"+in.Addr().String(), `echo $SSH_AUTH_SOCK; read x`)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	stdin, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, out)
	r.until("\n")
	conn, err := net.Dial("unix", remote)
	wantEcho(t, conn, err)
	if conn, err = net.Dial("unix", strings.TrimSpace(r.text())); err != nil {
		t.Fatal(err)
	}
	if list, err := agent.NewClient(conn).List(); err != nil || len(list) != 1 {
		t.Errorf("the agent has %v, %v", list, err)
	}
	conn.Close() // ssh(1) waits for it
	_, _ = io.WriteString(stdin, "\n")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
