//go:build linux

package sshd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/agent/container"
)

// loginKey is where a connection's permissions hold its container.Login.
type loginKey struct{}

// authenticate lets in who has the client's key and names a user that there is.
func (s *server) authenticate(client ssh.PublicKey) func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
	want := client.Marshal()
	return func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), want) {
			return nil, fmt.Errorf("the key %s is not the one that may log in", ssh.FingerprintSHA256(key))
		}
		login, err := s.Container.LookupLogin(meta.User())
		if err != nil {
			return nil, &ssh.BannerError{Err: err, Message: fmt.Sprintf("bake: cannot log in as %q: %v\r\n", meta.User(), err)}
		}
		return &ssh.Permissions{ExtraData: map[any]any{loginKey{}: login}}, nil
	}
}

// A connection is one client that logged in.
type connection struct {
	*server
	conn  *ssh.ServerConn
	login container.Login
	// ctx ends with the connection.
	ctx context.Context
	// running are the goroutines of the connection.
	running sync.WaitGroup

	mu             sync.Mutex
	listening      map[string]*listener
	noMoreSessions bool
}

// serve is one connection. It returns when all of it has ended.
func (s *server) serve(ctx context.Context, raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(loginTime))
	conn, channels, requests, err := ssh.NewServerConn(raw, s.ssh)
	if err != nil {
		s.Log("an SSH client did not log in: %v", err)
		return
	}
	_ = raw.SetDeadline(time.Time{})
	login, _ := conn.Permissions.ExtraData[loginKey{}].(container.Login)
	ctx, cancel := context.WithCancel(ctx)
	c := &connection{server: s, conn: conn, login: login, ctx: ctx, listening: make(map[string]*listener)}
	c.running.Go(func() { c.serveRequests(requests) })
	for nc := range channels {
		c.open(nc)
	}
	cancel()
	c.closeListeners()
	c.running.Wait()
}

// open decides about a channel that the client wants.
func (c *connection) open(nc ssh.NewChannel) {
	var serve func(ssh.NewChannel)
	switch nc.ChannelType() {
	case "session":
		serve = c.openSession
	case "direct-tcpip":
		serve = c.openTCP
	case "direct-streamlocal@openssh.com":
		serve = c.openUnix
	default:
		_ = nc.Reject(ssh.UnknownChannelType, fmt.Sprintf("bake knows no channels of the type %.64q", nc.ChannelType()))
		return
	}
	select {
	case c.channels <- struct{}{}:
	default:
		_ = nc.Reject(ssh.ResourceShortage, fmt.Sprintf("there are %d channels open already, the most that the guest's memory allows", cap(c.channels)))
		return
	}
	c.running.Go(func() {
		defer func() { <-c.channels }()
		serve(nc)
	})
}

// openSession serves a session until its end.
func (c *connection) openSession(nc ssh.NewChannel) {
	c.mu.Lock()
	refused := c.noMoreSessions
	c.mu.Unlock()
	if refused {
		_ = nc.Reject(ssh.Prohibited, "the client has said that it opens no more sessions")
		return
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	newSession(c, ch).serve(requests)
}

// serveRequests answers the requests that belong to no channel, in their order.
func (c *connection) serveRequests(requests <-chan *ssh.Request) {
	for r := range requests {
		ok, payload := c.request(r)
		if r.WantReply {
			_ = r.Reply(ok, payload)
		}
	}
}

func (c *connection) request(r *ssh.Request) (ok bool, payload []byte) {
	var err error
	switch r.Type {
	case "keepalive@openssh.com":
		return true, nil
	case "no-more-sessions@openssh.com":
		c.mu.Lock()
		c.noMoreSessions = true
		c.mu.Unlock()
		return true, nil
	case "tcpip-forward":
		payload, err = c.forwardTCP(r.Payload)
	case "cancel-tcpip-forward":
		err = c.cancelTCP(r.Payload)
	case "streamlocal-forward@openssh.com":
		err = c.forwardUnix(r.Payload)
	case "cancel-streamlocal-forward@openssh.com":
		err = c.cancelUnix(r.Payload)
	default:
		return false, nil
	}
	if err != nil {
		c.Log("SSH %s: %v", r.Type, err)
	}
	return err == nil, payload
}
