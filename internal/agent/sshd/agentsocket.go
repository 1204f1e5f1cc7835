//go:build linux

package sshd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"bake/internal/agent/container"
)

// agentDirs is where sockets of forwarded agents are: where sshd(8) has them or,
// in an image that has no such directory, on what every container has.
var agentDirs = []string{"/tmp", "/dev/shm"}

// An agentSocket is the client's ssh-agent in the container (OpenSSH's
// PROTOCOL.agent; draft-ietf-sshm-ssh-agent).
type agentSocket struct {
	path string
	conn *connection
}

// forwardAgent makes a socket that only the account can use. Each connection to
// it becomes a channel to the client.
func (c *connection) forwardAgent(a container.Account) (*agentSocket, error) {
	if err := c.acquireListener(); err != nil {
		return nil, err
	}
	var socket *net.UnixListener
	var name string
	err := c.Container.EnterAs(a, func() (err error) {
		unix.Umask(socketMask &^ 0o100) // of this thread; a directory needs its x
		socket, name, err = listenAgent()
		return err
	})
	if err != nil {
		<-c.listeners
		return nil, err
	}
	l := &listener{
		sockets: []net.Listener{socket},
		channel: func(net.Conn) (string, []byte) { return "auth-agent@openssh.com", nil },
		remove: func() {
			err := c.Container.EnterAs(a, func() error {
				return errors.Join(os.Remove(name), os.Remove(path.Dir(name)))
			})
			if err != nil {
				c.Log("remove the socket of an SSH agent: %v", err)
			}
		},
	}
	if err := c.listen(unixKey(name), l); err != nil {
		c.close(l)
		return nil, err
	}
	return &agentSocket{path: name, conn: c}, nil
}

// listenAgent is the part that is done in the container.
func listenAgent() (*net.UnixListener, string, error) {
	var last error
	for _, base := range agentDirs {
		dir, err := os.MkdirTemp(base, "ssh-")
		if err != nil {
			last = err
			continue
		}
		name := path.Join(dir, "agent")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			os.Remove(dir)
			return nil, "", err
		}
		l.SetUnlinkOnClose(false) // the path means something else out here
		return l, name, nil
	}
	return nil, "", fmt.Errorf("make a directory for the socket of the client's agent: %w", last)
}

func (a *agentSocket) close() {
	// When the connection ended first, it has closed the socket.
	_ = a.conn.cancel(unixKey(a.path))
}
