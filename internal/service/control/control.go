// Package control is the host end of vsock port 15: what the agent reports
// (ready, exit status, failure) and what the host asks of it (signals, a new
// window size, to power off).
//
// It carries messages and decides nothing: the run role reads [Control.Events]
// and calls [Control.Send].
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"bake/internal/wire"
)

const (
	// maxQueued bounds the messages that wait for the agent to connect.
	maxQueued = 64
	// sendTimeout bounds how long a guest that does not read can hold a
	// message up.
	sendTimeout = 5 * time.Second
)

// ErrBusy is returned by Send when the agent has not connected and too much
// waits for it already.
var ErrBusy = errors.New("the guest does not take control messages")

// Control is one VM's control channel. Its methods are safe for concurrent
// use.
type Control struct {
	events chan wire.GuestMessage

	mu     sync.Mutex
	conn   net.Conn
	queued []wire.HostMessage
}

// New returns a Control that no agent has connected to.
func New() *Control {
	return &Control{events: make(chan wire.GuestMessage)}
}

// Events are the agent's messages in order. The channel is closed when the
// agent's connection, or Serve, has ended.
func (c *Control) Events() <-chan wire.GuestMessage { return c.events }

// Send gives m to the agent, or keeps it until the agent connects.
func (c *Control) Send(m wire.HostMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		if len(c.queued) >= maxQueued {
			return ErrBusy
		}
		c.queued = append(c.queued, m)
		return nil
	}
	return c.write(m)
}

func (c *Control) write(m wire.HostMessage) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("send %q to the guest: %w", m.Type, err)
	}
	if err := wire.WriteHostMessage(c.conn, m); err != nil {
		return fmt.Errorf("send %q to the guest: %w", m.Type, err)
	}
	return nil
}

// Serve takes the first connection of ln, the agent's, and reads its messages
// until it or ctx ends. It closes ln: nothing else in the guest may speak on
// this port.
func (c *Control) Serve(ctx context.Context, ln net.Listener) error {
	defer close(c.events)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	conn, err := ln.Accept()
	ln.Close()
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("wait for the guest's agent: %w", err)
	}
	defer conn.Close()
	stopConn := context.AfterFunc(ctx, func() { conn.Close() })
	defer stopConn()
	if err := c.connected(conn); err != nil {
		return err
	}
	for {
		m, err := wire.ReadGuestMessage(conn)
		if err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read what the guest reports: %w", err)
		}
		select {
		case c.events <- m:
		case <-ctx.Done():
			return nil
		}
	}
}

// connected sends what was kept for the agent.
func (c *Control) connected(conn net.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	queued := c.queued
	c.queued = nil
	for _, m := range queued {
		if err := c.write(m); err != nil {
			return err
		}
	}
	return nil
}
