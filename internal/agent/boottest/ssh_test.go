//go:build boot && linux

package boottest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"bake/internal/wire"
)

// An sshGuest is a guest with somebody who logs in to it.
type sshGuest struct {
	*guest
	host, client ed25519.PrivateKey
}

// bootSSH boots a guest and has do log in to it as soon as the container runs.
// Then the guest is stopped, unless it has ended.
func bootSSH(t *testing.T, g *guest, do func(g *sshGuest)) *sshGuest {
	t.Helper()
	seed := func(b byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	}
	s := &sshGuest{guest: g, host: seed(1), client: seed(2)}
	g.manifest.SSH = &wire.SSH{HostKey: s.host.Seed(), ClientKey: s.client.Public().(ed25519.PublicKey)}
	var login sync.WaitGroup
	g.onStarted = func(*guest) {
		login.Go(func() {
			do(s)
			g.signal("SIGKILL")
		})
	}
	g.boot()
	login.Wait()
	return s
}

// dial logs in. It fails the test if that does not work, and returns nil.
func (g *sshGuest) dial(user string) *ssh.Client {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := g.sock.Dial(ctx, wire.PortSSH)
	if err != nil {
		g.t.Error(err)
		return nil
	}
	signer, _ := ssh.NewSignerFromKey(g.client)
	host, _ := ssh.NewSignerFromKey(g.host)
	c, channels, requests, err := ssh.NewClientConn(conn, "bake", &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
		BannerCallback: func(message string) error { return errors.New(message) },
	})
	if err != nil {
		conn.Close()
		g.t.Errorf("log in as %s: %v", user, err)
		return nil
	}
	return ssh.NewClient(c, channels, requests)
}

// run runs a line of the shell and says what came of it, in words.
func (g *sshGuest) run(c *ssh.Client, line string, prepare func(*ssh.Session)) string {
	g.t.Helper()
	session, err := c.NewSession()
	if err != nil {
		g.t.Error(err)
		return ""
	}
	defer session.Close()
	var out, stderr bytes.Buffer
	session.Stdout, session.Stderr = &out, &stderr
	if prepare != nil {
		prepare(session)
	}
	err = session.Run(line)
	return fmt.Sprintf("%s|%s|%s", out.String(), stderr.String(), ending(err))
}

func ending(err error) string {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return "0"
	case errors.As(err, &exit) && exit.Signal() != "":
		return exit.Signal()
	case errors.As(err, &exit):
		return fmt.Sprint(exit.ExitStatus())
	}
	return err.Error()
}

