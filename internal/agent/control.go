//go:build linux

package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/agent/clock"
	"bake/internal/agent/link"
	"bake/internal/wire"
)

const (
	// sendTime bounds the sending of a message.
	sendTime = 10 * time.Second
	// doneTime bounds the wait for the host's answer to the last message.
	doneTime = 5 * time.Second
)

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
	// correct sets the clock.
	correct func(clock.Correction) error
	began   time.Time
	follow  clock.Follower // receive's own

	mu       sync.Mutex
	command  command
	ended    bool          // the command has
	early    []unix.Signal // came before there was a command
	terminal resizer
	size     [2]uint16 // came before there was a terminal
	resolv   resolverUpdater
	resolver *wire.Resolver // came before there was a resolv.conf
	volumes  notified
	usage    func() wire.Stats
}

func newControl(conn link.Conn, log *logger, gone func()) *control {
	c := &control{conn: conn, log: log, gone: gone, done: make(chan struct{}), correct: clock.Correction.Apply, began: time.Now()}
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
		case wire.HostPing:
			c.ping(m, time.Now())
		case wire.HostVolume:
			c.notify(m)
		case wire.HostDone:
			c.endOutput()
			c.doneOnce.Do(func() { close(c.done) })
		}
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
