//go:build linux

// Package datagram is the guest's end of vsock port 11: one connection that
// carries all UDP datagrams and echo requests of the guest in frames, and the
// published UDP ports.
//
// What leaves comes by [Conn.Send] from the guest's network interface, and
// what comes in goes there by [Conn.Receive]'s function; the package knows
// neither packets nor that interface. Published ports it serves itself, with
// sockets to the guest's loopback.
package datagram

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/udpio"
	"bake/internal/wire"
)

const (
	// queueLimit bounds the frames that wait for the host, in bytes.
	queueLimit = 512 << 10
	// sendWait bounds how long Send waits for a full queue. The kernel drops
	// for less than it costs to take a datagram from it to drop it here, and
	// on one CPU who takes them all keeps the queue's writer from running.
	sendWait = 50 * time.Millisecond
	// window is what the guest's kernel takes of the connection for us, in
	// bytes: more than its usual 256 KiB, because all datagrams share it.
	window = 1 << 20
	// dialTries bounds how often in a row a connection that broke is made
	// again, and dialPause is before the second try; it doubles each time.
	dialTries = 6
	dialPause = 50 * time.Millisecond
)

// A receiver is what [Conn.Receive] is given.
type receiver struct {
	add   func(*wire.Datagram)
	flush func()
}

// A Conn is the guest's connection. Its methods are safe for concurrent use.
type Conn struct {
	dial    func(context.Context) (net.Conn, error)
	queue   *wire.DatagramQueue
	sockets udpio.Poller
	ports   *ports
	receive atomic.Pointer[receiver]
	cancel  context.CancelCauseFunc
	ctx     context.Context
	all     sync.WaitGroup
}

// Dial connects to the host. The connection is made again if it breaks, until
// ctx ends, Close is called, or the host cannot be reached any more.
func Dial(ctx context.Context, dial func(context.Context) (net.Conn, error)) (*Conn, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the host for datagrams: %w", err)
	}
	sockets, err := udpio.New()
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := &Conn{dial: dial, queue: wire.NewDatagramQueue(queueLimit), sockets: sockets}
	c.ports = newPorts(sockets, c.queue, time.Now)
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.all.Go(func() {
		if err := sockets.Run(c.ctx); err != nil {
			c.cancel(err)
		}
	})
	c.all.Go(func() { c.ports.expireUntil(c.ctx) })
	c.all.Go(func() { c.live(conn) })
	return c, nil
}

// Send sends d, whose memory it copies. If the host is slower than the guest,
// Send waits for it a moment, and if the host takes nothing at all, drops d,
// and what comes next at once until the host goes on.
func (c *Conn) Send(d *wire.Datagram) { c.queue.PutWithin(d, sendWait) }

// Receive sets what is called for each datagram that comes, of every kind but
// DatagramPublished, and after those that came together. Payloads are valid
// until flush returns. Neither is called while the other is. Until Receive is
// called datagrams are dropped.
func (c *Conn) Receive(add func(*wire.Datagram), flush func()) {
	c.receive.Store(&receiver{add, flush})
}

// Dropped counts the datagrams that found the queue full.
func (c *Conn) Dropped() uint64 { return c.queue.Dropped() }

// Done is closed when the connection has ended for good; [Conn.Err] says why.
func (c *Conn) Done() <-chan struct{} { return c.ctx.Done() }

// Err is why the connection ended for good, or nil if it has not or was meant
// to.
func (c *Conn) Err() error {
	if err := context.Cause(c.ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Close ends the connection and returns when nothing of it runs any more.
func (c *Conn) Close() {
	c.cancel(nil)
	c.all.Wait()
}

// live carries datagrams over conn and those that follow it.
func (c *Conn) live(conn net.Conn) {
	for {
		broken := c.serve(conn)
		if c.ctx.Err() != nil {
			return
		}
		var err error
		if conn, err = c.redial(); err != nil {
			c.cancel(fmt.Errorf("the connection to the host for datagrams broke (%w) and cannot be made again: %w", broken, err))
			return
		}
	}
}

func (c *Conn) redial() (net.Conn, error) {
	pause := dialPause
	for try := 1; ; try++ {
		// Also before the first try: a host that takes connections and
		// breaks them must not keep the guest busy.
		select {
		case <-c.ctx.Done():
			return nil, c.ctx.Err()
		case <-time.After(pause):
		}
		conn, err := c.dial(c.ctx)
		if err == nil || try == dialTries {
			return conn, err
		}
		pause *= 2
	}
}

// serve carries datagrams both ways until the connection breaks.
func (c *Conn) serve(conn net.Conn) error {
	widen(conn)
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var written error
	var writer sync.WaitGroup
	writer.Go(func() {
		defer cancel()
		written = c.queue.Write(ctx, conn)
	})
	read := c.read(conn)
	cancel()
	writer.Wait()
	conn.Close()
	if written != nil {
		return written
	}
	return read
}

// widen gives a vsock connection its window (vsock(7),
// SO_VM_SOCKETS_BUFFER_SIZE). Any connection works without.
func widen(conn net.Conn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for _, o := range []int{unix.SO_VM_SOCKETS_BUFFER_MAX_SIZE, unix.SO_VM_SOCKETS_BUFFER_SIZE} {
			_ = unix.SetsockoptUint64(int(fd), unix.AF_VSOCK, o, window)
		}
	})
}

// read delivers the host's frames until the connection ends.
func (c *Conn) read(conn net.Conn) error {
	frames := wire.NewDatagramReader(conn)
	row := c.ports.newRow()
	flush := func() {
		row.Flush()
		if r := c.receive.Load(); r != nil {
			r.flush()
		}
	}
	var d wire.Datagram
	for {
		if !frames.Buffered() {
			flush()
		}
		if err := frames.Next(&d); err != nil {
			flush()
			if err == io.EOF {
				return errors.New("the host ended it")
			}
			return err
		}
		if d.Kind == wire.DatagramPublished {
			c.ports.deliver(&d, row)
		} else if r := c.receive.Load(); r != nil {
			r.add(&d)
		}
	}
}
