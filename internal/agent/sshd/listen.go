//go:build linux

package sshd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/relay"
)

// A listener takes connections in the guest for the client.
type listener struct {
	sockets []net.Listener
	// channel is the type and the payload of the channel for a connection.
	channel func(net.Conn) (name string, payload []byte)
	// remove cleans up when it is closed.
	remove func()
}

// errListening says that there are as many listeners as there may be.
var errListening = fmt.Errorf("there are %d listeners already, the most that a guest has", maxListeners)

// listen registers a listener by what its cancel names, and serves it.
func (c *connection) listen(key string, l *listener) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ctx.Err(); err != nil {
		return err // closeListeners has been
	}
	if _, ok := c.listening[key]; ok {
		return errors.New("the client listens there already")
	}
	c.listening[key] = l
	for _, s := range l.sockets {
		c.running.Go(func() { c.acceptFrom(s, l) })
	}
	return nil
}

// acquireListener takes one of the guest's listeners.
func (c *connection) acquireListener() error {
	select {
	case c.listeners <- struct{}{}:
		return nil
	default:
		return errListening
	}
}

// close ends l; connections that it took live on.
func (c *connection) close(l *listener) {
	for _, s := range l.sockets {
		s.Close()
	}
	if l.remove != nil {
		l.remove()
	}
	<-c.listeners
}

func (c *connection) cancel(key string) error {
	c.mu.Lock()
	l, ok := c.listening[key]
	delete(c.listening, key)
	c.mu.Unlock()
	if !ok {
		return errors.New("the client does not listen there")
	}
	c.close(l)
	return nil
}

// acceptFrom opens a channel to the client for each connection. It waits while
// there are too many.
func (c *connection) acceptFrom(s net.Listener, l *listener) {
	for c.ctx.Err() == nil {
		conn, err := s.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select { // a lack of descriptors or memory, which others give back
			case <-c.ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case c.channels <- struct{}{}:
			c.running.Go(func() {
				defer func() { <-c.channels }()
				c.forward(conn.(relay.Conn), l)
			})
		case <-c.ctx.Done():
			conn.Close()
		}
	}
}

// acceptPause is the time between two tries to take a connection.
const acceptPause = 100 * time.Millisecond

func (c *connection) forward(conn relay.Conn, l *listener) {
	name, payload := l.channel(conn)
	ch, requests, err := c.conn.OpenChannel(name, payload)
	if err != nil {
		relay.Reset(conn)
		return
	}
	join(c.ctx, ch, requests, conn)
}

// closeListeners ends what the client left behind, once ctx has ended.
func (c *connection) closeListeners() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, l := range c.listening {
		delete(c.listening, key)
		c.close(l)
	}
}

// forwardTCP listens on an address for the client (RFC 4254, section 7.1) and
// answers with the port if the client left that open.
func (c *connection) forwardTCP(payload []byte) (answer []byte, err error) {
	var a tcpAddress
	if err := ssh.Unmarshal(payload, &a); err != nil {
		return nil, err
	}
	if a.Port > maxPort {
		return nil, fmt.Errorf("there is no port %d", a.Port)
	}
	if err := c.acquireListener(); err != nil {
		return nil, err
	}
	sockets, port, err := listenTCP(a.Host, int(a.Port))
	if err != nil {
		<-c.listeners
		return nil, err
	}
	l := &listener{sockets: sockets, channel: func(conn net.Conn) (string, []byte) {
		c := tcpChannel{Host: a.Host, Port: uint32(port)}
		if from, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			c.Originator, c.OriginPort = from.IP.String(), uint32(from.Port)
		}
		return "forwarded-tcpip", ssh.Marshal(c)
	}}
	if err := c.listen(tcpKey(a.Host, port), l); err != nil {
		c.close(l)
		return nil, err
	}
	if a.Port == 0 {
		answer = ssh.Marshal(tcpPort{Port: uint32(port)})
	}
	return answer, nil
}

func (c *connection) cancelTCP(payload []byte) error {
	var a tcpAddress
	if err := ssh.Unmarshal(payload, &a); err != nil {
		return err
	}
	return c.cancel(tcpKey(a.Host, int(a.Port)))
}

func tcpKey(host string, port int) string { return "tcp " + net.JoinHostPort(host, strconv.Itoa(port)) }

// listenTCP listens on what section 7.1 calls an address to bind: empty is all
// of both protocols, localhost is the loopback of both, of which IPv6 may be
// missing. The port is one for all.
func listenTCP(host string, port int) (sockets []net.Listener, bound int, err error) {
	hosts := []string{host}
	switch host {
	case "localhost":
		hosts = []string{"127.0.0.1", "::1"}
	case "*":
		hosts = []string{""}
	}
	for i, h := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(h, strconv.Itoa(port)))
		switch {
		case err == nil:
			sockets = append(sockets, l)
			port = l.Addr().(*net.TCPAddr).Port
		case i == 0:
			return nil, 0, err
		}
	}
	return sockets, port, nil
}

// forwardUnix listens on a socket in the container for the client (OpenSSH's
// PROTOCOL, 2.4).
func (c *connection) forwardUnix(payload []byte) error {
	var p unixPath
	if err := ssh.Unmarshal(payload, &p); err != nil {
		return err
	}
	if err := c.acquireListener(); err != nil {
		return err
	}
	l, err := c.listenUnix(p.Path)
	if err != nil {
		<-c.listeners
		return err
	}
	l.channel = func(net.Conn) (string, []byte) {
		return "forwarded-streamlocal@openssh.com", ssh.Marshal(unixForwarded{Path: p.Path})
	}
	if err := c.listen(unixKey(p.Path), l); err != nil {
		c.close(l)
		return err
	}
	return nil
}

func (c *connection) cancelUnix(payload []byte) error {
	var p unixPath
	if err := ssh.Unmarshal(payload, &p); err != nil {
		return err
	}
	return c.cancel(unixKey(p.Path))
}

func unixKey(path string) string { return "unix " + path }

// socketMask leaves a socket to its owner, as sshd_config(5) has it
// (StreamLocalBindMask).
const socketMask = 0o177

// listenUnix listens on a socket that belongs to the user who logged in.
func (c *connection) listenUnix(name string) (*listener, error) {
	addr, err := c.socketAddr(name)
	if err != nil {
		return nil, err
	}
	var socket *net.UnixListener
	err = c.Container.EnterAs(c.login.Account, func() (err error) {
		unix.Umask(socketMask) // of this thread
		socket, err = net.ListenUnix("unix", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	socket.SetUnlinkOnClose(false) // the path means something else out here
	remove := func() {
		err := c.Container.EnterAs(c.login.Account, func() error { return os.Remove(addr.Name) })
		if err != nil {
			c.Log("remove an SSH socket: %v", err)
		}
	}
	return &listener{sockets: []net.Listener{socket}, remove: remove}, nil
}
