package instance

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"bake/internal/platform"
	"bake/internal/wire"
)

var (
	// ErrKilled says that an instance's process died without a word.
	ErrKilled = errors.New("its process was killed")
	// ErrGone says that an instance has ended.
	ErrGone = errors.New("it has ended")
)

// Stop ends the instance and returns when its process is gone. The container has
// timeout to end after the signal that asks it to; a negative one is the app's
// own. An instance that has ended is no error.
func (i Instance) Stop(ctx context.Context, timeout time.Duration) error {
	conn, _, err := i.ask(ctx, request{Op: opStop, Timeout: timeout})
	if errors.Is(err, ErrGone) {
		return i.awaitDeath(ctx)
	}
	if err != nil {
		return i.failed("stop", err)
	}
	defer conn.Close()
	if err := await(ctx, conn, func() error {
		_, err := io.Copy(io.Discard, conn)
		return err
	}); err != nil && ctx.Err() != nil {
		return i.failed("stop", err)
	}
	return i.awaitDeath(ctx)
}

// Signal sends a Linux signal, by name or number, to the container's first
// process. SIGKILL, and the signal that the container stops on, also end a
// restart loop.
func (i Instance) Signal(ctx context.Context, name string) error {
	_, err := i.call(ctx, request{Op: opSignal, Signal: name})
	return i.failed("signal", err)
}

// Stats asks what the instance uses.
func (i Instance) Stats(ctx context.Context) (Stats, error) {
	r, err := i.call(ctx, request{Op: opStats})
	if err == nil && r.Stats == nil {
		err = errors.New("the answer has no numbers")
	}
	if err != nil {
		return Stats{}, i.failed("measure", err)
	}
	return *r.Stats, nil
}

// Wait returns when the instance has ended, and how. The error wraps
// [ErrKilled] when its process died without a word.
func (i Instance) Wait(ctx context.Context) (Exit, error) {
	r, err := i.call(ctx, request{Op: opWait})
	if errors.Is(err, ErrGone) {
		err = ErrKilled
	}
	if err == nil && r.Exit == nil {
		err = errors.New("the answer has no exit code")
	}
	if err == nil {
		err = i.awaitDeath(ctx)
	}
	if err != nil {
		return Exit{}, i.failed("wait for", err)
	}
	return *r.Exit, nil
}

// Key is the private key that the guest's SSH server lets in.
func (i Instance) Key(ctx context.Context) (ed25519.PrivateKey, error) {
	r, err := i.call(ctx, request{Op: opKey})
	if err == nil && len(r.Key) != ed25519.SeedSize {
		err = errors.New("there is no SSH server in its guest")
	}
	if err != nil {
		return nil, i.failed("log in to", err)
	}
	return ed25519.NewKeyFromSeed(r.Key), nil
}

// DialSSH connects to the guest's SSH server, which it waits for. The stream
// has CloseWrite.
func (i Instance) DialSSH(ctx context.Context) (net.Conn, error) {
	conn, _, err := i.ask(ctx, request{Op: opSSH})
	if err != nil {
		return nil, i.failed("connect to", err)
	}
	return conn, nil
}

// failed names the instance in an error.
func (i Instance) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s the instance %s: %w", what, i.Name, err)
}

// call asks and has no further use for the connection.
func (i Instance) call(ctx context.Context, req request) (response, error) {
	conn, r, err := i.ask(ctx, req)
	if err != nil {
		return response{}, err
	}
	return r, conn.Close()
}

// ask sends one request and reads the answer. The connection is the caller's.
func (i Instance) ask(ctx context.Context, req request) (*net.UnixConn, response, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", filepath.Join(i.Dir, apiSocket))
	if isGone(err) {
		return nil, response{}, ErrGone
	}
	if err != nil {
		return nil, response{}, err
	}
	conn := c.(*net.UnixConn)
	var r response
	err = await(ctx, conn, func() error {
		if err := wire.WriteJSON(conn, req, requestLimit); err != nil {
			return err
		}
		return wire.ReadJSON(conn, &r, responseLimit)
	})
	if isGone(err) {
		err = ErrGone
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		conn.Close()
		return nil, response{}, err
	}
	return conn, r, nil
}

// await does what talks over conn, and gives up when ctx ends.
func await(ctx context.Context, conn net.Conn, talk func() error) error {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err := talk()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// isGone tells the errors that the end of a process causes.
func isGone(err error) bool {
	for _, e := range []error{syscall.ENOENT, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// lockPoll is how often awaitDeath looks. flock(2) can wait, but not for a
// context too, and this is only for what the process does between the end of its
// connections and its own.
const lockPoll = 2 * time.Millisecond

// awaitDeath returns when nobody holds the instance's directory.
func (i Instance) awaitDeath(ctx context.Context) error {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for platform.IsLiving(i.Dir) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return i.failed("wait for", context.Cause(ctx))
		}
	}
	return nil
}
