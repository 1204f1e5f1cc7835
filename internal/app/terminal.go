package app

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/term"
)

// A terminal is the user's, in raw mode while the container has it.
type terminal struct {
	fd      int
	restore func()
}

// isTerminal says whether the container gets a pseudoterminal.
func isTerminal(mode TerminalMode, s Stdio) bool {
	switch mode {
	case TerminalNever:
		return false
	case TerminalAlways:
		return true
	}
	return term.IsTerminal(int(s.Stdin.Fd())) && term.IsTerminal(int(s.Stdout.Fd())) && term.IsTerminal(int(s.Stderr.Fd()))
}

// A rawWriter writes lines to a terminal in raw mode, which does not return the
// carriage by itself. The services write to it while the terminal is given back.
type rawWriter struct {
	w      io.Writer
	cooked atomic.Bool // the terminal is no longer in raw mode
}

func (r *rawWriter) Write(p []byte) (int, error) {
	if r.cooked.Load() {
		return r.w.Write(p)
	}
	if _, err := r.w.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// openTerminal puts the user's terminal into raw mode. Without one (--tty in a
// pipe) there is nothing to set, and the size is the traditional 80 by 24.
func openTerminal(s Stdio) (*terminal, error) {
	fd := int(s.Stdin.Fd())
	t := &terminal{fd: int(s.Stdout.Fd()), restore: func() {}}
	if !term.IsTerminal(fd) {
		return t, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	var once sync.Once
	t.restore = func() { once.Do(func() { term.Restore(fd, state) }) }
	return t, nil
}

// size is the window's, in characters.
func (t *terminal) size() (rows, cols uint16) {
	w, h, err := term.GetSize(t.fd)
	if err != nil || w <= 0 || h <= 0 || w > 0xffff || h > 0xffff {
		return 24, 80
	}
	return uint16(h), uint16(w)
}
