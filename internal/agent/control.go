//go:build linux

package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/agent/link"
	"bake/internal/agent/signals"
	"bake/internal/wire"
)

const (
	// sendTime bounds the sending of a message.
	sendTime = 10 * time.Second
	// doneTime bounds the wait for the host's answer to the last message.
	doneTime = 5 * time.Second
	// signalQueue is how many signals may arrive before the command runs.
	signalQueue = 64
)

// A command takes the host's signals; it is the container.
type command interface {
	Signal(unix.Signal) error
}

// A resizer takes the host's window sizes; it is the terminal.
type resizer interface {
	Resize(rows, cols uint16) error
}

// A resolverUpdater takes what the host's resolver has become; it is the
// container's resolv.conf.
type resolverUpdater interface {
	Update(*wire.Resolver) error
}

// A notified takes what the host tells of changes in volumes.
type notified interface {
	Notify(wire.HostMessage) error
}

// A control is the connection on which the agent reports and the host
// commands. Its end ends the guest at once: nobody is left to run it for.
type control struct {
	conn link.Conn
	log  *logger
	gone func() // ends the guest

	sending sync.Mutex

	// output ends when the host wants no more output.
	output    context.Context
	endOutput context.CancelFunc
	// done is closed when the host has read the last message.
	done     chan struct{}
	doneOnce sync.Once
	// denied is what the host last said of its network policy.
	denied atomic.Uint64

	mu       sync.Mutex
	command  command
	ended    bool          // the command has
	early    []unix.Signal // came before there was a command
	terminal resizer
	size     [2]uint16 // came before there was a terminal
	resolv   resolverUpdater
	resolver *wire.Resolver // came before there was a resolv.conf
	volumes  notified
}

func newControl(conn link.Conn, log *logger, gone func()) *control {
	c := &control{conn: conn, log: log, gone: gone, done: make(chan struct{})}
	c.output, c.endOutput = context.WithCancel(context.Background())
	go c.receive()
	return c
}

// send sends one message. It is safe for concurrent use.
func (c *control) send(m wire.GuestMessage) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	err := c.conn.SetWriteDeadline(time.Now().Add(sendTime))
	if err == nil {
		err = wire.WriteGuestMessage(c.conn, m)
	}
	if err != nil {
		return fmt.Errorf("tell the host %q: %w", m.Type, err)
	}
	return nil
}

func (c *control) receive() {
	for {
		m, err := wire.ReadHostMessage(c.conn)
		if err != nil {
			c.log.always("the host is gone (%v)", err)
			c.gone()
			return
		}
		switch m.Type {
		case wire.HostSignal:
			c.signal(m.Signal)
		case wire.HostResize:
			c.resize(m.Rows, m.Cols)
		case wire.HostNetwork:
			c.denied.Store(m.Denied)
			c.log.verbose("the network policy has denied %d connections and datagrams so far", m.Denied)
		case wire.HostResolver:
			if m.Resolver != nil {
				c.updateResolver(m.Resolver)
			}
		case wire.HostVolume:
			c.notify(m)
		case wire.HostDone:
			c.endOutput()
			c.doneOnce.Do(func() { close(c.done) })
		}
	}
}

// setCommand names who takes signals, and hands over those that came before;
// nil says that there is nobody any more.
func (c *control) setCommand(cmd command) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.command = cmd
	if cmd == nil {
		c.ended = true
		return
	}
	for _, sig := range c.early {
		c.deliver(sig)
	}
	c.early = nil
}

func (c *control) signal(name string) {
	sig, err := signals.Parse(name)
	if err != nil {
		c.log.always("the host sends a signal: %v", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.command != nil:
		c.deliver(sig)
	case c.ended:
		// What is left to kill is the wait for whoever reads the output.
		if sig == unix.SIGKILL {
			c.endOutput()
		}
	case len(c.early) < signalQueue:
		c.early = append(c.early, sig)
	}
}

func (c *control) deliver(sig unix.Signal) {
	if err := c.command.Signal(sig); err != nil {
		c.log.always("pass %s on to the container: %v", signals.Name(sig), err)
	}
}

func (c *control) setTerminal(t resizer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.terminal = t
	if c.size != [2]uint16{} {
		c.apply(c.size[0], c.size[1])
	}
}

func (c *control) resize(rows, cols uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size = [2]uint16{rows, cols}
	if c.terminal != nil {
		c.apply(rows, cols)
	}
}

func (c *control) apply(rows, cols uint16) {
	if err := c.terminal.Resize(rows, cols); err != nil {
		c.log.always("%v", err)
	}
}

// setResolvConf names who takes changes of the host's resolver.
func (c *control) setResolvConf(r resolverUpdater) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resolv = r
	if c.resolver != nil {
		c.applyResolver()
	}
}

func (c *control) updateResolver(r *wire.Resolver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resolver = r
	if c.resolv != nil {
		c.applyResolver()
	}
}

func (c *control) applyResolver() {
	if err := c.resolv.Update(c.resolver); err != nil {
		c.log.always("%v", err)
	}
}

// setVolumes names who takes changes in volumes; nil says that there is nobody
// any more. What the host tells before that was there when they were mounted.
func (c *control) setVolumes(v notified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.volumes = v
}

func (c *control) notify(m wire.HostMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.volumes == nil {
		return
	}
	if err := c.volumes.Notify(m); err != nil {
		c.log.verbose("%v", err)
	}
}

// waitForDone waits for the host's answer to the last message.
func (c *control) waitForDone() {
	select {
	case <-c.done:
	case <-time.After(doneTime):
		c.log.always("the host did not answer within %v", doneTime)
	}
}
