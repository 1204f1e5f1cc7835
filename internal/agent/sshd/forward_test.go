//go:build linux

package sshd

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// echo serves l: it sends back what a connection sends, in capitals, and ends
// it when that ends.
func echo(t *testing.T, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b, _ := io.ReadAll(conn)
				_, _ = conn.Write(bytes.ToUpper(b))
			}()
		}
	}()
}

// wantEcho checks that a connection leads to echo, and that each of its
// directions ends alone.
func wantEcho(t *testing.T, conn net.Conn, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	text := strings.Repeat("hello ", 50000)
	go func() {
		_, _ = io.WriteString(conn, text)
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	b, err := io.ReadAll(conn)
	if err != nil || string(b) != strings.ToUpper(text) {
		t.Errorf("%d bytes came back of %d, or other ones; %v", len(b), len(text), err)
	}
}

func TestForwardToGuest(t *testing.T) {
	s := startServer(t)
	client := s.dial()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	conn, err := client.Dial("tcp", l.Addr().String())
	wantEcho(t, conn, err)
	port := l.Addr().(*net.TCPAddr).Port
	conn, err = dialChannel(client, "localhost", port)
	wantEcho(t, conn, err)

	l.Close()
	var refused *ssh.OpenChannelError
	if _, err := client.Dial("tcp", l.Addr().String()); !errors.As(err, &refused) || refused.Reason != ssh.ConnectionFailed ||
		!strings.Contains(refused.Message, "refused") {
		t.Errorf("a port that nobody listens on: %v", err)
	}

	for _, name := range []string{"", "/"} { // relative to the home directory, and absolute
		home := s.container.login.Home
		path := filepath.Join(home, "sock"+strings.Trim(name, "/"))
		os.Remove(path)
		u, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		echo(t, u)
		if name == "" {
			path = "sock"
		}
		conn, err := client.Dial("unix", path)
		wantEcho(t, conn, err)
	}
	for _, bad := range []string{"", "/no/such", "@bake", "/" + strings.Repeat("x", 108)} {
		if _, err := client.Dial("unix", bad); err == nil {
			t.Errorf("the socket %q can be connected to", bad)
		}
	}
}

// dialChannel is ssh.Client.Dial for a name that the guest has to look up.
func dialChannel(c *ssh.Client, host string, port int) (net.Conn, error) {
	return c.Dial("tcp", net.JoinHostPort(host, itoa(port)))
}

func TestForwardFromGuest(t *testing.T) {
	s := startServer(t)
	client := s.dial()
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0"} {
		l, err := listenRemote(client, host)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		port := itoa(l.Addr().(*net.TCPAddr).Port)
		echo(t, l)
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		wantEcho(t, conn, err)
		if _, err := client.Listen("tcp", "127.0.0.1:"+port); err == nil {
			t.Errorf("%s: two listen on the same port", host)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			conn.Close()
			t.Errorf("%s: the port is still open", host)
		}
	}

	path := filepath.Join(s.container.login.Home, "remote")
	l, err := client.ListenUnix("remote")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", st, err)
	}
	conn, err := net.Dial("unix", path)
	wantEcho(t, conn, err)
	if _, err := s.dial().ListenUnix(path); err == nil {
		t.Error("two listen on the same socket")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// listenRemote has the server choose a port; x/crypto's clients resolve names.
func listenRemote(c *ssh.Client, host string) (net.Listener, error) {
	if host != "localhost" {
		return c.Listen("tcp", host+":0")
	}
	return c.ListenTCP(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
}

// A client that goes leaves no listener behind.
func TestListenersEnd(t *testing.T) {
	s := startServer(t)
	client := s.dial()
	tcp, err := client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.ListenUnix("remote"); err != nil {
		t.Fatal(err)
	}
	client.Close()
	poll(t, "the port is closed", func() bool {
		conn, err := net.Dial("tcp", tcp.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	poll(t, "the socket is gone", func() bool {
		_, err := os.Stat(filepath.Join(s.container.login.Home, "remote"))
		return os.IsNotExist(err)
	})
}

// A connection that a server breaks is closed for the client, and the other
// way round.
func TestBrokenConnections(t *testing.T) {
	s := startServer(t)
	client := s.dial()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conns := make(chan *net.TCPConn, 1)
	go func() {
		for range 2 {
			if conn, err := l.Accept(); err == nil {
				conns <- conn.(*net.TCPConn)
			}
		}
	}()
	ours, err := client.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs := <-conns
	_ = theirs.SetLinger(0)
	theirs.Close()
	if _, err := io.ReadAll(ours); err != nil {
		t.Errorf("the client reads %v", err)
	}

	if ours, err = client.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	theirs = <-conns
	defer theirs.Close()
	_, _ = io.WriteString(ours, "last words")
	ours.Close()
	if b, err := io.ReadAll(theirs); err != nil || string(b) != "last words" {
		t.Errorf("the server reads %q, %v", b, err)
	}
}

func TestAgent(t *testing.T) {
	s := startServer(t)
	client := s.dial()
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: ed25519.NewKeyFromSeed(seed(9)), Comment: "of the test"}); err != nil {
		t.Fatal(err)
	}
	if err := agent.ForwardToAgent(client, keys); err != nil {
		t.Fatal(err)
	}
	session := newClientSession(t, client)
	if err := agent.RequestAgentForwarding(session); err != nil {
		t.Fatal(err)
	}
	in, _ := session.StdinPipe()
	out, _ := session.StdoutPipe()
	if err := session.Start("echo $SSH_AUTH_SOCK; cat"); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, out)
	r.until("\n")
	path := strings.TrimSpace(r.text())
	if st, err := os.Stat(filepath.Dir(path)); err != nil || st.Mode().Perm() != 0o700 {
		t.Fatalf("the socket's directory is %v, %v", st, err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := agent.NewClient(conn).List(); err != nil || len(list) != 1 || list[0].Comment != "of the test" {
		t.Errorf("the agent has %v, %v", list, err)
	}
	conn.Close()
	in.Close()
	wantExit(t, session.Wait(), 0, "")
	poll(t, "the socket is gone", func() bool {
		_, err := os.Stat(filepath.Dir(path))
		return os.IsNotExist(err)
	})
}

// There is an end to what a client may open.
func TestBounds(t *testing.T) {
	for memory, want := range map[uint64]int{0: minChannels, 512 << 20: 64, 2 << 30: 256, 1 << 40: maxChannels} {
		if got := channelsFor(memory); got != want {
			t.Errorf("with %d bytes of memory there are %d channels, want %d", memory, got, want)
		}
	}
	s := startServer(t)
	client := s.dial()
	var refused *ssh.OpenChannelError
	var open []ssh.Channel
	for len(open) <= maxChannels {
		ch, requests, err := client.OpenChannel("session", nil)
		if err != nil {
			if !errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage {
				t.Errorf("after %d channels: %v", len(open), err)
			}
			break
		}
		go ssh.DiscardRequests(requests)
		open = append(open, ch)
	}
	if want := channelsFor(memory()); len(open) != want {
		t.Errorf("%d channels are open, want %d", len(open), want)
	}
	for _, ch := range open {
		ch.Close()
	}
	poll(t, "channels can be opened again", func() bool {
		ch, requests, err := client.OpenChannel("session", nil)
		if err == nil {
			go ssh.DiscardRequests(requests)
			ch.Close()
		}
		return err == nil
	})

	for n := 0; ; n++ {
		if _, err := client.Listen("tcp", "127.0.0.1:0"); err != nil {
			if n != maxListeners {
				t.Errorf("there are %d listeners, want %d", n, maxListeners)
			}
			break
		}
	}
}
