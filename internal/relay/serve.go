package relay

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// Serve gives each connection of l to handle, at most limit at once; others
// wait in the listener's queue. A connection is closed when handle returns, or
// when ctx ends. Serve returns when ctx ends, with nil, or when l fails, and in
// either case after all handlers. It closes l.
func Serve(ctx context.Context, l net.Listener, limit int, handle func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()

	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel() // before Wait
	slots := make(chan struct{}, limit)
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
			return err
		}
		conns.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			handle(ctx, conn)
		})
	}
}

// accept passes over errors of single connections, and waits while there is a
// lack of descriptors or memory, which others give back (accept(2)).
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		if err == nil || !passes(err) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

func passes(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
