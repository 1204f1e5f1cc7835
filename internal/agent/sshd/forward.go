//go:build linux

package sshd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/relay"
)

const (
	// dialTime bounds the wait for a server that a client wants to reach.
	dialTime = 30 * time.Second
	// restTime bounds how long a connection may take to accept what the client
	// sent before it closed the channel.
	restTime = 30 * time.Second
	// maxPort is the largest port there is.
	maxPort = 1<<16 - 1
)

// openTCP is a connection from the client into the guest's network (RFC 4254,
// section 7.2).
func (c *connection) openTCP(nc ssh.NewChannel) {
	var to tcpChannel
	if err := ssh.Unmarshal(nc.ExtraData(), &to); err != nil || to.Port > maxPort {
		_ = nc.Reject(ssh.ConnectionFailed, "the request names no address")
		return
	}
	conn, err := c.dialTCP(to.Host, uint16(to.Port))
	c.accept(nc, conn, err)
}

// dialTCP tries the addresses of a host in turn, and returns the first one's
// error if all fail.
func (c *connection) dialTCP(host string, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, dialTime)
	defer cancel()
	addrs, err := c.Lookup(ctx, cmp.Or(host, "localhost"))
	if err != nil {
		return nil, err
	}
	var first error
	for _, a := range addrs {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, port).String())
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// openUnix is a connection from the client to a socket in the container
// (OpenSSH's PROTOCOL, 2.4).
func (c *connection) openUnix(nc ssh.NewChannel) {
	var to unixDirect
	if err := ssh.Unmarshal(nc.ExtraData(), &to); err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "the request names no socket")
		return
	}
	conn, err := c.dialUnix(to.Path)
	c.accept(nc, conn, err)
}

// accept answers the client, and carries data if there is a connection.
func (c *connection) accept(nc ssh.NewChannel, conn net.Conn, err error) {
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		conn.Close()
		return
	}
	join(c.ctx, ch, requests, conn.(relay.Conn))
}

// dialUnix connects to a socket with the rights of the user who logged in.
func (c *connection) dialUnix(name string) (net.Conn, error) {
	addr, err := c.socketAddr(name)
	if err != nil {
		return nil, err
	}
	var conn *net.UnixConn
	err = c.Container.EnterAs(c.login.Account, func() (err error) {
		conn, err = net.DialUnix("unix", nil, addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// socketAddr is a socket's address by its path, which begins in the user's home
// directory. It is never one of Linux's abstract ones.
func (c *connection) socketAddr(name string) (*net.UnixAddr, error) {
	if name == "" {
		return nil, errors.New("the path of a socket is empty")
	}
	if !path.IsAbs(name) {
		name = path.Join(c.login.Home, name)
	}
	if most := len(unix.RawSockaddrUnix{}.Path) - 1; len(name) > most {
		return nil, fmt.Errorf("the path of a socket, %.200q, is longer than %d bytes, the most that unix(7) allows", name, most)
	}
	return &net.UnixAddr{Name: name, Net: "unix"}, nil
}

// join carries data between a channel and a connection until both directions
// have ended, either side is gone, or ctx ends, and closes both.
func join(ctx context.Context, ch ssh.Channel, requests <-chan *ssh.Request, conn relay.Conn) {
	stop := context.AfterFunc(ctx, func() { relay.Reset(conn) })
	defer stop()
	taken := make(chan struct{}) // all that the client sent
	closed := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() {
		_, err := io.Copy(conn, ch)
		if err == nil {
			_ = conn.CloseWrite()
		}
		close(taken)
		if err != nil {
			_, _ = io.Copy(io.Discard, ch) // nobody takes it
		}
	})
	helpers.Go(func() {
		ssh.DiscardRequests(requests)
		close(closed)
	})
	helpers.Go(func() {
		// When the client has closed the channel, nobody reads what comes back.
		<-closed
		select {
		case <-taken:
		case <-time.After(restTime):
		}
		conn.Close()
	})
	if _, err := io.Copy(ch, conn); err == nil {
		_ = ch.CloseWrite()
		<-taken
	}
	ch.Close()
	conn.Close()
	helpers.Wait() // for the client's answer, too
}
