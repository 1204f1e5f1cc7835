package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// serveTestAgent serves a new key and returns its socket. The directory has a short
// path, which a socket needs.
func serveTestAgent(t *testing.T) (socket string, key ed25519.PrivateKey) {
	t.Helper()
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, AgentSocket)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeAgent(ctx, ln, keys.Client()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ServeAgent: %v", err)
		}
	})
	return socket, keys.Client()
}

func dialAgent(t *testing.T, socket string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestAgentListsAndSigns(t *testing.T) {
	socket, key := serveTestAgent(t)
	client := agent.NewClient(dialAgent(t, socket))
	list, err := client.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("List: %v, %v", list, err)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(list[0].Marshal(), public.Marshal()) {
		t.Errorf("the agent lists %v", list[0])
	}
	data := []byte("to be signed")
	signature, err := client.Sign(list[0], data)
	if err != nil {
		t.Fatal(err)
	}
	if err := public.Verify(data, signature); err != nil {
		t.Error(err)
	}
}

// What changes an agent is refused, and so is what it does not know; the
// connection goes on.
func TestAgentRefuses(t *testing.T) {
	socket, _ := serveTestAgent(t)
	client := agent.NewClient(dialAgent(t, socket))
	other, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	otherPublic, err := ssh.NewPublicKey(other.Client().Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"add":       func() error { return client.Add(agent.AddedKey{PrivateKey: other.Client()}) },
		"remove":    client.RemoveAll,
		"lock":      func() error { return client.Lock([]byte("x")) },
		"extension": func() error { _, err := client.Extension("session-bind@openssh.com", nil); return err },
		"sign":      func() error { _, err := client.Sign(otherPublic, []byte("x")); return err },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: it was not refused", name)
		}
	}
	if list, err := client.List(); err != nil || len(list) != 1 {
		t.Errorf("List afterwards: %v, %v", list, err)
	}
}

// A peer that announces a request that is too long is hung up on.
func TestAgentBounds(t *testing.T) {
	socket, _ := serveTestAgent(t)
	conn := dialAgent(t, socket)
	if _, err := conn.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read: %v, not the end", err)
	}
}

func TestSSHAdd(t *testing.T) {
	socket, _ := serveTestAgent(t)
	out, err := sshAdd(t, socket, nil)
	if err != nil || !strings.Contains(out, "ED25519") {
		t.Errorf("ssh-add -l: %v\n%s", err, out)
	}
}

func TestAgentRefusesOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	socket, _ := serveTestAgent(t)
	for path, mode := range map[string]os.FileMode{filepath.Dir(socket): 0o755, socket: 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = 65534
	out, err := sshAdd(t, socket, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
	if err == nil || strings.Contains(out, "ED25519") {
		t.Errorf("ssh-add -l as another user: %v\n%s", err, out)
	}
}

func sshAdd(t *testing.T, socket string, as *syscall.SysProcAttr) (string, error) {
	t.Helper()
	program, err := exec.LookPath("ssh-add")
	if err != nil {
		t.Skip("there is no ssh-add(1)")
	}
	cmd := exec.CommandContext(t.Context(), program, "-l")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	cmd.SysProcAttr = as
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func FuzzAnswer(f *testing.F) {
	keys, err := NewKeys()
	if err != nil {
		f.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(keys.Client())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{agentRequestIdentities})
	f.Add([]byte{agentSignRequest, 0, 0, 0, 1, 'x'})
	f.Add(ssh.Marshal(struct {
		Blob  []byte `sshtype:"13"`
		Data  []byte
		Flags uint32
	}{signer.PublicKey().Marshal(), []byte("data"), 0}))
	f.Fuzz(func(t *testing.T, request []byte) {
		if len(answer(request, signer)) == 0 {
			t.Error("no answer")
		}
	})
}
