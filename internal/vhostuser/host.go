//go:build linux

package vhostuser

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxLine is the longest line that a client of the host may greet with:
// "CONNECT 4294967295\n" has 19 bytes.
const maxLine = 32

// portAny is VMADDR_PORT_ANY, no port to connect to.
const portAny = 1<<32 - 1

// accept takes the clients that wait at PATH. It reports false when the
// listener has to rest, for want of a place or of a descriptor.
func (m *muxer) accept(listener int) bool {
	for {
		if !m.room() {
			return false
		}
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return true
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return false
		}
		c, err := m.add(fd, stateGreeting)
		if err != nil {
			return false
		}
		m.timers.set(c, time.Now().Add(greetingTime))
	}
}

// event handles what epoll says about the socket of a connection.
func (m *muxer) event(c *conn, events uint32) {
	if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.hup = true
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.readable = true
	}
	if c.blocked && events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		m.flush(c)
	}
	switch c.state {
	case stateGreeting:
		m.greet(c, events)
	case stateRequesting:
		if !c.hup {
			break
		}
		// The client does not wait for the answer.
		if c.owes&oweRequest == 0 {
			m.reset(c.key, hostCID, typeStream)
		}
		m.remove(c)
	case stateOpen:
		m.enqueue(c)
	}
}

// greet reads the line "CONNECT <port>\n", and nothing behind it: the client
// may have sent data along with it.
func (m *muxer) greet(c *conn, events uint32) {
	var b [maxLine]byte
	n, _, err := unix.Recvfrom(c.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == unix.EINTR {
		n = 0
	} else if err != nil {
		m.remove(c)
		return
	}
	end := bytes.IndexByte(b[:n], '\n')
	if end < 0 {
		if n == maxLine || events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			m.remove(c)
		}
		return
	}
	port, ok := parseConnect(b[:end])
	if _, err := unix.Read(c.fd, b[:end+1]); err != nil || !ok {
		m.remove(c)
		return
	}
	m.timers.clear(c)
	c.state = stateRequesting
	c.key = m.hostPort(port)
	m.byKey[c.key] = c
	c.owes = oweRequest
	m.enqueue(c)
}

// parseConnect reads a greeting without its newline.
func parseConnect(line []byte) (port uint32, ok bool) {
	word, number, found := strings.Cut(string(line), " ")
	// ParseUint takes no sign and, with a base, no underscore.
	n, err := strconv.ParseUint(number, 10, 32)
	if !found || !strings.EqualFold(word, "CONNECT") || err != nil || n == portAny {
		return 0, false
	}
	return uint32(n), true
}

// established tells a client of the host that the guest has accepted.
func (m *muxer) established(c *conn) {
	m.timers.clear(c)
	c.state = stateOpen
	c.readable = true // whatever came behind the line
	m.counters.fromHost.Add(1)
	line := fmt.Appendf(nil, "OK %d\n", c.key.host)
	// Nothing was written to this socket before: there is room.
	if n, err := send(c.fd, [][]byte{line}); err != nil || n != len(line) {
		m.abort(c)
	}
}

// connect connects a guest to the host's listener.
func (m *muxer) connect(c *conn) {
	err := unix.Connect(c.fd, &unix.SockaddrUnix{Name: m.listenerPath(c.key.host)})
	// A full backlog is EAGAIN for a Unix socket, with no event to wait for.
	if err == unix.EAGAIN && c.tries < connectTries {
		pause := min(firstConnectPause<<min(c.tries, 8), lastConnectPause)
		c.tries++
		m.timers.set(c, time.Now().Add(pause))
		return
	}
	if err == nil {
		err = m.poll.add(c.fd, c.slot, c.generation)
	}
	if err != nil {
		m.refuse(c.key)
		m.remove(c)
		return
	}
	c.state = stateOpen
	c.owes |= oweResponse
	m.counters.fromGuest.Add(1)
	m.enqueue(c)
}

// flush writes to the host what has been kept for it.
func (m *muxer) flush(c *conn) {
	for c.pending.len() > 0 {
		first, second := c.pending.bytes()
		parts := [][]byte{first, second}
		if len(second) == 0 {
			parts = parts[:1]
		}
		n, err := send(c.fd, parts)
		if err == unix.EAGAIN {
			m.block(c, true)
			return
		}
		if err != nil {
			m.deafened(c)
			break
		}
		c.pending.discard(n)
		c.forward(n)
		if c.state == stateDraining {
			m.watchDrain(c)
		}
	}
	m.block(c, false)
	switch {
	case c.state == stateDraining:
		m.remove(c)
		return
	case c.guestShut&shutdownSend != 0:
		unix.Shutdown(c.fd, unix.SHUT_WR)
	}
	if c.due() {
		c.owes |= oweCredit
	}
	m.enqueue(c)
}

// deafened is for a host end that reads no more. What the guest still sends is
// taken and thrown away; the guest is told.
func (m *muxer) deafened(c *conn) {
	c.deaf = true
	c.forward(c.pending.len())
	c.pending = buffer{}
}

// block has epoll watch for room in a socket, or not.
func (m *muxer) block(c *conn, on bool) {
	if c.blocked == on {
		return
	}
	c.blocked = on
	if err := m.poll.output(c.fd, c.slot, c.generation, on); err != nil && on {
		m.deafened(c) // no event would ever come
	}
}

// send writes to a socket without waiting and without SIGPIPE.
func send(fd int, parts [][]byte) (n int, err error) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	for {
		if len(parts) == 1 {
			n, err = unix.SendmsgN(fd, parts[0], nil, nil, flags)
		} else {
			n, err = unix.SendmsgBuffers(fd, parts, nil, nil, flags)
		}
		if err != unix.EINTR {
			return n, err
		}
	}
}