func TestSSHSessions(t *testing.T) {
	g := newGuest(t, "sleep", "1000")
	g.manifest.Process.Env = []string{"FOO=bar"}
	bootSSH(t, g, func(g *sshGuest) {
		root, baker := g.dial("root"), g.dial("baker")
		if root == nil || baker == nil {
			return
		}
		for _, c := range []struct {
			client *ssh.Client
			line   string
			want   string
		}{
			{root, "exit 0", "||0"},
			{root, "exit 3", "||3"},
			{root, "kill -TERM $$", "||TERM"},
			{root, "echo out; echo err >&2", "out\n|err\n|0"},
			{root, "echo $HOME $USER $SHELL $FOO $PATH; pwd", "/root root /bin/sh bar /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/\n||0"}, // the image has no /root,
			{root, "cat /proc/1/comm /proc/self/cgroup; ulimit -n; umask; ls /proc/self/fd | wc -l", "bake-init\n0::/\n65536\n0022\n4\n||0"},
			{baker, "echo $(id -u):$(id -g):$(id -G) $HOME; pwd", "1000:1001:1001 1002 1003 /home/baker\n/home/baker\n||0"},
			{baker, "touch /etc/x", "|touch: /etc/x: Permission denied\n|1"},
		} {
			if got := g.run(c.client, c.line, nil); got != c.want {
				t.Errorf("%s: %q, want %q", c.line, got, c.want)
			}
		}
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		got := g.run(root, "cat", func(s *ssh.Session) { s.Stdin = bytes.NewReader(data) })
		if got != string(data)+"||0" {
			t.Errorf("%d bytes came back of %d, or other ones", len(got), len(data))
		}
		got = g.run(baker, "tty; echo $SSH_TTY; stty size; echo $TERM; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && cat", func(s *ssh.Session) {
			if err := s.RequestPty("vt100", 40, 100, ssh.TerminalModes{ssh.ECHO: 0, ssh.ONLCR: 0}); err != nil {
				t.Error(err)
			}
			s.Stdin = strings.NewReader("typed\n")
		})
		if want := "/dev/pts/0\n/dev/pts/0\n40 100\nvt100\ntyped\n||0"; got != want {
			t.Errorf("the terminal gives %q, want %q", got, want)
		}
		g.wantExec(root, wire.ExecRequest{Args: []string{"sh", "-c", "echo $A $FOO; id -u; pwd; exit 5"}, Env: []string{"A=b"}, Cwd: "/etc", User: "baker"}, "b bar\n1000\n/etc\n||5")
		g.wantExec(root, wire.ExecRequest{Args: []string{"nosuch"}}, `|bake: the command "nosuch" was not found in the container's PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)`+"\r\n|127")
		g.wantExec(root, wire.ExecRequest{Args: []string{"/bin/notexec"}}, `|bake: the command "/bin/notexec" cannot run: permission denied for user 0 on /bin/notexec; is it executable?`+"\r\n|126")
		g.wantExec(root, wire.ExecRequest{Args: []string{"true"}, User: "nobody"}, `|bake: the user "nobody" is not in the image's /etc/passwd: set one that is, or a number`+"\r\n|125")
	}).wantExit(137, "SIGKILL")
	if g.last().OutOfMemory {
		t.Error("the guest says that it was out of memory")
	}
}

// wantExec runs a program by its arguments.
func (g *sshGuest) wantExec(c *ssh.Client, r wire.ExecRequest, want string) {
	g.t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		g.t.Error(err)
		return
	}
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		g.t.Error(err)
		return
	}
	if ok, err := ch.SendRequest(wire.RequestExec, true, ssh.Marshal(struct{ JSON string }{string(b)})); !ok || err != nil {
		g.t.Errorf("%s: %v, %v", b, ok, err)
		return
	}
	var out, stderr []byte
	var all sync.WaitGroup
	all.Go(func() { out, _ = io.ReadAll(ch) })
	all.Go(func() { stderr, _ = io.ReadAll(ch.Stderr()) })
	var status struct{ Code uint32 }
	for req := range requests {
		if req.Type == "exit-status" {
			_ = ssh.Unmarshal(req.Payload, &status)
		}
	}
	all.Wait()
	if got := fmt.Sprintf("%s|%s|%d", out, stderr, status.Code); got != want {
		g.t.Errorf("%s: %q, want %q", b, got, want)
	}
}

func TestSSHForwarding(t *testing.T) {
	g := newGuest(t, "sh", "-c", "nc -ll -p 8080 -e cat & sleep 1000")
	bootSSH(t, g, func(g *sshGuest) {
		c := g.dial("baker")
		if c == nil {
			return
		}
		// Into the guest, by the name that its /etc/hosts has.
		for tries := 0; ; tries++ {
			conn, err := c.Dial("tcp", "bakery:8080")
			if err != nil && tries < 100 { // nc does not listen yet
				time.Sleep(100 * time.Millisecond)
				continue
			}
			wantEcho(t, conn, err)
			break
		}
		// Out of the guest.
		l, err := c.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		serveEcho(l)
		port := l.Addr().(*net.TCPAddr).Port
		if got := g.run(c, fmt.Sprintf("echo hello | nc 127.0.0.1 %d", port), nil); got != "hello\n||0" {
			t.Errorf("through port %d of the guest comes %q", port, got)
		}
		// A socket of the container, from both sides.
		u, err := c.ListenUnix("/tmp/sock")
		if err != nil {
			t.Error(err)
			return
		}
		serveEcho(u)
		if got := g.run(c, "stat -c '%F %u:%g %a' /tmp/sock", nil); got != "socket 1000:1001 600\n||0" {
			t.Errorf("the socket is %q", got)
		}
		conn, err := c.Dial("unix", "/tmp/sock")
		wantEcho(t, conn, err)
		if err := u.Close(); err != nil {
			t.Error(err)
		}
		if got := g.run(c, "ls /tmp", nil); got != "of-image\n||0" {
			t.Errorf("left is %q", got)
		}
		if _, err := c.ListenUnix("/data/sock"); err == nil {
			t.Error("baker listens in a directory of root")
		}
		g.wantAgent(c)
	}).wantExit(137, "SIGKILL")
}

