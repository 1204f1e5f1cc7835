package sshclient

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/relay"
)

// agentConns bounds the programs that use a forwarded agent at once.
const agentConns = 64

// ForwardAgent lets programs of sessions with [Request.ForwardAgent] use the
// ssh-agent that listens on path, until the client is closed; wg waits for that. ctx
// ends the connections to the agent. It is called once a client.
func ForwardAgent(ctx context.Context, wg *sync.WaitGroup, client *ssh.Client, path string) error {
	channels := client.HandleChannelOpen("auth-agent@openssh.com")
	if channels == nil {
		return errors.New("this connection forwards an agent already")
	}
	slots := make(chan struct{}, agentConns)
	wg.Go(func() {
		for c := range channels {
			select {
			case slots <- struct{}{}:
			default:
				c.Reject(ssh.ResourceShortage, "too many programs use the agent")
				continue
			}
			wg.Go(func() {
				defer func() { <-slots }()
				forwardAgent(ctx, c, path)
			})
		}
	})
	return nil
}

// forwardAgent leads one program to the agent.
func forwardAgent(ctx context.Context, c ssh.NewChannel, path string) {
	var d net.Dialer
	agent, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		c.Reject(ssh.ConnectionFailed, "the agent does not answer")
		return
	}
	channel, requests, err := c.Accept()
	if err != nil {
		agent.Close()
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { ssh.DiscardRequests(requests) }) // ends with the channel
	relay.Join(ctx, agent.(*net.UnixConn), channelConn{channel})
}

// A channelConn is a channel as a [relay.Conn]. It has neither addresses nor
// deadlines.
type channelConn struct{ ssh.Channel }

func (channelConn) LocalAddr() net.Addr              { return &net.UnixAddr{Net: "unix"} }
func (channelConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Net: "unix"} }
func (channelConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (channelConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (channelConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
