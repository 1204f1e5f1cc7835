// Package control is the host end of vsock port 15: what the agent reports
// (ready, exit status, failure) and what the host asks of it (signals, a new
// window size, to power off).
//
// It carries messages and decides nothing: the run role reads [Control.Events]
// and calls [Control.Send].
package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"bake/internal/wire"
)

const (
	// maxQueued bounds the messages that wait for the agent to connect, or to
	// read.
	maxQueued = 64
	// sendTimeout is how long Send waits for a place among them once the agent
	// is there.
	sendTimeout = 5 * time.Second
)

// ErrBusy is returned by Send when too much waits for the agent already.
var ErrBusy = errors.New("the guest does not take control messages")

// ErrGone is returned by Send when nobody will ever read the message.
var ErrGone = errors.New("the guest takes no more control messages")

// Control is one VM's control channel. Its methods are safe for concurrent
// use.
type Control struct {
	events    chan wire.GuestMessage
	queue     chan []byte   // frames
	connected chan struct{} // closed when the agent is there
	ended     chan struct{} // closed when it reads no more
}

// New returns a Control that no agent has connected to.
func New() *Control {
	return &Control{
		events:    make(chan wire.GuestMessage),
		queue:     make(chan []byte, maxQueued),
		connected: make(chan struct{}),
		ended:     make(chan struct{}),
	}
}

// Events are the agent's messages in order. The channel is closed when the
// agent's connection, or Serve, has ended.
func (c *Control) Events() <-chan wire.GuestMessage { return c.events }

// Send has m sent to the agent, as soon as that is connected and reads: a VM
// that is stopped for a time loses no message, and gets none in part. When too
// many wait, it waits for a place for a while, and then returns ErrBusy.
func (c *Control) Send(m wire.HostMessage) error {
	var frame bytes.Buffer
	err := wire.WriteHostMessage(&frame, m)
	if err == nil {
		err = c.enqueue(frame.Bytes())
	}
	if err != nil {
		return fmt.Errorf("send %q to the guest: %w", m.Type, err)
	}
	return nil
}

func (c *Control) enqueue(frame []byte) error {
	select {
	case <-c.ended:
		return ErrGone
	default:
	}
	select {
	case c.queue <- frame:
		return nil
	default:
	}
	select {
	case <-c.connected:
	default:
		return ErrBusy
	}
	timer := time.NewTimer(sendTimeout)
	defer timer.Stop()
	select {
	case c.queue <- frame:
		return nil
	case <-c.ended:
		return ErrGone
	case <-timer.C:
		return ErrBusy
	}
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
		close(c.ended)
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("wait for the guest's agent: %w", err)
	}
	close(c.connected)
	stopConn := context.AfterFunc(ctx, func() { conn.Close() })
	defer stopConn()
	reading, stopWriting := context.WithCancel(ctx)
	go func() {
		defer close(c.ended)
		c.write(reading, conn)
	}()
	err = c.read(ctx, conn)
	stopWriting()
	conn.Close()
	<-c.ended
	return err
}

// read passes on what the agent says.
func (c *Control) read(ctx context.Context, conn net.Conn) error {
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

// write sends what is queued. A connection that takes nothing more may still
// have something to say: it is the reader who ends it.
func (c *Control) write(ctx context.Context, conn net.Conn) {
	for {
		select {
		case frame := <-c.queue:
			if _, err := conn.Write(frame); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