// wantAgent reaches the client's agent by the socket in the container.
func (g *sshGuest) wantAgent(c *ssh.Client) {
	g.t.Helper()
	keys := agent.NewKeyring()
	err := keys.Add(agent.AddedKey{PrivateKey: g.client, Comment: "mine"})
	if err == nil {
		err = agent.ForwardToAgent(c, keys)
	}
	session, err2 := c.NewSession()
	if err = errors.Join(err, err2); err != nil {
		g.t.Error(err)
		return
	}
	defer session.Close()
	in, _ := session.StdinPipe()
	out, _ := session.StdoutPipe()
	if err := errors.Join(agent.RequestAgentForwarding(session), session.Start("echo $SSH_AUTH_SOCK $(stat -c %F:%u $SSH_AUTH_SOCK) $(stat -c %a $(dirname $SSH_AUTH_SOCK)); cat")); err != nil {
		g.t.Error(err)
		return
	}
	buf := make([]byte, 200)
	n, _ := out.Read(buf)
	path, rest, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
	if rest != "socket:1000 700" {
		g.t.Errorf("the agent's socket is %q", buf[:n])
	}
	conn, err := c.Dial("unix", path)
	if err != nil {
		g.t.Error(err)
		return
	}
	if list, err := agent.NewClient(conn).List(); err != nil || len(list) != 1 || list[0].Comment != "mine" {
		g.t.Errorf("the agent has %v, %v", list, err)
	}
	conn.Close()
	in.Close()
	if err := session.Wait(); err != nil {
		g.t.Error(err)
	}
}

func serveEcho(l net.Listener) {
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
}

func wantEcho(t *testing.T, conn net.Conn, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	text := strings.Repeat("hello ", 20000)
	go func() { _, _ = io.WriteString(conn, text) }()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != text {
		t.Errorf("other bytes came back: %v", err)
	}
}

// Sessions end with the container, and do not keep the guest.
func TestSSHEndsWithTheContainer(t *testing.T) {
	g := newGuest(t, "sh", "-c", "trap 'exit 6' USR1; while :; do sleep 0.1; done")
	ends := make(chan string, 3)
	bootSSH(t, g, func(g *sshGuest) {
		c, idle := g.dial("root"), g.dial("root")
		if c == nil || idle == nil {
			return
		}
		// What an exec'd program does with the memory is not the command's end.
		if got := g.run(c, "exec tail /dev/zero", nil); got != "||KILL" {
			t.Errorf("a program without memory gives %q", got)
		}
		for _, line := range []string{"echo ready; exec sleep 1000", "(trap '' HUP TERM; sleep 1000) & echo ready"} {
			session, err := c.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			out, _ := session.StdoutPipe()
			if err := session.Start(line); err != nil {
				t.Error(err)
				return
			}
			_, _ = out.Read(make([]byte, 100))
			go func() { ends <- ending(session.Wait()) }()
		}
		g.signal("SIGUSR1")
		if got := <-ends + " " + <-ends; got != "KILL 0" && got != "0 KILL" {
			t.Errorf("the sessions end with %s", got)
		}
		_ = idle.Wait()
	}).wantExit(6, "")
}

// Without keys nobody listens.
func TestNoSSH(t *testing.T) {
	g := newGuest(t, "sleep", "1000")
	g.onStarted = func(g *guest) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if conn, err := g.sock.Dial(ctx, wire.PortSSH); err == nil {
			conn.Close()
			t.Error("the guest listens for SSH")
		}
		g.signal("SIGKILL")
	}
	g.boot()
	g.wantExit(137, "SIGKILL")
}
