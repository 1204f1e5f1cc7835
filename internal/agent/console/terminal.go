//go:build linux

package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// A Terminal is the pseudoterminal of a container that has one.
type Terminal struct {
	conn    Conn
	mu      sync.Mutex
	master  *os.File
	out     *output
	running sync.WaitGroup
}

// OpenTerminal connects the terminal to the host.
func OpenTerminal(ctx context.Context, dial Dial) (*Terminal, error) {
	conn, err := open(ctx, dial, wire.TTY)
	if err != nil {
		return nil, err
	}
	return &Terminal{conn: conn}, nil
}

// Start begins to carry data to and from the pseudoterminal's master, which
// the Terminal closes from then on.
func (t *Terminal) Start(master *os.File) {
	t.mu.Lock()
	t.master = master
	t.mu.Unlock()
	t.out = newOutput(master, t.conn)
	t.running.Go(t.out.copy)
	t.running.Go(func() {
		defer close(t.out.closed)
		// What is typed after the container's end goes nowhere, but the
		// connection lives until the host has read the output.
		copyData(master, t.conn)
		_, _ = io.Copy(io.Discard, t.conn)
		// The host has hung up: closing the master is SIGHUP for the
		// container's session.
		master.Close()
	})
}

// Resize sets the terminal's size in characters; the kernel sends SIGWINCH.
// Before Start and after the end it does nothing.
func (t *Terminal) Resize(rows, cols uint16) error {
	t.mu.Lock()
	master := t.master
	t.mu.Unlock()
	if master == nil || rows == 0 || cols == 0 {
		return nil
	}
	raw, err := master.SyscallConn()
	if err != nil {
		return nil
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	if set != nil {
		return fmt.Errorf("set the terminal's size to %d rows and %d columns: %w", rows, cols, set)
	}
	return nil
}

// Finish waits until the host has all that was written to the terminal, or
// until ctx ends, and closes everything.
func (t *Terminal) Finish(ctx context.Context) {
	if t.out != nil {
		t.out.finish(ctx)
	}
	t.Close()
}

// Close ends everything at once.
func (t *Terminal) Close() {
	t.mu.Lock()
	if t.master != nil {
		t.master.Close()
	}
	t.mu.Unlock()
	t.conn.Close()
	t.running.Wait()
}
