package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// acceptPause is the pause after an error of accepting.
const acceptPause = 50 * time.Millisecond

// accept passes over the errors of single connections and of a lack of
// descriptors or memory, which others give back.
func accept(ctx context.Context, ln *net.TCPListener) (*net.TCPConn, error) {
	for {
		conn, err := ln.AcceptTCP()
		if err == nil || !passing(err) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(acceptPause):
		}
	}
}

// passing reports whether accept(2) may work again after err.
func passing(err error) bool {
	for _, e := range []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPROTO, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// acceptError is the error of a port that takes no more connections: none if it
// was closed.
func (l Listener) acceptError(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("take connections for port %d of the VM: %w", l.VMPort, err)
}
