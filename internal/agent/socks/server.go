package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// MaxConns is how many connections are served at once. Others wait in the
// listener's queue.
const MaxConns = 4096

const (
	// handshakeTime bounds what happens before the reply.
	handshakeTime = 30 * time.Second
	bufferMin     = 4 << 10
	bufferMax     = 64 << 10
)

// Serve serves connections of l until ctx ends or l fails, and returns when
// all of them have ended. It closes l.
func Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()

	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel() // before Wait
	slots := make(chan struct{}, MaxConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := accept(ctx, l)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept a connection to the guest: %w", err)
		}
		conns.Go(func() {
			defer func() { <-slots }()
			serve(ctx, conn)
		})
	}
}

// accept passes over errors of single connections and of a lack of
// descriptors, which others give back.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) || ctx.Err() != nil || pause > time.Second {
			return conn, err
		}
		time.Sleep(pause)
		pause *= 2
	}
}

// serve is one connection.
func serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()

	_ = client.SetDeadline(time.Now().Add(handshakeTime))
	server, err := handshake(ctx, client)
	if err != nil {
		return // the client has the reply
	}
	defer server.Close()
	stopServer := context.AfterFunc(ctx, func() { server.Close() })
	defer stopServer()
	_ = client.SetDeadline(time.Time{})

	var back sync.WaitGroup
	back.Go(func() { transfer(client, server) })
	transfer(server, client)
	back.Wait()
}

// handshake serves the protocol up to the reply that says that the connection
// stands.
func handshake(ctx context.Context, client net.Conn) (net.Conn, error) {
	if err := negotiate(client); err != nil {
		return nil, err
	}
	addrs, err := readRequest(client)
	if err != nil {
		var refused *protocolError
		if errors.As(err, &refused) {
			_ = writeReply(client, refused.reply, netip.AddrPort{})
		}
		return nil, err
	}
	server, err := connect(ctx, addrs)
	if err != nil {
		_ = writeReply(client, replyFor(err), netip.AddrPort{})
		return nil, err
	}
	var bound netip.AddrPort
	if a, ok := server.LocalAddr().(*net.TCPAddr); ok {
		bound = a.AddrPort()
	}
	if err := writeReply(client, replySucceeded, bound); err != nil {
		server.Close()
		return nil, err
	}
	return server, nil
}

// connect tries the addresses in turn and returns the first one's error if
// all fail.
func connect(ctx context.Context, addrs []netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: handshakeTime}
	var first error
	for _, a := range addrs {
		conn, err := d.DialContext(ctx, "tcp", a.String())
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// transfer carries one direction and its end. If it breaks, both ends are
// closed, so that a reset at one is no clean end at the other.
func transfer(to, from net.Conn) {
	half, ok := to.(interface{ CloseWrite() error })
	if copyData(to, from) == nil && ok && half.CloseWrite() == nil {
		return
	}
	to.Close()
	from.Close()
}

// copyData copies until the end of from. Its buffer grows with what a read
// gives, because most of many connections are idle.
func copyData(to io.Writer, from io.Reader) error {
	buf := make([]byte, bufferMin)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n == len(buf) && n < bufferMax {
			buf = make([]byte, 2*n)
		}
	}
}
